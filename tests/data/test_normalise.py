"""Normalisation: the same numbers in both forms, and statistics that can be divided by."""

import numpy as np
import pytest

from stimcore.data import normalise
from stimcore.data.normalise import Normalisation, channel_statistics, per_channel
from stimcore.errors import UsageError


@pytest.mark.parametrize("name", ["IMAGENET", "CIFAR10", "CIFAR100", "FASHION_MNIST"])
def test_both_forms_agree_up_to_rounding(name: str) -> None:
    normalisation: Normalisation = getattr(normalise, name)
    channels = len(normalisation.mean)
    pixels = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (4, channels, 5, 5), dtype=np.uint8)
    scale, shift = normalisation.scale_and_shift()
    assert scale.dtype == shift.dtype == np.float32
    assert normalisation(pixels).dtype == np.float32
    assert np.allclose(normalisation(pixels), pixels * scale - shift, atol=1e-6)


def test_normalised_images_have_mean_zero_and_deviation_one() -> None:
    pixels = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (50, 3, 8, 8), dtype=np.uint8)
    normalised = channel_statistics(pixels)(pixels)
    assert np.allclose(normalised.mean((0, 2, 3)), 0, atol=1e-3)
    assert np.allclose(normalised.std((0, 2, 3)), 1, atol=1e-3)


def test_a_channel_of_one_value_can_be_divided_by() -> None:
    statistics = channel_statistics(np.full((3, 1, 2, 2), 51, np.uint8))
    assert (statistics.mean, statistics.std) == ((0.2,), (1e-4,))


BYTES = "These look like numbers for pixels from 0 to 255: divide both --mean and --std by 255."


@pytest.mark.parametrize(
    ("option", "text", "todo"),
    [
        ("--mean", "123.7,116.3,103.5", BYTES),
        ("--std", "58.4,57.1,57.4", BYTES),
        ("--mean", "0.5,0.5,103.5", BYTES),
        ("--mean", "0.5,0.5,1000", ""),
        ("--mean", "0.5,0.5,-0.5", ""),
        ("--mean", "0.5,0.5,nan", ""),
        ("--std", "0.5,0.5,1e-50", ""),
        ("--std", "0.5,0.5,0", ""),
        ("--std", "0.5,0.5,inf", ""),
        ("--std", "0.5,0.5", ""),
    ],
)
def test_numbers_that_pixels_from_0_to_1_cannot_have_are_refused(option: str, text: str, todo: str) -> None:
    with pytest.raises(UsageError, match=f"{option} {text} for images of 3 channels; allowed: 3 numbers between") as refused:
        per_channel(option, text, (), 3)
    assert refused.value.todo == todo


def test_every_usual_normalisation_is_taken() -> None:
    for mean, std in (
        ("0,0,0", "0.00392156862745098,1,1"),
        ("0.485,0.456,0.406", "0.229,0.224,0.225"),
        ("1,0.5,0", "2,0.5,0.0001"),
    ):
        for option, text in (("--mean", mean), ("--std", std)):
            assert per_channel(option, text, (), 3) == tuple(map(float, text.split(",")))
