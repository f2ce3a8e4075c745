"""Run folders on the server's machine, and trainings that clients ask for."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from stimcore.serve.limits import Limits
from stimcore.serve.types.base import ApiModel

RunState = Literal["", "queued", "training", "exporting", "done", "stopped", "failed"]
"""What a run does: `exporting` includes the measurement of its sub-networks; `stopped` is unfinished, and nobody trains it.
It is empty where an older server does not say."""


class RunInfo(ApiModel):
    """A run folder on the server's machine, finished or in progress, or a training that waits.

    Attributes:
        name: `EXPERIMENT/RUN`.
        method: Training method.
        epochs: Number of epochs of the recipe.
        rows: Records of the finished epochs, from `training.jsonl`.
        active: Whether the run is in progress: unfinished, and written to recently.
        state: What the run does.
        managed: Whether a server made the run on request, so that it can be stopped and continued by request.
        network: Name of the network; empty where it is not known.
        message: Why the run failed, or what it waits for, in one sentence; empty without a reason.
        bundle: `EXPERIMENT/METHOD` of the bundle that a managed run is exported to; empty before that.
    """

    name: str
    method: str
    epochs: int
    rows: Sequence[Mapping[str, Any]]
    active: bool
    state: RunState = ""
    managed: bool = False
    network: str = ""
    message: str = ""
    bundle: str = ""


class RunRequest(ApiModel):
    """Request to train a network and to export it into the served folder.

    Attributes:
        network: Name of the network, as `TrainingOffer` lists it, or another CIFAR ResNet of 6n + 2 layers.
        dataset: Name of the data, as `TrainingOffer` lists it.
        method: Training method.
        epochs: Passes over the training images.
        train_per_class: Training images per class; all of them when None.
        weight: Lambda of stimulative training; the method's default when None.
        seed: Seed of everything random.
    """

    network: str
    dataset: str
    method: str
    epochs: int
    train_per_class: int | None = None
    weight: float | None = None
    seed: int = 0


class RunEvent(ApiModel):
    """One server-sent event of a run.

    Attributes:
        id: The last finished epoch that the stream has sent; 0 before the first. A client that reconnects sends the last id
            that it has seen as `Last-Event-ID`, and misses no epoch.
        type: `state` (with state, message), `epoch` (a record of `RunInfo.rows`) or `done` (with state, message, bundle), the
            last.
        data: The values listed above.
    """

    id: int
    type: Literal["state", "epoch", "done"]
    data: Mapping[str, Any]


class TrainingData(ApiModel):
    """Images that can be trained on.

    Attributes:
        name: Name for `RunRequest.dataset`.
        per_class: Training images of the smallest class.
        num_classes: Number of classes.
        num_test: Test images.
    """

    name: str
    per_class: int
    num_classes: int
    num_test: int = 0


class TrainingOffer(ApiModel):
    """What the server trains on request.

    Attributes:
        allowed: Whether it trains at all.
        reason: Why it doesn't, in one sentence; empty where it does.
        networks: Networks that are suggested, the smallest first.
        methods: Training methods.
        datasets: Data that can be trained on.
        paces: Network -> method -> training images per second: of the last run here, else of one core of an Intel Xeon.
        max_epochs: Most epochs of a run (limit `training_epochs`).
        max_trainings: Most runs that wait or train (limit `trainings`).
    """

    allowed: bool
    reason: str = ""
    networks: Sequence[str] = ()
    methods: Sequence[str] = ()
    datasets: Sequence[TrainingData] = ()
    paces: Mapping[str, Mapping[str, float]] = {}
    max_epochs: int = Limits.training_epochs
    max_trainings: int = Limits.trainings
