"""The lowest versions that requirements.txt allows are versions that work: installed for real, in an environment of their own.

`requirements.txt` says exactly the range that is proven: this test for its lower end, the lock files for its upper end.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")
TESTS = ("tests/train/test_golden.py", "tests/export", "tests/nets/test_onnx.py", "tests/engine")
"""Golden curves, export and parity, engine."""
TOOLS = ("pytest", "hypothesis", "psutil", "timm", "pyyaml", "packaging")
"""What these tests need beside the program, in any version."""


@pytest.mark.slow
def test_the_lowest_allowed_versions_pass(tmp_path: Path) -> None:
    """Takes about 6 GB of disk, most of it the CUDA libraries of torch, and a download of half of that the first time."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
    install = [str(UV), "pip", "install", "--quiet", "--python", str(python)]
    subprocess.run([*install, "--resolution", "lowest-direct", "-r", str(ROOT / "requirements.txt")], check=True)
    subprocess.run([*install, *TOOLS], check=True)
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_", "STIMCORE_"))}
    words = [str(python), "-m", "pytest", *TESTS, "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout.splitlines()[-1]
