"""Golden loss curves: 20 steps of every method on a fixed small problem.

`make golden` writes them anew; review the difference. A change of the code that is meant to change no numbers must leave them
alone.
"""

import json
from pathlib import Path

import torch

from stimcore.bench.curves import loss_curve
from stimcore.methods.table import METHODS

FOLDER = Path(__file__).parent / "golden"
STEPS = 20
CASES: dict[str, tuple[str, dict[str, object]]] = {
    **{name: (name, {}) for name in METHODS},
    "stimulative-kl-minus": ("stimulative", {"amplitude": 4.0, "normalised_ce": True, "subnets": 2}),
    "stimulative-sample-space": ("stimulative", {"max_skipped": (0, 1, 2), "weight": 5.0}),
    "stimulative-deletions": ("stimulative", {"sample": "deletions"}),
    "stimulative-permutations": ("stimulative", {"sample": "deletions+permutations"}),
    "stimulative-labels": ("stimulative", {"target": "labels"}),
    "stimulative-sandwich": ("stimulative", {"sandwich": True}),
    "self_distillation-image": ("self_distillation", {"feature": "image"}),
}
"""Name of a curve -> method and its options."""


def curve(name: str) -> list[dict[str, float]]:
    """The named losses of every step."""
    return loss_curve(*CASES[name], torch.device("cpu"))


def write(name: str) -> None:
    """Write the committed curve anew."""
    rows = [{key: round(value, 8) for key, value in row.items()} for row in curve(name)]
    lines = ",\n".join(" " + json.dumps(row) for row in rows)
    (FOLDER / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
