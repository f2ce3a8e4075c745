"""The training loop: one network, one method, one data set, on one device or several processes.

Every random draw is derived from the seed and the place in the run, so a run that was killed continues bit for bit from
its last finished epoch (on the CPU, with the same number of threads).
"""

import copy
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from stimcore import files
from stimcore.data.images import Dataset, calibration_subset
from stimcore.data.subset import stratified
from stimcore.errors import CheckpointError, TrainingFailed, UsageError
from stimcore.methods.base import Losses, Method, StepContext
from stimcore.nets.norms import synchronised
from stimcore.nets.staged import StagedNet
from stimcore.recipes.recipe import Recipe
from stimcore.reference.evaluate import evaluate
from stimcore.reference.prefix_tree import evaluate_together
from stimcore.runs import checkpoint
from stimcore.runs.machine import memory_bytes, peak_memory_bytes, reset_peak_memory
from stimcore.runs.run import records
from stimcore.runs.trained_run import load_weights
from stimcore.train import watch
from stimcore.train.board import Board
from stimcore.train.loader import Feed, Loaded, Plan, feed_for
from stimcore.train.parallel import World
from stimcore.train.precision import Precision, finite
from stimcore.train.progress import TimeLeft, in_words
from stimcore.train.schedule import learning_rate
from stimcore.train.seeds import generator, layers_seeded, spec_rng

COLLAPSED_FRAC = 0.97
"""A main cross entropy of at least this share of log(classes), a whole epoch after warm-up, is a network that says nothing."""
COLLAPSED_STEPS = 200
"""Steps behind the warm-up that a network has before it may be called collapsed: tiny data sets start slowly."""


@dataclass(frozen=True)
class Settings:
    """What a run needs besides network, method, recipe and data.

    Attributes:
        seed: Of everything random.
        device: Where to train.
        world: The processes that share the work.
        progress: Whether to draw a progress bar.
        compile_blocks: Whether every block goes through `torch.compile`.
        synchronise_norms: Whether batch norms share their statistics between processes (CUDA only).
        workers: Processes that read images which don't fit into memory; 0 reads in this one.
        tensorboard: Whether to write TensorBoard's event files into the run folder too.
        holdout: Whether the data set's test part is a holdout of training images; the records then say so.
    """

    seed: int = 0
    device: torch.device = torch.device("cpu")
    world: World = World()
    progress: bool = True
    compile_blocks: bool = False
    synchronise_norms: bool = False
    workers: int = 2
    tensorboard: bool = False
    holdout: bool = False


