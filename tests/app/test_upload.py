"""Uploaded pictures: which are read, and which are refused with a sentence."""

import io
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app import upload
from app.upload import ImageLimits, UploadError
from stimcore.data.normalise import Normalisation
from stimcore.data.preprocessing import Preprocessing, Resize
from stimcore.serve.image_codec import decode_image

LIMITS = ImageLimits(2_000_000, 20_000_000)
STEPS = Preprocessing(
    mode="RGB",
    resize=Resize(shorter=24, filter="bilinear"),
    crop=(20, 20),
    normalisation=Normalisation((0.5,) * 3, (0.25,) * 3),
)


def read_upload(data: bytes) -> bytes:
    """Read a picture within the usual limits."""
    return upload.read_upload(data, LIMITS, STEPS)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture as a file of a format of Pillow."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def test_turns_upright_and_drops_metadata() -> None:
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 20, 20))
    exif = image.getexif()
    exif[0x0112] = 6  # lies on its side
    exif[0x010E] = "a secret"
    png = read_upload(encoded(image, "JPEG", exif=exif))
    read = Image.open(io.BytesIO(png)).convert("RGB")
    assert read.size == (20, 20)
    top, bottom = (read.getpixel((10, y)) for y in (1, 18))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[2] > 200 > top[0]
    assert bottom[0] > 200 > bottom[2]
    assert b"secret" not in png
    assert not Image.open(io.BytesIO(png)).getexif()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "CMYK"])
def test_reads_every_mode(mode: str) -> None:
    png = read_upload(encoded(Image.new(mode, (8, 8)), "JPEG" if mode == "CMYK" else "PNG"))
    assert Image.open(io.BytesIO(png)).mode == "RGB"


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    """Cut off at 255, a sample of 128 of 255 (32,896 of 65,535) would be white."""
    png = read_upload(encoded(Image.fromarray(np.full((20, 20), 32_896, np.uint16)), "PNG"))
    assert np.unique(np.asarray(Image.open(io.BytesIO(png)))).tolist() == [128]


@pytest.mark.parametrize("size", [(640, 480), (2000, 1000), (7, 30), (20, 20), (21, 20)])
def test_the_server_sees_in_an_upload_what_it_sees_in_the_file(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = encoded(Image.fromarray(pixels).resize(size), "JPEG")
    of_file, of_upload = (decode_image(data, STEPS, LIMITS.num_pixels) for data in (file, read_upload(file)))
    np.testing.assert_array_equal(of_upload, of_file)


def bomb() -> bytes:
    """Return a PNG of 65,000 x 65,000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (65_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"not an image", "The image can't be read; allowed: PNG or JPEG. Try another picture."),
        (encoded(Image.new("RGB", (64, 64)), "PNG")[:60], "The image is damaged or incomplete; allowed: PNG or JPEG"),
        (encoded(Image.new("RGB", (9, 9)), "GIF"), "The image is a GIF file; allowed: PNG or JPEG"),
        (b"\x00" * (LIMITS.num_bytes + 1), "at most 2 MB"),
        (bomb(), "pixels; allowed: at most 20,000,000"),
    ],
)
def test_refuses_in_one_sentence(data: bytes, words: str) -> None:
    with pytest.raises(UploadError, match=words):
        read_upload(data)


def test_limits_are_those_of_the_server() -> None:
    picture = encoded(Image.radial_gradient("L"), "PNG")  # 256 x 256, some kilobytes
    with pytest.raises(UploadError, match=r"at most 0\.001 MB are read"):
        upload.read_upload(picture, ImageLimits(1_000, 20_000_000), STEPS)
    with pytest.raises(UploadError, match="256 x 256 pixels; allowed: at most 65,535 pixels"):
        upload.read_upload(picture, ImageLimits(2_000_000, 65_535), STEPS)
