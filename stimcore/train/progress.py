"""Time that a run still needs, estimated from the epochs that are done."""

from collections import deque
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from stimcore.recipes.recipe import Recipe

RECENT = 5
"""Number of measurements that are averaged: the estimate follows within 5 epochs when the machine becomes busy or idle."""
PARTS = ("seconds", "checkpoint_seconds", "evaluate_seconds", "watch_seconds")
"""Keys of a record with the seconds of the parts of an epoch."""


class TimeLeft:
    """Estimates the seconds that a run still needs.

    Every epoch has training and a checkpoint; evaluation and the measurement of watched sub-networks count only in the epochs
    in which the recipe has them.

    Args:
        recipe: The number of epochs, and in which of them the network is evaluated and watched.
        guesses: Part -> its seconds as a share of the training seconds of an epoch, until it was measured.
        records: Records of the epochs that are done.
    """

    def __init__(self, recipe: Recipe, guesses: Mapping[str, float], records: Iterable[Mapping[str, Any]] = ()) -> None:
        self.recipe, self.guesses = recipe, dict(guesses)
        self._measured: dict[str, deque[float]] = {part: deque(maxlen=RECENT) for part in PARTS}
        for record in records:
            self.add(record)

    def add(self, record: Mapping[str, Any]) -> None:
        """Add the record of a finished epoch."""
        for part, values in self._measured.items():
            if part in record:
                values.append(float(record[part]))

    def after(self, epoch: int) -> float | None:
        """Return the seconds from the end of an epoch, counted from 1, to the end of the run; None before the first record."""
        if not self._measured["seconds"]:
            return None
        ahead = range(epoch + 1, self.recipe.epochs + 1)
        counts = {
            "seconds": len(ahead),
            "checkpoint_seconds": len(ahead),
            "evaluate_seconds": sum(map(self.recipe.evaluates, ahead)),
            "watch_seconds": sum(map(self.recipe.watches, ahead)),
        }
        return sum(count * self._seconds(part) for part, count in counts.items())

    def _seconds(self, part: str) -> float:
        """Return the seconds of one part of an epoch."""
        values = self._measured[part]
        return fmean(values) if values else self.guesses.get(part, 0.0) * fmean(self._measured["seconds"])


def in_words(seconds: float) -> str:
    """Return a duration in words.

    Example:
        >>> in_words(40), in_words(984)
        ('about 40 s left', 'about 16.4 min left')
    """
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"about {seconds / size:.1f} {unit} left"
    return f"about {seconds:.0f} s left"
