"""Evaluates every edit of a network with and without re-calibration; finished edits are kept in a journal on the disk."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stimcore import files
from stimcore.analysis.result import Result
from stimcore.analysis.scan import (
    EDIT_KINDS,
    Edit,
    EditKind,
    Scan,
    ScanRow,
    edits,
    mean_influence,
    rank_correlation,
    recalibration_change,
)
from stimcore.bundle import Bundle
from stimcore.engine.engine import Engine
from stimcore.errors import SpecError, UsageError
from stimcore.scan.influence import block_influence
from stimcore.subnets.spec import Spec
from stimcore.sweep.sweep import split

SHARE_SPECS = 12
"""Sub-networks that are evaluated together, and lost when a scan is stopped."""
Mode = bool
"""Whether batch norms are re-calibrated."""
OnImages = Callable[[int, int], None]
"""Gets images done and images in all, each counted once for every network that sees it."""


@dataclass(frozen=True)
class Measured:
    """One sub-network in one mode.

    Attributes:
        result: Its counts.
        hits: Bool `[images]`: the images that it classifies correctly.
    """

    result: Result
    hits: NDArray[np.bool_]


@dataclass(frozen=True)
class ScanJournal:
    """A file of JSON lines: first what the scan is of, then a line per finished sub-network and one for block influence.

    Attributes:
        path: The file; None keeps no journal.
        bundle: Fingerprint of the bundle.
        device: The device that was asked for.
    """

    path: Path | None
    bundle: str
    device: str

    def read(self) -> tuple[dict[tuple[Spec, Mode], Measured], NDArray[np.float32] | None]:
        """Return what an unfinished or finished scan of the same bundle has measured; the journal of another one is removed."""
        rows = [] if self.path is None else files.read_jsonl(self.path)
        measured: dict[tuple[Spec, Mode], Measured] = {}
        influence = None
        try:
            if rows and rows[0] != self._head:
                raise ValueError("a scan of something else")
            for row in rows[1:]:
                if "influence" in row:
                    influence = np.frombuffer(base64.b64decode(row["influence"]), np.float32).reshape(row["shape"])
                    continue
                result = Result.from_dict(row)
                packed = np.frombuffer(base64.b64decode(row["hits"]), np.uint8)
                hits = np.unpackbits(packed, count=result.images).astype(np.bool_)
                measured[result.spec, bool(row["recalibrated"])] = Measured(result, hits)
        except (KeyError, ValueError, TypeError, SpecError):
            if self.path is not None:
                self.path.unlink(missing_ok=True)  # of another bundle or another version: measuring again is safe
            return {}, None
        return measured, influence

    def add(self, measured: Mapping[Spec, Measured], recalibrated: Mode) -> None:
        """Add finished sub-networks."""
        self._append(
            {
                **entry.result.to_dict(),
                "recalibrated": recalibrated,
                "hits": base64.b64encode(np.packbits(entry.hits).tobytes()).decode("ascii"),
            }
            for entry in measured.values()
        )

    def add_influence(self, influence: NDArray[np.float32]) -> None:
        """Add the influence of every block on every image."""
        text = base64.b64encode(influence.tobytes()).decode("ascii")
        self._append([{"influence": text, "shape": list(influence.shape)}])

    def _append(self, rows: Any) -> None:
        if self.path is not None:
            head = [] if self.path.exists() else [self._head]
            files.append_jsonl(self.path, [*head, *rows])

    @property
    def _head(self) -> dict[str, Any]:
        return {"scan": 1, "bundle": self.bundle, "device": self.device}


def scan_bundle(
    bundle: Bundle,
    *,
    kinds: Sequence[EditKind] = EDIT_KINDS,
    device: str = "auto",
    journal: Path | None = None,
    report: OnImages = lambda _done, _total: None,
) -> Scan:
    """Scan the network of a bundle.

    Args:
        bundle: Opened and verified.
        kinds: The edits that are evaluated.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        journal: File of what is finished, from which a later scan of the same network goes on; None keeps none.
        report: Gets the progress.

    Raises:
        UsageError: The device can't be used, or the network has no block that can be removed.
    """
    topology = bundle.topology
    if not topology.removable:
        reason = "its blocks concatenate" if topology.ordered_only else "none of its blocks has an identity shortcut"
        raise UsageError(f"{topology.network} has no block that can be removed: {reason}", allowed="residual networks")
    engine = Engine(bundle, device=device)
    num_norms = sum(len(engine.graph.norms(part)) for part in engine.graph.parts)
    wanted = edits(topology, kinds)
    store = ScanJournal(journal, bundle.fingerprint, device)
    known, influence = store.read()
    # without batch norms both modes are the same network
    modes = (True, False) if num_norms else (True,)
    specs = list(dict.fromkeys([topology.full, *(edit.spec for edit in wanted)]))
    images = bundle.manifest.images
    total = images * (len(specs) * len(modes) + 1)
    done = images * sum((spec, mode) in known for spec in specs for mode in modes)
    report(done, total)
    for mode in modes:
        for share in split([spec for spec in specs if (spec, mode) not in known], -(-len(specs) // SHARE_SPECS)):
            measured: dict[Spec, Measured] = {}
            for progress in engine.evaluate(share, recalibrate=mode, collect_hits=True):
                if progress.phase == "evaluate":
                    report(done + progress.images * len(share), total)
                if progress.done:
                    measured = {spec: Measured(progress.results[spec], progress.hits[spec]) for spec in share}
            store.add(measured, mode)
            known |= {(spec, mode): entry for spec, entry in measured.items()}
            done += images * len(share)
    if influence is None:
        influence = block_influence(engine, lambda count: report(done + count, total))
        store.add_influence(influence)
    report(total, total)
    return _put_together(bundle, wanted, known, influence, num_norms)


def _put_together(
    bundle: Bundle,
    wanted: Sequence[Edit],
    known: Mapping[tuple[Spec, Mode], Measured],
    influence: NDArray[np.float32],
    num_norms: int,
) -> Scan:
    topology = bundle.topology
    as_trained = num_norms == 0  # the key of the second mode
    influences = dict(zip(topology.removable, influence, strict=True))
    rows = []
    for edit in wanted:
        on, off = known[edit.spec, True], known[edit.spec, as_trained]
        rows.append(
            ScanRow(
                edit=edit,
                recalibrated=on.result,
                as_trained=off.result,
                change=recalibration_change(on.hits, off.hits),
                influence=mean_influence(influences[edit.blocks[0]]) if edit.kind == "deletion" else None,
            )
        )
    main = known[topology.full, True]
    deleted = [known[row.edit.spec, True].hits for row in rows if row.edit.kind == "deletion"]
    return Scan(
        network=topology.network,
        bundle=bundle.fingerprint,
        images=bundle.manifest.images,
        num_norms=num_norms,
        main=main.result,
        main_as_trained=known[topology.full, as_trained].result,
        rows=rows,
        rank_correlation=rank_correlation(influence, main.hits, np.array(deleted)) if deleted else None,
    )
