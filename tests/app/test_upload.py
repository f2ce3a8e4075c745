"""Uploaded pictures: which are read, and which are refused with a sentence."""

import io
import zlib
from typing import Any

import pytest
from PIL import Image

from app import upload
from app.upload import MAX_SIDE, ImageLimits, UploadError

LIMITS = ImageLimits(2_000_000, 20_000_000)


def read_upload(data: bytes) -> bytes:
    """Read a picture within the usual limits."""
    return upload.read_upload(data, LIMITS)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture as a file of a format of Pillow."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def test_turns_upright_and_drops_metadata() -> None:
    image = Image.new("RGB", (40, 20), "red")
    exif = image.getexif()
    exif[0x0112] = 6  # lies on its side
    exif[0x010E] = "a secret"
    png = read_upload(encoded(image, "JPEG", exif=exif))
    read = Image.open(io.BytesIO(png))
    assert read.size == (20, 40)
    assert b"secret" not in png
    assert not read.getexif()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16"])
def test_reads_every_mode(mode: str) -> None:
    assert Image.open(io.BytesIO(read_upload(encoded(Image.new(mode, (8, 8)), "PNG")))).mode == "RGB"


def test_large_images_are_made_smaller() -> None:
    assert max(Image.open(io.BytesIO(read_upload(encoded(Image.new("RGB", (2000, 1000)), "PNG")))).size) == MAX_SIDE


def bomb() -> bytes:
    """Return a PNG of 65,000 x 65,000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (65_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"not an image", "not a readable"),
        (encoded(Image.new("RGB", (64, 64)), "PNG")[:60], "not a readable"),
        (encoded(Image.new("RGB", (9, 9)), "GIF"), "not a readable"),
        (b"\x00" * (LIMITS.num_bytes + 1), "at most 2 MB"),
        (bomb(), "megapixels|not a readable"),
    ],
)
def test_refuses_in_one_sentence(data: bytes, words: str) -> None:
    with pytest.raises(UploadError, match=words):
        read_upload(data)


def test_limits_are_those_of_the_server() -> None:
    picture = encoded(Image.radial_gradient("L"), "PNG")  # 256 x 256, some kilobytes
    with pytest.raises(UploadError, match=r"at most 0\.001 MB are read"):
        upload.read_upload(picture, ImageLimits(1_000, 20_000_000))
    with pytest.raises(UploadError, match=r"at most 0\.065535 are read"):
        upload.read_upload(picture, ImageLimits(2_000_000, 65_535))
