"""The hidden folder of a bundle that is being written, from which a stopped export goes on."""

import base64
import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from stimcore import files
from stimcore.bundle import FileEntry
from stimcore.export.parity import Floats, Parity
from stimcore.subnets.spec import Spec

SOURCES, FINISHED = "sources.json", "finished.jsonl"


class NetworkCost(Protocol):
    """What a network costs, whether it was counted in torch or in a graph."""

    @property
    def parameters(self) -> int:
        """Number of trained values."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""


@dataclass(frozen=True)
class CheckedNetwork:
    """A network that was written and compared with its reference.

    Attributes:
        entry: Its entry for the manifest.
        hits: bool `[N]`: the evaluation images that it classifies correctly in onnxruntime.
        note: What the check found that a user has to know, in one line; empty when there is nothing.
    """

    entry: FileEntry
    hits: NDArray[np.bool_]
    note: str = ""

    @classmethod
    def of(
        cls,
        path: Path,
        spec: Spec,
        cost: NetworkCost,
        *,
        hits: NDArray[np.bool_],
        parity: Parity,
        reference: Floats,
        labels: NDArray[np.int64],
        note: str = "",
    ) -> Self:
        """Return the check of a file that is finished: nothing may be written into it later, because the entry has its hash.

        Args:
            path: The file.
            spec: The network in it.
            cost: Its parameters and operations.
            hits: bool `[N]`: the evaluation images that it classifies correctly.
            parity: How far it is from its reference.
            reference: Logits of the reference, float32 `[n, K]`: of all images, or of those on which the two were compared.
            labels: `[N]`, of all evaluation images.
            note: As in the attributes.
        """
        correct, complete = int(hits.sum()), len(reference) == len(labels)
        entry = FileEntry(
            sha256=files.sha256(path),
            bytes=path.stat().st_size,
            spec=str(spec),
            accuracy_pct=100 * correct / len(labels),
            correct=correct,
            # a count on a part of the images would stand beside counts on all of them
            correct_torch=int((reference.argmax(1) == labels).sum()) if complete else None,
            parity=parity.error,
            agreement=parity.agreement,
            parameters=cost.parameters,
            macs=cost.macs,
            checked_images=len(reference),
            check="all" if complete else "sampled",
        )
        return cls(entry, hits, note)


class UnfinishedBundle:
    """The hidden folder of a bundle that is being written.

    It holds the files of the bundle, what they are made from (`sources.json`), and a line for each network that is written and
    checked (`finished.jsonl`).

    Args:
        path: The folder.
        sources: Everything that decides about the bytes of the bundle. Files made from other sources are not used.
        images: Number of evaluation images.
    """

    def __init__(self, path: Path, sources: Mapping[str, Any], images: int) -> None:
        self.path, self._sources, self._images = path, dict(sources), images

    def resume(self) -> dict[str, CheckedNetwork]:
        """Return the networks that an earlier export of the same sources finished, by file, and remove everything else."""
        try:
            same = json.loads((self.path / SOURCES).read_text(encoding="utf-8")) == self._sources
        except (OSError, ValueError):
            same = False
        if not same:
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir()
            files.write_json(self.path / SOURCES, self._sources)
            return {}
        for torn in self.path.glob(".*.part"):
            torn.unlink()
        rows = [row for row in files.read_jsonl(self.path / FINISHED) if self._is_whole(row)]
        files.write_jsonl(self.path / FINISHED, rows)
        return {row["file"]: self._from_row(row) for row in rows}

    def record(self, name: str, network: CheckedNetwork) -> None:
        """Note that a network is written and checked."""
        packed = base64.b64encode(np.packbits(network.hits).tobytes()).decode("ascii")
        row = {"file": name, "entry": dataclasses.asdict(network.entry), "hits": packed, "note": network.note}
        files.append_jsonl(self.path / FINISHED, [row])

    def publish(self, target: Path) -> None:
        """Move the folder to its place, instead of an older bundle of the same name."""
        (self.path / SOURCES).unlink()
        (self.path / FINISHED).unlink(missing_ok=True)
        if target.exists():
            # two renamings, because a folder can't replace another; a reader between them sees no bundle, never half of one
            old = target.with_name(f".{target.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
            self.path.rename(target)
            shutil.rmtree(old)
        else:
            self.path.rename(target)

    def discard(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _is_whole(self, row: Mapping[str, Any]) -> bool:
        path = self.path / row["file"]
        return path.exists() and files.sha256(path) == str(row["entry"]["sha256"])

    def _from_row(self, row: Mapping[str, Any]) -> CheckedNetwork:
        packed = np.frombuffer(base64.b64decode(row["hits"]), np.uint8)
        hits = np.unpackbits(packed, count=self._images).astype(np.bool_)
        return CheckedNetwork(FileEntry.from_dict(row["entry"], row["file"], self._images), hits, row.get("note", ""))
