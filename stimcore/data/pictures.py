"""Picture files: opening them, what they are, and arrays of pictures that stay in their files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stimcore.data.preprocessing import SIXTEEN_BIT_FORMATS, Preprocessing, as_pixels, sample_range, unknown_range
from stimcore.errors import DataMissing, StimcoreError

_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "DIB", "WEBP", "AVIF", "TIFF", "PPM", "JPEG2000", "QOI", "PCX", "SGI", "TGA")
"""Pillow's names of the formats that are read, as far as this Pillow has them; others need programs or are no photographs."""
_WITHOUT_SIGNATURE = ("PCX", "SGI", "TGA")
"""Formats that almost any file could be taken for: only files with their suffixes are."""

GREY_MODES = ("1", "L", "LA", "La", "I")
"""Pillow's modes of one channel besides transparency; those that begin with `I;16` are grey, too."""


def suffixes() -> frozenset[str]:
    """Return the suffixes of picture files that this Pillow reads, in lower case, with their dots."""
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in _FORMATS)


def is_picture(path: Path) -> bool:
    """Return whether a file is read as a picture: by its suffix, else by its first bytes."""
    if path.suffix.lower() in suffixes():
        return True
    try:
        with Image.open(path, formats=_formats(path)):
            return True
    except Exception:  # whatever Pillow raises for a file of another kind: that kind isn't a picture
        return False


def _formats(path: Path) -> list[str]:
    """Return the formats that a file is tried as."""
    own = Image.registered_extensions().get(path.suffix.lower())  # this also loads all of Pillow's formats
    return [name for name in _FORMATS if name in Image.OPEN and (name not in _WITHOUT_SIGNATURE or name == own)]


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture file, reading its header only.

    Raises:
        DataMissing: The file can't be read as a picture, here or while the picture is used; the message names it.
    """
    try:
        # Pillow maps uncompressed grey files that it opens by name into memory, and mixes up the rows of those whose
        # orientation swaps width and height
        with path.open("rb") as file, Image.open(file, formats=_formats(path)) as image:
            yield image
    except Exception as reason:  # a damaged file makes Pillow raise almost anything: struct.error, IndexError, MemoryError
        raise DataMissing(f"{path} is not an image that can be read ({why_unreadable(reason)})") from reason


def why_unreadable(reason: BaseException) -> str:
    """Return in a few words why a file can't be read as a picture."""
    match reason:
        case DataMissing() if reason.__cause__ is not None:
            return why_unreadable(reason.__cause__)
        case StimcoreError():
            return reason.what
        case UnidentifiedImageError():
            return "no picture of a known format"
        case Image.DecompressionBombError():
            return "more pixels than Pillow decodes"
        case FileNotFoundError():
            return "the file, or what it links to, is missing"
        case PermissionError():
            return "no permission to read it"
        case _:
            return "damaged or incomplete"


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a picture file is, without its pixels.

    Attributes:
        grey: Whether it has one channel, or a palette of greys.
        size: Width and height as stored, in pixels.
        conversions: What is done to it besides resizing and cropping, each in a few words.
    """

    grey: bool
    size: tuple[int, int]
    conversions: tuple[str, ...]


def read_header(path: Path) -> Header:
    """Return what a picture file is, without decoding it.

    Raises:
        DataMissing: The file can't be read as a picture, or the range of its samples is not known.
    """
    with opened(path) as image:
        if (reason := unknown_range(image)) is not None:
            raise StimcoreError(reason)
        return Header(grey=_is_grey(image), size=image.size, conversions=tuple(_conversions(image)))


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("P", "PA") and image.palette is not None:
        # Pillow's own reading: the bytes of a palette lie in an order that depends on the format, in TIFF plane after plane
        colours = np.array(image.getpalette("RGB") or (), np.uint8).reshape(-1, 3)
        return bool((colours == colours[:, :1]).all())
    return image.mode in GREY_MODES or image.mode.startswith("I;16")


def _conversions(image: Image.Image) -> Iterator[str]:
    """Yield what is done to an opened picture besides resizing and cropping."""
    tile = getattr(image, "tile", None)  # how the decoder of a file unpacks it; images made in memory have none
    raw_mode = str(tile[0][3]) if tile else ""
    if image.mode.startswith("I;16") or image.format in SIXTEEN_BIT_FORMATS and ("16" in raw_mode or image.mode == "I"):
        bits = max(sample_range(image)).bit_length() if image.mode.startswith("I") else 16
        yield f"{bits} bits, scaled to 8"
    if image.mode in ("P", "PA"):
        yield "palette, looked up"
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        yield "transparency, dropped"
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        yield f"{image.mode}, converted without a colour profile"
    # the further images of MPO, which telephones write as .jpg, are previews
    if image.format != "MPO" and getattr(image, "is_animated", False):
        yield "several frames or pages, of which the first is read"
    if image.format in ("JPEG", "MPO", "TIFF", "WEBP", "AVIF") or "exif" in image.info:
        orientation = image.getexif().get(0x0112, 1)
        if isinstance(orientation, int) and 2 <= orientation <= 8:
            yield "stored turned, made upright by its EXIF orientation"


class FilePixels:
    """Picture files that can be indexed like a uint8 array `[N, C, H, W]`; only the indexed pictures are read.

    Args:
        paths: One path per picture.
        preprocessing: How pictures are read; the normalisation is not used.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, paths: Sequence[Path], preprocessing: Preprocessing) -> None:
        self.paths, self._preprocessing = list(paths), preprocessing

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape `[N, C, H, W]`."""
        return (len(self.paths), *self._preprocessing.input_shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the whole array would take in memory."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Return one picture, or those of a slice or of an array of indices.

        Raises:
            DataMissing: A file can't be read as a picture; the message names it.
        """
        chosen = np.arange(len(self))[key]
        if np.ndim(chosen) == 0:
            return self._read(int(chosen))
        out = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for place, index in enumerate(chosen):
            out[place] = self._read(int(index))
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.uint8]:
        """Return all pictures as an array in memory, for numpy."""
        return self[:].astype(dtype or np.uint8, copy=False)

    def at(self, index: NDArray[np.int64]) -> "FilePixels":
        """Return the pictures at `index`, still in their files."""
        return FilePixels([self.paths[int(i)] for i in index], self._preprocessing)

    def original(self, index: int) -> NDArray[np.uint8]:
        """Return one picture upright and in its colour mode, in its original size, uint8 `[C, h, w]`.

        Raises:
            DataMissing: The file can't be read as a picture; the message names it.
        """
        with opened(self.paths[index]) as image:
            return as_pixels(self._preprocessing.decode(image))

    def _read(self, index: int) -> NDArray[np.uint8]:
        with opened(self.paths[index]) as image:
            return self._preprocessing.read(image)
