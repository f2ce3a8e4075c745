"""How long a run still takes, reckoned from the epochs that passed."""

from collections import deque
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from stimcore.recipes.recipe import Recipe

RECENT = 5
"""Measurements that count: a machine that becomes busy, or idle again, is noticed within so many."""
PARTS = ("seconds", "checkpoint_seconds", "evaluate_seconds", "watch_seconds")
"""Keys of a record, for the parts of an epoch."""


class TimeLeft:
    """Seconds that a run still needs: training and checkpoint of every epoch, evaluation and watching where they are due.

    Args:
        recipe: Says in which epochs the network is evaluated and watched.
        guesses: Part -> its share of the training seconds of an epoch, until it was measured.
        rows: Records of epochs that are done.
    """

    def __init__(self, recipe: Recipe, guesses: Mapping[str, float], rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self.recipe, self.guesses = recipe, dict(guesses)
        self._measured: dict[str, deque[float]] = {part: deque(maxlen=RECENT) for part in PARTS}
        for row in rows:
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count the record of a finished epoch."""
        for part, values in self._measured.items():
            if part in row:
                values.append(float(row[part]))

    def after(self, epoch: int) -> float | None:
        """Seconds from the end of an epoch (counted from 1) to the end of the run; None before anything was measured."""
        if not self._measured["seconds"]:
            return None
        ahead = range(epoch + 1, self.recipe.epochs + 1)
        times = {
            "seconds": len(ahead),
            "checkpoint_seconds": len(ahead),
            "evaluate_seconds": sum(map(self.recipe.evaluates, ahead)),
            "watch_seconds": sum(map(self.recipe.watches, ahead)),
        }
        return sum(count * self._of(part) for part, count in times.items())

    def _of(self, part: str) -> float:
        """Seconds of one part of an epoch."""
        values = self._measured[part]
        return fmean(values) if values else self.guesses.get(part, 0.0) * fmean(self._measured["seconds"])


def in_words(seconds: float) -> str:
    """A duration for people: `about 40 s left`, `about 16.4 min left`, `about 3.1 h left`."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"about {seconds / size:.1f} {unit} left"
    return f"about {seconds:.0f} s left"
