"""What a scan found out: how much a network needs each of its blocks, with and without re-calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stimcore.analysis.estimates import Basis, Estimate
from stimcore.analysis.intervals import Z95, paired_drop
from stimcore.analysis.result import Result
from stimcore.subnets.families import deletions, movable_groups, without
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

EditKind = Literal["deletion", "pair", "swap"]
EDIT_KINDS: tuple[EditKind, ...] = get_args(EditKind)
CLEAR_POINTS = 1.0
"""A re-calibration that changes an accuracy by less than this is not worth a warning, however narrow its interval."""
RESAMPLES = 1000
"""Samples of the bootstrap."""


@dataclass(frozen=True)
class Edit:
    """One change of the main network.

    Attributes:
        kind: A block removed, two neighbours removed, or two blocks of a stage in each other's place.
        blocks: Their numbers.
        spec: The sub-network.
    """

    kind: EditKind
    blocks: tuple[int, ...]
    spec: Spec

    def __str__(self) -> str:
        names = " and ".join(map(str, self.blocks))
        return f"block {names} removed" if self.kind == "deletion" else f"{names} {_VERBS[self.kind]}"


_VERBS: Mapping[EditKind, str] = {"pair": "removed", "swap": "swapped"}


def edits(topology: Topology, kinds: Sequence[EditKind] = EDIT_KINDS) -> list[Edit]:
    """Return every edit of some kinds: single deletions, then neighbouring pairs, then swaps of two blocks inside a stage.

    Args:
        topology: The network.
        kinds: The kinds that are wanted.

    Example:
        >>> net = Topology.of("any", (3, 2), {4: "it changes the shape"})
        >>> [str(edit) for edit in edits(net, ["pair", "swap"])]
        ['1 and 2 removed', '2 and 3 removed', '1 and 2 swapped', '1 and 3 swapped', '2 and 3 swapped']
    """
    removable = topology.removable
    edits: list[Edit] = []
    if "deletion" in kinds:
        edits += [Edit("deletion", (b,), spec) for b, spec in zip(removable, deletions(topology, 1), strict=True)]
    if "pair" in kinds:
        neighbours = [(b, b + 1) for b in removable if b + 1 in removable]
        edits += [Edit("pair", pair, without(topology, pair)) for pair in neighbours]
    if "swap" in kinds and not topology.ordered_only:
        for stage in topology.stages:
            for group in movable_groups(topology, stage):
                pairs = [(a, b) for i, a in enumerate(group) for b in group[i + 1 :]]
                edits += [Edit("swap", pair, _swapped(topology, *pair)) for pair in pairs]
    return edits


def _swapped(topology: Topology, first: int, second: int) -> Spec:
    other = {first: second, second: first}
    return Spec(tuple(tuple(other.get(block, block) for block in stage) for stage in topology.stages))


def mean_influence(values: NDArray[np.floating[Any]]) -> Estimate:
    """Return the mean of a block's influence over images, with its normal interval; rounded to six decimals.

    Args:
        values: `[images]`: 1 - cosine of the block's input and output.

    Example:
        >>> mean_influence(np.array([0.1, 0.3])).value
        0.2
    """
    mean = float(values.mean(dtype=np.float64))
    half = Z95 * float(values.std(ddof=1, dtype=np.float64)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return Estimate(round(mean, 6), round(mean - half, 6), round(mean + half, 6))


def _json_form(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else {"value": estimate.value, "interval": [estimate.low, estimate.high]}


@dataclass(frozen=True, kw_only=True)
class ScanRow:
    """One edit and what it costs.

    Attributes:
        edit: The edit.
        recalibrated: Its result with re-calibrated batch norms.
        as_trained: Its result with the statistics that training left; equal to `recalibrated` where there are no batch norms.
        change: Accuracy with re-calibration minus without, in points, paired over images.
        influence: Block influence of a deleted block; None for other edits.
    """

    edit: Edit
    recalibrated: Result
    as_trained: Result
    change: Estimate
    influence: Estimate | None = None

    @property
    def changed_by_recalibration(self) -> bool:
        """Whether re-calibration changes the answer: the interval of the change leaves zero out, and it is a point or more."""
        return (self.change.low > 0 or self.change.high < 0) and abs(self.change.value) >= CLEAR_POINTS

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "kind": self.edit.kind,
            "blocks": list(self.edit.blocks),
            "spec": str(self.edit.spec),
            "recalibrated": self.recalibrated.to_dict(),
            "as_trained": self.as_trained.to_dict(),
            "recalibration_change_points": _json_form(self.change),
            "changed_by_recalibration": self.changed_by_recalibration,
            "block_influence": _json_form(self.influence),
        }


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A scanned network.

    Attributes:
        network: Name of the network.
        bundle: Fingerprint of the bundle that was measured.
        images: Evaluation images behind every number.
        num_norms: Batch norms that are left in the graph.
        main: The main network with re-calibrated batch norms.
        main_as_trained: The main network with the statistics that training left.
        rows: The edits.
        rank_correlation: Spearman's correlation of block influence and drop over the removable blocks; None for fewer than
            three, and where one of the two is the same for all blocks.
    """

    network: str
    bundle: str
    images: int
    num_norms: int
    main: Result
    main_as_trained: Result
    rows: Sequence[ScanRow]
    rank_correlation: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, as `scan.json` holds it."""
        return {
            "network": self.network,
            "bundle": self.bundle,
            "images": self.images,
            "batch_norms": self.num_norms,
            "main": self.main.to_dict(),
            "main_as_trained": self.main_as_trained.to_dict(),
            "rank_correlation": _json_form(self.rank_correlation),
            "rows": [row.to_dict() for row in self.rows],
        }


def recalibration_change(recalibrated: NDArray[np.bool_], as_trained: NDArray[np.bool_]) -> Estimate:
    """Return accuracy with re-calibration minus without, in points, from the images that each classifies correctly."""
    worse, better = int((as_trained & ~recalibrated).sum()), int((recalibrated & ~as_trained).sum())
    change = paired_drop(better, worse, len(recalibrated))
    low, high = change.interval_pct
    return Estimate(round(change.drop_pct, 6), round(low, 6), round(high, 6), Basis.PAIRED)


def spearman(first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return Spearman's rank correlation along the last axis; NaN where all values of one are equal.

    Equal values share the mean of their ranks.

    Args:
        first: `[..., N]`.
        second: `[..., N]`.

    Example:
        >>> spearman(np.array([1.0, 2.0, 9.0]), np.array([1.0, 4.0, 5.0])).item()
        1.0
        >>> round(spearman(np.array([1.0, 1.0, 2.0]), np.array([3.0, 2.0, 1.0])).item(), 4)
        -0.866
    """
    a, b = (_centred_ranks(values) for values in (first, second))
    scale = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation: NDArray[np.float64] = np.where(scale > 0, (a * b).sum(-1) / scale, np.nan)
    return correlation


