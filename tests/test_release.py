"""Releases: every file names the version, the change log has its section, and the checksums are those of the files."""

import hashlib
import shutil
from pathlib import Path

import pytest

from stimcore import __version__
from tests.release import CHECKSUMS, ROOT, NotReady, check_version, section, write_checksums


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(
        f"# Changes\n\n## Unreleased\n\n## {__version__} (2026-01-02)\n\n- One.\n\n## 0.0.1\n"
    )
    return tmp_path


def test_a_complete_project_passes(project: Path) -> None:
    check_version(project, __version__)
    assert section(project, __version__) == "- One."


def test_whatever_is_missing_is_named(project: Path) -> None:
    with pytest.raises(NotReady, match="pyproject.toml has version"):
        check_version(project, "9.9.9")
    with pytest.raises(NotReady, match="no section '## 0.0.1', or an empty one"):
        section(project, "0.0.1")
    with pytest.raises(NotReady, match="no section '## 9.9.9'"):
        section(project, "9.9.9")
    citation = project / "CITATION.cff"
    citation.write_text(citation.read_text(encoding="utf-8").replace(f"version: {__version__}", "version: 9.9.9"))
    with pytest.raises(NotReady, match="CITATION.cff does not have version"):
        check_version(project, __version__)


def test_checksums_are_those_of_the_files(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.whl", "b.tar.gz")]
    for path in paths:
        path.write_bytes(path.name.encode())
    write_checksums(paths, tmp_path)
    lines = (tmp_path / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    assert lines == [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in paths]
