"""The steps from a picture to the input of a network, and their JSON form."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stimcore.data import preprocessing
from stimcore.data.normalise import IMAGENET, Normalisation
from stimcore.data.pictures import FilePixels, read_header
from stimcore.data.preprocessing import Preprocessing, Resize, unknown_range
from stimcore.data.program import classify_program
from stimcore.errors import UsageError

GREY = Normalisation((0.5,), (0.25,))
IMAGENET_STEPS = Preprocessing(
    mode="RGB", resize=Resize(shorter=256, filter="bilinear"), crop=(224, 224), normalisation=IMAGENET
)


def test_a_range_that_nothing_names_is_told_as_it_is() -> None:
    image = Image.new("I", (2, 2))
    image.format = "TIFF"
    image.tag_v2 = {258: (16,), 339: (2,)}  # type: ignore[attr-defined]  # as Pillow reads them from a file
    assert unknown_range(image) == "signed samples of 16 bits, of unknown range"


def test_imagenet_resizes_the_shorter_side_and_cuts_out_the_centre() -> None:
    """Against Pillow called by hand, as torchvision's evaluation does it."""
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    resized = picture.resize((341, 256), Image.Resampling.BILINEAR)
    left, top = (341 - 224) // 2, (256 - 224) // 2
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224))).transpose(2, 0, 1)
    np.testing.assert_array_equal(IMAGENET_STEPS.read(picture), expected)
    stored = pixels.transpose(2, 0, 1)[None]
    np.testing.assert_array_equal(IMAGENET_STEPS.fit(stored)[0], expected)
    assert IMAGENET_STEPS(stored).shape == (1, 3, 224, 224)
    assert IMAGENET_STEPS(stored).dtype == np.float32


def test_stored_images_are_enlarged_to_the_network() -> None:
    """CIFAR images of 32 pixels for a network of 224: stored small, enlarged when they are read."""
    steps = Preprocessing(mode="RGB", resize=Resize(shorter=224, filter="bilinear"), crop=(224, 224), normalisation=IMAGENET)
    small = np.random.default_rng(1).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    large = steps.fit(small)
    assert large.shape == (3, 3, 224, 224)
    assert large.dtype == np.uint8
    np.testing.assert_array_equal(steps.fit(large), large)
    assert np.abs(large.mean((2, 3)) - small.mean((2, 3))).max() < 2


def test_images_of_the_networks_size_are_only_normalised() -> None:
    steps = Preprocessing.without_resize((1, 28, 28), GREY)
    pixels = np.random.default_rng(2).integers(0, 256, (4, 1, 28, 28), dtype=np.uint8)
    assert steps.fit(pixels) is pixels
    np.testing.assert_array_equal(steps(pixels), GREY(pixels))


def test_the_orientation_of_a_phone_is_applied() -> None:
    picture = Image.fromarray(np.array([[10, 200]], np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture.getexif().update(exif)
    upright = Preprocessing(mode="L", crop=(2, 1), normalisation=GREY)
    assert upright.read(picture).tolist() == [[[10], [200]]]
    as_stored = Preprocessing(exif_orientation=False, mode="L", crop=(1, 2), normalisation=GREY)
    assert as_stored.read(picture).tolist() == [[[10, 200]]]


@pytest.mark.parametrize(("bit_depth", "expected"), [("scale", [0, 1, 128, 255]), ("clip", [0, 255, 255, 255])])
def test_sixteen_bits_are_scaled_or_cut_off(bit_depth: Any, expected: list[int]) -> None:
    picture = Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))
    steps = Preprocessing(bit_depth=bit_depth, mode="RGB", crop=(1, 4), normalisation=IMAGENET)
    assert steps.read(picture).tolist() == [[expected]] * 3


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "PNG", "PGM"])
def test_sixteen_bits_are_scaled_in_every_file_that_has_them(mode: str, tmp_path: Path) -> None:
    samples = np.array([[0, 257, 32896, 65535]], np.uint16)
    path = tmp_path / {"PNG": "a.png", "PGM": "a.pgm"}.get(mode, "a.tif")
    if mode == "I;16B":
        Image.frombytes("I;16B", (4, 1), samples.astype(">u2").tobytes()).save(path)
    else:
        Image.fromarray(samples).save(path)
    steps = Preprocessing(mode="L", crop=(1, 4), normalisation=GREY)
    with Image.open(path) as picture:
        assert steps.read(picture).tolist() == [[[0, 1, 128, 255]]]


@pytest.mark.parametrize(
    ("kind", "words"),
    [(np.float32, "floating-point samples"), (np.int32, "samples of 32 bits")],
)
def test_pictures_of_unknown_range_are_refused(kind: type, words: str, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), kind)).save(tmp_path / "a.tif")
    steps = Preprocessing.without_resize((1, 4, 4), GREY)
    with Image.open(tmp_path / "a.tif") as picture, pytest.raises(UsageError, match=words):
        steps.read(picture)


