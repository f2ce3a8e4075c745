"""Any folder of images with one folder per class: `ROOT/train/CLASS/*.png` and `ROOT/test/CLASS/*.png`, or one level."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from stimcore.data.images import Dataset, Images, calibration_subset, channel_statistics
from stimcore.data.pictures import FilePixels, looks
from stimcore.errors import DataMissing

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}

RESIDENT_BYTES = 4 * 2**30
"""Images that would take more than this (4 GiB) stay in their files and are read by worker processes while training."""


def image_folder(
    root: Path,
    *,
    size: int | None = None,
    seed: int = 0,
    test_frac: float = 0.2,
    enlarge: float = 1.0,
    resident_bytes: int = RESIDENT_BYTES,
) -> Dataset:
    """A folder of images, in memory when it is small enough.

    Args:
        root: Holds `train/` and `test/` (or `val/`), each with one folder per class; or the class folders themselves, of which
            a seeded share is then kept for testing.
        size: Side in pixels to which images are resized (shorter side, then centre crop); that of the first image when None.
        seed: Of the split, where there is only one level.
        test_frac: Share of every class that is kept for testing, in (0, 1), where there is only one level.
        enlarge: The shorter side becomes `size * enlarge` before the middle is cut out; 1 keeps as much as there is.
        resident_bytes: Training or test images that take more stay in their files.

    Raises:
        DataMissing: No images where they were looked for, classes that differ, or a file that is no image.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise DataMissing(f"there is no folder {root}", todo="Give a folder that has one folder of images per class.")
    test_name = next((name for name in ("test", "val") if (root / name).is_dir()), None)
    if (root / "train").is_dir() and test_name:
        train, classes = _listed(root / "train")
        test, test_classes = _listed(root / test_name)
        if classes != test_classes:
            differ = sorted(set(classes) ^ set(test_classes))
            raise DataMissing(f"train and {test_name} in {root} differ in the classes {', '.join(differ[:10])}")
    else:
        everything, classes = _listed(root)
        generator = np.random.Generator(np.random.PCG64(seed))
        train, test = [], []
        for label in range(len(classes)):
            of_class = [item for item in everything if item[1] == label]
            order = generator.permutation(len(of_class))
            cut = max(1, round(len(of_class) * test_frac))
            test += [of_class[i] for i in order[:cut]]
            train += [of_class[i] for i in order[cut:]]
    grey, shortest = looks(train[0][0])
    pixels, rest = (_read(items, size or shortest, grey, enlarge, resident_bytes) for items in (train, test))
    mean, std = channel_statistics((pixels if isinstance(pixels.pixels, np.ndarray) else calibration_subset(pixels)).pixels)
    return Dataset(name=root.name, train=pixels, test=rest, classes=classes, mean=mean, std=std)


def _listed(folder: Path) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """Image files with labels, and the class names in order."""
    classes = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    found = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    if len(classes) < 2 or not found:
        raise DataMissing(
            f"{folder} has {len(classes)} class folders with {len(found)} images",
            allowed="at least two folders with images in them, one per class",
        )
    empty = sorted(set(range(len(classes))) - {label for _, label in found})
    if empty:
        raise DataMissing(f"the class folders {', '.join(classes[label] for label in empty[:10])} in {folder} have no images")
    return found, tuple(classes)


def _read(items: Sequence[tuple[Path, int]], side: int, grey: bool, enlarge: float, resident_bytes: int) -> Images:
    paths, labels = [path for path, _ in items], np.array([label for _, label in items], np.int64)
    pixels = FilePixels(paths, grey=grey, side=side, enlarge=enlarge)
    if pixels.nbytes > resident_bytes:
        return Images(pixels=cast(NDArray[np.uint8], pixels), labels=labels)  # an array to whoever only indexes it
    return Images(pixels=pixels[:], labels=labels)
