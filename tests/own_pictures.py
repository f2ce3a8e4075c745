"""Folders of pictures as strangers have them, made by code: each goes wrong where one part reads pictures in its own way."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

SIZES = {"train": 60, "test": 20}
"""Part -> pictures per class."""


def each(*classes: str) -> Iterator[tuple[str, str, int]]:
    """Yield part, class and number of every picture."""
    for part, number in SIZES.items():
        for name in classes:
            for index in range(number):
                yield part, name, index


def bar(name: str, generator: np.random.Generator) -> np.ndarray:
    """Return a bright bar on dark noise, uint8 `[48, 48, 3]`: across (`wide`) or upright (`tall`)."""
    pixels = generator.integers(0, 60, (48, 48, 3), dtype=np.uint8)
    place = int(generator.integers(12, 24))
    rows, columns = slice(place, place + 10), slice(None)
    pixels[(rows, columns) if name == "wide" else (columns, rows)] += 150
    return pixels


def saved(image: Image.Image, path: Path, **options: Any) -> None:
    """Write a picture into a folder that may not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def circles(root: Path) -> None:
    """Circles, and ellipses of 4:3, on 640 x 480 pixels: to a program that squashes, every circle is narrow."""
    generator = np.random.default_rng(0)
    for part, name, index in each("circle", "ellipse"):
        image = Image.new("RGB", (640, 480), tuple(int(v) for v in generator.integers(0, 90, 3)))
        height = int(generator.integers(110, 170))
        width = int(height * (1 if name == "circle" else 4 / 3))
        x, y = 320 + int(generator.integers(-30, 30)), 240 + int(generator.integers(-30, 30))
        colour = tuple(int(v) for v in generator.integers(150, 256, 3))
        ImageDraw.Draw(image).ellipse((x - width, y - height, x + width, y + height), fill=colour)
        saved(image, root / part / name / f"{index:03}.jpg", quality=92)


def telephone(root: Path) -> None:
    """Photographs that are stored sideways, with the turn as EXIF orientation 6."""
    generator = np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    for part, name, index in each("tall", "wide"):
        image = Image.fromarray(bar(name, generator)).rotate(90, expand=True)
        saved(image, root / part / name / f"{index:03}.jpg", quality=92, exif=exif)


def sixteen_bits(root: Path) -> None:
    """Grey PNG files of 16 bits with all samples above 255: cut off there, every picture is white."""
    generator = np.random.default_rng(2)
    for part, name, index in each("tall", "wide"):
        samples = bar(name, generator)[:, :, 0].astype(np.uint16) * 257 + 256
        saved(Image.fromarray(samples), root / part / name / f"{index:03}.png")


def grey_first(root: Path) -> None:
    """Green and red pictures of equal brightness, among them grey ones; the first file is grey."""
    generator = np.random.default_rng(3)
    for part, name, index in each("a-green", "b-red"):
        if index == 0 and part == "train":
            saved(Image.new("L", (40, 40), 90), root / part / name / "000.png")
            continue
        level = int(generator.integers(80, 120))
        colour = (0, level, 0) if name == "a-green" else (int(level * 0.587 / 0.299), 0, 0)
        pixels = generator.integers(0, 30, (40, 40, 3), dtype=np.uint8) + np.array(colour, np.uint8)
        saved(Image.fromarray(pixels), root / part / name / f"{index:03}.png")


def valid_folder(root: Path) -> None:
    """`Train/` and `valid/`, which are no classes."""
    generator = np.random.default_rng(4)
    for part, name, index in each("tall", "wide"):
        folder = {"train": "Train", "test": "valid"}[part]
        saved(Image.fromarray(bar(name, generator)), root / folder / name / f"{index:03}.png")


def mac_archive(root: Path) -> None:
    """A zip that was packed on a Mac: one folder at the top, `__MACOSX` beside it, `._NAME` beside every file."""
    generator = np.random.default_rng(5)
    for part, name, index in each("tall", "wide"):
        path = root / "photos" / part / name / f"{index:03}.png"
        saved(Image.fromarray(bar(name, generator)), path)
        for twin in (path.with_name(f"._{path.name}"), root / "__MACOSX" / path.relative_to(root)):
            twin.parent.mkdir(parents=True, exist_ok=True)
            twin.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")


FOLDERS: dict[str, Callable[[Path], None]] = {
    "circles": circles,
    "telephone": telephone,
    "sixteen-bits": sixteen_bits,
    "grey-first": grey_first,
    "valid": valid_folder,
    "mac-archive": mac_archive,
}
"""Name -> function that writes the folder."""
