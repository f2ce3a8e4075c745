"""One training run from a request to a finished run folder."""

import copy
import dataclasses
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import torch

from stimcore import files
from stimcore.data.images import Dataset
from stimcore.data.sources import load
from stimcore.data.subset import reduce_dataset
from stimcore.errors import UsageError
from stimcore.methods.base import Method, StepContext
from stimcore.methods.table import is_own_method, stored_options
from stimcore.nets.catalogue import build, is_tested
from stimcore.nets.cut import cut
from stimcore.nets.exportable import check_exportable
from stimcore.nets.own import FAILURES, check_trains, first_line
from stimcore.nets.staged import StagedNet
from stimcore.recipes.recipe import Recipe
from stimcore.runs import checkpoint
from stimcore.runs.compare import differences
from stimcore.runs.machine import describe, flush_denormals
from stimcore.runs.run import Run, append_record, describe_images, training_records, trim_records, writer_lock
from stimcore.train.init import InitialWeights, fits_roughly, initialise, read_initial
from stimcore.train.request import TrainRequest
from stimcore.train.schedule import learning_rate
from stimcore.train.seeds import layers_seeded, spec_rng
from stimcore.train.trainer import Trainer
from stimcore.train.watch import existing_names


class TrainListener:
    """Receives the events of a run on rank 0; each method does nothing unless a subclass overrides it."""

    def warn(self, message: str) -> None:
        """Receive a sentence about something that was wrong but does not stop the run."""

    def note(self, message: str) -> None:
        """Receive a sentence about what the run starts from or how it goes on."""

    def start(self, request: TrainRequest, trainer: Trainer) -> None:
        """Receive the trainer before its first epoch in this process."""

    def epoch(self, record: dict[str, Any], trainer: Trainer) -> None:
        """Receive the record of a finished epoch."""


def load_dataset(request: TrainRequest) -> Dataset:
    """Return the images for a run: those of the recipe's data set, reduced as the recipe says.

    Raises:
        UsageError: The data set does not exist or has too few images.
        DataMissing: The data set is not on this machine and can't be downloaded.
    """
    dataset = load(request.recipe.dataset, request.data_root)
    return reduce_dataset(dataset, request.recipe.train_per_class, holdout=request.settings.holdout)


@flush_denormals()
def train_run(request: TrainRequest, dataset: Dataset, listener: TrainListener | None = None) -> None:
    """Train one run to its last epoch, from its start or from its newest checkpoint.

    Args:
        request: The run.
        dataset: Images of the run, from `load_dataset`.
        listener: Receives warnings, the start and the record of every epoch.

    Raises:
        UsageError: Something in the request doesn't exist or doesn't fit together, the folder holds another run, or another
            process trains in it.
        CheckpointError: No checkpoint of a run that is to be resumed can be read.
        TrainingFailed: A loss was not finite, or the network collapsed.
    """
    listener = listener or TrainListener()
    settings, method = request.settings, request.make_method()
    net, spec, initial = _fresh_network(request, dataset)
    recipe = request.recipe
    if not is_tested(recipe.network) or is_own_method(request.method):
        check_exportable(method.wrap(net))
    images = recipe.batch_size // (settings.world.size * recipe.accumulate)
    if images == 1 or (images > 1 and not is_tested(recipe.network)):  # the trainer refuses less
        check_trains(net, min(2, images))
    if images == 1:
        _check_heads(method, method.wrap(net))
    if not request.strict_watch:
        recipe = dataclasses.replace(recipe, watch=existing_names(net.topology, recipe.watch))
    request = dataclasses.replace(request, recipe=recipe, spec=spec)
    run = _run(request, method, dataset)
    if initial is not None:
        run = dataclasses.replace(run, init=initial.to_dict())
    trainer = Trainer(net, method, recipe, dataset, settings)
    writes = settings.world.rank == 0
    if writes:
        request.folder.mkdir(parents=True, exist_ok=True)
    settings.world.barrier()  # the other ranks read the folder too
    with writer_lock(request.folder) if writes else nullcontext():
        _start_or_resume(trainer, request, run, listener, initial)
        if writes:
            listener.start(request, trainer)
        for record in trainer.run(request.folder):
            if writes:
                listener.epoch(record, trainer)


def _fresh_network(request: TrainRequest, dataset: Dataset) -> tuple[StagedNet, str | None, InitialWeights | None]:
    """Return the network before its first step, the spec of a twin in long form, and what its weights come from."""
    network = request.recipe.network
    weights = None if request.init is None else read_initial(request.init, network, averaged=request.averaged)
    # The weights depend on the seed alone, not on the method, so that all methods of an experiment start from the same ones.
    with layers_seeded(request.settings.seed, "weights"):
        net = build(network, input_shape=dataset.image_shape, num_classes=len(dataset.classes))
        if request.spec is None:
            return net, None, None if weights is None else initialise(net, weights)
        spec = net.topology.parse(request.spec)
        # the weights may be those of the whole network, of which the twin is then cut out, or those of the twin
        of_whole = weights is not None and fits_roughly(net, weights)
        initial = initialise(net, weights) if weights is not None and of_whole else None
        twin = cut(net, spec)
        return twin, str(spec), initialise(twin, weights) if weights is not None and not of_whole else initial


