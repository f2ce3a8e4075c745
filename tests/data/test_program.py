"""The program that we show: run as it stands on picture files, it gives the accuracy that the bundle stores."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stimcore.bundle import Bundle, open_bundle
from stimcore.bundle.__main__ import main
from stimcore.bundle.pictures import write_pictures
from stimcore.data.normalise import IMAGENET, Normalisation
from stimcore.data.pictures import opened
from stimcore.data.preprocessing import Preprocessing, Resize
from stimcore.data.program import classify_program, folder_name
from stimcore.errors import UsageError

ROOT = Path(__file__).parents[2]
GREY = Normalisation((0.2860,), (0.3530,))
STEPS = {
    "imagenet": Preprocessing(
        mode="RGB", resize=Resize(shorter=256, filter="bilinear"), crop=(224, 224), normalisation=IMAGENET
    ),
    "folder": Preprocessing(mode="RGB", resize=Resize(shorter=32, filter="bicubic"), crop=(32, 32), normalisation=IMAGENET),
    "fashion": Preprocessing.without_resize((1, 28, 28), GREY),
    "as before": Preprocessing(
        exif_orientation=False, bit_depth="clip", mode="L", resize=Resize(shorter=20, filter="box"), crop=(20, 20),
        normalisation=GREY,
    ),
}  # fmt: skip


def run(program: str, folder: Path, *paths: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Save the program in a folder and run it there, without this project in its path."""
    (folder / "classify.py").write_text(program, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-P", "classify.py", *paths], cwd=folder, capture_output=True, text=True, timeout=300, check=check
    )


def preparation(steps: Preprocessing) -> Callable[[Path], NDArray[np.float32]]:
    """Return the function of the program that prepares a picture."""
    names: dict[str, Any] = {}
    before, _, _ = classify_program(steps, ["a", "b"], "net.onnx").partition("\npaths = []")
    exec(compile(before, "classify.py", "exec"), names)
    prepare: Callable[[Path], NDArray[np.float32]] = names["prepare"]
    return prepare


def pictures(folder: Path) -> list[Path]:
    """Write pictures of every kind."""
    generator = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for width, height in ((320, 240), (31, 90), (28, 28)):
        pixels = Image.fromarray(generator.integers(0, 256, (height, width, 4), dtype=np.uint8))
        for mode, suffix in (("RGB", "jpg"), ("RGBA", "png"), ("P", "png"), ("L", "png"), ("LA", "png"), ("CMYK", "jpg")):
            pixels.convert("RGB" if mode == "P" else mode).convert(mode).save(folder / f"{width}-{mode}.{suffix}")
        pixels.convert("RGB").save(folder / f"{width}-turned.jpg", exif=exif)
        Image.fromarray(generator.integers(0, 65536, (height, width), dtype=np.uint16)).save(folder / f"{width}-16.png")
        pixels.convert("L").save(folder / f"{width}-turned.tif", exif=exif)
        pixels.convert("RGB").save(folder / f"{width}-moves.gif", save_all=True, append_images=[Image.new("RGB", pixels.size)])
    return sorted(folder.iterdir())


@pytest.mark.parametrize("name", STEPS)
def test_it_prepares_every_kind_of_picture_as_the_evaluation_does(name: str, tmp_path: Path) -> None:
    steps = STEPS[name]
    prepare = preparation(steps)
    for path in pictures(tmp_path):
        with opened(path) as picture:
            expected = steps.normalisation(steps.read(picture)[None])
        np.testing.assert_array_equal(prepare(path), expected, err_msg=path.name)


def test_it_refuses_what_the_evaluation_refuses(tmp_path: Path) -> None:
    for kind in (np.float32, np.int32):
        Image.fromarray(np.zeros((9, 9), kind)).save(tmp_path / "a.tif")
        with pytest.raises(ValueError, match="samples of unknown range"):
            preparation(STEPS["folder"])(tmp_path / "a.tif")


def test_it_gives_the_stored_accuracy(small: list[Bundle], tmp_path: Path) -> None:
    bundle = small[0]
    network = bundle.path / next(name for name in bundle.manifest.networks if name != "main.onnx")
    entry = bundle.manifest.networks[network.name]
    assert write_pictures(bundle.experiment, tmp_path / "pictures") == 400
    (tmp_path / "pictures" / "class0" / "._00000.png").write_bytes(b"what macOS adds")
    program = classify_program(bundle.experiment.preprocessing, bundle.experiment.classes, str(network))
    lines = run(program, tmp_path, "pictures").stdout.splitlines()
    assert len(lines) == 401
    assert re.fullmatch(r"pictures/class\d/\d{5}\.png: class\d", lines[0])
    assert lines[-1] == f"{entry.correct} of 400 right: {entry.correct / 400:.4f}"
    (single,) = run(program, tmp_path, lines[0].partition(":")[0]).stdout.splitlines()[:1]
    assert single == lines[0]


