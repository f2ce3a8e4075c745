"""A whole experiment by hand: common and stimulative training swept, self distillation half, twins, and runs over lambda."""

from pathlib import Path

import pytest

from stimcore.subnets.topology import Topology
from tests.analysis.made import FULL, SIX, record
from tests.report import folders

ORDERED = ["1.4", "1.4-5", "1.4-5-6", "1-2.4", "1-2.4-5", "1-2.4-5-6", "1-2-3.4", "1-2-3.4-5", FULL]
DELETED = ["2-3.4-5-6", "1-3.4-5-6", "1-2.4-5-6", "1-2-3.4-6", "1-2-3.4-5", "3.4-5-6"]
PERMUTED = ["2-1-3.4-5-6", "1-2-3.4-6-5", "2-1-3.4-6-5"]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Return the experiment's folder. Every count in it is used by a test."""
    folder = folders.experiment(tmp_path / "exported" / "made")
    folders.bundle(
        folder,
        "common",
        900,
        sweeps={
            "ordered": dict(zip(ORDERED, [100, 300, 400, 300, 500, 700, 600, 800, 900], strict=True)),
            "delete": dict(zip(DELETED, [100, 700, 800, 850, 890, 50], strict=True)),
            "permute": dict(zip(PERMUTED, [400, 500, 200], strict=True)),
        },
        records=[record(1, 12, 10, 1000, 88, 0.6), record(2, 12, 10, 1000, 90, 0.4)],
    )
    folders.bundle(
        folder,
        "stimulative",
        910,
        options={"weight": 1.0},
        sweeps={
            "ordered": dict(zip(ORDERED, [890, 895, 900, 895, 900, 905, 900, 905, 910], strict=True)),
            "delete": dict(zip(DELETED, [895, 905, 908, 909, 910, 880], strict=True)),
            "permute": dict(zip(PERMUTED, [905, 909, 900], strict=True)),
        },
        records=[record(1, 18, 14, 1020, 89, 0.7), record(2, 18, 14, 1020, 91, 0.5)],
    )
    folders.bundle(
        folder,
        "self_distillation",
        905,
        sweeps={"delete": dict(zip(DELETED, [100, 700, 800, 850, 890, 50], strict=True))},
    )
    for depth, correct in ((1, 880), (2, 895)):
        small = Topology.of("six", [depth, depth])
        folders.bundle(
            folder,
            f"twin-d{depth}-{depth}",
            correct,
            method="common",
            topology=small,
            spec=str(SIX.ordered([depth, depth])),
            sweeps={"ordered": {"1.3": 300, "1-2.3-4": correct}} if depth == 2 else None,
        )
    lambdas = folders.experiment(folder.with_name("made-lambda"))
    folders.bundle(lambdas, "common", 890)
    for weight, correct in ((1, 900), (10, 895)):
        folders.bundle(lambdas, f"stimulative-lambda{weight}", correct, method="stimulative", options={"weight": float(weight)})
    return folder
