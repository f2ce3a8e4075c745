"""What the README promises: its code runs and prints what it says, its table is what was measured, its pictures are there.

`STIMCORE_GOLDEN=write` with `-m golden` writes the numbers of the bundles that are there into the page.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stimcore.analysis.intervals import mean_std
from tests.golden import golden_sentences

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "README.md"
README = PAGE.read_text(encoding="utf-8")
EXPERIMENT = ROOT / "exported" / "resnet20-fashion"
NUMBER = r"\d+(?:\.\d+)?"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def overall(experiment: str, method: str) -> tuple[str, str, str]:
    """Return accuracies as the page shows them: main network, mean and deviation of all ordered ones, the smallest."""
    sweep = read(ROOT / "exported" / experiment / method / "sweep-ordered.json")
    mean, std = mean_std([row["accuracy_pct"] for row in sweep["results"]])
    smallest = min(sweep["results"], key=lambda row: len(row["spec"]))
    return f"{sweep['main']['accuracy_pct']:.2f}%", f"{mean:.2f}% ± {std:.2f}", f"{smallest['accuracy_pct']:.2f}%"


def promises() -> Iterator[tuple[str, str]]:
    """Yield a pattern of each sentence with numbers in it, and the sentence as it has to be."""
    inside = {}
    for method in ("common", "stimulative"):
        main, spread, smallest = overall("resnet20-fashion", method)
        yield (
            rf"\| {method} \| {NUMBER}% \| {NUMBER}% ± {NUMBER} \| {NUMBER}% \|",
            f"| {method} | {main} | {spread} | {smallest} |",
        )
        inside[method] = float(smallest.rstrip("%"))
    alone = read(EXPERIMENT / "twin-d1-1-1" / "manifest.json")["networks"]["main.onnx"]["accuracy_pct"]
    yield rf"smallest network gets {NUMBER}%", f"smallest network gets {alone:.2f}%"
    gaps = [f"{alone - inside[method]:.1f}" for method in ("common", "stimulative")]
    yield (
        rf"it loafs by {NUMBER} points, inside the stimulated one by -?{NUMBER}\.",
        f"it loafs by {gaps[0]} points, inside the stimulated one by {gaps[1]}.",
    )
    small = read(ROOT / "docs" / "measurements" / "compress.json")
    pct = {way: small["accuracy"]["d1-1-1"][way]["value"] for way in ("alone", "extracted")}
    seconds = {way: small["training_s"][way] for way in pct}
    yield (
        rf"smallest one then gets {NUMBER}% after [\d,]+ s of processor time, "
        rf"cut out of the stimulated network {NUMBER}% after [\d,]+ s",
        f"smallest one then gets {pct['alone']:.2f}% after {seconds['alone']['d1-1-1']:,.0f} s of processor time, "
        f"cut out of the stimulated network {pct['extracted']:.2f}% after {seconds['extracted']['d1-1-1']:,.0f} s",
    )
    yield r"less than three alone \([\d,]+ s\)", f"less than three alone ({seconds['alone']['all']:,.0f} s)"
    main, common, _ = overall("mobilenetv3-fashion", "common")
    _, stimulative, _ = overall("mobilenetv3-fashion", "stimulative")
    yield (
        rf"is {NUMBER}% ± {NUMBER} with common and {NUMBER}% ± {NUMBER} with stimulative",
        f"is {common} with common and {stimulative} with stimulative",
    )
    manifest = read(EXPERIMENT / "stimulative" / "manifest.json")
    recipe = manifest["recipe"]
    per_class = recipe.get("train_per_class")
    images = "all training images" if per_class is None else f"{per_class} training images per class"
    yield rf"\({NUMBER} epochs, [^)]*, seed 0\)", f"({recipe['epochs']} epochs, {images}, seed 0)"
    correct, number = (manifest["networks"]["subnet-d1-1-1.onnx"]["correct"], manifest["images"])
    yield rf"`\d+ of \d+ right: {NUMBER}`", f"`{correct} of {number} right: {correct / number:.4f}`"


@pytest.mark.golden
def test_every_number_is_what_was_measured() -> None:
    """That the program prints its line is tested in tests/data/test_program.py."""
    corrected, committed = golden_sentences(PAGE, promises())
    assert corrected == committed


def test_mobilenetv3_has_as_many_sub_networks_as_the_page_says() -> None:
    for method in ("common", "stimulative"):
        sweep = read(ROOT / "exported" / "mobilenetv3-fashion" / method / "sweep-ordered.json")
        assert f"the mean of its {len(sweep['results'])} ordered sub-networks" in " ".join(README.split())


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for command in ("app", "test", "check", "setup"):
        assert re.search(rf"^{command}:", makefile, re.MULTILINE)
