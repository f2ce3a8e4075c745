"""What the README promises: its code runs and prints what it says, its table is what was measured, its pictures are there."""

import json
import re
from pathlib import Path

import pytest

from stimcore.analysis.intervals import mean_std

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_programs_result_is_the_manifests() -> None:
    """That the program prints it is tested in tests/data/test_program.py."""
    manifest = json.loads((ROOT / "exported/resnet20-fashion/stimulative/manifest.json").read_text())
    correct = manifest["networks"]["subnet-d1-1-1.onnx"]["correct"]
    assert f"ends with `{correct} of 10000 right: {correct / 10_000:.4f}`: what manifest.json says" in README


@pytest.mark.parametrize("method", ["common", "stimulative"])
def test_the_table_is_what_was_measured(method: str) -> None:
    sweep = json.loads((ROOT / "exported/resnet20-fashion" / method / "sweep-ordered.json").read_text())
    mean, std = mean_std([row["accuracy_pct"] for row in sweep["results"]])
    smallest = next(row for row in sweep["results"] if row["spec"] == "1.4.7")
    row = f"| {method} | {sweep['main']['accuracy_pct']:.2f}% | {mean:.2f}% ± {std:.2f} | {smallest['accuracy_pct']:.2f}% |"
    assert row in README


@pytest.mark.parametrize("method", ["common", "stimulative"])
def test_mobilenetv3s_means_are_what_was_measured(method: str) -> None:
    sweep = json.loads((ROOT / "exported/mobilenetv3-fashion" / method / "sweep-ordered.json").read_text())
    mean, std = mean_std([row["accuracy_pct"] for row in sweep["results"]])
    assert len(sweep["results"]) == 144
    assert f"{mean:.2f}% ± {std:.2f} with {method}" in " ".join(README.split())


def test_the_smallest_networks_twin_is_what_was_measured() -> None:
    manifest = json.loads((ROOT / "exported/resnet20-fashion/twin-d1-1-1/manifest.json").read_text())
    assert f"Trained alone, that smallest network gets {manifest['networks']['main.onnx']['accuracy_pct']:.2f}%" in README


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for command in ("app", "test", "check", "setup"):
        assert re.search(rf"^{command}:", makefile, re.MULTILINE)