class Trainer:
    """State of a run in memory.

    Args:
        net: The network; trained in place.
        method: What turns a batch into gradients.
        recipe: Everything else.
        dataset: Images in memory (put on the device whole when they fit) or in files.
        settings: Seed, device, processes.

    Raises:
        UsageError: Things that don't fit together: too few images, a method that can't be compiled, ...
    """

    def __init__(self, net: StagedNet, method: Method, recipe: Recipe, dataset: Dataset, settings: Settings) -> None:
        if len(dataset.train) < recipe.batch_size:
            raise UsageError(f"{len(dataset.train)} training images", allowed=f"at least one batch of {recipe.batch_size}")
        if recipe.batch_size % settings.world.size:
            raise UsageError(
                f"a batch of {recipe.batch_size} on {settings.world.size} processes", allowed="a multiple of the processes"
            )
        if settings.compile_blocks and not method.compilable:
            raise UsageError(
                "--compile with this method: compiled blocks would not see its gates", todo="Leave --compile away."
            )
        if settings.synchronise_norms and settings.device.type != "cuda":
            raise UsageError(f"synchronised batch norms on {settings.device}", allowed="CUDA devices")
        if settings.workers < 0:
            raise UsageError(f"{settings.workers} workers", allowed="0 and more")
        self.watched = watch.watched(net.topology, recipe.watch)
        net = method.network(net)
        self.net, self.method, self.recipe, self.dataset, self.settings = net, method, recipe, dataset, settings
        device = settings.device
        net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the keyword pair
        with layers_seeded(settings.seed, "auxiliary"):
            self.auxiliary = method.auxiliary(net)
        if self.auxiliary is not None:
            self.auxiliary.to(device)
        self.plain = copy.deepcopy(net) if settings.compile_blocks or settings.synchronise_norms else None
        if settings.synchronise_norms:
            net.replace(synchronised)
        if settings.compile_blocks:
            net.compile_blocks(lambda part: cast(nn.Module, torch.compile(part)))
        self.parameters = [*net.parameters(), *(self.auxiliary.parameters() if self.auxiliary else [])]
        self.optimizer = torch.optim.SGD(
            self.parameters,
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov and recipe.momentum > 0,
        )
        self.precision = Precision(recipe.precision, device)
        self.feed: Feed = feed_for(
            dataset,
            Plan(
                seed=settings.seed,
                augmentation=recipe.augmentation,
                device=device,
                world=settings.world,
                sides=Sides(method, settings.seed, dataset.image_shape[1]),
            ),
            settings.workers,
        )
        self.calibration = calibration_subset(dataset.train)
        self.watch_images = stratified(dataset.test, recipe.watch_images)
        self.start_memory_bytes = memory_bytes(device)
        self.time_left = TimeLeft(recipe, self._guesses())
        self.epoch = 0
        self.accuracy_pct: float | None = None  # of the last evaluation, for the progress bar

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches only: a smaller last one would have noisier statistics."""
        return len(self.dataset.train) // self.recipe.batch_size

    def _guesses(self) -> dict[str, float]:
        """Seconds of evaluation and watching over those of training an epoch, until measured: a step costs three forwards."""
        passes = 3 * len(self.dataset.train)
        return {
            "evaluate_seconds": (len(self.dataset.test) + len(self.calibration)) / passes,
            "watch_seconds": len(self.watched) * (len(self.watch_images) + len(self.calibration)) / passes,
        }

    def run(self, run_dir: Path) -> Iterator[dict[str, Any]]:
        """Trains to the end, leaving a checkpoint and a record per epoch; yields the records.

        Raises:
            TrainingFailed: A loss that is not finite, or a network that collapsed. The last good epoch stays on disk.
        """
        writes = self.settings.world.rank == 0
        self.time_left = TimeLeft(self.recipe, self._guesses(), records(run_dir))
        with ExitStack() as stack:
            board = stack.enter_context(Board(run_dir / "tensorboard")) if writes and self.settings.tensorboard else None
            while self.epoch < self.recipe.epochs:
                row = self._epoch_with_record()
                if writes:
                    start = time.perf_counter()
                    checkpoint.save(run_dir, self.state())
                    row["checkpoint_seconds"] = round(time.perf_counter() - start, 3)
                    files.append_jsonl(run_dir / "training.jsonl", [row])
                self.time_left.add(row)
                if board is not None:
                    board.add(row)
                self.settings.world.barrier()
                yield row
                self._check_alive(row)

    def _epoch_with_record(self) -> dict[str, Any]:
        reset_peak_memory(self.settings.device)  # or it would be that of an earlier evaluation
        start, cpu = time.perf_counter(), time.process_time()
        losses = self.train_epoch()
        self.epoch += 1
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        row: dict[str, Any] = {
            "epoch": self.epoch,
            "losses": losses,
            "learning_rate": learning_rate(self.recipe, self.epoch * self.steps_per_epoch - 1, self.steps_per_epoch),
            "seconds": round(seconds, 3),
            "cpu_seconds": round(cpu_seconds, 3),
            "images_per_second": round(self.steps_per_epoch * self.recipe.batch_size / seconds, 1),
            "start_memory_bytes": self.start_memory_bytes,
            "peak_memory_bytes": peak_memory_bytes(self.settings.device),
        }
        if self.settings.world.rank == 0 and self.recipe.evaluates(self.epoch):
            start = time.perf_counter()
            row[self.part] = self.test()
            row["evaluate_seconds"] = round(time.perf_counter() - start, 3)
            self.accuracy_pct = row[self.part]["accuracy_pct"]
        if self.settings.world.rank == 0 and self.watched and self.recipe.watches(self.epoch):
            start = time.perf_counter()
            row["watched"] = self.watch()
            row["watch_seconds"] = round(time.perf_counter() - start, 3)
        return row

    def train_epoch(self) -> dict[str, float]:
        """One pass over the training images; returns the mean of every loss."""
        settings, seed = self.settings, self.settings.seed
        self.net.train()
        order = torch.randperm(len(self.dataset.train), generator=generator(seed, "order", self.epoch))
        size, first = self.recipe.batch_size, self.epoch * self.steps_per_epoch
        batches = [order[step * size : (step + 1) * size] for step in range(self.steps_per_epoch)]
        totals: dict[str, float] = {}
        left = self.time_left.after(self.epoch)
        bar = tqdm(
            self.feed.epoch(batches, first),
            total=self.steps_per_epoch,
            desc=f"epoch {self.epoch + 1}/{self.recipe.epochs}",
            unit="batch",
            leave=False,
            disable=not settings.progress or settings.world.rank > 0,
        )
        with layers_seeded(seed, "layers", self.epoch, settings.world.rank):
            for step, loaded in enumerate(bar):
                losses = self.train_step(loaded, first + step)
                for name, value in losses.items():
                    totals[name] = totals.get(name, 0.0) + float(value)
                if not math.isfinite(float(losses["loss"])):
                    raise TrainingFailed(
                        f"the loss was {float(losses['loss'])} in epoch {self.epoch + 1}, step {step + 1}",
                        todo="The last finished epoch is kept; try a lower rate, a longer warm-up or a smaller lambda.",
                    )
                if step % 20 == 0:
                    known = {} if self.accuracy_pct is None else {self.part: f"{self.accuracy_pct:.2f}%"}
                    known |= {} if left is None else {"whole run": in_words(left)}
                    bar.set_postfix({"loss": f"{float(losses['loss']):.3f}"} | known)
        return {name: settings.world.mean(total / self.steps_per_epoch) for name, total in totals.items()}

    def train_step(self, loaded: Loaded, step: int) -> Losses:
        """One step on this rank's part of a batch.

        Args:
            loaded: Its images and labels.
            step: Global number of the step.
        """
        rate = learning_rate(self.recipe, step, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        batch = StepContext(
            images=loaded.images,
            labels=loaded.labels,
            smaller=loaded.smaller,
            rng=spec_rng(self.settings.seed, "spec", step),
            autocast=self.precision.autocast,
            backward=self.precision.backward,
            label_smoothing=self.recipe.label_smoothing,
        )
        losses = self.method.step(self.net, self.auxiliary, batch)
        self.precision.unscale(self.optimizer)
        self.settings.world.average(self.parameters)
        self.precision.step(self.optimizer)
        return losses

    @property
    def part(self) -> str:
        """What the network is evaluated on: `test`, or `holdout`."""
        return "holdout" if self.settings.holdout else "test"

    def test(self) -> dict[str, Any]:
        """Accuracy of the main network on the test images, batch norms re-calibrated."""
        net, data = self._evaluable(), self.dataset
        spec = net.topology.full
        return watch.accuracy(evaluate(net, spec, data.test, data.normalisation, calibration=self.calibration))

    def watch(self) -> list[dict[str, Any]]:
        """Accuracies of the watched sub-networks on their sample of the test images, batch norms re-calibrated."""
        found = evaluate_together(
            self._evaluable(),
            list(self.watched.values()),
            self.watch_images,
            self.dataset.normalisation,
            calibration=self.calibration,
        )
        return [watch.row(name, spec, found[spec]) for name, spec in self.watched.items()]

    def _evaluable(self) -> StagedNet:
        """The network as evaluation wants it: uncompiled, and with batch norms that wait for no other process."""
        if self.plain is None:
            return self.net
        self.plain.module.load_state_dict(self.net.module.state_dict())
        return self.plain

    def _check_alive(self, row: dict[str, Any]) -> None:
        worst = math.log(max(2, len(self.dataset.classes)))
        ce = row["losses"].get("main_ce", 0.0)
        behind = self.epoch - self.recipe.warmup_epochs
        late = self.epoch > 1 and behind > 1 and behind * self.steps_per_epoch >= COLLAPSED_STEPS
        if late and ce >= COLLAPSED_FRAC * worst:
            raise TrainingFailed(
                f"the network collapsed: its cross entropy was {ce:.2f} in epoch {self.epoch}, {worst:.2f} is guessing",
                todo="Try a lower learning rate, a longer warm-up or a smaller lambda; the checkpoint is kept.",
            )

    def state(self) -> checkpoint.Checkpoint:
        """What a later process needs to go on."""
        return checkpoint.Checkpoint(
            epoch=self.epoch,
            network=_on_cpu(self.net.module),
            auxiliary=_on_cpu(self.auxiliary) if self.auxiliary else {},
            optimizer=self.optimizer.state_dict(),
            scaler=self.precision.scaler.state_dict(),
        )

    def resume(self, state: checkpoint.Checkpoint, source: str) -> None:
        """Continues from a checkpoint.

        Raises:
            CheckpointError: It is of another network, method or recipe.
        """
        load_weights(self.net, state.network, source)
        if bool(state.auxiliary) != (self.auxiliary is not None) or not state.optimizer:
            raise CheckpointError(f"{source} is of another method or was converted, so it can't be resumed")
        if self.auxiliary is not None:
            self.auxiliary.load_state_dict(dict(state.auxiliary))
        self.optimizer.load_state_dict(dict(state.optimizer))
        if state.scaler:
            self.precision.scaler.load_state_dict(dict(state.scaler))
        if not finite(state.network.values()):
            raise CheckpointError(f"{source} holds numbers that are not finite")
        self.epoch = state.epoch


@dataclass(frozen=True)
class Sides:
    """Which smaller images a step wants: the method's draw, seeded by run and step. Can be sent to a loader's processes."""

    method: Method
    seed: int
    crop: int

    def __call__(self, step: int) -> tuple[int, ...]:
        return self.method.sides(self.crop, spec_rng(self.seed, "side", step))


def _on_cpu(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu().clone() for key, value in module.state_dict().items()}


def trim_records(run_dir: Path, epochs: int) -> None:
    """Drops records of epochs that a resumed run will do again."""
    rows = [row for row in records(run_dir) if row["epoch"] <= epochs]
    files.write_jsonl(run_dir / "training.jsonl", rows)
