"""What one training that a request asks for is: its names, its folders, and the commands that make it."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stimcore.errors import UsageError
from stimcore.serve import types
from stimcore.serve.errors import TooLarge
from stimcore.serve.limits import Limits
from stimcore.serve.training.offer import METHODS, NETWORKS, DataSource, TrainingConfig, batch_size, is_in_catalogue

REQUEST_FILE = "request.json"
"""File in a run folder that holds the request, so that the run can be continued after a restart of the server."""
MAX_WEIGHT = 1000.0
MAX_SEED = 2**31 - 1
LEARNING_RATE_PER_IMAGE = 0.1 / 128
"""Peak learning rate of the recipes here, divided by their batch size: smaller batches get a smaller rate."""
WATCH_ORDERED = ("resnet14",)
"""Networks with so few ordered sub-networks that all of them are watched."""
SWEPT = ("resnet14", "resnet20")
"""Networks with so few ordered sub-networks that all of them are measured after the export, which takes seconds."""
OWN_WATCH = ("resnet20", "mobilenetv3-w0.5")
"""Networks whose recipe lists what is watched."""

_NO_NAME = re.compile(r"[^\w.-]+", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """One training: where it goes and what is run for it.

    Attributes:
        request: What was asked for.
        source: The data.
        experiment: Name of the experiment, under the run folders and under the bundles. Runs of one network on the same images
            for the same number of epochs belong together: their networks are compared with each other.
        run: Name of the run folder in the experiment.
        bundle: Name of the bundle in the experiment.
    """

    request: types.RunRequest
    source: DataSource
    experiment: str
    run: str
    bundle: str

    @property
    def name(self) -> str:
        """`EXPERIMENT/RUN`."""
        return f"{self.experiment}/{self.run}"

    def training(self, runs: Path, *, resume: bool) -> list[str]:
        """Return the words after `python -m` that train.

        Args:
            runs: Folder of run folders.
            resume: Whether to continue from the newest checkpoint.
        """
        request, source = self.request, self.source
        base = "mobilenetv3-fashion" if request.network.startswith("mobilenetv3") else "resnet20-fashion"
        size = batch_size((request.train_per_class or source.per_class) * source.num_classes)
        words = ["stimcore.train", base, "--network", request.network, "--dataset", source.argument]
        words += ["--method", request.method, "--epochs", str(request.epochs), "--seed", str(request.seed)]
        words += [] if request.weight is None else ["--lambda", repr(request.weight)]
        words += ["--train-per-class", str(request.train_per_class or 0), "--evaluate-every", "1", "--watch-every", "1"]
        words += ["--batch-size", str(size), "--learning-rate", repr(LEARNING_RATE_PER_IMAGE * size)]
        if request.network in WATCH_ORDERED:
            words += ["--watch", "ordered"]
        elif request.network not in OWN_WATCH:
            words += ["--watch", "smallest", "half"]
        words += ["--name", request.method, "--run-dir", str(runs / self.experiment / self.run), "--quiet"]
        return words + (["--resume"] if resume else [])

    def is_same(self, other: "TrainingPlan") -> bool:
        """Return whether another plan makes the same run, though its request may say so in other words."""
        here = Path()
        return self.name == other.name and self.training(here, resume=False) == other.training(here, resume=False)

    def export(self, runs: Path, exported: Path) -> list[str]:
        """Return the words after `python -m` that write the finished run as a bundle."""
        words = ["stimcore.export", str(runs / self.experiment / self.run), "--out", str(exported / self.experiment)]
        words += ["--name", self.bundle, "--subnets", "main", "--quiet"]
        return words + (["--trust-code"] if ":" in self.request.network else [])

    @property
    def swept(self) -> bool:
        """Whether every ordered sub-network is measured after the export."""
        return self.request.network in SWEPT

    def sweep(self, exported: Path) -> list[str]:
        """Return the words after `python -m` that measure every ordered sub-network, for the story that Break it opens on."""
        return ["stimcore.sweep", str(exported / self.experiment / self.bundle), "--kind", "ordered", "--store", "--quiet"]


def _check_number(number: int, what: str, most: int) -> None:
    """Refuse a number that is not in 1 to `most`.

    Raises:
        UsageError: It is less than 1.
        TooLarge: It is larger.
    """
    if not 1 <= number <= most:
        raise (TooLarge if number > most else UsageError)(f"{number} {what}", allowed=f"1 to {most}")


def make_plan(request: types.RunRequest, config: TrainingConfig, sources: Sequence[DataSource], limits: Limits) -> TrainingPlan:
    """Return the plan of a request.

    Raises:
        UsageError: The network, the data or the method is not offered, or a number is out of its range.
        TooLarge: More epochs or training images than allowed.
    """
    if not (is_in_catalogue(request.network) or request.network in config.networks):
        listed = ", ".join((*NETWORKS, *config.networks))
        raise UsageError(
            f"there is no network '{request.network[:80]}' to train here",
            allowed=f"{listed}, or another CIFAR ResNet of 6n + 2 layers up to 110",
        )
    source = next((source for source in sources if source.name == request.dataset), None)
    if source is None:
        names = ", ".join(source.name for source in sources)
        raise UsageError(f"there is no data '{request.dataset[:80]}' to train on here", allowed=names)
    if request.method not in METHODS:
        raise UsageError(f"there is no training method '{request.method[:80]}'", allowed=", ".join(METHODS))
    _check_number(request.epochs, "epochs", limits.training_epochs)
    if request.train_per_class is not None:
        _check_number(request.train_per_class, "training images per class", source.per_class)
    if not 0 <= request.seed <= MAX_SEED:
        raise UsageError(f"seed {request.seed}", allowed=f"0 to {MAX_SEED}")
    if request.weight is not None:
        if request.method != "stimulative":
            raise UsageError(f"lambda for the method {request.method}", allowed="stimulative")
        if not (math.isfinite(request.weight) and 0 < request.weight <= MAX_WEIGHT):
            raise UsageError(f"lambda {request.weight}", allowed=f"more than 0, at most {MAX_WEIGHT:g}")
    base = base_name(request)
    share = "all" if request.train_per_class is None else str(request.train_per_class)
    data = source.name.removeprefix("folder:")
    epochs = f"{request.epochs}-epoch{'' if request.epochs == 1 else 's'}"
    experiment = _NO_NAME.sub("-", f"{request.network.rpartition(':')[2]}-{data}-{share}-per-class-{epochs}")
    return TrainingPlan(
        request=request,
        source=source,
        experiment=experiment,
        run=f"{base}-{request.seed}",
        bundle=bundle_name(request),
    )


def base_name(request: types.RunRequest) -> str:
    """Return the name of a run in its experiment, without the seed."""
    # all digits: two weights never share a folder
    return request.method if request.weight is None else f"{request.method}-lambda{repr(request.weight).removesuffix('.0')}"


def bundle_name(request: types.RunRequest) -> str:
    """Return the name of a run's bundle in its experiment.

    Example:
        >>> request = types.RunRequest(network="resnet8", dataset="fashion-mnist", method="common", epochs=2, seed=1)
        >>> bundle_name(request)
        'common-seed1'
    """
    base = base_name(request)
    return base if request.seed == 0 else f"{base}-seed{request.seed}"


def read_request(folder: Path) -> types.RunRequest | None:
    """Return the request that a run folder was made for; None where a server did not make it."""
    try:
        return types.RunRequest.model_validate(json.loads((folder / REQUEST_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None
