"""Image files: what is damaged is refused in a sentence, and the work of decoding is bounded before it begins."""

import io
import random
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from stimcore.data.normalise import Normalisation
from stimcore.data.preprocessing import Preprocessing, Resize
from stimcore.errors import UsageError
from stimcore.serve.errors import TooLarge
from stimcore.serve.image_codec import MAX_SCANS, count_scans, decode_image, encode_png

GREY = Preprocessing.without_resize((1, 12, 12), Normalisation((0.5,), (0.25,)))
COLOUR = Preprocessing.without_resize((3, 32, 32), Normalisation((0.5,) * 3, (0.25,) * 3))
MAX_PIXELS = 1_000_000
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # as `image_codec` does it outside of tests
FORMATS = {"PNG": {}, "JPEG": {}, "GIF": {}, "WEBP": {}, "BMP": {}, "TIFF": {"compression": "tiff_lzw"}}


def jpeg(size: tuple[int, int], repeated_scans: int = 0, *, progressive: bool = True) -> bytes:
    """Return a JPEG file of one colour, with its last scan repeated: decoders read every repetition."""
    out = io.BytesIO()
    Image.new("RGB", size, (200, 90, 30)).save(out, "JPEG", progressive=progressive)
    data = out.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * repeated_scans + data[-2:]


def seeds() -> list[bytes]:
    """Return small files of all formats and of several modes."""
    files = []
    generator = np.random.default_rng(7)
    for mode in ("L", "RGB", "P", "RGBA", "1"):
        pixels = generator.integers(0, 256, (11, 9, 4), dtype=np.uint8)
        image = Image.fromarray(pixels, "RGBA").convert("RGB").convert(mode)
        for name, words in FORMATS.items():
            if name == "JPEG" and mode in ("P", "RGBA"):
                continue
            out = io.BytesIO()
            exif = Image.Exif()
            exif[0x0112] = 6  # the turn of a photograph, which is the tag that the decoder reads; the others have other types
            exif[0x011A], exif[0x0131], exif[0x9286] = 72.5, "a camera", b"a comment"
            more = {"exif": exif.tobytes()} if name in ("JPEG", "PNG", "WEBP") else {}
            image.save(out, name, **words, **more)
            files.append(out.getvalue())
    return [*files, jpeg((20, 16)), jpeg((20, 16), progressive=False)]


def mutations(count: int, seed: int) -> Iterator[bytes]:
    """Yield damaged files: bits flipped, bytes set to what parsers fear, pieces cut, repeated and moved."""
    chance = random.Random(seed)
    originals = seeds()
    for _ in range(count):
        data = bytearray(chance.choice(originals))
        exif = max(data.find(b"MM\0*"), data.find(b"II*\0"), 0)
        for _ in range(chance.choice((1, 1, 2, 4, 16))):
            # every other time near the metadata, which is the part of these formats with most structure
            end = min(len(data), exif + 120) if chance.random() < 0.5 else len(data)
            position = chance.randrange(min(exif, len(data) - 1) if end < len(data) else 0, end)
            match chance.randrange(5):
                case 0:
                    data[position] ^= 1 << chance.randrange(8)
                case 1:
                    data[position] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
                case 2:
                    data[position : position + 4] = chance.choice((0, 1, 2**31 - 1, 2**32 - 1)).to_bytes(4)
                case 3:
                    del data[position : position + chance.randrange(1, 40)]
                case _:
                    piece = data[position : position + chance.randrange(1, 40)]
                    where = chance.randrange(len(data) + 1)
                    data[where:where] = piece
            if not data:
                data = bytearray(b"\xff")
        yield bytes(data)


def check_refusals(count: int, seed: int) -> int:
    """Decode damaged files; return how many were read nevertheless. Any error but a refusal fails the test."""
    read = 0
    for data in mutations(count, seed):
        steps = (GREY, COLOUR)[len(data) % 2]
        try:
            pixels = decode_image(data, steps, MAX_PIXELS)
        except UsageError as reason:
            sentence = str(reason)
        else:
            assert pixels.shape == steps.input_shape
            assert pixels.dtype == np.uint8
            read += 1
            continue
        assert len(sentence) < 200
    return read