def test_files_that_are_no_pictures_are_left_out_and_named(small: list[Bundle], tmp_path: Path) -> None:
    bundle = small[0]
    program = classify_program(bundle.experiment.preprocessing, bundle.experiment.classes, str(bundle.path / "main.onnx"))
    write_pictures(bundle.experiment, tmp_path / "pictures")
    first, second, third, *others = sorted((tmp_path / "pictures" / "class0").iterdir())
    first.write_bytes(b"<html>")
    second.write_bytes(second.read_bytes()[:60])
    for path in others:
        path.unlink()
    result = run(program, tmp_path, "pictures/class0", "gone.png", "classify.py")
    assert [line.partition(": ")[0] for line in result.stdout.splitlines()[:-1]] == [f"pictures/class0/{third.name}"]
    assert " of 1 right: " in result.stdout
    names = (f"pictures/class0/{first.name}", f"pictures/class0/{second.name}", "gone.png", "classify.py")
    for line, name in zip(result.stderr.splitlines(), names, strict=True):
        assert line.startswith(f"{name} is left out: ")


def test_without_pictures_it_says_how_it_is_called(small: list[Bundle], tmp_path: Path) -> None:
    program = classify_program(small[0].experiment.preprocessing, small[0].experiment.classes, "main.onnx")
    result = run(program, tmp_path, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("python classify.py PATH ...: classifies pictures")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not allow these names")
def test_it_counts_pictures_in_the_users_own_folders_and_in_those_that_we_write(small: list[Bundle], tmp_path: Path) -> None:
    """Classes whose names some system does not allow were not counted in their own folders: 50 % became 100 %."""
    bundle = small[0]
    correct = bundle.manifest.networks["main.onnx"].correct
    classes = [f'what? "{name}"|a\\b' for name in bundle.experiment.classes]
    program = classify_program(bundle.experiment.preprocessing, classes, str(bundle.path / "main.onnx"))
    for rename in (str, folder_name):
        folder = tmp_path / rename.__name__
        write_pictures(bundle.experiment, folder)
        for name, before in zip(classes, bundle.experiment.classes, strict=True):
            (folder / before).rename(folder / rename(name))
        last = run(program, tmp_path, str(folder)).stdout.splitlines()[-1]
        assert last == f"{correct} of 400 right: {correct / 400:.4f}"


def readme_program() -> str:
    """Return the program in the README."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


def test_the_readme_shows_the_same_program(fashion: Path) -> None:
    experiment = open_bundle(fashion / "stimulative", verify=False).experiment
    model = "exported/resnet20-fashion/stimulative/subnet-d1-1-1.onnx"
    assert readme_program() == classify_program(experiment.preprocessing, experiment.classes, model)


@pytest.mark.parametrize("number", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_the_readmes_program_gives_the_stored_accuracy(number: int, fashion: Path, tmp_path: Path) -> None:
    bundle = open_bundle(fashion / "stimulative")
    experiment = bundle.experiment
    images, labels = (array[:number] for array in experiment.evaluation)
    names = [folder_name(name) for name in experiment.classes]
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "pictures" / names[label] / f"{index:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(path)
    (tmp_path / "exported").symlink_to(ROOT / "exported")
    *lines, last = run(readme_program(), tmp_path, "pictures").stdout.splitlines()
    assert len(lines) == number
    if number == bundle.manifest.images:
        correct = bundle.manifest.networks["subnet-d1-1-1.onnx"].correct
        assert last == f"{correct} of {number} right: {correct / number:.4f}"
    else:
        right = int(re.findall(r"\d+", last)[0])
        assert number * 0.8 < right < number


def test_pictures_are_written_from_the_command_line(
    small: list[Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pictures", str(small[0].experiment.path), "--out", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new'}: 400 pictures\n"
    pixels, labels = small[0].experiment.evaluation
    with Image.open(tmp_path / "new" / small[0].experiment.classes[labels[7]] / "00007.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture).transpose(2, 0, 1), pixels[7])
    with pytest.raises(UsageError, match="new is not empty"):
        main(["pictures", str(small[0].experiment.path), "--out", str(tmp_path / "new")])
    with pytest.raises(UsageError, match="pictures without --out"):
        main(["pictures", str(small[0].experiment.path)])


@pytest.mark.parametrize("name", ["..", ".", "../../etc", "a\\b", "C:x", "", ".hidden", "nul\0"])
def test_names_of_classes_lead_nowhere_else(name: str, tmp_path: Path) -> None:
    assert (tmp_path / folder_name(name)).resolve().parent == tmp_path.resolve()
    assert not folder_name(name).startswith(".")
    assert not re.search(r"[\\/:\0]", folder_name(name))
