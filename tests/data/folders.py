"""Folders of pictures, as strangers keep them."""

from pathlib import Path

from PIL import Image

from stimcore.data.folder import image_folder


def picture(path: Path, *, mode: str = "RGB", value: int = 90, size: tuple[int, int] = (10, 8)) -> Path:
    """Write a picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).convert(mode).save(path)
    return path


def classes(root: Path, names: str = "ab", number: int = 2) -> Path:
    """Write pictures of several classes into a folder."""
    for name in names:
        for index in range(number):
            picture(root / name / f"{index}.png")
    return root


def notes(root: Path) -> str:
    """Return what `image_folder` says about a folder."""
    return "\n".join(image_folder(root).notes)
