"""Run folders on this machine, read without torch: what is being trained, and how it goes."""

import json
import time
from pathlib import Path
from typing import Any

from stimcore import files
from stimcore.serve.types import RunInfo

ACTIVE_S = 120
"""A run that was not written to for longer is not in progress, unless its epochs take long."""
FIRST_S = 600
"""The same before the first epoch has ended: nobody knows yet how long one takes."""
EPOCHS = 3
"""Nor after so many times its longest epoch."""


def runs_under(folder: Path) -> list[RunInfo]:
    """Every `EXPERIMENT/RUN` with a readable `run.json`, the one written last first."""
    found = []
    for path in folder.glob("*/*/run.json"):
        try:
            asked = json.loads(path.read_text(encoding="utf-8"))
            method, epochs = str(asked["method"]), int(asked["recipe"].get("epochs", 0))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # not a run, or one that is being written
        rows, written = _rows(path.parent / "training.jsonl")
        written = max(written, path.stat().st_mtime)
        active = time.time() - written < _patience(rows) and len(rows) < epochs
        name = f"{path.parent.parent.name}/{path.parent.name}"
        found.append((written, RunInfo(name=name, method=method, epochs=epochs, rows=rows, active=active)))
    return [info for _, info in sorted(found, key=lambda item: -item[0])]


def _patience(rows: list[dict[str, Any]]) -> float:
    """Seconds without a write after which a run is taken for ended."""
    seconds = [float(row["seconds"]) for row in rows if isinstance(row.get("seconds"), int | float)]
    return max(ACTIVE_S, EPOCHS * max(seconds)) if seconds else float(FIRST_S if not rows else ACTIVE_S)


def _rows(path: Path) -> tuple[list[dict[str, Any]], float]:
    """Records of the epochs, less a last line that is being written; and when the file was written to."""
    try:
        return files.read_jsonl(path), path.stat().st_mtime
    except OSError:
        return [], 0.0
