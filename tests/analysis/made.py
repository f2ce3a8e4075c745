"""Results, sweeps and records made by hand, from counts, so that every number in a test can be worked out on paper."""

from collections.abc import Mapping
from typing import Any

from stimcore.analysis.intervals import wilson
from stimcore.analysis.result import Result, Sweep
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

IMAGES = 1000
SIX = Topology.of("six", [3, 3], fixed={4: "its shortcut is a projection"})
FULL = str(SIX.full)


def result(
    spec: str, correct: int, *, main: int | None = None, ce: float | None = 0.5, kl: float | None = 0.1, top: float = 3.0
) -> Result:
    """Return a result; it loses exactly the images by which the main network has more (or wins those by which it has fewer)."""
    base = correct if main is None else main
    return Result.counted(
        Spec.from_text(spec),
        images=IMAGES,
        correct=correct,
        lost=max(0, base - correct),
        won=max(0, correct - base),
        ce_nats=ce,
        kl_nats=kl,
        max_ce_nats=top,
    )


def sweep(counts: Mapping[str, int], main: str, correct: int, *, kind: str = "ordered") -> Sweep:
    """Return a sweep over specs with their counts of correct images."""
    return Sweep(
        experiment="made-by-hand",
        method="common",
        kind=kind,
        provider="none",
        images=IMAGES,
        main=result(main, correct, kl=0.0),
        results=[result(spec, count, main=correct) for spec, count in counts.items()],
    )


def record(epoch: int, seconds: float, cpu: float, mebibytes: int, accuracy: float = 90.0, loss: float = 0.5) -> dict[str, Any]:
    """Return a line of training.jsonl."""
    correct = round(accuracy * IMAGES / 100)
    return {
        "epoch": epoch,
        "losses": {"loss": loss},
        "learning_rate": 0.1,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "images_per_second": 1000.0,
        "peak_memory_bytes": mebibytes * 2**20,
        "test": {"correct": correct, "images": IMAGES, "accuracy_pct": accuracy, "interval_pct": list(wilson(correct, IMAGES))},
    }
