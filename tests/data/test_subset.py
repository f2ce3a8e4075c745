"""Subsets and samples: seeded, by class, nested, and refused where there are too few images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stimcore.data.folder import image_folder
from stimcore.data.images import Dataset, Images
from stimcore.data.pictures import FilePixels
from stimcore.data.subset import reduce_dataset, stratified
from stimcore.errors import UsageError


def numbered(count: int, classes: int = 3, first: int = 0) -> Images:
    """Return images whose only pixel is their number; the labels take turns."""
    pixels = np.arange(first, first + count, dtype=np.uint8).reshape(count, 1, 1, 1)
    return Images(pixels=pixels, labels=np.arange(count, dtype=np.int64) % classes)


@pytest.fixture
def data() -> Dataset:
    """60 training and 12 test images in three classes."""
    return Dataset(
        name="mine", train=numbered(60), test=numbered(12, first=100), classes=("a", "b", "c"), mean=(0.5,), std=(0.5,)
    )


def numbers(images: Images) -> list[int]:
    """Which images they are."""
    return images.pixels.ravel().tolist()


def test_a_cut_has_so_many_of_every_class_and_is_a_part_of_a_larger_one(data: Dataset) -> None:
    small, large = reduce_dataset(data, 5), reduce_dataset(data, 9)
    assert np.bincount(small.train.labels).tolist() == [5, 5, 5]
    assert np.bincount(large.train.labels).tolist() == [9, 9, 9]
    assert set(numbers(small.train)) < set(numbers(large.train))
    assert numbers(small.train) == sorted(numbers(small.train))
    assert [n % 3 for n in numbers(small.train)] == small.train.labels.tolist()
    assert small.test is data.test
    assert (small.mean, small.std) == (data.mean, data.std)
    assert numbers(reduce_dataset(data, 5).train) == numbers(small.train)
    assert numbers(small.train) != list(range(15))  # a sample, not the first ones
    assert reduce_dataset(data, None) is data


def test_the_sample_of_fashion_mnist_never_changes() -> None:
    """These numbers are in the records of runs: another draw would give other accuracies."""
    images = Images(pixels=np.zeros((60_000, 1, 1, 1), np.uint8), labels=np.arange(60_000, dtype=np.int64) % 10)
    images.pixels[:, 0, 0, 0] = np.arange(60_000) % 251
    data = Dataset(name="mine", train=images, test=images, classes=tuple("abcdefghij"), mean=(0.5,), std=(0.5,))
    assert reduce_dataset(data, 500).train.sha256[:16] == "a57de7e594c2cad7"
    assert stratified(images, 2000).sha256[:16] == "195b0f5ad7a948d7"


def test_a_holdout_is_other_training_images(data: Dataset) -> None:
    plain, held = reduce_dataset(data, 10), reduce_dataset(data, 10, holdout=True)
    assert numbers(held.train) == numbers(plain.train)
    assert np.bincount(held.test.labels).tolist() == [10, 10, 10]
    assert set(numbers(held.test)) == set(numbers(data.train)) - set(numbers(held.train))


def test_too_few_images_are_refused(data: Dataset) -> None:
    with pytest.raises(UsageError, match="21 training images per class, where class 'a' of mine has 20; allowed: at most 20"):
        reduce_dataset(data, 21)
    with pytest.raises(UsageError, match="and a holdout of the same size, where class 'a' of mine has 20; allowed: at most 10"):
        reduce_dataset(data, 11, holdout=True)
    with pytest.raises(UsageError, match="a holdout of training images although all of them are trained on"):
        reduce_dataset(data, None, holdout=True)


def test_a_stratified_sample_keeps_the_shares_of_the_classes() -> None:
    labels = np.array([0] * 50 + [1] * 30 + [2] * 19 + [3], np.int64)
    images = Images(pixels=np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1), labels=labels)
    assert np.bincount(stratified(images, 20).labels, minlength=4).tolist() == [10, 6, 4, 0]
    for count in (1, 7, 33, 99):
        sample = stratified(images, count)
        assert len(sample) == count
        assert numbers(sample) == sorted(set(numbers(sample)))
    assert stratified(images, 100) is images
    assert stratified(images, 1000) is images


def test_images_in_files_stay_there(tmp_path: Path) -> None:
    for label in "ab":
        for number in range(6):
            for part in ("train", "test"):
                path = tmp_path / part / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((8, 8), 20 * number + ord(label), np.uint8)).save(path)
    resident, large = image_folder(tmp_path), image_folder(tmp_path, resident_bytes=10)
    reduced = reduce_dataset(large, 2, holdout=True)
    assert isinstance(reduced.train.pixels, FilePixels)
    assert isinstance(reduced.test.pixels, FilePixels)
    same = reduce_dataset(resident, 2, holdout=True)
    assert np.array_equal(reduced.train.pixels[:], same.train.pixels)
    assert np.array_equal(reduced.test.pixels[:], same.test.pixels)
    assert isinstance(stratified(large.test, 4).pixels, FilePixels)
