"""Every method's first 20 losses are those that were written down; see `golden.py`."""

import json

import pytest

from tests.golden import REWRITE
from tests.heavy import all_slow_but
from tests.train.golden import CASES, FOLDER, STEPS, curve, write


@pytest.mark.golden
@pytest.mark.parametrize("name", all_slow_but(CASES, "common", "stimulative", "stimulative-deletions"))
def test_the_first_losses_are_the_golden_ones(name: str) -> None:
    if REWRITE:
        write(name)
    golden = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    rows = curve(name)
    assert len(rows) == len(golden) == STEPS
    for step, (row, expected) in enumerate(zip(rows, golden, strict=True)):
        assert row == pytest.approx(expected, rel=1e-5, abs=1e-7), f"step {step + 1}"


def test_no_golden_curve_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(CASES)