def _centred_ranks(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    below = (values[..., None, :] < values[..., :, None]).sum(-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(-1)
    ranks = below + (equal - 1) / 2
    centred: NDArray[np.float64] = ranks - ranks.mean(-1, keepdims=True)
    return centred


def rank_correlation(
    influence: NDArray[np.floating[Any]], main: NDArray[np.bool_], deleted: NDArray[np.bool_], seed: int = 0
) -> Estimate | None:
    """Return the rank correlation of block influence and drop over blocks, with a bootstrap interval over images.

    Args:
        influence: `[blocks, images]`: 1 - cosine of a block's input and output.
        main: Bool `[images]`: the main network is right.
        deleted: Bool `[blocks, images]`: the network without the block is right.
        seed: Seed of the resampling.
    """
    if len(deleted) < 3:
        return None
    lost = main.astype(np.float32) - deleted.astype(np.float32)
    value = float(spearman(influence.mean(1), lost.mean(1)))
    if not np.isfinite(value):
        return None
    generator = np.random.Generator(np.random.PCG64(seed))
    images = lost.shape[1]
    samples = []
    for _ in range(RESAMPLES // 100):
        counts = generator.multinomial(images, np.full(images, 1 / images), size=100).astype(np.float32)
        samples.append(spearman(counts @ influence.T.astype(np.float32), counts @ lost.T))
    drawn = np.concatenate(samples)
    low, high = np.quantile(drawn[np.isfinite(drawn)], (0.025, 0.975))
    return Estimate(round(value, 6), round(float(low), 6), round(float(high), 6))
