"""Do recipes learn? 200 steps of each recipe with each method on real images, cross entropy against guessing."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from stimcore import files
from stimcore.bench.check import at_least
from stimcore.errors import UsageError
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
        keep: File that holds finished runs, which are not repeated, and to which every run is added as soon as it is finished.
    """

    recipes: Sequence[str]
    methods: Sequence[str]
    steps: int
    keep: Path | None = None


def run(settings: Settings) -> dict[str, Any]:
    """Return every run, and how far below guessing a run has to come to have learned.

    Raises:
        UsageError: There are no steps, or the file of finished runs is not one.
    """
    at_least(settings, steps=1)
    machine = describe(torch.device("cpu"))
    kept = read_runs(settings.keep) if settings.keep else []
    runs = []
    for name in settings.recipes:
        for method in settings.methods:
            wanted = {"recipe": name, "method": method, "steps": settings.steps}
            done = next((each for each in kept if wanted.items() <= each.items()), None)
            if done is None:
                done = {**asdict(smoke_run(recipe(name), method, steps=settings.steps)), "machine": machine}
                if settings.keep:
                    # read again: another process may have finished a run meanwhile
                    settings.keep.parent.mkdir(parents=True, exist_ok=True)
                    files.write_json(settings.keep, {"bench": "smoke", "runs": [*read_runs(settings.keep), done]})
            runs.append(done)
            print(smoke_table([as_run(done)]).splitlines()[-1], file=sys.stderr, flush=True)
    return {
        "bench": "smoke",
        "machine": machine,
        "n": len(runs),
        "guessing_nats": math.log(CLASSES),
        "learned_below_nats": LEARNED_FRAC * math.log(CLASSES),
        "runs": runs,
    }


def read_runs(file: Path) -> list[dict[str, Any]]:
    """Return the finished runs of a file of `--keep`; none where there is no file.

    Raises:
        UsageError: The file is not one of `--keep`.
    """
    if not file.exists():
        return []
    try:
        runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
        for each in runs:
            as_run(each)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} does not hold smoke runs", todo="Name another file with --keep.") from error
    return list(runs)


def as_run(values: Mapping[str, Any]) -> SmokeRun:
    """Return a run of a report without its machine; one that does not name its number format was made in fp32."""
    names = {field.name for field in fields(SmokeRun)}
    return SmokeRun(**{name: value for name, value in values.items() if name in names})


def show(report: Mapping[str, Any]) -> int:
    """Print the runs as a table in Markdown; return 1 when one of them has not learned."""
    runs = [as_run(values) for values in report["runs"]]
    print(smoke_table(runs), end="")
    print(f"guessing costs {report['guessing_nats']:.2f} nats, learned is at most {report['learned_below_nats']:.2f}")
    return 0 if all(each.learned for each in runs) else 1
