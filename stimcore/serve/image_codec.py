"""Image files (PNG, JPEG) from and to pixels as the networks take them.

Whatever makes decoding slow is counted before anything is decoded: pixels, and the scans of a JPEG file. A progressive JPEG
refines the whole image in every scan, and an empty scan takes ten bytes, so that 70 KB can hold minutes of work.
"""

import io
import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stimcore.data.preprocessing import Preprocessing
from stimcore.errors import StimcoreError, UsageError
from stimcore.serve.errors import TooLarge

MAX_SCANS = 64
"""Scans of a JPEG file that is decoded; encoders write about ten."""
MAX_SCANS_AT_MAX_PIXELS = 16
"""The same for the largest images: pixels times scans, which the time is proportional to, stay below this many times
`max_pixels`."""
MAX_SEGMENTS = 4096
"""Parts of a JPEG file that are looked at; a file with more of them counts as one with too many scans."""
_START_OF_IMAGE, _START_OF_SCAN, _END_OF_IMAGE = 0xD8, 0xDA, 0xD9
_SIGNATURES = {
    "GIF": rb"GIF8[79]a",
    "WebP": rb"RIFF.{4}WEBP",
    "TIFF": rb"II[*+]\x00|MM\x00[*+]",
    "BMP": rb"BM.{12}",
    "AVIF": rb".{4}ftypavi[fs]",
    "HEIC": rb".{4}ftyp(?:hei[cmsx]|hevc|mif1|msf1)",
}
"""Kind of picture file -> how it begins."""
_SIGNATURE_BYTES = 16
# A marker in compressed data. In front of a 0, or of a restart marker (D0 to D7), the 255 belongs to the data.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a PNG file of uint8 pixels `[C, H, W]` with one channel or three."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def decode_image(data: bytes, preprocessing: Preprocessing, max_pixels: int) -> NDArray[np.uint8]:
    """Return a PNG or JPEG file as pixels of the networks' size, by the steps with which the networks were evaluated.

    Args:
        data: The file. Of an animated PNG the first frame is used.
        preprocessing: The steps of the experiment.
        max_pixels: Largest width times height that is decoded.

    Returns:
        uint8 `[C, H, W]`.

    Raises:
        UsageError: The file is neither PNG nor JPEG, is damaged, or the range of its samples is not known.
        TooLarge: The image has more than `max_pixels`, or too many scans.

    Example:
        >>> from stimcore.data.normalise import Normalisation
        >>> steps = Preprocessing.without_resize((1, 2, 2), Normalisation((0.5,), (0.25,)))
        >>> decode_image(encode_png(np.full((1, 30, 40), 7, np.uint8)), steps, max_pixels=1200).tolist()
        [[[7, 7], [7, 7]]]
    """
    try:
        image = Image.open(io.BytesIO(data), formats=["PNG", "JPEG"])  # reads the header, decodes nothing
        _check_work(data, image.size, max_pixels)
        return preprocessing.read(image)
    except StimcoreError:
        raise
    except Image.DecompressionBombError as reason:
        raise TooLarge("an image of far too many pixels", allowed=f"at most {max_pixels:,}") from reason
    except Exception as reason:  # a damaged file makes Pillow raise almost anything: struct.error, IndexError, MemoryError
        if (kind := other_kind(data)) is not None:
            raise UsageError(f"the image is a {kind} file", allowed="PNG or JPEG") from reason
        what = "can't be read" if isinstance(reason, UnidentifiedImageError) else "is damaged or incomplete"
        raise UsageError(f"the image {what}", allowed="PNG or JPEG") from reason


def other_kind(data: bytes) -> str | None:
    """Return the kind of a picture file by its first bytes, if it is a common one besides PNG and JPEG.

    Only these two are decoded: every further decoder is code that a stranger's file could attack.

    Example:
        >>> other_kind(b"GIF89a...."), other_kind(b"no picture")
        ('GIF', None)
    """
    head = data[:_SIGNATURE_BYTES]
    return next((kind for kind, pattern in _SIGNATURES.items() if re.match(pattern, head, re.DOTALL)), None)


def count_scans(data: bytes) -> int:
    """Return the number of scans of a JPEG file, 0 for any other file; counting stops above `MAX_SCANS` or `MAX_SEGMENTS`.

    Thumbnails in the metadata, and images that are appended to the first one, are not counted: they are not decoded.

    Example:
        >>> out = io.BytesIO()
        >>> Image.new("L", (8, 8)).save(out, "JPEG", progressive=True)
        >>> count_scans(out.getvalue())
        6
    """
    if data[:2] != bytes((0xFF, _START_OF_IMAGE)):
        return 0
    scans, position = 0, 2
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.search(data, position)
        if marker is None or scans > MAX_SCANS:
            return scans
        kind, position = data[marker.end() - 1], marker.end()
        if kind == _END_OF_IMAGE:
            return scans
        scans += kind == _START_OF_SCAN
        if kind not in (0x01, _START_OF_IMAGE):  # all others have a length, which includes its two bytes
            position += max(2, int.from_bytes(data[position : position + 2]))
    return MAX_SCANS + 1


def _check_work(data: bytes, size: tuple[int, int], max_pixels: int) -> None:
    """Refuse an image that would take long to decode.

    Raises:
        TooLarge: It has too many pixels, too many scans, or too many of both together.
    """
    width, height = size
    pixels = max(1, width * height)
    if pixels > max_pixels:
        raise TooLarge(f"an image of {width:,} x {height:,} pixels", allowed=f"at most {max_pixels:,} pixels")
    allowed = min(MAX_SCANS, MAX_SCANS_AT_MAX_PIXELS * max_pixels // pixels)
    if count_scans(data) > allowed:
        raise TooLarge(f"a JPEG of {width:,} x {height:,} pixels with too many scans", allowed=f"at most {allowed} scans")
