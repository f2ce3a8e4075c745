"""What `bench compress` reports of its counts: accuracies and differences with intervals, and what trainings cost."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stimcore.analysis.estimates import Basis, Estimate
from stimcore.analysis.intervals import paired_drop, wilson
from stimcore.analysis.seeds import over_seeds
from stimcore.bench.choices import COMPRESS_PAIRS


def accuracies(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return size -> way -> accuracy in percent: over seeds where there are several, over images for one."""
    values: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row in rows:
        values.setdefault(row["size"], {}).setdefault(row["way"], []).append(row)
    return {size: {way: _plain(_accuracy(of_way)) for way, of_way in of_size.items()} for size, of_size in values.items()}


def _accuracy(rows: Sequence[Mapping[str, Any]]) -> Estimate:
    shares = [100 * row["correct"] / row["images"] for row in rows]
    return over_seeds(shares) if len(rows) > 1 else Estimate(shares[0], *wilson(rows[0]["correct"], rows[0]["images"]))


def differences(hits: Sequence[Mapping[tuple[str, str], NDArray[np.bool_]]], sizes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the differences of accuracy of two ways at every size, in points: paired by seed, or by image for one seed.

    Args:
        hits: For every seed, size and way -> bool `[N]`.
        sizes: The sizes.
    """
    rows = []
    for size in sizes:
        for way, minus in COMPRESS_PAIRS:
            if not all((size, name) in of_seed for of_seed in hits for name in (way, minus)):
                continue
            gaps = [(of_seed[size, way], of_seed[size, minus]) for of_seed in hits]
            if len(gaps) > 1:
                estimate = over_seeds([100 * float(a.mean() - b.mean()) for a, b in gaps])
            else:
                a, b = gaps[0]
                gap = paired_drop(int((a & ~b).sum()), int((b & ~a).sum()), len(a))
                estimate = Estimate(gap.drop_pct, *gap.interval_pct, Basis.PAIRED)
            rows.append({"size": size, "way": way, "minus": minus, **_plain(estimate)})
    return rows


def training_times(seconds: Sequence[Mapping[str, float]], sizes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return way -> processor seconds of all training that leads to one size, and to all sizes: means over seeds.

    One network of stimulative training leads to all sizes, and so does one of common training to all pruned ones.

    Args:
        seconds: For every seed, name of a training -> seconds.
        sizes: The sizes.
    """
    mean = {name: statistics.mean(of_seed[name] for of_seed in seconds) for name in seconds[0]}
    before = {"alone": 0.0, "pruned": mean["common"], "extracted": mean["stimulative"], "tuned": mean["stimulative"]}
    by_way = {}
    for way, start in before.items():
        after = [0.0 if way == "extracted" else mean.get(f"{way}-{size}") for size in sizes]
        if None not in after:
            each = [value or 0.0 for value in after]
            times = {size: round(start + value, 1) for size, value in zip(sizes, each, strict=True)}
            by_way[way] = times | {"all": round(start + sum(each), 1)}
    return by_way


def _plain(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as plain values."""
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "basis": estimate.basis_words}
