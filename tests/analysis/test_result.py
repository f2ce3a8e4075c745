"""The one form of a result: round trips, refusals, and the stored sweeps byte for byte."""

import json
from pathlib import Path
from typing import Any

import pytest

from stimcore.analysis.intervals import paired_drop, wilson
from stimcore.analysis.result import Result, Sweep
from stimcore.errors import SpecError
from stimcore.subnets.spec import Spec

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "exported").glob("*/*/sweep-*.json"))


def example() -> Result:
    return Result.counted(
        Spec.from_text("1-2.x.5-4"), images=200, correct=150, lost=20, won=10, ce_nats=0.5, kl_nats=0.25, max_ce_nats=3.0
    )


def test_a_result_is_made_of_counts() -> None:
    result = example()
    assert result.accuracy_pct == 75
    assert result.drop_pct == 5
    assert result.interval_pct == pytest.approx(wilson(150, 200), abs=1e-6)
    assert result.drop_interval_pct == pytest.approx(paired_drop(20, 10, 200).interval_pct, abs=1e-6)
    assert Result.from_dict(json.loads(json.dumps(result.to_dict()))) == result


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: "-".join(path.parts[-3:]))
def test_stored_sweeps_are_read_and_written_unchanged(path: Path) -> None:
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert json.dumps(Sweep.from_dict(stored).to_dict()) == json.dumps(stored)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("correct", 201),
        ("correct", -1),
        ("correct", True),
        ("correct", 1.5),
        ("images", 0),
        ("accuracy_pct", float("nan")),
        ("accuracy_pct", "75"),
        ("interval_pct", [1.0]),
        ("interval_pct", "ab"),
        ("ce_nats", float("inf")),
    ],
)
def test_a_value_that_is_no_result_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match="images: counts|finite number|interval|not a"):
        Result.from_dict(example().to_dict() | {key: value})


def test_unknown_keys_are_ignored_and_required_ones_asked_for() -> None:
    value = example().to_dict()
    assert Result.from_dict(value | {"colour": "green"}) == example()
    optional = {"ce_nats", "kl_nats", "max_ce_nats"}
    for key in value:
        less = {name: value[name] for name in value if name != key}
        if key in optional:
            assert getattr(Result.from_dict(less), key) is None
        else:
            with pytest.raises(ValueError, match="a result has the keys"):
                Result.from_dict(less)


@pytest.mark.parametrize("text", ["", "0", "1.", "1--2", "d1-2", "x1-2", "1.2\n", "٣", "1" * 20_000])
def test_only_long_forms_are_read_without_a_network(text: str) -> None:
    with pytest.raises(SpecError):
        Spec.from_text(text)
