"""The benchmark of the pages: its sums, its refusals, and, marked slow, a small run."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from stimcore import cli
from stimcore.bench import __main__ as bench
from stimcore.bench.choices import PAGE_TARGETS_MS
from stimcore.bench.page import suite as page
from stimcore.bench.page.browser import find_chromium
from stimcore.bench.page.run import run_in_progress
from stimcore.serve.repository.runs import runs_under
from tests.app.browsing import NO_CHROMIUM

EXPORTED = Path(__file__).parents[2] / "exported"


def test_what_is_missed_is_named() -> None:
    calm: dict[str, Any] = {"lecture_refused": 0, "lecture_guesses": 120, "dashboard_mib": 900.0, "watched_server": 0.01}
    assert page.missed(dict.fromkeys(PAGE_TARGETS_MS, 1.0), calm, 120) == []
    assert page.missed(dict.fromkeys(PAGE_TARGETS_MS, 1e6), calm, 120) == list(PAGE_TARGETS_MS)
    busy = {"lecture_refused": 1, "lecture_guesses": 119, "dashboard_mib": 2100.0, "watched_server": 0.03}
    assert page.missed(dict.fromkeys(PAGE_TARGETS_MS, 1.0), busy, 120) == list(busy)
    assert page.missed({}, calm, 120) == list(PAGE_TARGETS_MS)  # what was never measured


@pytest.mark.parametrize(
    ("arguments", "sentence_part"),
    [
        (("--rounds", "0"), "--rounds 0"),
        (("--rounds", "32"), "--rounds 32; allowed: 1 to 31"),
        (("--lecture", "0"), "--lecture 0"),
        (("--experiment", "nothing"), "there is no experiment"),
        (("--app", "nowhere.py"), "there is no program nowhere.py"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], sentence_part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(bench.main, ("page", "--exported", str(EXPORTED), *arguments))
    assert ended.value.code in (1, 2)
    sentence = capsys.readouterr().err.strip()
    assert sentence_part in sentence
    assert len(sentence.splitlines()) == 1


@pytest.mark.slow
def test_a_small_run_measures_everything(tmp_path: Path) -> None:
    if find_chromium() is None:
        pytest.skip(NO_CHROMIUM)
    target, few = tmp_path / "page.json", ("--rounds", "1", "--visitors", "3", "--lecture", "4", "--join-s", "4")
    # a process of its own: the driver of browsers is started once per process, and other tests have started it
    words = [sys.executable, "-m", "stimcore.bench", "page", "--exported", str(EXPORTED), *few, "--json", str(target)]
    ended = subprocess.run(words, cwd=EXPORTED.parent, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    measured = json.loads(target.read_text(encoding="utf-8"))
    assert set(measured["targets_ms"]) <= set(measured["p95_ms"])
    assert measured["counts"]["story_of_lecture"] == measured["lecture_guesses"] == 4
    assert measured["watched_polls"] > 0
    assert measured["lecture_refused"] == 0
    assert measured["counts"]["poll_of_visitors"] > 0


def test_a_run_in_progress_is_seen_as_one(tmp_path: Path) -> None:
    record = tmp_path / "training.jsonl"
    record.write_text("".join(f'{{"epoch": {epoch}, "seconds": 1.0}}\n' for epoch in range(1, 4)), encoding="utf-8")
    with run_in_progress(record, tmp_path / "runs" / "small" / "common-0", epoch_s=0.01):
        deadline = time.monotonic() + 60
        while len((run := runs_under(tmp_path / "runs")[0]).rows) < 2:
            assert time.monotonic() < deadline, "the epochs never came"
            time.sleep(0.01)
        assert (run.name, run.state, run.epochs) == ("small/common-0", "training", 3)
    assert runs_under(tmp_path / "runs") == []
