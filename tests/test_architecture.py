"""docs/architecture.md names modules, functions, classes and files that exist, and gives every package its line and its layer.

Names are looked up in the syntax trees of the sources: nothing is imported, so that the test needs none of the packages.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
TEXT = PAGE.read_text(encoding="utf-8")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"`([^`\n]+)`")
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*\Z")
_ROW = re.compile(r"^\| (\d+) \| `([\w.]+)` \| (.+) \|$", re.MULTILINE)
_PLACEHOLDER = re.compile(r"[A-Z]{2,}(?![a-z])|\*")
"""A word that stands for many: `exported/EXPERIMENT/METHOD`, `sweep-KIND.json`, `.sweep-*.jsonl`."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_file(words: tuple[str, ...]) -> Path | None:
    """Return the file of a module or package, such as `("engine", "cache")` in stimcore or `("app", "watch")`; None without."""
    folder = ROOT.joinpath(*words) if words[0] in ("stimcore", "app") else ROOT.joinpath("stimcore", *words)
    candidates = (folder / "__init__.py", folder.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


def names_of(body: list[ast.stmt]) -> Iterator[tuple[str, list[ast.stmt]]]:
    """Yield the names that statements define, each with the statements inside it."""
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, []
            case ast.ClassDef(name=name, body=inner):
                yield name, inner
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, []
            case ast.Assign(targets=targets):
                yield from ((target.id, []) for target in targets if isinstance(target, ast.Name))
            case ast.ImportFrom(names=aliases):
                yield from ((alias.asname or alias.name, []) for alias in aliases)


def is_defined(body: list[ast.stmt], words: tuple[str, ...]) -> bool:
    """Return whether statements define `words[0]`, and what is in it defines the rest."""
    if not words:
        return True
    return any(name == words[0] and is_defined(inner, words[1:]) for name, inner in names_of(body))


@cache
def modules() -> tuple[Path, ...]:
    return tuple(sorted(path for folder in ("stimcore", "app") for path in (ROOT / folder).rglob("*.py")))


@cache
def constants() -> frozenset[str]:
    """Return every text in the sources: names of the files that the program writes are among them."""
    nodes = (node for path in modules() for node in ast.walk(tree(path)))
    return frozenset(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def exists(name: str) -> bool:
    """Return whether a module, function, class, field or file of this name exists."""
    words = tuple(name.split("."))
    for end in range(len(words), 0, -1):
        if (path := module_file(words[:end])) is not None:
            return is_defined(tree(path).body, words[end:])
    if len(words) > 1:
        return (ROOT / name).exists() or name in constants()
    inner = (body for path in modules() for _, body in names_of(tree(path).body))
    return any(is_defined(tree(path).body, words) for path in modules()) or any(is_defined(body, words) for body in inner)


def unresolved(quoted: str) -> str | None:
    """Return what does not exist among the names in backticks; None where all is well, or where it looks like no name."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    if quoted.startswith("make "):
        target = quoted.split()[1]
        return None if re.search(rf"^{target}:", makefile, re.MULTILINE) else f"the Makefile has no target {target}"
    if quoted.startswith("python -m "):
        quoted = quoted.split()[2]
    elif "/" in quoted and not quoted.startswith(("/", "~")) and not _PLACEHOLDER.search(quoted):
        return None if (ROOT / quoted).exists() else f"there is no {quoted}"
    if not _DOTTED.match(quoted) or _PLACEHOLDER.match(quoted):
        return None
    return None if exists(quoted) else f"nothing is called {quoted}"


def layers() -> dict[str, int]:
    """Return package -> layer, counted from 1 for the dashboard, as the import contracts have them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (inside,) = (contract["layers"] for contract in contracts if contract.get("containers") == ["stimcore"])
    return {"app": 1} | {name: number for number, row in enumerate(inside, 2) for name in row.split(" | ")}


@pytest.mark.parametrize("quoted", sorted(set(_QUOTED.findall(_FENCE.sub("", TEXT)))))
def test_what_the_page_names_exists(quoted: str) -> None:
    assert unresolved(quoted) is None


def test_every_package_has_its_line_and_its_layer() -> None:
    rows = [(name, int(layer)) for layer, name, _ in _ROW.findall(TEXT)]
    assert len(rows) == len(set(rows))
    assert dict(rows) == layers()
    assert [layer for _, layer in rows] == sorted(layer for _, layer in rows)
    for _, name, text in _ROW.findall(TEXT):
        assert text.endswith("."), name


def test_the_page_can_be_found() -> None:
    for name in ("README.md", "CONTRIBUTING.md"):
        assert "(docs/architecture.md)" in (ROOT / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize(
    "name",
    [
        "subnets",
        "engine.graph.fold",
        "stimcore.subnets.spec.Spec",
        "subnets.topology.Topology.parse",
        "engine.budget.Budget.sessions",
        "app.watch.watch",
        "bundle.open_bundle",
        "methods.table.METHODS",
        "Spec",
        "manifest.json",
        "pyproject.toml",
        "python -m stimcore.bench sweep",
        "make test",
        "docs/semantics.md",
        "exported/EXPERIMENT/METHOD",
        "--resume",
        "[B, C, H, W]",
    ],
)
def test_what_exists_is_accepted(name: str) -> None:
    assert unresolved(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "engine.graph.folded",
        "engine.engine.Motor",
        "engine.engine.Engine.evaluated",
        "Evaluates",
        "app.watch.watched",
        "manifest.yaml",
        "docs/nothing.md",
        "python -m stimcore.nothing",
        "make nothing",
    ],
)
def test_what_does_not_exist_is_noticed(name: str) -> None:
    assert unresolved(name) is not None
