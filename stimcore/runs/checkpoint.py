"""Checkpoints: the state of a training after an epoch, in a file `checkpoint-0007.pt` of the run folder.

A checkpoint holds tensors and plain numbers only. It is read with `weights_only=True`, so that a file from elsewhere can't run
code.
"""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stimcore import files
from stimcore.errors import CheckpointError

FORMAT = 1
"""Version of a checkpoint."""
KEEP = 2
"""Checkpoints that stay in a run folder: the newest, and one more in case the newest can't be read."""
_NAME = re.compile(r"checkpoint-([0-9]{4,})\.pt\Z")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a training after a number of epochs.

    Attributes:
        epoch: Number of finished epochs; 0 before the first.
        network: State dict of the wrapped module, with the keys of `StagedNet.module`.
        auxiliary: State dict of the method's heads; empty if it has none. Exported only by `--exits`.
        optimizer: State dict of the optimiser; empty in a converted checkpoint.
        scaler: State dict of the loss scaler; empty without fp16.
        record: Record of the last epoch, so that none is lost where a process ends between checkpoint and record; empty in
            older checkpoints and in converted ones.
    """

    epoch: int
    network: Mapping[str, Tensor]
    auxiliary: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    scaler: Mapping[str, Any]
    record: Mapping[str, Any] = field(default_factory=dict)


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint whole or not at all, and remove all but the newest two.

    Raises:
        OSError: The file could not be written, for example on a full disk; the older checkpoints are still there.
    """
    target = folder / f"checkpoint-{checkpoint.epoch:04}.pt"
    state = {
        "format": FORMAT,
        "epoch": checkpoint.epoch,
        "network": dict(checkpoint.network),
        "auxiliary": dict(checkpoint.auxiliary),
        "optimizer": dict(checkpoint.optimizer),
        "scaler": dict(checkpoint.scaler),
        "record": dict(checkpoint.record),
    }
    write(target, state)
    for old in list_paths(folder)[:-KEEP]:
        old.unlink(missing_ok=True)
    return target


def write(target: Path, value: Mapping[str, Any]) -> None:
    """Write tensors and plain values as a file that `torch.load` reads, whole or not at all.

    Raises:
        OSError: The file could not be written; the error names it.
    """
    # torch.save into a file reports a full disk as an internal error of torch; into memory it can't fail that way
    packed = io.BytesIO()
    torch.save(dict(value), packed)
    with files.replacing(target) as temporary:
        temporary.write_bytes(packed.getbuffer())


def check_format(path: Path, number: object, known: int) -> None:
    """Accept a file whose format this program can read.

    Args:
        path: The file.
        number: What it has as its format.
        known: The newest format that can be read; formats count from 1.

    Raises:
        CheckpointError: The format is newer, or is none.

    Example:
        >>> check_format(Path("runs/toy/common-0/run.json"), 1, 1)
        >>> check_format(Path("run.json"), 2, 1)
        Traceback (most recent call last):
            ...
        stimcore.errors.CheckpointError: run.json has format 2; allowed: 1. A newer stimcore can read it.
    """
    if type(number) is not int or not 1 <= number <= known:
        newer = type(number) is int and number > known
        raise CheckpointError(
            f"{path} has format {str(number)[:80]}",
            allowed="1" if known == 1 else f"1 to {known}",
            todo="A newer stimcore can read it." if newer else "",
        )


def list_paths(folder: Path) -> list[Path]:
    """Return the checkpoint files of a run folder, oldest first."""
    by_epoch = [(int(match[1]), path) for path in folder.glob("checkpoint-*.pt") if (match := _NAME.match(path.name))]
    return [path for _, path in sorted(by_epoch)]


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; unknown keys are ignored.

    Raises:
        CheckpointError: The file is truncated, of a newer format, lacks a key, has a value of another type, or holds more than
            tensors and numbers.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as reason:
        raise CheckpointError(f"{path} can't be read as a checkpoint ({type(reason).__name__})") from reason
    if not isinstance(state, dict) or "format" not in state:
        raise CheckpointError(f"{path} is not a checkpoint of this program", allowed=f"format {FORMAT}")
    check_format(path, state["format"], FORMAT)
    keys = [each.name for each in fields(Checkpoint)]
    state.setdefault("record", {})
    if missing := set(keys) - set(state):
        raise CheckpointError(f"{path} has no '{min(missing)}'")
    if type(state["epoch"]) is not int or state["epoch"] < 0:
        raise CheckpointError(f"{path} has the epoch {str(state['epoch'])[:60]}", allowed="whole numbers from 0")
    for key in ("network", "auxiliary", "optimizer", "scaler", "record"):
        if not isinstance(state[key], Mapping):
            raise CheckpointError(f"{path} has '{key}' of the type {type(state[key]).__name__}", allowed="names with values")
    for name, value in state["network"].items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{path} has {name} in 'network' of the type {type(value).__name__}", allowed="tensors")
    return Checkpoint(**{key: state[key] for key in keys})


def newest(folder: Path) -> tuple[Path, Checkpoint, list[str]] | None:
    """Return the newest checkpoint that can be read; None if the folder has no checkpoints.

    Returns:
        The file, the checkpoint, and a sentence for every newer file that can't be read.

    Raises:
        CheckpointError: There are checkpoints but none of them can be read.
    """
    problems: list[str] = []
    for path in reversed(list_paths(folder)):
        try:
            return path, load(path), problems
        except CheckpointError as reason:
            problems.append(str(reason))
    if problems:
        raise CheckpointError(problems[0], todo="No older checkpoint can be read either; start the run again without --resume.")
    return None
