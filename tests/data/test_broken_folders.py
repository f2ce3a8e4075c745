"""Folders with files that can't be read, and the command that looks into a folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stimcore.data.__main__ import main
from stimcore.data.folder import folder_and_size, image_folder, plan_folder
from stimcore.data.listing import MOST_NAMED
from stimcore.data.pictures import FilePixels
from stimcore.errors import DataMissing
from tests.data.folders import classes, picture

# --- broken files ---


def broken_folder(root: Path, number: int) -> Path:
    """Write a folder with files that can't be read, each for another reason."""
    classes(root, number=3)
    whole = picture(root / "a" / "whole.jpg", size=(64, 64)).read_bytes()
    (root / "a" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "a" / "text.png").write_bytes(b"no picture")
    (root / "a" / "empty.png").write_bytes(b"")
    (root / "b" / "gone.png").symlink_to(root / "nowhere.png")
    for name, kind in (("float.tif", np.float32), ("int32.tif", np.int32)):
        Image.fromarray(np.zeros((8, 10), kind)).save(root / "b" / name)
    for index in range(number - 6):
        (root / "b" / f"bad{index}.png").write_bytes(b"bad")
    return root


@pytest.mark.parametrize("resident_bytes", [1 << 30, 10])
def test_all_broken_files_are_refused_in_one_list(resident_bytes: int, tmp_path: Path) -> None:
    """In memory, and in files that worker processes would read."""
    root = broken_folder(tmp_path, 6)
    with pytest.raises(DataMissing) as refusal:
        image_folder(root, resident_bytes=resident_bytes)
    assert str(refusal.value) == (
        f"6 of 13 files in {root} can't be read as pictures: a/cut.jpg (damaged or incomplete), "
        "a/empty.png (no picture of a known format), a/text.png (no picture of a known format), "
        "b/float.tif (floating-point samples, of unknown range), b/gone.png (the file, or what it links to, is missing), "
        "b/int32.tif (signed samples of 32 bits, of unknown range). "
        f"Repair or remove them; 'python -m stimcore.data inspect {root} --json -' lists all."
    )


def test_of_many_broken_files_the_first_are_named_and_the_others_counted(tmp_path: Path) -> None:
    with pytest.raises(DataMissing) as refusal:
        image_folder(broken_folder(tmp_path, MOST_NAMED + 7))
    text = str(refusal.value)
    assert text.startswith("27 of 34 files in")
    assert (text.count(".png"), ", and 7 others." in text) == (MOST_NAMED - 1, True)


def test_a_file_that_breaks_during_training_is_named(tmp_path: Path) -> None:
    pixels = image_folder(classes(tmp_path), resident_bytes=10).train.pixels
    assert isinstance(pixels, FilePixels)
    pixels.paths[1].write_bytes(b"")
    with pytest.raises(DataMissing, match=f"{pixels.paths[1]} is not an image that can be read"):
        pixels[1]


# --- the command ---


def test_inspect_prints_what_would_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes(tmp_path / "Train", number=3)
    classes(tmp_path / "valid")
    (tmp_path / "Train" / "a" / "._0.png").write_bytes(b"")
    assert main(["inspect", f"{tmp_path}@16"]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path}: 6 training and 4 test pictures (Train/ and valid/)" in out
    assert "16 x 16 pixels" in out
    assert out.splitlines()[3].split() == ["a", "3", "training", "2", "test"]
    assert "note: ignored files: 1 (._* 1)" in out


def test_inspect_lists_all_broken_files_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = broken_folder(tmp_path, 30)
    assert main(["inspect", str(root), "--json", "-"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert len(report["broken"]) == 30
    assert report["broken"]["b/float.tif"] == "floating-point samples, of unknown range"
    assert (report["train"] + report["test"], report["preprocessing"]["mode"]) == (37, "RGB")
    assert main(["inspect", str(root)]) == 1
    assert "broken files: 30, which end a training before it begins: a/cut.jpg (" in capsys.readouterr().out


def test_inspect_says_what_image_folder_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes(tmp_path)
    picture(tmp_path / "a" / "grey.png", mode="L")
    main(["inspect", str(tmp_path), "--json", "-"])
    report, dataset = json.loads(capsys.readouterr().out), image_folder(tmp_path)
    assert report["notes"] == list(dataset.notes)
    assert (report["train"], report["test"]) == (len(dataset.train), len(dataset.test))
    assert dataset.preprocessing is not None
    assert report["preprocessing"].items() <= dataset.preprocessing.to_dict().items()


def test_a_folder_may_have_an_at_sign_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "me@home").mkdir()
    assert folder_and_size(f"{tmp_path}/me@home") == (tmp_path / "me@home", None)
    assert folder_and_size(f"{tmp_path}/me@home@64") == (tmp_path / "me@home", 64)


def remove_classes(path: Path) -> None:
    for name in "ab":
        shutil.rmtree(path / name)


@pytest.mark.parametrize("remove", [shutil.rmtree, remove_classes])
def test_nothing_to_read_is_one_sentence(remove: Callable[[Path], object], tmp_path: Path) -> None:
    root = classes(tmp_path / "photos")
    remove(root)
    with pytest.raises(DataMissing, match="there is no folder|has 0 class folders with 0 images; allowed: at least two"):
        plan_folder(root)