def _check_heads(method: Method, net: StagedNet) -> None:
    """Check that a method's own heads train on one image at a time: some have batch norms over one position.

    Raises:
        UsageError: They don't.
    """
    trial = copy.deepcopy(net).train()
    heads = method.make_auxiliary(trial)
    if heads is None or method.needs_weights:
        return
    image = torch.rand((1, *net.input_shape), generator=torch.Generator().manual_seed(0))
    try:
        method.step(trial, heads.train(), StepContext(image, torch.zeros(1, dtype=torch.int64), spec_rng(0, "spec", 0)))
    except FAILURES as reason:
        raise UsageError(
            f"in training, with 1 image at a time, the heads of {type(method).__name__} fail: {first_line(reason)}",
            todo="Raise --batch-size, or lower --accumulate.",
        ) from reason


def _run(request: TrainRequest, method: Method, dataset: Dataset) -> Run:
    """Return what `run.json` stores of a request."""
    return Run(
        network=request.recipe.network,
        input_shape=dataset.image_shape,
        num_classes=len(dataset.classes),
        method=request.method,
        seed=request.settings.seed,
        dataset=request.recipe.dataset,
        mean=dataset.mean,
        std=dataset.std,
        spec=request.spec,
        options=stored_options(method),
        recipe=request.recipe.to_dict(),
        data_root=None if request.data_root is None else str(request.data_root),
        machine=describe(request.settings.device),
        name=request.name,
        holdout=request.settings.holdout,
        images=describe_images(dataset),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _start_or_resume(
    trainer: Trainer, request: TrainRequest, run: Run, listener: TrainListener, initial: InitialWeights | None
) -> None:
    """Bring the trainer and the run folder to the point where training goes on."""
    folder, world = request.folder, request.settings.world
    newest = checkpoint.newest(folder) if request.resume else None
    if not request.resume and checkpoint.list_paths(folder):
        raise UsageError(
            f"{folder} already holds a run", todo="Add --resume to continue it, or give another folder with --run-dir."
        )
    if newest is None:
        if trainer.method.needs_weights and initial is None:
            raise UsageError(
                f"{request.method} that learns from the network before the training, and no weights to start from",
                allowed="target=frozen with --init WEIGHTS",
            )
        if world.rank == 0:
            if request.resume:  # plans of experiments resume whatever is there; a wrong name of a folder is noticed here
                listener.note(f"nothing to resume in {folder}: a new run starts")
            files.remove_unfinished(folder)
            trim_records(folder, 0)
            run.write(folder)
            if initial is not None:
                listener.note(initial.sentence())
    else:
        path, state, problems = newest
        stored = Run.read(folder)
        longer = _extended(stored, run, state.epoch)
        if longer is None and (differing := differences(stored, run)):
            raise UsageError(
                f"{folder} was started with other settings: {'; '.join(differing)}",
                todo="Give the old ones to continue it, or another folder with --run-dir (another --name).",
            )
        for problem in problems if world.rank == 0 else []:
            listener.warn(f"{problem} Continuing from {path.name}.")
        trainer.resume(state, str(path))
        if world.rank == 0:
            files.remove_unfinished(folder)
            trim_records(folder, trainer.epoch)
            if state.record and trainer.epoch not in [record["epoch"] for record in training_records(folder)]:
                append_record(folder, state.record)  # the process was killed after the checkpoint and before its record
            if longer is not None:
                longer.write(folder)
                listener.note(_about_extension(longer, trainer))
    world.barrier()  # no rank trains before all have read the checkpoint


def _extended(stored: Run, now: Run, epoch: int) -> Run | None:
    """Return the run with more epochs, if it is finished and nothing but their number was changed; None otherwise.

    The schedule of the learning rate is then that of the longer run: the rate jumps to what it would be there at this epoch.
    Such a run is not the same as one that had all epochs from the start, which its label and its record state.
    """
    before, after = (Recipe.from_dict(run.recipe) for run in (stored, now))
    if stored.method != now.method or not before.epochs <= epoch < after.epochs:
        return None
    longer = dataclasses.replace(before, epochs=after.epochs).changed()
    extension = {"before": before.epochs, "after": after.epochs, "on": now.started}
    extended = dataclasses.replace(stored, recipe=longer.to_dict(), extended=(*stored.extended, extension))
    return None if differences(extended, now) else extended


def _about_extension(run: Run, trainer: Trainer) -> str:
    """Return in words how a finished run goes on."""
    before, steps = Recipe.from_dict(run.recipe), trainer.steps_per_epoch
    old = dataclasses.replace(before, epochs=run.extended[-1]["before"])
    ended = learning_rate(old, old.epochs * steps - 1, steps)
    goes_on = learning_rate(before, old.epochs * steps, steps)
    return (
        f"the finished run of {old.epochs} epochs goes on to {before.epochs}; the learning rate follows the schedule of "
        f"{before.epochs} epochs from here: it ended at {ended:.3g} and goes on at {goes_on:.3g}"
    )
