"""Sweeps made by hand: rows from counts, so that every number in a test can be worked out on paper."""

from collections.abc import Mapping, Sequence
from typing import Any

from stimcore.analysis.intervals import paired_drop, wilson

IMAGES = 1000


def row(
    spec: str,
    correct: int,
    *,
    main: int | None = None,
    images: int = IMAGES,
    ce: float = 0.5,
    kl: float = 0.1,
    top: float = 3.0,
) -> dict[str, Any]:
    """A result; its lost images are exactly those by which the main network has more (won where it has fewer)."""
    base = correct if main is None else main
    drop = paired_drop(max(0, base - correct), max(0, correct - base), images)
    return {
        "spec": spec,
        "correct": correct,
        "images": images,
        "accuracy_pct": 100 * correct / images,
        "interval_pct": list(wilson(correct, images)),
        "drop_pct": drop.drop_pct,
        "drop_interval_pct": list(drop.interval_pct),
        "ce_nats": ce,
        "kl_nats": kl,
        "max_ce_nats": top,
    }


def sweep(counts: Mapping[str, int], main: str, correct: int, *, kind: str = "ordered", images: int = IMAGES) -> dict[str, Any]:
    """A sweep over specs with their counts of right images."""
    results = [row(spec, count, main=correct, images=images) for spec, count in counts.items()]
    return {
        "experiment": "made-by-hand",
        "method": "common",
        "kind": kind,
        "provider": "none",
        "images": images,
        "main": row(main, correct, images=images, kl=0.0),
        "results": results,
    }


def record(epoch: int, seconds: float, cpu: float, mebibytes: int, accuracy: float = 90.0, loss: float = 0.5) -> dict[str, Any]:
    """A line of training.jsonl."""
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


def specs(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The specs of rows."""
    return [item["spec"] for item in results]