def test_two_thousand_damaged_files_are_read_or_refused() -> None:
    read = check_refusals(2_000, seed=1)
    assert 100 < read < 1_900, "the mutations reach the decoders, and some files survive them"


@pytest.mark.slow
def test_sixty_thousand_damaged_files_are_read_or_refused() -> None:
    assert check_refusals(60_000, seed=2) > 1_000


@pytest.mark.parametrize("kind", [IndexError, KeyError, MemoryError, OverflowError, RuntimeError, ZeroDivisionError])
def test_any_error_of_the_decoder_is_a_refusal(monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    def fail(*_: object) -> None:
        raise kind("inside of the decoder")

    monkeypatch.setattr(ImageOps, "exif_transpose", fail)
    with pytest.raises(UsageError, match="^the image is damaged or incomplete; allowed: PNG or JPEG"):
        decode_image(encode_png(np.zeros((1, 4, 4), np.uint8)), GREY, MAX_PIXELS)


def test_scans_are_counted_as_the_decoder_reads_them() -> None:
    assert count_scans(jpeg((16, 16), progressive=False)) == 1
    assert count_scans(jpeg((16, 16))) == 10
    assert count_scans(jpeg((16, 16), 7)) == 17
    assert count_scans(encode_png(np.zeros((1, 4, 4), np.uint8))) == 0
    assert count_scans(b"") == count_scans(b"\xff\xd8") == 0
    plain = jpeg((16, 16), progressive=False)
    thumbnail = b"\xff\xe1" + (len(plain) + 2).to_bytes(2) + plain
    assert count_scans(plain[:2] + thumbnail + plain[2:]) == 1, "a thumbnail in the metadata is not decoded"
    assert count_scans(plain + jpeg((16, 16))) == 1, "nor is a second image after the first"
    assert count_scans(b"\xff\xd8" + b"\xff\xe1\x00\x02" * 500_000) > MAX_SCANS, "counting ends"


def test_an_ordinary_progressive_photograph_is_read_also_at_the_largest_size() -> None:
    data = jpeg((1000, 1000))
    assert decode_image(data, COLOUR, MAX_PIXELS).shape == (3, 32, 32)


@pytest.mark.parametrize(("side", "scans", "allowed"), [(1000, 7, 16), (1000, 2000, 16), (16, 55, 64), (16, 2000, 64)])
def test_more_scans_are_refused_before_they_are_decoded(side: int, scans: int, allowed: int) -> None:
    data = jpeg((side, side), scans)
    began = time.process_time()
    with pytest.raises(TooLarge, match=f"at most {allowed} scans"):
        decode_image(data, COLOUR, MAX_PIXELS)
    spent = time.process_time() - began
    began = time.process_time()
    with Image.open(io.BytesIO(data)) as image:
        image.load()
    assert spent < max(0.02, (time.process_time() - began) / 4)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "BMP", "AVIF"])
def test_other_pictures_are_refused_by_name(kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow can't write AVIF")
    out = io.BytesIO()
    Image.new("RGB", (20, 20)).save(out, kind)
    with pytest.raises(UsageError, match=f"(?i)the image is a {kind} file; allowed: PNG or JPEG") as refusal:
        decode_image(out.getvalue(), COLOUR, MAX_PIXELS)
    assert "UnidentifiedImageError" not in str(refusal.value)


def test_a_very_long_picture_takes_no_more_memory_than_its_own() -> None:
    """Its shorter side of one pixel is enlarged to 224: without a crop before that, to 224 x 224,000,000 pixels."""
    out = io.BytesIO()
    Image.linear_gradient("L").resize((MAX_PIXELS, 1)).save(out, "PNG")
    steps = Preprocessing(
        mode="L", resize=Resize(shorter=256, filter="bilinear"), crop=(224, 224), normalisation=GREY.normalisation
    )
    assert decode_image(out.getvalue(), steps, MAX_PIXELS).shape == (1, 224, 224)
