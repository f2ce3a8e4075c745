"""Make a release: `make release` builds wheel and sdist of the last commit, writes checksums, and tries the wheel.

Nothing is uploaded. The commit has to be clean and the change log has to have a section for the version.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

from stimcore import __version__

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
CHECKSUMS = "SHA256SUMS"
BUNDLE = ROOT / "exported" / "resnet20-fashion" / "common"
"""The bundle that the installed wheel has to verify."""


class NotReady(Exception):
    """Something is missing for a release; the text says what."""


def check_version(root: Path, version: str) -> None:
    """Make sure that every file names the version, and that the change log has a section for it.

    Raises:
        NotReady: One of them does not.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if project["version"] != version:
        raise NotReady(f"pyproject.toml has version {project['version']}, stimcore.__version__ is {version}")
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    if not re.search(rf"^version: [\"']?{re.escape(version)}[\"']?$", citation, re.MULTILINE):
        raise NotReady(f"CITATION.cff does not have version {version}")
    section(root, version)


def section(root: Path, version: str) -> str:
    """Return the section of the change log about a version.

    Raises:
        NotReady: There is none, or it is empty.
    """
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    match = re.search(rf"^## \[?{re.escape(version)}\]?(?: [^\n]*)?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if match is None or not match[1].strip():
        raise NotReady(f"CHANGELOG.md has no section '## {version}', or an empty one")
    return match[1].strip()


def build(source: Path, out: Path) -> list[Path]:
    """Build sdist and wheel of a source folder; return their paths."""
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return sorted(path for path in out.iterdir() if path.suffix in (".whl", ".gz"))


def write_checksums(paths: list[Path], out: Path) -> None:
    """Write a file that `sha256sum --check` reads."""
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths]
    (out / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def try_wheel(wheel: Path) -> str:
    """Install a wheel with what the model server needs into an empty environment, and run its commands there.

    Returns:
        What `stimcore bundle verify` printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "venv", "bin", "python")
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, Path(folder, "venv")], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, f"{wheel}[serve]"], check=True)
        command = python.with_name("stimcore")
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        printed = subprocess.run([command, "--help"], check=True, cwd=folder, env=clean, capture_output=True, text=True).stdout
        assert "serve" in printed
        words = [str(command), "bundle", "verify", str(BUNDLE)]
        done = subprocess.run(words, check=True, cwd=folder, env=clean, capture_output=True, text=True)
        return done.stdout.strip()


def main() -> int:
    """Make the release; return the exit code."""
    try:
        check_version(ROOT, __version__)
        changed = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        if changed:
            raise NotReady("there are changes that are not committed: a release is made of a commit")
    except NotReady as reason:
        print(f"error: {reason}.", file=sys.stderr)
        return 1
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "source.tar")
        subprocess.run(["git", "archive", "--output", archive, "HEAD"], cwd=ROOT, check=True)
        with tarfile.open(archive) as packed:
            packed.extractall(Path(folder, "source"), filter="data")
        paths = build(Path(folder, "source"), DIST)
    write_checksums(paths, DIST)
    (wheel,) = (path for path in paths if path.suffix == ".whl")
    print(try_wheel(wheel))
    for path in paths:
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")
    print(f"{(DIST / CHECKSUMS).relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
