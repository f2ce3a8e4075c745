"""The stable Python API is listed, name by name, in `tests/frozen/api.txt`; docs/api.md gives every package a status.

The sources are read without importing them, so that the list is the same wherever the test runs.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import griffe
import pytest

from tests.golden import golden_text

ROOT = Path(__file__).parents[1]
LISTING = ROOT / "tests" / "frozen" / "api.txt"
PARTS = ("stimcore.serve.client", "stimcore.serve.types")
"""Stable parts of experimental packages."""
ROW = re.compile(r"^\| `(stimcore\.\w+)` \| [^|]+ \| (stable|experimental) \|$", re.MULTILINE)


def statuses() -> dict[str, str]:
    """Package -> its status in docs/api.md."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert all(f"`{part}`" in text for part in PARTS)
    rows = ROW.findall(text)
    assert len(rows) == len(dict(rows)), "a package has two rows"
    return dict(rows)


@pytest.fixture(scope="module")
def package() -> griffe.Module:
    loaded = griffe.load("stimcore", search_paths=[ROOT], allow_inspection=False)
    assert isinstance(loaded, griffe.Module)
    return loaded


def signature(function: griffe.Function) -> str:
    """The parameters of a function as its source has them, without `self` and `cls`."""
    words, keyword_only = [], False
    for parameter in function.parameters:
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is griffe.ParameterKind.keyword_only and not keyword_only:
            keyword_only = True
            words.append("*")
        stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(parameter.kind, "")
        keyword_only = keyword_only or stars == "*"
        text = f"{stars}{parameter.name}: {parameter.annotation}"
        words.append(text if parameter.default is None or stars else f"{text} = {parameter.default}")
    return f"({', '.join(words)}) -> {function.returns}"


def names(value: griffe.Object | griffe.Alias) -> Iterator[str]:
    """Yield a line for every public name: its form where it is defined, its origin where a package exports it."""
    for name, member in sorted(value.members.items()):
        path = f"{value.path}.{name}"
        if name.startswith("_"):
            continue
        if isinstance(member, griffe.Alias):
            # an import is a public name only where `__all__` has it
            if name in (value.exports or ()):
                yield f"{path} = {member.target_path}"
        elif isinstance(member, griffe.Function):
            yield path + signature(member)
        elif isinstance(member, griffe.Class):
            yield f"{path}({', '.join(map(str, member.bases))})"
            yield from names(member)
        elif isinstance(member, griffe.Attribute):
            yield f"{path}: {member.annotation or 'constant'}"
        elif isinstance(member, griffe.Module):
            yield from names(member)


def test_every_package_has_a_status(package: griffe.Module) -> None:
    present = {
        member.path
        for name, member in package.members.items()
        if not member.is_alias and member.is_module and not name.startswith("_")
    }
    assert set(statuses()) == present


@pytest.mark.golden
def test_the_stable_api_changes_only_with_its_list(package: griffe.Module) -> None:
    stable = [*(path for path, status in statuses().items() if status == "stable"), *PARTS]
    lines = [line for path in sorted(stable) for line in names(package[path.removeprefix("stimcore.")])]
    assert len(lines) > 100
    assert golden_text(LISTING, "".join(f"{line}\n" for line in lines)).splitlines() == lines


def test_a_changed_parameter_is_a_changed_line(tmp_path: Path) -> None:
    lines = []
    for number, parameters in enumerate(("a: int", "a: int = 1", "a: str", "*, a: int", "a: int, *more: int", "b: int")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "toy.py").write_text(f"class Toy:\n    def go(self, {parameters}) -> None: ...\n\n_hidden = 1\n")
        module = griffe.load("toy", search_paths=[folder], allow_inspection=False)
        lines.append(tuple(names(module)))
    assert len(set(lines)) == len(lines)
    assert lines[0] == ("toy.Toy()", "toy.Toy.go(a: int) -> None")


def test_a_name_that_a_package_exports_is_a_line_and_other_imports_are_none(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "inner.py").write_text("class Shown: ...\n\nclass Used: ...\n")
    (tmp_path / "toy" / "__init__.py").write_text("from toy.inner import Shown, Used\n\n__all__ = ['Shown']\n")
    lines = list(names(griffe.load("toy", search_paths=[tmp_path], allow_inspection=False)))
    assert lines == ["toy.Shown = toy.inner.Shown", "toy.inner.Shown()", "toy.inner.Used()"]
