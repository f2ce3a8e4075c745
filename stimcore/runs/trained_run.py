"""A run folder with a trained network in it: what export, convert and the benchmarks work on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from stimcore.data.images import Dataset
from stimcore.errors import CheckpointError, UsageError
from stimcore.methods.table import is_own_method
from stimcore.nets.catalogue import is_own
from stimcore.nets.staged import StagedNet
from stimcore.runs import checkpoint
from stimcore.runs.run import Run, dataset_of
from stimcore.runs.weights import check_plain


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
        trust_code: Whether modules that the run names as its network and its method may be imported, which runs their code.

    Raises:
        CheckpointError: The folder is not a run folder, has no readable checkpoint, or the checkpoint is of another network.
        UsageError: The run was evaluated on a holdout of training images, so it has no test accuracy; or it names a module
            that is not trusted.

    Example:
        >>> open_run(Path("none"))
        Traceback (most recent call last):
            ...
        stimcore.errors.NoRun: none is not a run folder: it has no run.json. 'python -m stimcore.train' makes one.
    """
    run = Run.read(folder)
    if run.holdout:
        raise UsageError(
            f"{folder} was evaluated on a holdout of training images, so it has no test accuracy to export",
            todo="Train again without --holdout.",
        )
    for what, name, own in (("network", run.network, is_own(run.network)), ("method", run.method, is_own_method(run.method))):
        if own and not trust_code:
            raise UsageError(
                f"{folder} names the {what} '{name}', whose code would be run",
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
        CheckpointError: Keys, shapes or kinds of numbers differ, or numbers are not finite; the message names the keys.
    """
    expected = net.module.state_dict()
    for key, value in state.items():
        check_plain(value, key, source)
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
    for problem, keys in problems.items():
        if keys:
            raise CheckpointError(f"{source} does not fit {net.topology.network}; {problem}: {shortened(keys)}")
    check_numbers(state, expected, f"{source} does not fit {net.topology.network}")
    net.module.load_state_dict(dict(state))


def check_numbers(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], complaint: str) -> None:
    """Check that weights are finite numbers of the kind that a network has.

    Args:
        state: A state dict.
        expected: Key -> a tensor of the network, for every key of `state`.
        complaint: Begin of the error message, with the origin of the state dict.

    Raises:
        CheckpointError: They are not; the message names the keys.
    """
    other_kind = [
        f"{key} is {str(value.dtype).removeprefix('torch.')}"
        for key, value in sorted(state.items())
        if expected[key].is_floating_point() and not value.is_floating_point()
    ]
    if other_kind:
        raise CheckpointError(f"{complaint}; not floating point: {shortened(other_kind)}")
    # compared in the network's precision: a value that a double can hold may be too large for it
    bad = [key for key, value in sorted(state.items()) if not value.to(expected[key].dtype).isfinite().all()]
    if bad:
        raise CheckpointError(
            f"{complaint}; not finite: {shortened(bad)}",
            todo="Take an earlier checkpoint, from before the training failed.",
        )


def shortened(keys: Sequence[str]) -> str:
    """Return the first eight keys between commas, and how many there are besides."""
    return ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
