"""What an installation brings: extras that are the requirements files, every import declared, the files of the wheel."""

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
OURS = ("stimcore", "app", "tests")
USED_BY = {
    "app": ("requirements-app.txt",),
    "stimcore.serve": ("requirements-serve.txt",),
    "stimcore.bundle": ("requirements-serve.txt",),
    "stimcore": ("requirements.txt", "requirements-dev.txt"),
    "tests": ("requirements.txt", "requirements-dev.txt"),
}
"""Package -> the files that have to declare what it imports, directly or through other packages of the project."""


def declared(*names: str) -> dict[str, Requirement]:
    """The requirements in some files, by canonical name."""
    lines = [line for name in names for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def tracked(folder: str) -> Iterator[Path]:
    """The files of a folder that git knows or would add, relative to the repository's root."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    yield from (path for line in listed.stdout.splitlines() if (ROOT / (path := Path(line))).is_file())


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """All imports of the project, those inside functions included."""
    return grimp.build_graph(*OURS, include_external_packages=True, cache_dir=None)


def test_extras_are_the_requirements_files() -> None:
    assert EXTRAS == {
        "app": {"file": ["requirements-app.txt"]},
        "serve": {"file": ["requirements-serve.txt"]},
        "train": {"file": ["requirements.txt"]},
        "dev": {"file": ["requirements.txt", "requirements-dev.txt"]},
    }
    assert PROJECT["project"]["dynamic"] == ["optional-dependencies"]
    assert {path.name for path in ROOT.glob("requirements*.txt")} == {name for one in EXTRAS.values() for name in one["file"]}


@pytest.mark.parametrize("name", ["requirements-app.txt", "requirements-serve.txt"])
def test_parts_ask_for_the_same_versions_as_the_whole(name: str) -> None:
    whole = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [
        line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if line[:1] != "#" and line not in whole
    ] == []


@pytest.mark.parametrize("package", USED_BY)
def test_every_import_is_declared(package: str, graph: grimp.ImportGraph) -> None:
    modules = graph.find_upstream_modules(package, as_package=True)
    outside = {module.split(".")[0] for module in modules} - set(OURS) - sys.stdlib_module_names - {"__future__"}
    assert outside, f"{package} imports nothing: was it renamed?"
    distributions = packages_distributions()
    known = declared(*USED_BY[package])
    missing = [
        name for name in sorted(outside) if not {canonicalize_name(one) for one in distributions.get(name, [name])} & set(known)
    ]
    assert missing == []


def test_the_serving_half_declares_no_torch() -> None:
    assert not {"torch", "torchvision"} & set(declared("requirements-app.txt", "requirements-serve.txt"))


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    """Built from a copy of the tracked files, so that nothing that a build leaves behind gets into the wheel."""
    source, out = tmp_path / "source", tmp_path / "out"
    expected = {path.as_posix() for path in tracked("stimcore")}
    for name in [*expected, "pyproject.toml", "README.md", "LICENSE", *(path.name for path in ROOT.glob("requirements*.txt"))]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), "."]
    built = subprocess.run(words, cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = out.glob("stimcore-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    assert {name for name in names if not name.startswith(f"{metadata.split('/')[0]}/")} == expected
    assert "stimcore/py.typed" in names
    assert any(name.startswith("stimcore/methods/") and name.endswith(".md") for name in names)
    extras = {line.removeprefix("Provides-Extra: ") for line in text.splitlines() if line.startswith("Provides-Extra: ")}
    assert extras == set(EXTRAS)
    asked = [
        Requirement(line.removeprefix("Requires-Dist: ")) for line in text.splitlines() if line.startswith("Requires-Dist: ")
    ]
    assert all(requirement.marker is not None and "extra ==" in str(requirement.marker) for requirement in asked)
