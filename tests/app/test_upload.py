"""A visitor's own image: what is read, what is refused with one sentence."""

import io
import zlib

import pytest
from PIL import Image

from app.own_image import MAX_BYTES, SIDE, UploadError, checked


def encoded(image: Image.Image, kind: str, **more: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def test_turns_upright_and_drops_metadata() -> None:
    image = Image.new("RGB", (40, 20), "red")
    exif = image.getexif()
    exif[0x0112] = 6  # lies on its side
    exif[0x010E] = "a secret"
    png = checked(encoded(image, "JPEG", exif=exif))
    read = Image.open(io.BytesIO(png))
    assert read.size == (20, 40) and b"secret" not in png and not read.getexif()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16"])
def test_reads_every_mode(mode: str) -> None:
    assert Image.open(io.BytesIO(checked(encoded(Image.new(mode, (8, 8)), "PNG")))).mode == "RGB"


def test_large_images_are_made_smaller() -> None:
    assert max(Image.open(io.BytesIO(checked(encoded(Image.new("RGB", (2000, 1000)), "PNG")))).size) == SIDE


def bomb() -> bytes:
    """A PNG of 65,000 x 65,000 pixels in a few bytes."""

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
        (b"\x00" * (MAX_BYTES + 1), "at most 2 MB"),
        (bomb(), "megapixels|not a readable"),
    ],
)
def test_refuses_in_one_sentence(data: bytes, words: str) -> None:
    with pytest.raises(UploadError, match=words):
        checked(data)
