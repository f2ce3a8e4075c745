"""Image files: decoding them, and arrays of images that stay in their files, for folders that don't fit into memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stimcore.errors import DataMissing


def original(path: Path, grey: bool) -> NDArray[np.uint8]:
    """Return an image in its original size, uint8 `[C, H, W]`.

    Args:
        path: The image file.
        grey: Whether to return one channel instead of three.

    Raises:
        DataMissing: The file can't be decoded as an image.
    """
    with _open(path, grey) as image:
        return _as_array(image)


def cropped(path: Path, grey: bool, side: int, enlarge: float = 1.0) -> NDArray[np.uint8]:
    """Return the centre of an image, resized and cropped to uint8 `[C, side, side]`.

    Args:
        path: The image file.
        grey: Whether to return one channel instead of three.
        side: Side of the crop in pixels.
        enlarge: The shorter side becomes `side * enlarge` before the centre is cropped; ImageNet evaluation uses 256 / 224.

    Raises:
        DataMissing: The file can't be decoded as an image.
    """
    with _open(path, grey) as image:
        if image.size != (side, side) or enlarge != 1:
            scale = side * enlarge / min(image.size)
            image = image.resize((max(side, round(image.width * scale)), max(side, round(image.height * scale))))
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
        return _as_array(image)


def read_header(path: Path) -> tuple[bool, int]:
    """Return whether an image is grey, and its shorter side in pixels, without decoding it.

    Raises:
        DataMissing: The file can't be read as an image.
    """
    with _decoding_errors(path), Image.open(path) as image:
        return image.mode in ("1", "L", "I;16"), min(image.size)


def _open(path: Path, grey: bool) -> Image.Image:
    """Return a decoded image with one channel or three."""
    with _decoding_errors(path), Image.open(path) as image:
        return image.convert("L" if grey else "RGB")


@contextmanager
def _decoding_errors(path: Path) -> Iterator[None]:
    """Turn Pillow's errors into one that names the file."""
    try:
        yield
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as reason:
        raise DataMissing(f"{path} is not an image that can be read ({type(reason).__name__})") from reason


def _as_array(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of an image as uint8 `[C, H, W]`."""
    values = np.array(image, np.uint8)  # np.asarray would give read-only memory, of which torch warns
    return values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))


class FilePixels:
    """Image files that can be indexed like a uint8 array `[N, C, side, side]`; only the indexed images are read.

    Args:
        paths: One path per image.
        grey: Whether images have one channel instead of three.
        side: Side in pixels, as in `cropped`.
        enlarge: As in `cropped`.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, paths: Sequence[Path], *, grey: bool, side: int, enlarge: float = 1.0) -> None:
        self._paths, self._grey, self._side, self._enlarge = list(paths), grey, side, enlarge

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape `[N, C, side, side]`."""
        return len(self._paths), 1 if self._grey else 3, self._side, self._side

    @property
    def nbytes(self) -> int:
        """Bytes that the whole array would take in memory."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Return one image, or those of a slice or of an array of indices."""
        chosen = np.arange(len(self))[key]
        if np.ndim(chosen) == 0:
            return cropped(self._paths[int(chosen)], self._grey, self._side, self._enlarge)
        out = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for place, index in enumerate(chosen):
            out[place] = cropped(self._paths[int(index)], self._grey, self._side, self._enlarge)
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.uint8]:
        """Return all images as an array in memory, for numpy."""
        return self[:].astype(dtype or np.uint8, copy=False)

    def at(self, index: NDArray[np.int64]) -> "FilePixels":
        """Return the images at `index`, still in their files."""
        paths = [self._paths[int(i)] for i in index]
        return FilePixels(paths, grey=self._grey, side=self._side, enlarge=self._enlarge)

    def original(self, index: int) -> NDArray[np.uint8]:
        """Return one image in its original size, uint8 `[C, H, W]`."""
        return original(self._paths[index], self._grey)
