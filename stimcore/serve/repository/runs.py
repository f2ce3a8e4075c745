"""Run folders on this machine, read without torch: which networks are being trained, and how far they are."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stimcore import files
from stimcore.serve.repository.describe import safe_json, safe_text
from stimcore.serve.training.plan import REQUEST_FILE, read_request
from stimcore.serve.types import RunInfo, RunState

ACTIVE_S = 120
"""A run counts as ended when its folder was not written to for this long, unless its epochs take longer."""
FIRST_EPOCH_S = 600
"""The same before the first epoch has ended, when the length of an epoch is not known yet."""
MAX_RECORD_BYTES = 1 << 20
"""Bytes of `training.jsonl` that are read, from its end: about two thousand epochs."""
RUN_FILES = ("run.json", REQUEST_FILE, "training.jsonl", "writer.pid")
"""Files of a run folder that are looked at."""
EPOCHS = 3
"""A run also counts as in progress for this many times its longest epoch."""


class RunReader:
    """Reads run folders again only when their files have changed: thirty visitors who watch a run ask every few seconds.

    Args:
        folder: Folder of run folders.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, tuple[tuple[float, ...], RunFolder]] = {}

    def runs(self) -> list[RunInfo]:
        """Return every `EXPERIMENT/RUN` with a readable `run.json` or request, the last written first.

        A run folder is written by another program, perhaps at this moment; whatever is wrong with one leaves out this one.
        """
        runs: dict[Path, tuple[tuple[float, ...], RunFolder]] = {}
        for path in {path.parent for name in ("run.json", REQUEST_FILE) for path in self.folder.glob(f"*/*/{name}")}:
            stamp = _stamp(path)
            known = self._read.get(path)
            if not all((path / name).is_file() for name in RUN_FILES if (path / name).exists()):
                continue  # whoever opens a pipe waits for a writer that may never come
            try:
                runs[path] = known if known is not None and known[0] == stamp else (stamp, _read_run(path))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
                continue  # not a run folder, or one that is being created
        self._read = runs
        now = time.time()
        folders = sorted((folder for _, folder in runs.values()), key=lambda folder: -folder.written)
        return [folder.at(now) for folder in folders]


@dataclass(frozen=True)
class RunFolder:
    """What was read of a run folder.

    Attributes:
        info: The run, as if nobody had written to it for long.
        written: Time of the last write, in seconds since 1970.
        patience_s: Seconds without a write after which the run counts as ended.
        complete: Whether all epochs are done.
    """

    info: RunInfo
    written: float
    patience_s: float
    complete: bool

    def at(self, now: float) -> RunInfo:
        """Return the run as it is at a time, in seconds since 1970."""
        active = not self.complete and now - self.written < self.patience_s
        return self.info.model_copy(update={"active": True, "state": "training"}) if active else self.info


def runs_under(folder: Path) -> list[RunInfo]:
    """Return every `EXPERIMENT/RUN` with a readable `run.json` or request, the last written first."""
    return RunReader(folder).runs()


def _stamp(folder: Path) -> tuple[float, ...]:
    """Return what changes when the files of a run folder do."""
    stamp: list[float] = []
    for name in RUN_FILES:
        try:
            status = (folder / name).stat()
        except OSError:
            stamp += [0.0, 0.0]
        else:
            stamp += [status.st_mtime, float(status.st_size)]
    return tuple(stamp)


def _read_run(folder: Path) -> RunFolder:
    """Return a run folder; a run that was asked for and has not begun has a request alone."""
    name = safe_text(f"{folder.parent.name}/{folder.name}")
    request = read_request(folder)
    if request is not None and not (folder / "run.json").exists():
        info = RunInfo(
            name=name,
            method=safe_text(request.method),
            epochs=request.epochs,
            rows=(),
            active=False,
            state="stopped",
            managed=True,
            network=safe_text(request.network),
        )
        return RunFolder(info, (folder / REQUEST_FILE).stat().st_mtime, 0.0, complete=False)
    path = folder / "run.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    method, epochs = str(run["method"]), int(run["recipe"].get("epochs", 0))
    rows, written = _read_training(folder / "training.jsonl")
    written = max(written, path.stat().st_mtime)
    patience_s = _patience_s(rows)
    if request is not None and not (folder / "writer.pid").exists():
        patience_s = 0.0  # training removes this file at its end, so that nobody has to wait
    num_done = max((row["epoch"] for row in rows if isinstance(row.get("epoch"), int)), default=len(rows))
    complete = num_done >= epochs
    state: RunState = "done" if complete else "stopped"
    info = RunInfo(
        name=name,
        method=safe_text(method),
        epochs=epochs,
        rows=safe_json(rows),
        active=False,
        state=state,
        managed=request is not None,
        network=safe_text(str(run.get("network", ""))),
    )
    return RunFolder(info, written, patience_s, complete)


def _patience_s(rows: list[dict[str, Any]]) -> float:
    """Return the seconds without a write after which a run counts as ended."""
    seconds = [float(row["seconds"]) for row in rows if isinstance(row.get("seconds"), int | float)]
    if seconds:
        return max(ACTIVE_S, EPOCHS * max(seconds))
    return ACTIVE_S if rows else FIRST_EPOCH_S


def _read_training(path: Path) -> tuple[list[dict[str, Any]], float]:
    """Return the last rows of `training.jsonl` and the time of its last write; no rows and 0 when it can't be read."""
    try:
        size, written = path.stat().st_size, path.stat().st_mtime
        if size <= MAX_RECORD_BYTES:
            return files.read_jsonl(path), written
        with path.open("rb") as file:
            file.seek(size - MAX_RECORD_BYTES)
            _, _, content = file.read(MAX_RECORD_BYTES).partition(b"\n")  # the first line is a part of one
        return files.parse_jsonl(content), written
    except OSError:
        return [], 0.0
