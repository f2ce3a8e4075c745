"""Checkpoints and the run folder.

    RUN/run.json            what was asked: network, recipe, method, options, spec, seed, data set, versions
    RUN/training.jsonl      one line per finished epoch
    RUN/checkpoint-0007.pt  state after epoch 7; the newest two are kept

A checkpoint holds tensors and plain numbers only and is read with `weights_only=True`.
"""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stimcore import files
from stimcore.errors import CheckpointError

FORMAT = 1
KEEP = 2
_NAME = re.compile(r"checkpoint-([0-9]{4,})\.pt\Z")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """State after a number of epochs.

    Attributes:
        epoch: Finished epochs; 0 before the first.
        network: State dict of the wrapped module (keys as in `StagedNet.module`).
        auxiliary: State dict of the method's heads; empty where there are none, and never exported.
        optimizer: State dict of the optimiser; empty in a converted checkpoint.
        scaler: State dict of the loss scaler; empty without fp16.
    """

    epoch: int
    network: Mapping[str, Tensor]
    auxiliary: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    scaler: Mapping[str, Any]


def save(run_dir: Path, checkpoint: Checkpoint) -> Path:
    """Writes one checkpoint whole or not at all and removes all but the newest two.

    Raises:
        OSError: It could not be written, on a full disk for instance; what was there is untouched.
    """
    target = run_dir / f"checkpoint-{checkpoint.epoch:04}.pt"
    state = {
        "format": FORMAT,
        "epoch": checkpoint.epoch,
        "network": dict(checkpoint.network),
        "auxiliary": dict(checkpoint.auxiliary),
        "optimizer": dict(checkpoint.optimizer),
        "scaler": dict(checkpoint.scaler),
    }
    packed = io.BytesIO()  # torch's own writer reports a full disk as a bug of its own
    torch.save(state, packed)
    with files.replacing(target) as temporary:
        temporary.write_bytes(packed.getbuffer())
    for old in listed(run_dir)[:-KEEP]:
        old.unlink(missing_ok=True)
    return target


def listed(run_dir: Path) -> list[Path]:
    """Checkpoints of a run folder, oldest first."""
    found = [(int(match[1]), path) for path in run_dir.glob("checkpoint-*.pt") if (match := _NAME.match(path.name))]
    return [path for _, path in sorted(found)]


def load(path: Path) -> Checkpoint:
    """Reads one checkpoint.

    Raises:
        CheckpointError: It is truncated, of another format, or holds more than tensors and numbers.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as reason:
        raise CheckpointError(f"{path} can't be read as a checkpoint ({type(reason).__name__})") from reason
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of this program", allowed=f"format {FORMAT}")
    return Checkpoint(**{key: state[key] for key in ("epoch", "network", "auxiliary", "optimizer", "scaler")})


def newest(run_dir: Path) -> tuple[Path, Checkpoint, list[str]] | None:
    """The newest checkpoint that can be read, with a sentence for every newer one that can't; None when there is none.

    Raises:
        CheckpointError: There are checkpoints but none can be read.
    """
    complaints: list[str] = []
    for path in reversed(listed(run_dir)):
        try:
            return path, load(path), complaints
        except CheckpointError as reason:
            complaints.append(str(reason))
    if complaints:
        raise CheckpointError(
            complaints[0], todo="No older checkpoint can be read either; start the run again without --resume."
        )
    return None
