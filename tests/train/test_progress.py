"""The time that is left counts evaluation, checkpoint and watching, each in the epochs where it is due."""

import dataclasses

import pytest

from stimcore.recipes.catalogue import recipe
from stimcore.train.progress import TimeLeft, in_words

PLAN = dataclasses.replace(recipe("resnet20-fashion"), epochs=20, evaluate_every=5, watch_every=10)
GUESSES = {"evaluate_seconds": 0.8, "watch_seconds": 0.5}


def test_whole_epochs_are_counted() -> None:
    """Training 5 s, checkpoint 0.5 s, and 5 s of evaluation in every epoch: twice what training alone would need."""
    plan = dataclasses.replace(PLAN, epochs=197, evaluate_every=1, watch=())
    left = TimeLeft(plan, GUESSES, [{"seconds": 5.0, "checkpoint_seconds": 0.5, "evaluate_seconds": 5.0}])
    assert left.after(1) == pytest.approx(196 * 10.5)
    assert left.after(197) == 0


def test_parts_are_counted_where_they_are_due() -> None:
    left = TimeLeft(PLAN, GUESSES)
    assert left.after(0) is None
    left.add({"seconds": 10.0, "checkpoint_seconds": 1.0})
    assert left.after(1) == pytest.approx(19 * 11 + 4 * 8 + 2 * 5)  # guesses until they are measured
    left.add({"seconds": 10.0, "checkpoint_seconds": 1.0, "evaluate_seconds": 20.0})
    assert left.after(9) == pytest.approx(11 * 11 + 3 * 20 + 2 * 5)
    left.add({"seconds": 10.0, "checkpoint_seconds": 1.0, "evaluate_seconds": 20.0, "watch_seconds": 7.0})
    assert left.after(10) == pytest.approx(10 * 11 + 2 * 20 + 1 * 7)


def test_what_happened_lately_counts() -> None:
    left = TimeLeft(PLAN, {}, [{"seconds": 100.0}] * 5 + [{"seconds": 10.0}] * 5)
    assert left.after(10) == pytest.approx(100)


def test_durations_in_words() -> None:
    assert [in_words(value) for value in (0.2, 119, 984, 11_160)] == [
        "about 0 s left",
        "about 119 s left",
        "about 16.4 min left",
        "about 3.1 h left",
    ]