@pytest.mark.parametrize("size", [(30, 90), (640, 480), (40, 50), (70, 1000)])
def test_without_a_resize_other_pictures_just_cover_the_crop(size: tuple[int, int]) -> None:
    """What the server does with a visitor's picture for Fashion-MNIST, whose own images all have one size."""
    steps = Preprocessing.without_resize((1, 28, 28), GREY)
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    picture = Image.new("L", size)
    picture.paste(255, (left, top, left + side, top + side))
    pixels = steps.read(picture)
    assert pixels.shape == (1, 28, 28)
    assert pixels.mean() > 240


def test_a_prepared_picture_stays_what_it_is() -> None:
    picture = Image.fromarray(np.random.default_rng(4).integers(0, 256, (300, 500, 3), dtype=np.uint8))
    once = IMAGENET_STEPS.read(picture)
    twice = IMAGENET_STEPS.read(Image.fromarray(once.transpose(1, 2, 0)))
    np.testing.assert_array_equal(once, twice)


def test_a_very_long_picture_is_cropped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Image.fromarray(np.random.default_rng(5).integers(0, 256, (90, 700, 3), dtype=np.uint8))
    whole = IMAGENET_STEPS.read(picture).astype(int)
    monkeypatch.setattr(preprocessing, "MAX_RESIZED_PIXELS", 0)
    assert np.abs(IMAGENET_STEPS.read(picture) - whole).max() <= 1


@pytest.mark.parametrize("steps", [IMAGENET_STEPS, Preprocessing.without_resize((1, 28, 28), GREY)])
def test_the_json_form_reads_back(steps: Preprocessing) -> None:
    value = json.loads(json.dumps(steps.to_dict()))
    assert Preprocessing.from_dict(value) == steps
    assert Preprocessing.from_dict({**value, "unknown": 1}) == steps


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mode", "CMYK"),
        ("bit_depth", "guess"),
        ("crop", [28]),
        ("crop", [28, 0]),
        ("resize", {"shorter": 28}),
        ("resize", {"shorter": 28, "filter": "magic"}),
        ("std", [0.0]),
        ("mean", [0.1, 0.2]),
        ("mean", ["a"]),
        ("exif_orientation", 1),
    ],
)
def test_other_values_are_refused(key: str, value: object) -> None:
    words = "lacks a key|is not one of|is not a number of pixels|numbers each are needed|is neither true nor false|not convert"
    good = Preprocessing.without_resize((1, 28, 28), GREY).to_dict()
    with pytest.raises(ValueError, match=words):
        Preprocessing.from_dict({**good, key: value})
    with pytest.raises(ValueError, match=words):
        Preprocessing.from_dict({name: item for name, item in good.items() if name != key})


def tiff(samples: list[int], *, bits: int, white_is_zero: bool, order: str, orientation: int = 1) -> bytes:
    """A TIFF file of one row of grey samples, uncompressed."""
    packed = "".join(f"{sample:0{bits}b}" for sample in samples)
    data = int(packed, 2).to_bytes(len(packed) // 8)
    if bits == 16 and order == "<":
        data = np.frombuffer(data, ">u2").astype("<u2").tobytes()
    shorts = {256: len(samples), 257: 1, 258: bits, 259: 1, 262: 0 if white_is_zero else 1, 274: orientation, 277: 1, 278: 1}
    longs = {273: 8, 279: len(data)}
    entries = [struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in shorts.items()]
    entries += [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in longs.items()]
    entries.sort(key=lambda entry: struct.unpack(f"{order}H", entry[:2]))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)


@pytest.mark.parametrize("orientation", [1, 2])
@pytest.mark.parametrize(
    ("bits", "white_is_zero", "order"),
    [(8, False, "<"), (8, True, "<"), (8, True, ">"), (12, False, "<"), (16, False, "<"), (16, False, ">"), (16, True, "<")],
)
def test_grey_tiff_files_are_read_as_their_twin_of_8_bits(
    bits: int, white_is_zero: bool, order: str, orientation: int, tmp_path: Path
) -> None:
    """Pillow neither scales samples of 12 bits nor inverts those of 16; the program that is shown reads the same pixels."""
    grey = [0, 4, 16, 128, 250, 255]
    most = 2**bits - 1
    samples = [round(value / 255 * most) for value in grey]
    path = tmp_path / "grey.tif"
    stored = [most - sample for sample in samples] if white_is_zero else samples
    path.write_bytes(tiff(stored, bits=bits, white_is_zero=white_is_zero, order=order, orientation=orientation))
    expected = grey if orientation == 1 else grey[::-1]
    steps = Preprocessing.without_resize((1, 1, 6), Normalisation((0.5,), (0.25,)))
    assert FilePixels([path], steps)[0].tolist() == [[expected]]
    words = [words for words in read_header(path).conversions if "bits" in words]
    assert words == ([] if bits == 8 else [f"{bits} bits, scaled to 8"])
    names: dict[str, Any] = {}
    exec(classify_program(steps, ["a", "b"], "net.onnx").partition("\npaths = []")[0], names)
    np.testing.assert_array_equal(names["prepare"](path), steps.normalisation(np.array([[[expected]]], np.uint8)))
