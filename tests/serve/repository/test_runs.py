"""A run counts as in progress as long as its epochs may take, and no longer."""

import json
import os
import time
from pathlib import Path

import pytest

from stimcore.serve.repository.runs import runs_under


def run(folder: Path, seconds: list[float], age_s: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"method": "common", "recipe": {"epochs": 4}}), encoding="utf-8")
    rows = [json.dumps({"epoch": i + 1, "seconds": value}) for i, value in enumerate(seconds)]
    (folder / "training.jsonl").write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    then = time.time() - age_s
    for path in folder.iterdir():
        os.utime(path, (then, then))
    return folder


@pytest.mark.parametrize(
    ("seconds", "age_s", "active"),
    [
        ([], 500, True),  # the length of an epoch is not known yet
        ([], 700, False),
        ([1.0], 100, True),
        ([1.0], 200, False),
        ([300.0, 20.0], 800, True),  # three times its longest epoch
        ([300.0, 20.0], 1000, False),
        ([1.0, 1.0, 1.0, 1.0], 1, False),  # all epochs are there
    ],
)
def test_what_is_in_progress(tmp_path: Path, seconds: list[float], age_s: float, active: bool) -> None:
    run(tmp_path / "experiment" / "common-0", seconds, age_s)
    (info,) = runs_under(tmp_path)
    assert info.active is active
    assert len(info.rows) == len(seconds)
