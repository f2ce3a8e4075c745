"""A run folder with a trained network in it: what export, convert and the benchmarks work on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stimcore.data.images import Dataset
from stimcore.errors import CheckpointError, UsageError
from stimcore.nets.catalogue import is_own
from stimcore.nets.staged import StagedNet
from stimcore.runs import checkpoint
from stimcore.runs.run import Run, dataset_of


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """The network that a run led to, together with where it came from.

    Attributes:
        folder: The run folder.
        run: What was asked of the run, as stored in `run.json`.
        net: The network with the weights of the newest checkpoint, in evaluation mode.
        checkpoint: The file that holds these weights.
        skipped: A sentence for every newer checkpoint that can't be read.
    """

    folder: Path
    run: Run
    net: StagedNet
    checkpoint: Path
    skipped: tuple[str, ...] = ()

    def dataset(self, data_root: Path | None = None) -> Dataset:
        """Return the images that the run was trained and evaluated on.

        Args:
            data_root: The folder that holds the data set, where it is another one than during the run.

        Raises:
            UsageError: The data set is missing, or holds other training images than the run used.
        """
        return dataset_of(self.run, data_root)


def open_run(folder: Path, *, trust_code: bool = False) -> TrainedRun:
    """Open a run folder and load the weights of its newest checkpoint.

    Args:
        folder: The run folder.
        trust_code: Whether a module that the run names as its network may be imported, which runs its code.

    Raises:
        CheckpointError: The folder is not a run folder, has no readable checkpoint, or the checkpoint is of another network.
        UsageError: The run was evaluated on a holdout of training images, so it has no test accuracy; or it names a module
            that is not trusted.

    Example:
        >>> open_run(Path("none"))
        Traceback (most recent call last):
            ...
        stimcore.errors.CheckpointError: none is not a run folder: it has no run.json. 'python -m stimcore.train' makes one.
    """
    run = Run.read(folder)
    if run.holdout:
        raise UsageError(
            f"{folder} was evaluated on a holdout of training images, so it has no test accuracy to export",
            todo="Train again without --holdout.",
        )
    if is_own(run.network) and not trust_code:
        raise UsageError(
            f"{folder} names the network '{run.network}', whose code would be run",
            todo="Add --trust-code if the folder and this module are yours.",
        )
    newest = checkpoint.newest(folder)
    if newest is None:
        raise CheckpointError(f"{folder} has no checkpoint yet", todo="Train at least one epoch first.")
    path, state, skipped = newest
    net = run.build_network()
    load_weights(net, state.network, str(path))
    return TrainedRun(folder=folder, run=run, net=net.eval(), checkpoint=path, skipped=tuple(skipped))


def load_weights(net: StagedNet, state: Mapping[str, Any], source: str) -> None:
    """Load weights into a network; every key and every shape must be the same, and every weight finite.

    Args:
        net: Changed in place.
        state: A state dict with the keys of `net.module`.
        source: The origin of the state dict, for the error message.

    Raises:
        CheckpointError: Keys or shapes differ, or weights are NaN or infinite; the message names them.
    """
    expected = net.module.state_dict()
    other_shape = [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in sorted(set(expected) & set(state))
        if expected[key].shape != state[key].shape
    ]
    problems = {
        "missing": sorted(set(expected) - set(state)),
        "unknown": sorted(set(state) - set(expected)),
        "of another shape": other_shape,
    }
    not_finite = [key for key in sorted(set(expected) & set(state)) if not torch.isfinite(state[key]).all()]
    problems["not finite"] = not_finite
    for problem, keys in problems.items():
        if keys:
            shown = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
            raise CheckpointError(f"{source} does not fit {net.topology.network}; {problem}: {shown}")
    net.module.load_state_dict(dict(state))
