"""Normalisation: the same numbers in both forms, and statistics that can be divided by."""

import numpy as np
import pytest

from stimcore.data import normalise
from stimcore.data.normalise import Normalisation, channel_statistics


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
