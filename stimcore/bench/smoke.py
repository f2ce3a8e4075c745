"""Do recipes learn? 200 steps of each recipe with each method on real images, cross entropy against guessing."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from stimcore.bench.check import at_least
from stimcore.recipes.catalogue import recipe
from stimcore.runs.machine import describe
from stimcore.train.smoke import CLASSES, LEARNED_FRAC, SmokeRun, smoke_run, smoke_table


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is run.

    Attributes:
        recipes: Names of recipes.
        methods: Names of training methods.
        steps: Steps of each run.
    """

    recipes: Sequence[str]
    methods: Sequence[str]
    steps: int


def run(settings: Settings) -> dict[str, Any]:
    """Return every run, and how far below guessing a run has to come to have learned.

    Raises:
        UsageError: There are no steps.
    """
    at_least(settings, steps=1)
    runs = []
    for name in settings.recipes:
        for method in settings.methods:
            runs.append(asdict(smoke_run(recipe(name), method, steps=settings.steps)))
            print(smoke_table([SmokeRun(**runs[-1])]).splitlines()[-1], file=sys.stderr, flush=True)
    return {
        "bench": "smoke",
        "machine": describe(torch.device("cpu")),
        "n": len(runs),
        "guessing_nats": math.log(CLASSES),
        "learned_below_nats": LEARNED_FRAC * math.log(CLASSES),
        "runs": runs,
    }


def show(report: Mapping[str, Any]) -> int:
    """Print the runs as a table in Markdown; return 1 when one of them has not learned."""
    runs = [SmokeRun(**values) for values in report["runs"]]
    print(smoke_table(runs), end="")
    print(f"guessing costs {report['guessing_nats']:.2f} nats, learned is at most {report['learned_below_nats']:.2f}")
    return 0 if all(each.learned for each in runs) else 1
