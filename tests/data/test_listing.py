"""Strangers' folders: each is read completely, or what is not read is said, and broken files are refused in one list."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from stimcore import cli
from stimcore.data.__main__ import main
from stimcore.data.folder import image_folder, plan_folder
from stimcore.data.listing import list_folder
from stimcore.data.pictures import FilePixels
from stimcore.errors import DataMissing
from tests.data.folders import classes, notes, picture

# --- files that nobody meant ---


def test_what_systems_add_is_ignored_counted_and_said(tmp_path: Path) -> None:
    """A zip from a Mac, unpacked on Windows, opened in Jupyter: all pictures of the inner folder, and nothing else."""
    root = tmp_path / "photos"
    classes(root / "train")
    classes(root / "test")
    for path in ("__MACOSX/photos/train/a/._0.png", "photos/train/a/._0.png", "photos/train/._a", "photos/.DS_Store"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"\0\5\x16\7")
    for name in ("Thumbs.db", "desktop.ini", ".hidden.png"):
        (root / "test" / "b" / name).write_bytes(b"junk")
    for part in ("train", "test/a"):
        (root / part / ".ipynb_checkpoints").mkdir()
        picture(root / part / ".ipynb_checkpoints" / "0-checkpoint.png")
    listing = list_folder(tmp_path)
    assert listing.root == root
    assert listing.ignored == {
        "._*": 2, ".DS_Store": 1, ".*": 1, ".ipynb_checkpoints": 2, "Thumbs.db": 1, "__MACOSX": 1, "desktop.ini": 1
    }  # fmt: skip
    assert (len(listing.train), listing.test and len(listing.test), listing.unread) == (4, 4, ())
    text = notes(tmp_path)
    assert "ignored files: 9 (.* 1, .DS_Store 1, ._* 2, .ipynb_checkpoints 2, Thumbs.db 1, __MACOSX 1, desktop.ini 1)" in text
    assert f"{root} is read, as it is the only folder in {tmp_path}" in text


def test_files_that_are_no_pictures_and_pictures_of_no_class_are_named(tmp_path: Path) -> None:
    classes(tmp_path)
    picture(tmp_path / "stray.png")
    for name in ("a/notes.txt", "a/IMG_1.heic", "labels.csv"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
    assert notes(tmp_path).splitlines() == [
        "not read, in no folder of a class: stray.png",
        "not read, no pictures that Pillow can read: labels.csv, a/IMG_1.heic, a/notes.txt",
    ]


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JPEG", "webp", "avif", "tiff", "jp2", "pgm", "tga", "apng", "dat", ""])
def test_pictures_are_read_whatever_their_suffix(suffix: str, tmp_path: Path) -> None:
    if suffix in ("webp", "avif") and not features.check(suffix):
        pytest.skip(f"this Pillow has no {suffix}")
    kind = {
        "jpe": "JPEG",
        "jfif": "JPEG",
        "pgm": "PPM",
        "tga": "TGA",
        "jp2": "JPEG2000",
        "apng": "PNG",
        "": "PNG",
        "dat": "PNG",
    }
    classes(tmp_path)
    for name in "ab":
        path = tmp_path / name / (f"x.{suffix}" if suffix else "x")
        Image.new("RGB", (10, 8), (90, 90, 90)).save(path, kind.get(suffix, suffix.upper()))
    dataset = image_folder(tmp_path)
    assert len(dataset.train) + len(dataset.test) == 6
    assert not dataset.notes
    assert abs(dataset.train.pixels.astype(int) - 90).max() <= 3


# --- links and names ---


def test_linked_folders_and_files_are_read_once(tmp_path: Path) -> None:
    store = classes(tmp_path / "store", "xy", 3)
    root = classes(tmp_path / "photos")
    (root / "a" / "more").symlink_to(store / "x", target_is_directory=True)
    (root / "b" / "y.png").symlink_to(store / "y" / "0.png")
    for name, target in (("loop", root / "a"), ("up", root), ("other", root / "b")):
        (root / "a" / name).symlink_to(target, target_is_directory=True)
    (root / "c").symlink_to(store / "y", target_is_directory=True)
    listing = list_folder(root)
    assert np.bincount([label for _, label in listing.train]).tolist() == [5, 3, 3]
    links = [note for note in listing.notes if " leads to " in note]
    assert sorted(note.split(" leads to ")[0].split("/")[-1] for note in links) == ["loop", "other", "up"]


def test_folders_that_are_links_to_each_other_are_refused(tmp_path: Path) -> None:
    classes(tmp_path / "train")
    (tmp_path / "test").symlink_to(tmp_path / "train", target_is_directory=True)
    with pytest.raises(DataMissing, match="train and test in .* are the same folder"):
        list_folder(tmp_path)
    (tmp_path / "test").unlink()
    (tmp_path / "train" / "c").symlink_to(tmp_path / "train" / "a", target_is_directory=True)
    with pytest.raises(DataMissing, match="the class folders .*c and .*a are the same folder"):
        list_folder(tmp_path)


def test_class_names_are_compared_in_one_unicode_form(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    for part, name in (("train", composed), ("test", decomposed)):
        classes(tmp_path / part)
        picture(tmp_path / part / name / "0.png")
    assert list_folder(tmp_path).classes == ("a", "b", composed)
    picture(tmp_path / "train" / decomposed / "1.png")
    listing = list_folder(tmp_path)
    assert np.bincount([label for _, label in listing.train]).tolist() == [2, 2, 2]
    assert any("are read as one: their names differ in Unicode form only" in note for note in listing.notes)


# --- pictures ---


def escaped_folder(parent: Path) -> Path:
    """A folder with a picture whose name is not UTF-8, as an archive from Windows leaves it."""
    folder = parent / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir(parents=True)
    except (OSError, UnicodeError):
        pytest.skip("this file system has no names that are not UTF-8")
    picture(folder / "0.png")
    picture(folder / "1.png")
    return folder


@pytest.mark.parametrize("parts", [(), ("train",), ("train", "test")])
def test_a_class_whose_name_is_no_text_is_refused(
    parts: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in parts or ("",):
        classes(tmp_path / part, "b")
        escaped_folder(tmp_path / part)
    with pytest.raises(SystemExit) as ended:
        cli.run(main, ["inspect", str(tmp_path), "--json", "-"])
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert "caf\\udce9' has a name that is no text in UTF-8. Rename the folder" in printed.err
    assert printed.out == ""
    with pytest.raises(DataMissing, match="Rename the folder"):
        image_folder(tmp_path)


def test_a_folder_of_classes_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"caf\\udce9' has a name that is no text"):
        list_folder(classes(escaped_folder(tmp_path)))


def test_other_files_whose_names_are_no_text_are_named_in_the_report(tmp_path: Path) -> None:
    folder = escaped_folder(classes(tmp_path / "pictures") / "a")
    (folder / os.fsdecode(b"t\xe9.txt")).write_text("no picture")
    (folder / os.fsdecode(b"t\xe9.png")).write_text("damaged")
    target = tmp_path / "report.json"
    assert main(["inspect", str(tmp_path / "pictures"), "--json", str(target)]) == 1
    report = json.loads(target.read_text(encoding="utf-8"))
    assert report["not_read"] == ["a/caf\udce9/t\udce9.txt"]
    assert list(report["broken"]) == ["a/caf\udce9/t\udce9.png"]


def test_grey_pictures_among_colour_ones_make_no_grey_data_set(tmp_path: Path) -> None:
    """The first file is grey, the other way round than in most folders."""
    classes(tmp_path)
    picture(tmp_path / "a" / "0.png", mode="L")
    dataset = image_folder(tmp_path)
    assert dataset.image_shape[0] == 3
    assert "1 grey and 3 colour pictures: all are read as colour pictures" in dataset.notes


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P"])
def test_a_folder_of_grey_pictures_has_one_channel(mode: str, tmp_path: Path) -> None:
    for name in "ab":
        for index in range(2):
            picture(tmp_path / name / f"{index}.png", mode=mode, value=255)
    dataset = image_folder(tmp_path)
    assert dataset.image_shape[0] == 1
    assert (dataset.train.pixels == 255).all()


@pytest.mark.parametrize(("colours", "channels"), [([(197, 0, 0), (0, 100, 0)], 3), ([(197,) * 3, (100,) * 3], 1)])
@pytest.mark.parametrize("suffix", ["png", "tif", "gif", "bmp"])
def test_a_palette_is_read_in_the_order_of_its_format(
    suffix: str, colours: list[tuple[int, int, int]], channels: int, tmp_path: Path
) -> None:
    """A TIFF keeps its palette in planes; read in threes, two colours looked like one grey."""
    for number, colour in enumerate(colours):
        for index in range(2):
            image = Image.new("P", (12, 12), 7 + number)
            palette = [value for entry in range(256) for value in (entry, entry, entry)]
            palette[3 * (7 + number) : 3 * (8 + number)] = colour
            image.putpalette(palette)
            path = tmp_path / "ab"[number] / f"{index}.{suffix}"
            path.parent.mkdir(exist_ok=True)
            image.save(path)
    dataset = image_folder(tmp_path)
    assert dataset.image_shape[0] == channels
    means = {label: dataset.train.pixels[dataset.train.labels == label].mean(axis=(0, 2, 3)) for label in (0, 1)}
    for label, colour in enumerate(colours):
        assert means[label] == pytest.approx(colour[:channels], abs=1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_pipes_are_counted_and_never_opened(tmp_path: Path) -> None:
    """Whoever opens one waits for a writer."""
    classes(tmp_path)
    os.mkfifo(tmp_path / "a" / "pipe.png")
    listing = list_folder(tmp_path)
    assert listing.ignored == {"pipes and devices": 1}


def test_the_home_of_nobody_is_no_folder() -> None:
    with pytest.raises(DataMissing, match="there is no folder ~nobody-of-this-name/photos"):
        list_folder(Path("~nobody-of-this-name/photos"))


def test_every_kind_of_picture_is_converted_and_said(tmp_path: Path) -> None:
    classes(tmp_path)
    folder = tmp_path / "a"
    Image.fromarray(np.full((8, 10), 90 * 257, np.uint16)).save(folder / "16.png")
    Image.fromarray(np.full((8, 10), 90 * 257, np.uint16)).save(folder / "16.tif")
    Image.new("RGB", (10, 8), (90, 90, 90)).quantize(4).save(folder / "palette.png")
    Image.new("RGBA", (10, 8), (90, 90, 90, 7)).save(folder / "clear.png")
    Image.new("CMYK", (10, 8), (0, 0, 0, 165)).save(folder / "print.tif")
    frames = [Image.new("RGB", (10, 8), (value, value, value)) for value in (90, 200)]
    frames[0].save(folder / "moves.gif", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 10), (90, 90, 90)).save(folder / "phone.jpg", exif=exif)
    dataset = image_folder(tmp_path)
    assert dataset.image_shape == (3, 8, 8)
    assert abs(np.concatenate([dataset.train.pixels, dataset.test.pixels]).astype(int) - 90).max() <= 1
    counted = dict(note.rsplit(": ", 1) for note in dataset.notes)
    assert counted.pop("4 grey and 7 colour pictures") == "all are read as colour pictures"
    assert counted == {
        "16 bits, scaled to 8": "2 pictures",
        "palette, looked up": "2 pictures",
        "transparency, dropped": "1 pictures",
        "CMYK, converted without a colour profile": "1 pictures",
        "several frames or pages, of which the first is read": "1 pictures",
        "stored turned, made upright by its EXIF orientation": "1 pictures",
    }


@pytest.mark.parametrize("resident_bytes", [1 << 30, 10])
def test_a_telephones_pictures_are_read_upright(resident_bytes: int, tmp_path: Path) -> None:
    """The left half is dark as stored; seen upright, after the turn by EXIF orientation 6, the upper half is."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.new("RGB", (40, 30), "white")
    stored.paste("black", (0, 0, 20, 30))
    for name in "ab":
        for index in range(2):
            (tmp_path / name).mkdir(exist_ok=True)
            stored.save(tmp_path / name / f"{index}.png", exif=exif)
    pixels = image_folder(tmp_path, resident_bytes=resident_bytes).train.pixels
    assert pixels[0].shape == (3, 30, 30)
    assert (pixels[0][:, :13].max(), pixels[0][:, 17:].min()) == (0, 255)
    if isinstance(pixels, FilePixels):
        whole = pixels.original(0)
        assert whole.shape == (3, 40, 30)
        assert (whole[:, :20].max(), whole[:, 20:].min()) == (0, 255)


