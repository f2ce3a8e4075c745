"""The page `docs/smoke.md`: every recipe of the catalogue with every method, from what `bench smoke` wrote.

    python -m stimcore.bench smoke --recipes RECIPE ... --methods METHOD ... --keep docs/measurements/smoke.json
    python -m stimcore.bench.smoke_page

A run that is not in the file is named as not run: no figure stands on the page that no run wrote.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stimcore import cli, files
from stimcore.bench.performance import FOLDER
from stimcore.bench.smoke import as_run, read_runs
from stimcore.methods.names import METHOD_CLASSES
from stimcore.recipes.catalogue import FINE_TUNING, RECIPES, recipe
from stimcore.train.choices import SMOKE_STEPS
from stimcore.train.smoke import CLASSES, LEARNED_FRAC, PATIENCE_S, SMALL_BATCH, SmokeRun

FILE, PAGE = FOLDER / "smoke.json", Path("docs/smoke.md")
FIRST_METHODS = ("common", "stimulative")
"""Methods that run with small batches too, where a step takes too long; they come first."""
MISSING, NOT_MEANT = "not run", "–"
GUESSING = math.log(CLASSES)
HEAD = f"""# Do recipes learn?

A rate that is too high for a method, or a lambda that is too large for a rate, shows within the first steps: the main network
stays at guessing, or falls back to it. So every recipe of the catalogue makes {SMOKE_STEPS} steps with every method: at its
own peak rate, batch size and lambda, on real images (Fashion-MNIST, enlarged to the recipe's size and with its number of
channels). A rate that rises at first does so over a quarter of the steps. The table has the main network's cross entropy in
nats, the mean of the last 20 steps. Ten classes occur, so that guessing costs {GUESSING:.2f}; a run has learned when it is at
most {LEARNED_FRAC * GUESSING:.2f}.

Where a step takes more than {PATIENCE_S:g} seconds at the recipe's own batch size, batches of {SMALL_BATCH} run instead, at a
rate that is smaller in proportion (*scaled*), with common and stimulative training only. [results.md](results.md) has what
the committed networks reached in the end.

```sh
python -m stimcore.bench smoke --recipes RECIPE ... --methods METHOD ... --keep {FILE.as_posix()}
python -m stimcore.bench.smoke_page
```

The first command adds every finished run to the file and repeats none that it holds; its exit code is 1 when one has not
learned. The second writes this page. `make slow` runs three small recipes with every method anew.
"""


def planned() -> list[str]:
    """Return the recipes that the page lists: those that start from random weights."""
    return [name for name in RECIPES if name not in FINE_TUNING]


def render(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the page.

    Args:
        runs: Runs of a file of `bench smoke --keep`.
    """
    made = {(each["recipe"], each["method"]): as_run(each) for each in runs if each["steps"] >= SMOKE_STEPS}
    names = planned()
    methods = [*FIRST_METHODS, *(method for method in METHOD_CLASSES if method not in FIRST_METHODS)]
    head = "| recipe | batch | rate | " + " | ".join(method.replace("_", " ") for method in methods) + " |"
    lines = [HEAD.rstrip(), "", _in_short(made, names, methods), "", head, "| --- | --- | --- |" + " ---: |" * len(methods)]
    for name in names:
        row = [made.get((name, method)) for method in methods]
        lines.append(f"| {name} | {_conditions(name, row)} | " + " | ".join(_cells(row, methods)) + " |")
    machines = dict.fromkeys(_machine(each["machine"]) for each in runs if (each["recipe"], each["method"]) in made)
    if machines:
        lines += ["", f"Measured on {', on '.join(machines)}."]
    return "\n".join(lines) + "\n"


def _in_short(made: Mapping[tuple[str, str], SmokeRun], names: Sequence[str], methods: Sequence[str]) -> str:
    """Return how many runs there are, and which have not learned."""
    scaled = {name for name, _ in made if any(made[name, method].scaled for method in methods if (name, method) in made)}
    wanted = sum(len(FIRST_METHODS) if name in scaled else len(methods) for name in names)
    listed = [run for (name, method), run in made.items() if name in names and (name not in scaled or method in FIRST_METHODS)]
    failed = [f"{run.recipe} with {run.method.replace('_', ' ')}" for run in listed if not run.learned]
    verdict = f"These have not learned: {', '.join(failed)}." if failed else "All of them have learned." if listed else ""
    return f"{len(listed)} of {wanted} runs are done. {verdict}".rstrip()


def _conditions(name: str, row: Sequence[SmokeRun | None]) -> str:
    """Return batch size and rate, those of the runs where there are any."""
    run = next((each for each in row if each), None)
    if run is None:
        plan = recipe(name)
        return f"{plan.batch_size} | {plan.learning_rate:g}"
    return f"{run.batch_size}{' (scaled)' if run.scaled else ''} | {run.learning_rate:g}"


def _cells(row: Sequence[SmokeRun | None], methods: Sequence[str]) -> list[str]:
    """Return the cross entropies of a recipe."""
    scaled = any(run.scaled for run in row if run)
    cells = []
    for run, method in zip(row, methods, strict=True):
        if run is not None:
            cells.append(f"{run.cross_entropy:.2f}" if run.learned else f"**{run.cross_entropy:.2f}**")
        else:
            cells.append(NOT_MEANT if scaled and method not in FIRST_METHODS else MISSING)
    return cells


def _machine(machine: Mapping[str, Any]) -> str:
    return f"{machine['cores']} cores of {machine['device']} (torch {machine['torch']})"


def main(file: Path = FILE, page: Path = PAGE) -> None:
    """Write the page."""
    files.write_text(page, render(read_runs(file)))


if __name__ == "__main__":
    main()
    sys.exit(cli.DONE)
