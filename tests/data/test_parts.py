"""Parts of strangers' folders: training, test and validation pictures, by the names that people give them."""

import shutil
from pathlib import Path

import pytest

from stimcore.data.folder import image_folder
from stimcore.data.listing import PARTS, list_folder
from stimcore.errors import DataMissing
from tests.data.folders import classes, notes, picture


@pytest.mark.parametrize("train", [*PARTS["train"], "Train", "TRAIN"])
@pytest.mark.parametrize("test", [*PARTS["test"], *PARTS["val"], "Test", "Valid"])
def test_parts_have_the_usual_names_in_any_case(train: str, test: str, tmp_path: Path) -> None:
    classes(tmp_path / train, number=3)
    classes(tmp_path / test)
    listing = list_folder(tmp_path)
    assert (listing.parts, listing.classes) == ((train, test), ("a", "b"))
    assert listing.test is not None
    assert (len(listing.train), len(listing.test)) == (6, 4)


def test_a_validation_part_beside_a_test_part_is_said_to_be_unused(tmp_path: Path) -> None:
    for part in ("train", "valid", "Test"):
        classes(tmp_path / part)
    assert list_folder(tmp_path).parts == ("train", "Test")
    assert "valid/ is not read: Test/ holds the test pictures" in notes(tmp_path)


def test_training_pictures_alone_are_split(tmp_path: Path) -> None:
    classes(tmp_path / "Train", number=5)
    assert "no folder of test pictures" in notes(tmp_path)
    dataset = image_folder(tmp_path)
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (8, 2, ("a", "b"))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train", "bus"):
        classes(tmp_path, [name])  # type: ignore[arg-type]  # names of more than one letter
    assert list_folder(tmp_path).classes == ("bus", "train")


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        (("val", "valid", "train"), "has val and valid, which stand for the same part"),
        (("train", "Training", "test"), "has Training and train, which stand for the same part"),
        (("test",), "has test and no folder of training pictures"),
        (("val", "test"), "has test, val and no folder of training pictures"),
    ],
)
def test_parts_that_are_missing_or_there_twice_are_refused(folders: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    for folder in folders:
        classes(tmp_path / folder)
    with pytest.raises(DataMissing, match=sentence):
        list_folder(tmp_path)


@pytest.mark.parametrize(
    ("train", "test"),
    [("seg_train", "seg_test"), ("Training Set", "Test Set"), ("train", "test1"), ("train", "dev"), ("train2017", "val2017")]
    + [("images-training", "images-validation"), ("TrainData", "EvaluationData"), ("testset", "validset")],
)
def test_parts_of_other_names_are_no_classes(train: str, test: str, tmp_path: Path) -> None:
    """As published data sets have them; read as classes, each picture's class was the part that it is from."""
    classes(tmp_path / train)
    classes(tmp_path / test)
    with pytest.raises(
        DataMissing, match=f"has ({train}, {test}|{test}, {train}), which look like parts.*train or training for"
    ):
        list_folder(tmp_path)


@pytest.mark.parametrize(
    "names", [("bullet train", "test tube"), ("train", "training shoe"), ("image", "set"), ("eval", "bus")]
)
def test_classes_may_be_called_almost_like_parts(names: tuple[str, str], tmp_path: Path) -> None:
    for name in names:
        classes(tmp_path, [name])  # type: ignore[arg-type]  # names of more than one letter
    assert list_folder(tmp_path).classes == tuple(sorted(names))


@pytest.mark.parametrize("place", ["test/0.png", "test/images/0.png"])
def test_test_pictures_without_labels_leave_the_validation_part_in_use(place: str, tmp_path: Path) -> None:
    """ImageNet's and Tiny ImageNet's test parts."""
    for part in ("train", "val"):
        classes(tmp_path / part)
    picture(tmp_path / place)
    assert list_folder(tmp_path).parts == ("train", "val")
    assert "test/ is not read: val/ holds the test pictures, with folders of classes" in notes(tmp_path)


def test_folders_inside_of_classes_are_named(tmp_path: Path) -> None:
    """One level too many: the classes are the folders at the top, and a reader has to see it."""
    for group in ("animals", "vehicles"):
        classes(tmp_path / group)
        picture(tmp_path / group / "loose.png")
    assert list_folder(tmp_path).classes == ("animals", "vehicles")
    sentence = "folders inside of a class are read as this class: animals/a, animals/b, vehicles/a, vehicles/b"
    assert sentence in notes(tmp_path)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_refused_part_says_what_lies_in_it_and_is_not_read(part: str, tmp_path: Path) -> None:
    """Photographs of a telephone as HEIC, and pictures without folders of classes."""
    for each in ("train", "test"):
        classes(tmp_path / each)
    for index in (0, 1):
        for name in "ab":
            (tmp_path / part / name / f"{index}.png").rename(tmp_path / part / name / f"{index}.heic")
            (tmp_path / part / name / f"{index}.heic").write_bytes(b"\0\0\0\x18ftypheic")
    message = rf"{part} has 2 class folders with 0 images \(not read, no pictures that Pillow can read: a/0.heic, .*b/1.heic\);"
    with pytest.raises(DataMissing, match=message):
        list_folder(tmp_path)
    for name in "ab":
        shutil.rmtree(tmp_path / part / name)
    picture(tmp_path / part / "0.png")
    with pytest.raises(DataMissing, match=r"0 images \(not read, in no folder of a class: 0.png\); allowed: at least two"):
        list_folder(tmp_path)


def test_a_part_without_a_class_or_with_an_empty_one_is_refused(tmp_path: Path) -> None:
    classes(tmp_path / "train", "abc")
    classes(tmp_path / "test", "ab")
    with pytest.raises(DataMissing, match="train and test in .* differ in the classes c; allowed: the same classes in both"):
        list_folder(tmp_path)
    (tmp_path / "test" / "c").mkdir()
    with pytest.raises(DataMissing, match="the class folders c in .*test have no images"):
        list_folder(tmp_path)


def test_a_class_with_one_picture_is_refused_where_it_must_be_split(tmp_path: Path) -> None:
    classes(tmp_path)
    (tmp_path / "b" / "1.png").unlink()
    with pytest.raises(DataMissing, match="class b in .* has 1 picture, which can't be both .*; allowed: at least 2 pictures"):
        image_folder(tmp_path)
    picture(tmp_path / "b" / "1.png")
    dataset = image_folder(tmp_path, test_frac=0.99)
    assert (len(dataset.train), len(dataset.test)) == (2, 2)
