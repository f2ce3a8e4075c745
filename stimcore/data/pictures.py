"""Pictures that stay in their files until they are indexed: for folders that don't fit into memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stimcore.errors import DataMissing


def original(path: Path, grey: bool) -> NDArray[np.uint8]:
    """A picture at its own size, uint8 `[C, H, W]`.

    Raises:
        DataMissing: The file is no picture.
    """
    with _opened(path, grey) as image:
        return _values(image)


def cropped(path: Path, grey: bool, side: int, enlarge: float = 1.0) -> NDArray[np.uint8]:
    """The middle of a picture, uint8 `[C, side, side]`.

    Args:
        path: Of the file.
        grey: One channel instead of three.
        side: In pixels.
        enlarge: The shorter side becomes `side * enlarge` before the middle is cut out; 256 / 224 is ImageNet's custom.

    Raises:
        DataMissing: The file is no picture.
    """
    with _opened(path, grey) as image:
        if image.size != (side, side) or enlarge != 1:
            scale = side * enlarge / min(image.size)
            image = image.resize((max(side, round(image.width * scale)), max(side, round(image.height * scale))))
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
        return _values(image)


def looks(path: Path) -> tuple[bool, int]:
    """Whether a picture is grey, and its shorter side in pixels.

    Raises:
        DataMissing: The file is no picture.
    """
    with _reasons(path), Image.open(path) as opened:
        return opened.mode in ("1", "L", "I;16"), min(opened.size)


def _opened(path: Path, grey: bool) -> Image.Image:
    with _reasons(path), Image.open(path) as opened:
        return opened.convert("L" if grey else "RGB")


@contextmanager
def _reasons(path: Path) -> Iterator[None]:
    try:
        yield
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as reason:
        raise DataMissing(f"{path} is not an image that can be read ({type(reason).__name__})") from reason


def _values(image: Image.Image) -> NDArray[np.uint8]:
    values = np.array(image, np.uint8)  # a copy: torch wants memory that may be written
    return values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))


class FilePixels:
    """Looks like a uint8 array `[N, C, side, side]`; only what is indexed is read.

    Args:
        paths: One per picture.
        grey: One channel instead of three.
        side: In pixels.
        enlarge: As in `cropped`.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, paths: Sequence[Path], *, grey: bool, side: int, enlarge: float = 1.0) -> None:
        self._paths, self._grey, self._side, self._enlarge = list(paths), grey, side, enlarge

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`[N, C, side, side]`."""
        return len(self._paths), 1 if self._grey else 3, self._side, self._side

    @property
    def nbytes(self) -> int:
        """What it would take in memory."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """A slice or an array of indices, as of an array along its first axis."""
        chosen = np.arange(len(self))[key]
        if np.ndim(chosen) == 0:
            return cropped(self._paths[int(chosen)], self._grey, self._side, self._enlarge)
        out = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for place, index in enumerate(chosen):
            out[place] = cropped(self._paths[int(index)], self._grey, self._side, self._enlarge)
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.uint8]:
        """Everything, read now."""
        return self[:]

    def at(self, index: NDArray[np.int64]) -> "FilePixels":
        """The pictures at `index`, still in their files."""
        paths = [self._paths[int(i)] for i in index]
        return FilePixels(paths, grey=self._grey, side=self._side, enlarge=self._enlarge)

    def original(self, index: int) -> NDArray[np.uint8]:
        """One picture at its own size, uint8 `[C, H, W]`."""
        return original(self._paths[index], self._grey)
