"""The glossary and the definitions name packages and code that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from stimcore.recipes.catalogue import RECIPES, recipe

ROOT = Path(__file__).parents[1]
NOTATION = {"y", "z", "z_m", "z_s", "f", "x", "x4", "eps1", "eps2", "true", "false"}
"""Symbols of formulas, marks of the spec grammar and values of options: no names of code."""
_CODE = re.compile(r"`([^`\n]+)`")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*(?:[.+][A-Za-z_]\w*)*\Z")


def code_names(text: str) -> set[str]:
    """Return the names in backticks that look like code: `name`, `name()`, `name=value`, `name[1..2]`, `folder.name`.

    Specs such as `1-2.4` are no names. Of `name=value` both sides count, except numbers and None.
    """
    names: set[str] = set()
    for quoted in _CODE.findall(text):
        for side in re.sub(r"\(\)|\[.*\]", "", quoted).split("="):
            if _IDENTIFIER.match(side) and side != "None":
                names.add(side)
    return names - NOTATION


@cache
def names_in_code() -> frozenset[str]:
    """Return every identifier and every short string constant in the source of stimcore."""
    names: set[str] = set()
    for path in (ROOT / "stimcore").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                    names.add(name)
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.alias(name=name):
                    names.add(name)
                case ast.Constant(value=str(name)) if len(name) < 80:
                    names.add(name)
    # torchvision's layer1 to layer4 are read as f"layer{number}"
    return frozenset(names | {f"{name}{number}" for name in names & {"layer"} for number in range(1, 5)})


def packages_of(row: str) -> list[str]:
    """Return the packages in the last column of a row of the glossary."""
    return _CODE.findall(row.rstrip(" |").rpartition(" | ")[2])


def glossary_rows() -> list[str]:
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.startswith("| ")][2:]


@pytest.mark.parametrize("row", glossary_rows(), ids=lambda row: row.split(" | ")[0].removeprefix("| "))
def test_the_packages_of_the_glossary_exist(row: str) -> None:
    packages = packages_of(row)
    assert packages
    for package in packages:
        folder = ROOT / "app" if package == "app" else ROOT / "stimcore" / package.replace(".", "/")
        assert (folder / "__init__.py").is_file(), package


def test_the_code_that_the_definitions_name_exists() -> None:
    names = code_names((ROOT / "docs/semantics.md").read_text(encoding="utf-8"))
    assert {"max_skipped", "reset_running_stats", "experiment.json", "layer1", "BatchNormalization"} <= names
    assert sorted(names - names_in_code()) == []


def test_no_page_calls_heads_unexported_that_an_option_exports() -> None:
    """Heads of exits and their adapters leave the run folder with `--exits`, and only so."""
    methods = ROOT / "stimcore" / "methods"
    texts = {path: path.read_text(encoding="utf-8") for path in (*(ROOT / "docs").glob("*.md"), *methods.glob("*.md"))}
    never = re.compile(
        r"(heads?|adapters?|exits?)\b[^.|]*\b(never|not) +exported|exists? (in|during) training only", re.IGNORECASE
    )
    assert [path.name for path, text in texts.items() if never.search(" ".join(text.split()))] == []
    for name in ("layer_supervision", "stage_supervision", "self_distillation"):
        assert "exported only by `--exits`" in texts[methods / f"{name}.md"], name
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in glossary_rows()}
    assert "exported only by `--exits`" in rows["adapter"]
    assert "exported only by `--exits`" in rows["exit"]


def test_the_row_about_the_authors_imagenet_script_is_that_of_the_recipes() -> None:
    text = (ROOT / "docs/semantics.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| ImageNet training \|.*$", text, re.MULTILINE)
    named = {name for name in _CODE.findall(row) if "*" not in name}
    assert named == {name for name in RECIPES if name.endswith("-script")}
    for name in named:
        made = recipe(name)
        assert f"{made.epochs} epochs, batch {made.batch_size}, peak rate {made.learning_rate:g}, colour jitter" in row
        assert (made.warmup_epochs, made.augmentation) == (0.0, "imagenet_colour")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("`weight` and `momentum=None`", {"weight", "momentum"}),
        ("`feature=batch`, `training_mode=1`", {"feature", "batch", "training_mode"}),
        ("`reset_running_stats()` of `features[2..15]`", {"reset_running_stats", "features"}),
        ("`1-2.3-5-4`, `d2-3`, `x4`, `z_m`", set()),
        ("`deletions+permutations` in `experiment.json`", {"deletions+permutations", "experiment.json"}),
        ("`there_is_no_such_name`", {"there_is_no_such_name"}),
    ],
)
def test_what_looks_like_code(text: str, names: set[str]) -> None:
    assert code_names(text) == names


def test_a_name_that_does_not_exist_is_noticed() -> None:
    # put together here, so that not even this file contains the name
    assert "_".join(["no", "such", "name", "anywhere"]) not in names_in_code()
