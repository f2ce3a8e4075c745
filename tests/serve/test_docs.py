"""docs/serving.md: its sessions run as printed, against a real server of a bundle in this repository."""

import dataclasses
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stimcore.serve.__main__ import parser
from stimcore.serve.limits import Limits
from tests.serve.processes import Running

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
EXPORTED = ROOT / "exported"


def only_block(language: str) -> str:
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.S | re.M)
    (block,) = blocks
    return block


def test_the_table_of_limits_is_the_code() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d,.]+) \|", TEXT, flags=re.M))
    assert rows == {field.name: f"{field.default:,}" for field in dataclasses.fields(Limits)}


def test_every_option_that_is_shown_exists() -> None:
    known = parser().format_help()
    shown = set(re.findall(r"(--[a-z][a-z-]+)", re.sub(r"docker compose.*|stimcore\.export.*|tritonserver.*", "", TEXT)))
    assert shown
    assert [option for option in shown if option not in known] == []


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with `exported/`, and where the server is."""
    if not (EXPORTED / "resnet20-fashion").is_dir():
        pytest.skip("exported/resnet20-fashion is not in this checkout")
    folder = tmp_path_factory.mktemp("session")
    (folder / "exported").symlink_to(EXPORTED)
    with Running(folder / "exported", folder / "server.log") as running:
        yield folder, f"127.0.0.1:{running.port}"


def test_the_curl_session(session: tuple[Path, str]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    folder, address = session
    script = "set -e\n" + only_block("sh").replace("127.0.0.1:8000", address)
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    promised = [line[2:] for line in only_block("sh").splitlines() if line.startswith("# ")]
    for line in promised:
        assert line.removesuffix("...").strip() in done.stdout, (line, done.stdout)
    assert len(re.findall('"accuracy_pct": [0-9.]+', done.stdout)) >= 3
    assert (folder / "smallest.onnx").stat().st_size > 10_000


def test_the_tritonclient_session(session: tuple[Path, str]) -> None:
    folder, address = session
    code = only_block("python").replace("127.0.0.1:8000", address)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "[{'name': 'images', 'datatype': 'FP32', 'shape': [-1, 1, 28, 28]}]"
    accuracies = {line.split()[0]: float(line.split()[1]) for line in lines[1:4]}
    assert set(accuracies) == {"main", "d1-1-1", "1-3.4-5-6.7-8-9"}
    assert min(accuracies.values()) > 0.7
