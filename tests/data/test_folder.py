"""Folders of images: layouts, sizes, refusals, and the ones that stay on disk."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from stimcore.data.folder import image_folder
from stimcore.data.normalise import Normalisation
from stimcore.data.pictures import FilePixels
from stimcore.data.preprocessing import Preprocessing, Resize
from stimcore.errors import DataMissing


def picture(path: Path, size: tuple[int, int] = (12, 10), mode: str = "RGB", seed: int = 0) -> np.ndarray:
    """Write one picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": (3,), "L": ()}[mode]
    pixels = np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Two classes of ten pictures on one level."""
    for label in "ab":
        for number in range(10):
            picture(tmp_path / "flat" / label / f"{number}.png", seed=number)
    return tmp_path / "flat"


@pytest.mark.parametrize("side", [1, 7, 1025])
def test_a_size_out_of_range_has_to_be_given(side: int, tmp_path: Path) -> None:
    """Training on such images ends at the first step with a loss that is no number, or with a full memory."""
    for name in "ab":
        for index in range(2):
            picture(tmp_path / name / f"{index}.png", size=(side, side + 1))
    with pytest.raises(DataMissing, match=rf"has a side of {side} pixels, .*; allowed: 8 to 1024\. Give another size .*@224"):
        image_folder(tmp_path)
    assert image_folder(tmp_path, size=16).image_shape == (3, 16, 16)


def test_train_and_test_folders(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for label in ("cat", "dog"):
            picture(tmp_path / part / label / "1.png")
    dataset = image_folder(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.image_shape == (3, 10, 10)
    assert dataset.train.labels.tolist() == dataset.test.labels.tolist() == [0, 1]
    assert dataset.train.pixels.dtype == np.uint8


def test_one_level_is_split_by_class_and_seed(flat: Path) -> None:
    dataset = image_folder(flat, test_frac=0.3)
    assert np.bincount(dataset.test.labels).tolist() == [3, 3]
    assert np.bincount(dataset.train.labels).tolist() == [7, 7]
    assert dataset.train.sha256 == image_folder(flat, test_frac=0.3).train.sha256
    assert dataset.train.sha256 != image_folder(flat, test_frac=0.3, seed=1).train.sha256


def pixels_of(path: Path, mode: Literal["L", "RGB"], side: int, shorter: int | None = None) -> np.ndarray:
    """Read one picture as `image_folder` would."""
    count = 1 if mode == "L" else 3
    steps = Preprocessing(
        mode=mode,
        resize=Resize(shorter=shorter or side, filter="bicubic"),
        crop=(side, side),
        normalisation=Normalisation((0.0,) * count, (1.0,) * count),
    )
    return FilePixels([path], steps)[0]


def test_pictures_are_resized_by_their_shorter_side_and_cut_in_the_middle(tmp_path: Path) -> None:
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert (pixels_of(tmp_path / "wide.png", "L", 8) == 255).all()
    assert pixels_of(tmp_path / "wide.png", "L", 4).shape == (1, 4, 4)
    pixels = picture(tmp_path / "square.png", size=(10, 10))
    assert np.array_equal(pixels_of(tmp_path / "square.png", "RGB", 10), pixels.transpose(2, 0, 1))
    picture(tmp_path / "larger.png", size=(14, 14))
    enlarged = pixels_of(tmp_path / "larger.png", "RGB", 10, shorter=14)
    assert np.array_equal(enlarged, pixels_of(tmp_path / "larger.png", "RGB", 14)[:, 2:12, 2:12])


def test_grey_pictures_have_one_channel(tmp_path: Path) -> None:
    for label in "ab":
        picture(tmp_path / "train" / label / "1.png", mode="L")
        picture(tmp_path / "test" / label / "1.png", mode="L")
    assert image_folder(tmp_path, size=8).image_shape == (1, 8, 8)


def test_what_does_not_fit_into_memory_stays_in_its_files_and_looks_the_same(flat: Path) -> None:
    small, large = image_folder(flat), image_folder(flat, resident_bytes=10)
    pixels = large.train.pixels
    assert isinstance(pixels, FilePixels)
    assert isinstance(small.train.pixels, np.ndarray)
    assert pixels.shape == small.train.pixels.shape
    assert pixels.nbytes == small.train.pixels.nbytes
    assert (len(pixels), pixels.ndim, pixels.dtype) == (16, 4, np.uint8)
    for key in (slice(2, 5), np.array([3, 1, 3]), slice(None)):
        assert np.array_equal(pixels[key], small.train.pixels[key])
    assert np.array_equal(pixels[-1], small.train.pixels[-1])
    assert np.array_equal(np.asarray(pixels), small.train.pixels)
    assert np.array_equal(pixels.original(0).shape, (3, 10, 12))
    assert large.train.sha256 == small.train.sha256
    assert (large.mean, large.std) == (small.mean, small.std)
    with pytest.raises(IndexError):
        pixels[16]


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (
            lambda root: (root / "a" / "0.png").write_bytes(b"no picture"),
            "1 of 20 files in .* can't be read as pictures: a.0.png ",
        ),
        (lambda root: [path.unlink() for path in (root / "a").iterdir()], "the class folders a in .* have no images"),
        (lambda root: shutil.rmtree(root / "a"), "has 1 class folders with 10 images; allowed: at least two"),
        (shutil.rmtree, "there is no folder .*Give a folder that has one folder of images"),
    ],
)
def test_broken_folders_are_one_sentence(break_it: Callable[[Path], object], sentence: str, flat: Path) -> None:
    break_it(flat)
    with pytest.raises(DataMissing, match=sentence):
        image_folder(flat)


def test_parts_with_different_classes_are_refused(tmp_path: Path) -> None:
    for part, labels in (("train", "ab"), ("test", "ac")):
        for label in labels:
            picture(tmp_path / part / label / "1.png")
    with pytest.raises(DataMissing, match="train and test in .* differ in the classes b, c"):
        image_folder(tmp_path)
