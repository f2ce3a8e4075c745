"""Run folders on this machine, read without torch: which networks are being trained, and how far they are."""

import json
import time
from pathlib import Path
from typing import Any

from stimcore import files
from stimcore.serve.repository.describe import safe_json, safe_text
from stimcore.serve.types import RunInfo

ACTIVE_S = 120
"""A run counts as ended when its folder was not written to for this long, unless its epochs take longer."""
FIRST_EPOCH_S = 600
"""The same before the first epoch has ended, when the length of an epoch is not known yet."""
MAX_RECORD_BYTES = 1 << 20
"""Bytes of `training.jsonl` that are read, from its end: about two thousand epochs."""
EPOCHS = 3
"""A run also counts as in progress for this many times its longest epoch."""


def runs_under(folder: Path) -> list[RunInfo]:
    """Return every `EXPERIMENT/RUN` with a readable `run.json`, the last written first.

    A run folder is written by another program, perhaps at this moment; whatever is wrong with one leaves out this one.
    """
    runs = []
    for path in folder.glob("*/*/run.json"):
        try:
            runs.append(_read_run(path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
            continue  # not a run folder, or one that is being created
    return [info for _, info in sorted(runs, key=lambda item: -item[0])]


def _read_run(path: Path) -> tuple[float, RunInfo]:
    """Return the time of a run's last write, and its description."""
    run = json.loads(path.read_text(encoding="utf-8"))
    method, epochs = str(run["method"]), int(run["recipe"].get("epochs", 0))
    rows, written = _read_training(path.parent / "training.jsonl")
    written = max(written, path.stat().st_mtime)
    num_done = max((row["epoch"] for row in rows if isinstance(row.get("epoch"), int)), default=len(rows))
    active = time.time() - written < _patience_s(rows) and num_done < epochs
    name = f"{path.parent.parent.name}/{path.parent.name}"
    return written, RunInfo(name=safe_text(name), method=safe_text(method), epochs=epochs, rows=safe_json(rows), active=active)


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
