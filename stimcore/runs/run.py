"""A run folder: what was asked (`run.json`), what happened (`training.jsonl`), and the network it led to."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from stimcore import files
from stimcore.errors import CheckpointError
from stimcore.methods.table import METHODS, make
from stimcore.nets.catalogue import build
from stimcore.nets.cut import cut
from stimcore.nets.staged import StagedNet
from stimcore.recipes.recipe import Recipe
from stimcore.runs import checkpoint

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was asked of a run.

    Attributes:
        format: Version of this file.
        network: Name in the catalogue.
        spec: The sub-network that was trained alone (a twin), in long form; None for the whole network.
        input_shape: `[C, H, W]`.
        num_classes: Width of the logits.
        method: Name of the training method; `imported` for a converted checkpoint.
        options: The method's options, complete.
        recipe: The recipe as plain values; empty for a converted checkpoint.
        seed: Of everything random in the run.
        dataset: Name of the data set.
        data_root: Where it was found; None for the default.
        mean: Normalisation per channel.
        std: Normalisation per channel.
        source: Where the weights came from, for a converted checkpoint.
        machine: Processor or GPU, threads, versions: what measured numbers depend on.
    """

    network: str
    input_shape: tuple[int, int, int]
    num_classes: int
    method: str
    seed: int
    dataset: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    spec: str | None = None
    options: Mapping[str, Any]
    recipe: Mapping[str, Any]
    data_root: str | None = None
    source: str = ""
    machine: Mapping[str, Any]
    format: int = FORMAT

    @property
    def label(self) -> str:
        """What its numbers are called beside those of the paper."""
        return str(self.recipe.get("label", "imported weights"))

    def network_with_fresh_weights(self) -> StagedNet:
        """The network of this run, before any training."""
        net = build(self.network, input_shape=self.input_shape, num_classes=self.num_classes)
        net = net if self.spec is None else cut(net, net.topology.parse(self.spec))
        return make(self.method, self.options).network(net) if self.method in METHODS else net

    def write(self, run_dir: Path) -> None:
        """Writes `run.json`."""
        files.write_json(run_dir / "run.json", asdict(self))

    @classmethod
    def read(cls, run_dir: Path) -> Self:
        """Reads `run.json`.

        Raises:
            CheckpointError: The folder is no run folder, or of another version.
        """
        path = run_dir / "run.json"
        if not path.exists():
            raise CheckpointError(
                f"{run_dir} is no run folder: it has no run.json", todo="'python -m stimcore.train' makes one."
            )
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            value |= {key: tuple(value[key]) for key in ("input_shape", "mean", "std")}
            run = cls(**value)
        except (ValueError, KeyError, TypeError) as reason:
            raise CheckpointError(f"{path} can't be read: {reason}") from reason
        if run.format != FORMAT:
            raise CheckpointError(f"{path} has format {run.format}", allowed=str(FORMAT))
        return run


def trained_network(run_dir: Path) -> tuple[Run, StagedNet, Path]:
    """The network of a run with the weights of its newest checkpoint, in evaluation mode.

    Returns:
        What was asked, the network, and the checkpoint's path.

    Raises:
        CheckpointError: No checkpoint, or one of another network.
    """
    run = Run.read(run_dir)
    found = checkpoint.newest(run_dir)
    if found is None:
        raise CheckpointError(f"{run_dir} has no checkpoint yet", todo="Train at least one epoch first.")
    path, state, _ = found
    net = run.network_with_fresh_weights()
    load_weights(net, state.network, str(path))
    return run, net.eval(), path


def load_weights(net: StagedNet, state: Mapping[str, Any], source: str) -> None:
    """Loads weights key for key.

    Raises:
        CheckpointError: Keys or shapes differ; names them.
    """
    own = net.module.state_dict()
    missing, extra = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    wrong = [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in sorted(set(own) & set(state))
        if own[key].shape != state[key].shape
    ]
    for what, names in (("missing", missing), ("unknown", extra), ("of another shape", wrong)):
        if names:
            shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            raise CheckpointError(f"{source} does not fit {net.topology.network}; {what}: {shown}")
    net.module.load_state_dict(dict(state))


def records(run_dir: Path) -> list[dict[str, Any]]:
    """Return the records of the finished epochs, from `training.jsonl`."""
    return files.read_jsonl(run_dir / "training.jsonl")


def recipe_of(run: Run) -> Recipe:
    """The recipe of a run that was trained here."""
    return Recipe.from_dict(run.recipe)
