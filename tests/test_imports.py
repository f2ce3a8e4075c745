"""Every module can be imported, on every Python version and system that CI runs this file on."""

import importlib
from pathlib import Path

import pytest

from tests.conftest import OPTIONAL

ROOT = Path(__file__).parents[1]


def modules(*packages: str) -> list[str]:
    """The modules of some packages, found by their files. An import of `__main__` would run a command."""
    paths = [path for package in packages for path in sorted((ROOT / package).rglob("*.py")) if path.stem != "__main__"]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]


@pytest.mark.parametrize("name", modules("stimcore", "app"))
def test_module_can_be_imported(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name and missing.name.split(".")[0] in OPTIONAL:
            pytest.skip(f"needs {missing.name}, which is not installed")
        raise
    assert module.__name__ == name
