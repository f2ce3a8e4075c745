"""The files of the browser components: complete, and part of the installed package."""

import tomllib
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path

import pytest

from stimcore.web.component import NAMES, Component


@pytest.mark.parametrize("name", NAMES)
def test_loads(name: str) -> None:
    component = Component.load(name)
    assert component.name == name
    assert "<" in component.html
    assert "{" in component.css
    assert "export default function" in component.js


def test_every_file_is_declared_as_package_data() -> None:
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    data = project["tool"]["setuptools"]["package-data"]
    globs = [*data.get("*", []), *data.get("stimcore.web", [])]
    assets = [f.name for f in files("stimcore.web").iterdir() if f.name.endswith((".html", ".css", ".js"))]
    assert len(assets) == 3 * len(NAMES)
    assert all(any(fnmatch(name, glob) for glob in globs) for name in assets)
