"""A run folder: what was asked of the run, what happened in it, and the checkpoints it left.

RUN/run.json             what was asked: network, recipe, method, options, spec, seed, data set, machine
RUN/training.jsonl       one record per finished epoch
RUN/checkpoint-0007.pt   the state after epoch 7; the newest two are kept (see `stimcore.runs.checkpoint`)
RUN/writer.pid           the process that trains in this folder, while it does
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from stimcore import files
from stimcore.bundle.fields import Fields
from stimcore.data.images import Dataset
from stimcore.data.pictures import FilePixels
from stimcore.data.sources import load
from stimcore.data.subset import reduce_dataset
from stimcore.errors import CheckpointError, NoRun, UsageError
from stimcore.methods.table import is_method, restore
from stimcore.nets.catalogue import build
from stimcore.nets.cut import cut
from stimcore.nets.staged import StagedNet
from stimcore.recipes.recipe import Recipe
from stimcore.runs.checkpoint import check_format

FORMAT = 1
"""Version of `run.json`."""
RECORDS = "training.jsonl"
"""Name of the file with the records of the finished epochs."""
IMPORTED = "imported"
"""Method of a run whose weights were converted from a checkpoint of another program."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was asked of a run, as stored in `run.json`.

    Attributes:
        format: Version of the file.
        network: Name in the catalogue of networks.
        spec: The sub-network that was trained alone (a twin), in long form; None for the whole network.
        input_shape: Shape `[C, H, W]` of the images.
        num_classes: Width of the logits.
        method: Name of the training method, `MODULE:CLASS` for an own one; `imported` for a converted checkpoint.
        options: All options of the method.
        recipe: The recipe as plain values; empty for a converted checkpoint.
        seed: Seed of everything random in the run.
        dataset: Name of the data set.
        data_root: Folder of the data set; None for the default.
        mean: Mean per channel, for normalisation.
        std: Standard deviation per channel, for normalisation.
        source: Origin of the weights of a converted checkpoint.
        machine: Processor or GPU, threads and versions, on which measured numbers depend.
        name: Name of the run in its experiment, without the seed: the method, `twin-d1-1-1`, ...
        holdout: Whether it was evaluated on a holdout of training images, to choose settings; this is never test accuracy.
        images: Numbers of training and evaluation images and their hashes; empty in older runs.
        started: Start time in UTC.
        init: The weights that the training started from: `source`, and `new`, the layers that got random weights instead. Empty
            where all weights were random.
        extended: A record for each time that the finished run went on beyond its end: epochs `before` and `after`, and when.
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
    init: Mapping[str, Any] = field(default_factory=dict)
    extended: Sequence[Mapping[str, Any]] = ()

    @property
    def label(self) -> str:
        """Label of its numbers in reports: that of the recipe, or `imported weights`."""
        return str(self.recipe.get("label", "imported weights"))

    def build_network(self) -> StagedNet:
        """Return the network of this run with fresh weights, including what the method adds to it."""
        net = build(self.network, input_shape=self.input_shape, num_classes=self.num_classes)
        net = net if self.spec is None else cut(net, net.topology.parse(self.spec))
        return restore(self.method, self.options).wrap(net) if is_method(self.method) else net

    def write(self, folder: Path) -> None:
        """Write `run.json`."""
        files.write_json(folder / "run.json", asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read `run.json`; unknown keys are ignored.

        Raises:
            NoRun: The folder is not a run folder.
            CheckpointError: Its `run.json` is broken, is of a newer version, lacks a key, or has a value of another type than
                `write` gives it.
        """
        path = folder / "run.json"
        if not path.exists():
            raise NoRun(f"{folder} is not a run folder: it has no run.json", todo="'python -m stimcore.train' makes one.")
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as reason:
            raise CheckpointError(f"{path} can't be read: it is not JSON") from reason
        if not isinstance(value, dict):
            raise CheckpointError(f"{path} can't be read: it is not a JSON object")
        # first of all: a newer file may have other keys
        check_format(path, value.get("format", FORMAT), FORMAT)
        known = {field.name: field for field in fields(cls)}
        required = {name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING}
        if missing := required - set(value):
            raise CheckpointError(f"{path} can't be read: it has no '{min(missing)}'")
        try:
            _check_types(value)
        except ValueError as reason:
            raise CheckpointError(
                f"{path} can't be read: {reason}", todo="Was it changed by hand? Restore it, or train the run again."
            ) from reason
        value |= {key: tuple(value[key]) for key in ("input_shape", "mean", "std")}
        value["extended"] = tuple(value.get("extended", ()))
        return cls(**{key: value[key] for key in known if key in value})


def _check_types(value: dict[str, Any]) -> None:
    """Check that the values of `run.json` are of the types that the attributes of `Run` have.

    A seed may be negative here: older versions trained with any.

    Raises:
        ValueError: One is not; the message names its key.
    """
    read = Fields(value, "run.json")
    for key in ("network", "method", "dataset"):
        read.text(key)
    for key in ("source", "name", "started"):
        read.text(key, "")
    for key in ("spec", "data_root"):
        read.text_or_none(key)
    for key in ("options", "recipe", "machine"):
        read.mapping(key)
    for key in ("images", "init"):
        read.mapping(key, {})
    for step in read.items("extended", []):
        for key in ("before", "after"):
            Fields(step, "a step in 'extended' of run.json").whole(key)
    if type(value["seed"]) is not int:
        raise ValueError(f"'seed' of run.json is {_cut(value['seed'])}, not a whole number")
    if not isinstance(value.get("holdout", False), bool):
        raise ValueError(f"'holdout' of run.json is {_cut(value['holdout'])}, neither true nor false")
    shape = read.items("input_shape")
    if len(shape) != 3 or not all(type(size) is int and size > 0 for size in shape):
        raise ValueError(f"'input_shape' of run.json is {_cut(shape)}, not three whole numbers from 1")
    if read.whole("num_classes") < 1:
        raise ValueError("'num_classes' of run.json is 0, not a whole number from 1")
    for key in ("mean", "std"):
        numbers = read.items(key)
        fits = len(numbers) == shape[0] and all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
        if not fits or (key == "std" and not all(number > 0 for number in numbers)):
            above = " above 0" if key == "std" else ""
            raise ValueError(f"'{key}' of run.json is {_cut(numbers)}, not a number{above} for each of {shape[0]} channels")
    _check_recipe(value["recipe"])


def _check_recipe(recipe: dict[str, Any]) -> None:
    """Check the values of a recipe, which is empty for converted weights; keys of another version don't matter.

    Raises:
        ValueError: One is of another type.
    """
    read = Fields(recipe, "'recipe' of run.json")
    read.text("label", "")
    read.whole_or_none("train_per_class")
    try:
        Recipe.from_dict(recipe)
    except UsageError:
        pass  # written by another version: whoever needs all of it says so
    except (TypeError, ValueError, AttributeError) as reason:
        raise ValueError(f"'recipe' of run.json has a value of a wrong type ({reason})") from reason


def _cut(value: object) -> str:
    return str(value)[:60]


def dataset_of(run: Run, data_root: Path | None = None) -> Dataset:
    """Return the images that a run was trained and evaluated on.

    Args:
        run: The run; its recipe has the number of training images per class.
        data_root: Folder of the data set, where it is another one than during the run.

    Raises:
        UsageError: The data set is missing, or holds other training images than the run used.
    """
    whole = load(run.dataset, data_root or (Path(run.data_root) if run.data_root else None))
    dataset = reduce_dataset(whole, run.recipe.get("train_per_class"), holdout=run.holdout)
    # Batch norms would be calibrated on other images, and accuracies would differ without any sign of why.
    if run.images.get("train_sha256") not in (None, describe_images(dataset)["train_sha256"]):
        raise UsageError(
            f"{run.dataset} holds other training images than those that the run was trained on",
            todo="Give the folder of the same data set with --data-root.",
        )
    return dataset


def describe_images(dataset: Dataset) -> dict[str, Any]:
    """Return the numbers of training and evaluation images, and their hashes (None for images that stay in files)."""
    description: dict[str, Any] = {}
    for name, images in (("train", dataset.train), ("evaluation", dataset.test)):
        description[name] = len(images)
        description[f"{name}_sha256"] = None if isinstance(images.pixels, FilePixels) else images.sha256
    return description


@contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, so that only this process trains in it; a killed process releases it.

    Raises:
        UsageError: Another process holds the lock.
    """
    pid_file = folder / "writer.pid"

    def refuse() -> None:
        pid = pid_file.read_text(encoding="ascii").strip() if pid_file.exists() else "of an unknown number"
        raise UsageError(
            f"{folder} is being written by process {pid}", todo="Wait until it ends, or give another folder with --run-dir."
        )

    with files.locked(folder, on_wait=refuse):
        files.write_text(pid_file, f"{os.getpid()}\n")
        try:
            yield
        finally:
            pid_file.unlink(missing_ok=True)


def training_records(folder: Path) -> list[dict[str, Any]]:
    """Return the records of the finished epochs, oldest first; none when the run has not finished an epoch."""
    return files.read_jsonl(folder / RECORDS)


def append_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Append the record of a finished epoch."""
    files.append_jsonl(folder / RECORDS, [record])


def trim_records(folder: Path, epochs: int) -> None:
    """Remove the records of epochs after `epochs`, which a resumed run trains again."""
    records = [record for record in training_records(folder) if record["epoch"] <= epochs]
    files.write_jsonl(folder / RECORDS, records)