@pytest.mark.parametrize("orientation", [3, 5, 6, 7, 8])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_grey_tiff_files_are_read_upright(kind: type, orientation: int, compression: str, tmp_path: Path) -> None:
    """Pillow maps those without compression into memory, and mixed up the rows of those that are turned."""
    upright = np.arange(10, 150, dtype=np.uint8).reshape(10, 14)
    turn = {3: "ROTATE_180", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}[orientation]
    stored = Image.fromarray(upright.astype(kind) * (257 if kind is np.uint16 else 1)).transpose(Image.Transpose[turn])
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in "ab":
        for index in range(2):
            (tmp_path / name).mkdir(exist_ok=True)
            stored.save(tmp_path / name / f"{index}.tif", exif=exif, compression=compression)
    pixels = image_folder(tmp_path).train.pixels
    assert np.array_equal(pixels[0, 0], upright[:, 2:12])


def test_pillows_warnings_are_kept_from_users(tmp_path: Path) -> None:
    """They named a line in a package and nothing that a reader could act on."""
    classes(tmp_path)
    image = Image.fromarray(np.arange(80, dtype=np.uint8).reshape(8, 10)).convert("P")
    image.save(tmp_path / "a" / "transparent.png", transparency=bytes(range(100, 180)))
    result = subprocess.run(
        [sys.executable, "-m", "stimcore.data", "inspect", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "transparency, dropped: 1 pictures" in result.stdout
    assert result.stderr == ""


def test_imagenets_classes_are_prepared_as_imagenets_evaluation_does(tmp_path: Path) -> None:
    """Whatever it is called: `folder:PATH@224` of ImageNet's folders skips no step."""
    for name in ("n01440764", "n01443537"):
        for index in range(2):
            picture(tmp_path / name / f"{index}.jpg")
    steps = plan_folder(tmp_path, size=224).preprocessing.to_dict()
    assert (steps["resize"], steps["crop"]) == ({"shorter": 256, "filter": "bilinear"}, [224, 224])
    steps = plan_folder(tmp_path, size=32).preprocessing.to_dict()
    assert steps["resize"]["shorter"] == 32
