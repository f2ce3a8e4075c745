"""Run folders on this machine, read without torch: which networks are being trained, and how far they are."""

import json
import time
from pathlib import Path
from typing import Any

from stimcore import files
from stimcore.serve.types import RunInfo

ACTIVE_S = 120
"""A run counts as ended when its folder was not written to for this long, unless its epochs take longer."""
FIRST_EPOCH_S = 600
"""The same before the first epoch has ended, when the length of an epoch is not known yet."""
EPOCHS = 3
"""A run also counts as in progress for this many times its longest epoch."""


def runs_under(folder: Path) -> list[RunInfo]:
    """Return every `EXPERIMENT/RUN` with a readable `run.json`, the last written first."""
    runs = []
    for path in folder.glob("*/*/run.json"):
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            method, epochs = str(run["method"]), int(run["recipe"].get("epochs", 0))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # not a run folder, or one that is being created
        rows, written = _read_training(path.parent / "training.jsonl")
        written = max(written, path.stat().st_mtime)
        active = time.time() - written < _patience_s(rows) and len(rows) < epochs
        name = f"{path.parent.parent.name}/{path.parent.name}"
        runs.append((written, RunInfo(name=name, method=method, epochs=epochs, rows=rows, active=active)))
    return [info for _, info in sorted(runs, key=lambda item: -item[0])]


def _patience_s(rows: list[dict[str, Any]]) -> float:
    """Return the seconds without a write after which a run counts as ended."""
    seconds = [float(row["seconds"]) for row in rows if isinstance(row.get("seconds"), int | float)]
    if seconds:
        return max(ACTIVE_S, EPOCHS * max(seconds))
    return ACTIVE_S if rows else FIRST_EPOCH_S


def _read_training(path: Path) -> tuple[list[dict[str, Any]], float]:
    """Return the rows of `training.jsonl` and the time of its last write; no rows and 0 when it can't be read."""
    try:
        return files.read_jsonl(path), path.stat().st_mtime
    except OSError:
        return [], 0.0
