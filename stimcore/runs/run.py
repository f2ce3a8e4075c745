"""A run folder: what was asked (`run.json`), what happened (`training.jsonl`), and the network it led to."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from stimcore import files
from stimcore.data.images import Dataset
from stimcore.data.pictures import FilePixels
from stimcore.data.sources import load
from stimcore.data.subset import reduce_dataset
from stimcore.errors import CheckpointError, UsageError
from stimcore.methods.table import METHODS, restored
from stimcore.nets.catalogue import build
from stimcore.nets.cut import cut
from stimcore.nets.staged import StagedNet
from stimcore.recipes.recipe import Recipe

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
        name: What the run is called among those of its experiment, without the seed: the method, `twin-d1-1-1`, ...
        holdout: Whether it was evaluated on training images that were held out, to choose its settings: never test accuracy.
        images: How many images it was trained and evaluated on, and their hashes; empty in older runs.
        started: When, in UTC.
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
    name: str = ""
    holdout: bool = False
    images: Mapping[str, Any] = field(default_factory=dict)
    started: str = ""

    @property
    def label(self) -> str:
        """What its numbers are called beside those of the paper."""
        return str(self.recipe.get("label", "imported weights"))

    def network_with_fresh_weights(self) -> StagedNet:
        """The network of this run, before any training."""
        net = build(self.network, input_shape=self.input_shape, num_classes=self.num_classes)
        net = net if self.spec is None else cut(net, net.topology.parse(self.spec))
        return restored(self.method, self.options).network(net) if self.method in METHODS else net

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
                f"{run_dir} is not a run folder: it has no run.json", todo="'python -m stimcore.train' makes one."
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


def dataset_of(run: Run, data_root: Path | None = None) -> Dataset:
    """Return the images that a run was trained and evaluated on.

    Args:
        run: Says how many images per class it was trained on.
        data_root: Where the data set is, when not where the run found it.

    Raises:
        UsageError: The data set is missing, or holds other training images than the run saw.
    """
    whole = load(run.dataset, data_root or (Path(run.data_root) if run.data_root else None))
    dataset = reduce_dataset(whole, run.recipe.get("train_per_class"), holdout=run.holdout)
    there = images_of(dataset).get("train_sha256")
    if run.images.get("train_sha256") not in (None, there):
        raise UsageError(
            f"{run.dataset} holds other training images than those that the run was trained on",
            todo="Give the folder of the same data set with --data-root.",
        )
    return dataset


def images_of(dataset: Dataset) -> dict[str, Any]:
    """Return how many images a data set has to train and evaluate on, and their hashes (not of those left in files)."""
    found: dict[str, Any] = {}
    for name, images in (("train", dataset.train), ("evaluation", dataset.test)):
        found[name] = len(images)
        found[f"{name}_sha256"] = None if isinstance(images.pixels, FilePixels) else images.sha256
    return found


@contextmanager
def only_writer(run_dir: Path) -> Iterator[None]:
    """Hold a run folder for this process; a process that died holds nothing.

    Raises:
        UsageError: Another process trains in this folder.
    """
    note = run_dir / "writer.pid"

    def refuse() -> None:
        number = note.read_text(encoding="ascii").strip() if note.exists() else "of an unknown number"
        raise UsageError(
            f"{run_dir} is being written by process {number}", todo="Wait until it ends, or give another folder with --run-dir."
        )

    with files.locked(run_dir, refuse):
        files.write_text(note, f"{os.getpid()}\n")
        try:
            yield
        finally:
            note.unlink(missing_ok=True)


def records(run_dir: Path) -> list[dict[str, Any]]:
    """Return the records of the finished epochs, from `training.jsonl`."""
    return files.read_jsonl(run_dir / "training.jsonl")


def recipe_of(run: Run) -> Recipe:
    """The recipe of a run that was trained here."""
    return Recipe.from_dict(run.recipe)
