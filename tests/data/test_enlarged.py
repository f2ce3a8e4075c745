"""Data sets that are resized when they are read: `cifar100@224`."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stimcore.data import sources
from stimcore.data.enlarged import EnlargedPixels
from stimcore.data.images import Dataset, Images, calibration_subset
from stimcore.data.sources import load
from stimcore.data.subset import reduce_dataset, stratified
from stimcore.errors import UsageError
from stimcore.export.experiment import shared_experiment
from stimcore.nets.catalogue import build
from stimcore.train.augment import flip_crop, resized
from stimcore.train.loader import InMemoryLoader, LoaderConfig
from stimcore.train.parallel import World
from stimcore.train.seeds import generator

SIDE = 24


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A data set of 12 pixels that is loaded with 24."""
    rng = np.random.Generator(np.random.PCG64(1))

    def part(count: int) -> Images:
        return Images(pixels=rng.integers(0, 256, (count, 3, 12, 12), dtype=np.uint8), labels=np.arange(count) % 4)

    small = Dataset(name="tiny", train=part(40), test=part(20), classes=("a", "b", "c", "d"), mean=(0.5,) * 3, std=(0.25,) * 3)
    monkeypatch.setitem(sources.DATASETS, "tiny", lambda _: small)
    return load(f"tiny@{SIDE}")


def test_what_is_read_is_resized_and_what_is_stored_is_not(dataset: Dataset) -> None:
    original = load("tiny")
    assert dataset.image_shape == (3, SIDE, SIDE)
    assert dataset.name == f"tiny@{SIDE}"
    assert dataset.preprocessing is not None
    for part, whole in ((dataset.train, original.train), (dataset.test, original.test)):
        assert part.stored is whole.pixels
        expected = dataset.preprocessing.fit(whole.stored)
        assert np.array_equal(part.pixels[:], expected)
        assert np.array_equal(part.pixels[3], expected[3])
        assert np.array_equal(part.pixels[np.array([5, 2])], expected[[5, 2]])
        assert part.pixels[:0].shape == (0, 3, SIDE, SIDE)
        assert part.sha256 == whole.sha256
    assert load("tiny@12").train.pixels is original.train.pixels


def test_samples_stay_small(dataset: Dataset) -> None:
    for images in (
        reduce_dataset(dataset, 3).train,
        stratified(dataset.test, 8),
        calibration_subset(dataset.train, 10),
        dataset.test.first(5),
    ):
        assert isinstance(images.pixels, EnlargedPixels)
        assert images.stored.shape[2:] == (12, 12)
        assert images.pixels.shape == (len(images), 3, SIDE, SIDE)


def test_training_shifts_first_and_enlarges_then(dataset: Dataset) -> None:
    config = LoaderConfig(seed=7, augmentation="flip_crop", device=torch.device("cpu"), world=World(), sides=lambda _: (16,))
    index = torch.tensor([4, 9, 1])
    (step,) = InMemoryLoader(dataset, config).epoch([index], 5)
    small = torch.from_numpy(dataset.train.stored)[index]
    shifted = flip_crop(small, generator(7, "augment", 5))
    for images, side in ((step.images, SIDE), (step.smaller[0], 16)):
        pixels = resized(shifted, side).float()
        assert images.shape[2:] == (side, side)
        torch.testing.assert_close(images, (pixels / 255 - 0.5) / 0.25, atol=1e-5, rtol=1e-5)


def test_a_bundle_keeps_the_originals_and_enlarges_them(dataset: Dataset, tmp_path: Path) -> None:
    net = build("resnet8", input_shape=dataset.image_shape, num_classes=4)
    for _ in range(2):  # the second export finds the first one's images to be the same
        experiment = shared_experiment(tmp_path / "tiny", dataset, net.topology, dataset.normalisation, twin=False)
    assert experiment.image_shape == (3, SIDE, SIDE)
    assert experiment.evaluation[0].shape == (20, 3, 12, 12)
    assert np.array_equal(experiment.normalise(experiment.evaluation[0]), dataset.normalisation(dataset.test.pixels[:]))


@pytest.mark.parametrize("name", ["tiny@", "tiny@7", "tiny@2000", "tiny@x", "imagenet@96", "nothing@32"])
def test_wrong_sizes_are_refused(dataset: Dataset, name: str) -> None:
    with pytest.raises(UsageError):
        load(name)
