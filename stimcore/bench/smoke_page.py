"""The page `docs/smoke.md`: every recipe of the catalogue with every method, from what `bench smoke` wrote.

    python -m stimcore.bench smoke --recipes RECIPE ... --methods METHOD ... --keep docs/measurements/smoke.json
    python -m stimcore.bench.smoke_page

A run that is not in the file is named as not run: no figure stands on the page that no run wrote.
"""

import json
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
from stimcore.recipes.recipe import Recipe
from stimcore.train.choices import SMOKE_STEPS
from stimcore.train.smoke import CLASSES, DOUBT, LEARNED_FRAC, PATIENCE_S, SMALL_BATCH, SmokeRun

FILE, PAGE, EXPORTED = FOLDER / "smoke.json", Path("docs/smoke.md"), Path("exported")
FIRST_METHODS = ("common", "stimulative")
"""Methods that run with small batches too, where a step takes too long; they come first."""
TRAINED_PCT = 50.0
"""Accuracy from which on a whole training counts as one that has learned: guessing gets 10 %."""
MISSING, NOT_MEANT = "not run", "–"
GUESSING = math.log(CLASSES)
HEAD = f"""# Do recipes learn?

A rate that is too high for a method, or a lambda that is too large for a rate, shows within the first steps: the main network
stays at guessing, or falls back to it. So every recipe of the catalogue makes {SMOKE_STEPS} steps with every method: at its own
peak rate, batch size and lambda, on real images (Fashion-MNIST, enlarged to the recipe's size and with its number of
channels). A rate that rises at first does so over a quarter of the steps. Recipes in bf16 run in bf16 where the processor has
instructions for it, which the table then names, and in fp32 elsewhere. The table has the main network's cross entropy in
nats, the mean of the last 20 steps. Ten classes occur, so that guessing costs {GUESSING:.2f}; a run has learned when it is at
most {LEARNED_FRAC * GUESSING:.2f}. Deep networks are slow at first: one that has not learned by then may make more steps, whose
number stands behind its cross entropy.

Where a step takes more than {PATIENCE_S:g} seconds at the recipe's own batch size, batches of {SMALL_BATCH} run instead, at a
rate that is smaller in proportion (*scaled*), with common and stimulative training only. The recipe's own size is not even
tried where a small batch foretells more than {DOUBT * PATIENCE_S:g} seconds. A percentage stands where the whole training was
run and is committed: what its main network gets on the test images, with the first seed ([results.md](results.md)); such a
training has learned when that is at least {TRAINED_PCT:g} %.

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


def trained(exported: Path) -> dict[tuple[str, str], float]:
    """Return (recipe, method) -> accuracy in percent of the main network, of every committed training with exactly this recipe.

    Args:
        exported: Folder of experiments.
    """
    found = {}
    for path in sorted(exported.glob("*/*/manifest.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        name, method = manifest["recipe"]["name"], manifest["method"]
        same = name in RECIPES and Recipe.from_dict(manifest["recipe"]) == recipe(name)
        if same and path.parent.name == method:
            found[name, method] = manifest["networks"]["main.onnx"]["accuracy_pct"]
    return found


def render(runs: Sequence[Mapping[str, Any]], whole: Mapping[tuple[str, str], float]) -> str:
    """Return the page.

    Args:
        runs: Runs of a file of `bench smoke --keep`.
        whole: (recipe, method) -> accuracy in percent, where the whole training is committed.
    """
    longest = sorted((each for each in runs if each["steps"] >= SMOKE_STEPS), key=lambda each: int(each["steps"]))
    made = {(each["recipe"], each["method"]): as_run(each) for each in longest}
    names = planned()
    methods = [*FIRST_METHODS, *(method for method in METHOD_CLASSES if method not in FIRST_METHODS)]
    head = "| recipe | batch | rate | " + " | ".join(method.replace("_", " ") for method in methods) + " |"
    lines = [HEAD.rstrip(), "", _in_short(made, whole), "", head, "| --- | --- | --- |" + " ---: |" * len(methods)]
    for name in names:
        scaled = any(run.scaled for (other, _), run in made.items() if other == name)
        cells = [_cell(made.get((name, method)), whole.get((name, method))) for method in methods]
        if scaled:
            cells = [
                NOT_MEANT if text == MISSING and m not in FIRST_METHODS else text
                for m, text in zip(methods, cells, strict=True)
            ]
        lines.append(
            f"| {name} | {_conditions(name, [made.get((name, method)) for method in methods])} | {' | '.join(cells)} |"
        )
    machines = dict.fromkeys(_machine(each["machine"]) for each in runs if (each["recipe"], each["method"]) in made)
    if machines:
        lines += ["", f"Measured on {', on '.join(machines)}."]
    return "\n".join(lines) + "\n"


def _in_short(made: Mapping[tuple[str, str], SmokeRun], whole: Mapping[tuple[str, str], float]) -> str:
    """Return how many pairs of recipe and method were run, and which have not learned."""
    scaled = {name for (name, _), run in made.items() if run.scaled}
    pairs = [(name, method) for name in planned() for method in (FIRST_METHODS if name in scaled else METHOD_CLASSES)]
    done = [pair for pair in pairs if pair in made or pair in whole]
    failed = [
        f"{name} with {method.replace('_', ' ')}"
        for name, method in done
        if not _learned(made.get((name, method)), whole.get((name, method)))
    ]
    verdict = f"These have not learned: {', '.join(failed)}." if failed else "All of these learn." if done else ""
    which = f"All {len(done)} pairs" if len(done) == len(pairs) else f"{len(done)} of {len(pairs)} pairs"
    so_far = "" if len(done) == len(pairs) else " so far"
    return f"{which} of a recipe and a method were run{so_far}. {verdict}".rstrip()


def _learned(run: SmokeRun | None, accuracy_pct: float | None) -> bool:
    """Whether a smoke run and a whole training, as far as there are any, have learned."""
    return (run is None or run.learned) and (accuracy_pct is None or accuracy_pct >= TRAINED_PCT)


def _conditions(name: str, row: Sequence[SmokeRun | None]) -> str:
    """Return batch size and rate, those of the runs where there are any."""
    run = next((each for each in row if each), None)
    if run is None:
        plan = recipe(name)
        return f"{plan.batch_size} | {plan.learning_rate:g}"
    return f"{run.conditions} | {run.learning_rate:g}"


def _cell(run: SmokeRun | None, accuracy_pct: float | None) -> str:
    """Return a cross entropy, and an accuracy where the whole training is committed."""
    loss = "" if run is None else f"{run.cross_entropy:.2f}" if run.learned else f"**{run.cross_entropy:.2f}**"
    if run is not None and run.steps > SMOKE_STEPS:
        loss += f" ({run.steps} steps)"
    whole = "" if accuracy_pct is None else f"{accuracy_pct:.2f} %"
    if accuracy_pct is not None and accuracy_pct < TRAINED_PCT:
        whole = f"**{whole}**"
    return ", ".join(filter(None, (loss, whole))) or MISSING


def _machine(machine: Mapping[str, Any]) -> str:
    return f"{machine['cores']} cores of {machine['device']} (torch {machine['torch']})"


def main(file: Path = FILE, page: Path = PAGE, exported: Path = EXPORTED) -> None:
    """Write the page."""
    files.write_text(page, render(read_runs(file), trained(exported)))


if __name__ == "__main__":
    main()
    sys.exit(cli.DONE)
