"""`make gpu`: every part runs on the processor, what is missing is skipped by name, and the page says what was run."""

import json
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stimcore import cli
from stimcore.bench import __main__ as bench
from stimcore.bench.choices import GPU_PARTS
from stimcore.bench.gpu import suite as gpu
from stimcore.bench.gpu.page import render
from stimcore.bench.gpu.part import Outcome
from stimcore.bundle import Bundle

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_part_runs_on_the_processor(small: list[Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, page = tmp_path / "gpu.json", tmp_path / "gpu.md"
    exported = small[0].path.parents[1]
    words = ["gpu", "--device", "cpu", "--quick", "--exported", str(exported), "--json", str(target), "--markdown", str(page)]
    code = bench.main(words)
    report = json.loads(target.read_text(encoding="utf-8"))
    assert code == 0, report["parts"]
    assert list(report["parts"]) == [name for name, *_ in GPU_PARTS]
    passed = {name: part["passed"] for name, part in report["parts"].items()}
    checks = ("golden curves", "resume", "engine counts", "exported files")
    assert passed == {name: True if name in checks else None for name in passed}
    assert report["parts"]["engine counts"]["figures"]["that differ"] == 0
    assert report["parts"]["engine counts"]["figures"]["answers compared"] == 3 * 100
    for part in report["parts"].values():
        assert part["figures"]
    written = page.read_text(encoding="utf-8")
    assert "**This was a processor, not a GPU.**" in written
    assert written in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so_and_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(bench.main, ["gpu"])
    assert ended.value.code == 2
    assert "without a GPU that torch can use" in capsys.readouterr().err


def with_what_it_needs(*wanted: str) -> set[str]:
    """Return the names of distributions and of everything that they need, in lower case with hyphens."""
    imported: set[str] = set()
    left = list(wanted)
    while left:
        name = canonicalize_name(left.pop())
        if name in imported:
            continue
        imported.add(name)
        with suppress(metadata.PackageNotFoundError):  # needed on other systems only
            needs = [Requirement(words) for words in metadata.requires(name) or []]
            left += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return imported


@pytest.mark.slow
def test_parts_whose_packages_are_missing_are_skipped_by_name(tmp_path: Path) -> None:
    """As on a rented machine: only torch, torchvision and what they need. Training runs, the other parts say why not."""
    there = with_what_it_needs("torch", "torchvision")
    owners = metadata.packages_distributions()
    blocked = [module for module, names in owners.items() if not there & {canonicalize_name(name) for name in names}]
    assert {"psutil", "tqdm", "onnxruntime", "onnx", "pydantic", "starlette", "joblib"} <= set(blocked)
    assert not {"torch", "numpy", "PIL"} & set(blocked)
    program = f"""
import sys
sys.modules.update(dict.fromkeys({sorted(set(blocked) - {"stimcore"})}))
from stimcore.bench import __main__ as bench
parts = ["resume", "throughput", "engine counts"]
sys.exit(bench.main(["gpu", "--device", "cpu", "--quick", "--only", *parts, "--json", "gpu.json"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["parts"]
    assert parts["resume"]["passed"] is True
    assert parts["throughput"]["figures"]
    assert parts["engine counts"]["skipped"].startswith("needs ")
    assert "which is not installed" in parts["engine counts"]["skipped"]


def test_a_part_that_breaks_is_an_outcome_and_the_exit_code_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from stimcore.bench.gpu import training

    def broken(*_: object) -> Outcome:
        raise RuntimeError("CUDA error:\nan illegal memory access")

    monkeypatch.setattr(training, "resume", broken)
    target = tmp_path / "gpu.json"
    assert bench.main(["gpu", "--device", "cpu", "--quick", "--only", "resume", "--json", str(target)]) == 1
    assert json.loads(target.read_text())["parts"]["resume"]["detail"] == "RuntimeError: CUDA error: an illegal memory access"
    assert "**wrong**" in capsys.readouterr().out
    assert bench.main(["gpu", "--device", "cpu", "--quick", "--only", "resume", "--json", "-"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["parts"]["resume"]["passed"] is False
    assert "**wrong**" in printed.err


def test_no_part_begins_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "LIMIT_S", -1.0)
    target = tmp_path / "gpu.json"
    bench.main(["gpu", "--device", "cpu", "--quick", "--json", str(target)])
    assert {part["skipped"] for part in json.loads(target.read_text())["parts"].values()} == {"no time was left"}


def test_the_page_is_true() -> None:
    """It says that nothing was run, or it was made from a run on a GPU."""
    written = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert written == render(None) or ("Run on " in written and "This was a processor" not in written)


def test_summaries_are_those_of_the_modules() -> None:
    for name, summary in bench.BENCHES.items():
        assert (bench.load(name).__doc__ or "").partition("\n")[0] == summary


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(bench.main, ["gpu", "--device", "cpu", "--only", "everything"])
    assert ended.value.code == 2
    assert "golden curves" in capsys.readouterr().err
