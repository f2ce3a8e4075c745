"""Folders of images with a folder per class: `ROOT/train/CLASS/*.png` and `ROOT/test/CLASS/*.png`, or `ROOT/CLASS/*.png`."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from stimcore.data.images import Dataset, Images, calibration_subset
from stimcore.data.normalise import channel_statistics
from stimcore.data.pictures import FilePixels, read_header
from stimcore.data.preprocessing import Preprocessing, Resize
from stimcore.errors import DataMissing

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}

RESIDENT_BYTES = 4 * 2**30
"""Images that would take more memory than this (4 GiB) stay in their files; worker processes read them during training."""

_Item = tuple[Path, int]
"""An image file and its label."""


def image_folder(
    root: Path,
    *,
    size: int | None = None,
    seed: int = 0,
    test_frac: float = 0.2,
    enlarge: float = 1.0,
    resident_bytes: int = RESIDENT_BYTES,
) -> Dataset:
    """Return a folder of images as a data set, in memory if it is small enough.

    Args:
        root: A folder that holds `train/` and `test/` (or `val/`), each with one folder per class; or a folder that holds the
            class folders, of which a seeded share then becomes the test part.
        size: Side in pixels to which images are resized (shorter side, then centre crop); that of the first image when None.
        seed: Seed of the split, where there is only one level.
        test_frac: Share of every class that becomes the test part, in (0, 1), where there is only one level.
        enlarge: The shorter side becomes `size * enlarge` before the centre is cropped; 1 keeps as much as possible.
        resident_bytes: Training or test images that take more memory than this stay in their files.

    Raises:
        DataMissing: There are no images, the classes of the two parts differ, or a file can't be decoded as an image.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise DataMissing(f"there is no folder {root}", todo="Give a folder that has one folder of images per class.")
    test_name = next((name for name in ("test", "val") if (root / name).is_dir()), None)
    if (root / "train").is_dir() and test_name:
        train, classes = _list_images(root / "train")
        test, test_classes = _list_images(root / test_name)
        if classes != test_classes:
            differ = sorted(set(classes) ^ set(test_classes))
            raise DataMissing(f"train and {test_name} in {root} differ in the classes {', '.join(differ[:10])}")
    else:
        everything, classes = _list_images(root)
        train, test = _split(everything, len(classes), seed, test_frac)
    grey, shortest = read_header(train[0][0])
    images = []
    for items in (train, test):
        pixels = FilePixels([path for path, _ in items], grey=grey, side=size or shortest, enlarge=enlarge)
        images.append(_in_memory_or_files(pixels, np.array([label for _, label in items], np.int64), resident_bytes))
    # reading every file of a large folder for two numbers per channel would take minutes
    sample = images[0] if isinstance(images[0].pixels, np.ndarray) else calibration_subset(images[0])
    normalisation = channel_statistics(sample.pixels)
    return Dataset(
        name=root.name,
        train=images[0],
        test=images[1],
        classes=classes,
        mean=normalisation.mean,
        std=normalisation.std,
        preprocessing=Preprocessing(
            exif_orientation=False,
            bit_depth="clip",
            mode="L" if grey else "RGB",
            resize=Resize(shorter=round((size or shortest) * enlarge), filter="bicubic"),
            crop=(size or shortest, size or shortest),
            normalisation=normalisation,
        ),
    )


def _split(items: Sequence[_Item], num_classes: int, seed: int, test_frac: float) -> tuple[list[_Item], list[_Item]]:
    """Return training and test items, with the same share of every class in the test part."""
    generator = np.random.Generator(np.random.PCG64(seed))
    train: list[_Item] = []
    test: list[_Item] = []
    for label in range(num_classes):
        of_class = [item for item in items if item[1] == label]
        order = generator.permutation(len(of_class))
        num_test = max(1, round(len(of_class) * test_frac))
        test += [of_class[i] for i in order[:num_test]]
        train += [of_class[i] for i in order[num_test:]]
    return train, test


def _list_images(folder: Path) -> tuple[list[_Item], tuple[str, ...]]:
    """Return image files with their labels, and the class names in order."""
    classes = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    items = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    if len(classes) < 2 or not items:
        raise DataMissing(
            f"{folder} has {len(classes)} class folders with {len(items)} images",
            allowed="at least two folders with images in them, one per class",
        )
    empty = sorted(set(range(len(classes))) - {label for _, label in items})
    if empty:
        raise DataMissing(f"the class folders {', '.join(classes[label] for label in empty[:10])} in {folder} have no images")
    return items, tuple(classes)


def _in_memory_or_files(pixels: FilePixels, labels: NDArray[np.int64], resident_bytes: int) -> Images:
    """Return the images in memory, or in their files when they would take more than `resident_bytes`."""
    if pixels.nbytes > resident_bytes:
        return Images(pixels=cast(NDArray[np.uint8], pixels), labels=labels)  # it is indexed like an array
    return Images(pixels=pixels[:], labels=labels)
