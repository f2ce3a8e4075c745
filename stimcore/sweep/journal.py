"""The journal of a running sweep: finished results on the disk, from which a sweep that was killed continues."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stimcore import files
from stimcore.analysis.result import Result
from stimcore.bundle import Answers
from stimcore.errors import SpecError
from stimcore.subnets.spec import Spec
from stimcore.sweep.share import Measured


@dataclass(frozen=True)
class Journal:
    """A file of JSON lines: first what the sweep is of, then a line per finished sub-network.

    Attributes:
        path: The file; None keeps no journal.
        bundle: Fingerprint of the bundle.
        kind: The family.
        device: The device that was asked for.
        wall: Images of the bundle's picture wall, to which the stored answers belong.
    """

    path: Path | None
    bundle: str
    kind: str
    device: str
    wall: tuple[int, ...] = ()

    @property
    def _head(self) -> dict[str, Any]:
        return {"bundle": self.bundle, "kind": self.kind, "device": self.device, "wall": list(self.wall)}

    def read(self) -> dict[Spec, Measured]:
        """Return the results of an unfinished sweep of the same bundle; the journal of any other sweep is removed."""
        if self.path is None:
            return {}
        head, *rows = files.read_jsonl(self.path) or [{}]
        try:
            measured = [_measured(row) for row in rows]
        except (KeyError, ValueError, SpecError):
            head = {}  # written by another version: measuring again is safe
        if head != self._head:
            self.remove()
            return {}
        return {entry.result.spec: entry for entry in measured}

    def append(self, measured: Iterable[Measured]) -> None:
        """Add finished results."""
        if self.path is None:
            return
        rows = [_row(entry) for entry in measured]
        files.append_jsonl(self.path, rows if self.path.exists() else [self._head, *rows])

    def remove(self) -> None:
        """Remove the file: the sweep is complete."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _row(entry: Measured) -> dict[str, Any]:
    hits = None if entry.hits is None else base64.b64encode(np.packbits(entry.hits).tobytes()).decode("ascii")
    answers = None if entry.answers is None else [entry.answers.classes, entry.answers.confidence]
    return {**entry.result.to_dict(), "provider": entry.provider, "hits": hits, "answers": answers}


def _measured(row: dict[str, Any]) -> Measured:
    provider, packed, answers = row.pop("provider"), row.pop("hits"), row.pop("answers")
    result = Result.from_dict(row)
    hits = None
    if packed is not None:
        hits = np.unpackbits(np.frombuffer(base64.b64decode(packed), np.uint8), count=result.images).astype(np.bool_)
    return Measured(result, str(provider), hits, None if answers is None else Answers(*map(tuple, answers)))
