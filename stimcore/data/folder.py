"""Any folder of images with one folder per class: `ROOT/train/CLASS/*.png` and `ROOT/test/CLASS/*.png`, or one level."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from stimcore.data.images import Dataset, Images, channel_statistics
from stimcore.errors import DataMissing

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


def image_folder(root: Path, *, size: int | None = None, seed: int = 0, test_frac: float = 0.2) -> Dataset:
    """Reads a folder of images into memory.

    Args:
        root: Holds `train/` and `test/` (or `val/`), each with one folder per class; or the class folders themselves, of which
            a seeded share is then kept for testing.
        size: Side in pixels to which images are resized (shorter side, then centre crop); that of the first image when None.
        seed: Of the split, where there is only one level.
        test_frac: Share of every class that is kept for testing, in (0, 1), where there is only one level.

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
    with Image.open(train[0][0]) as first:
        side, grey = size or min(first.size), first.mode in ("1", "L", "I;16")
    pixels = _read(train, side, grey)
    mean, std = channel_statistics(pixels.pixels)
    return Dataset(name=root.name, train=pixels, test=_read(test, side, grey), classes=classes, mean=mean, std=std)


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


def _read(items: Sequence[tuple[Path, int]], side: int, grey: bool) -> Images:
    pixels = np.empty((len(items), 1 if grey else 3, side, side), np.uint8)
    for i, (path, _) in enumerate(items):
        try:
            with Image.open(path) as opened:
                image = opened.convert("L" if grey else "RGB")
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as reason:
            raise DataMissing(f"{path} is not an image that can be read ({type(reason).__name__})") from reason
        if image.size != (side, side):
            scale = side / min(image.size)
            image = image.resize((max(side, round(image.width * scale)), max(side, round(image.height * scale))))
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
        values = np.asarray(image, np.uint8)
        pixels[i] = values[None] if grey else values.transpose(2, 0, 1)
    return Images(pixels=pixels, labels=np.array([label for _, label in items], np.int64))
