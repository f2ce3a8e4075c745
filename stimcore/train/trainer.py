"""The training loop: one network, one method, one data set, on one device or in several processes.

Every random draw is derived from the seed and the place in the run (see `stimcore.train.seeds`), so that a run that was killed
continues bit for bit from its last finished epoch (on the CPU, with the same number of threads).
"""

import dataclasses
import math
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stimcore.data.images import Dataset
from stimcore.errors import CheckpointError, TrainingFailed, UsageError
from stimcore.methods.base import Losses, Method, StepContext
from stimcore.nets.norms import to_synchronised
from stimcore.nets.staged import StagedNet
from stimcore.recipes.recipe import Recipe
from stimcore.runs import checkpoint
from stimcore.runs.machine import memory_bytes, peak_memory_bytes, reset_peak_memory
from stimcore.runs.run import append_record, training_records
from stimcore.runs.trained_run import load_weights
from stimcore.train.compiled import compile_parts
from stimcore.train.evaluator import Evaluator
from stimcore.train.loader import LoaderConfig, SmallerSides, make_loader
from stimcore.train.losses import LossMeter
from stimcore.train.precision import Precision
from stimcore.train.progress import TimeLeft, in_words
from stimcore.train.schedule import learning_rate
from stimcore.train.seeds import generator, layers_seeded
from stimcore.train.settings import Settings
from stimcore.train.tensorboard import TensorBoardWriter
from stimcore.train.watch import watched

COLLAPSED_FRAC = 0.97
"""A network has collapsed if a whole epoch after warm-up its cross entropy is at least this share of log(classes), guessing."""
COLLAPSED_STEPS = 200
"""Steps after the warm-up before a network may be called collapsed: training on tiny data sets starts slowly."""
READ_STEPS = 20
"""Steps between two looks at the losses: for the progress bar, and for whether they are finite. Each waits for the device."""


class Trainer:
    """The state of a training in memory.

    Args:
        net: The network; it is trained in place.
        method: The training method, which computes gradients from a batch.
        recipe: All other settings that decide about the result.
        dataset: Images in memory (kept on the device if they fit there) or in files.
        settings: Seed, device, processes.

    Raises:
        UsageError: Arguments don't fit together: too few images, a method that can't be compiled, ...
    """

    def __init__(self, net: StagedNet, method: Method, recipe: Recipe, dataset: Dataset, settings: Settings) -> None:
        settings.check(method, recipe, dataset)
        subnets = watched(net.topology, recipe.watch)
        net = method.wrap(net)
        self.net, self.method, self.recipe, self.dataset, self.settings = net, method, recipe, dataset, settings
        device = settings.device
        net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the keyword pair
        with layers_seeded(settings.seed, "auxiliary"):
            self.auxiliary = method.make_auxiliary(net)
        if self.auxiliary is not None:
            self.auxiliary.to(device)
        separate = settings.compile_blocks or settings.synchronise_norms
        self.evaluator = Evaluator(net, dataset, recipe, subnets, separate=separate)
        sides = SmallerSides(method, settings.seed, dataset.image_shape[1])
        if settings.synchronise_norms:
            net.replace(to_synchronised)
        if settings.compile_blocks:
            compile_parts(net, any_side=bool(sides(0)))
        self.parameters = [*net.parameters(), *(self.auxiliary.parameters() if self.auxiliary else [])]
        self.optimizer = make_optimizer(recipe, self.parameters)
        self.precision = Precision(recipe.precision, device)
        config = LoaderConfig(
            seed=settings.seed,
            augmentation=recipe.augmentation,
            device=device,
            world=settings.world,
            sides=sides,
        )
        self.loader = make_loader(dataset, config, settings.workers)
        self.start_memory_bytes = memory_bytes(device)
        self.time_left = TimeLeft(recipe, self.evaluator.guesses())
        self.epoch = 0
        self._accuracy_pct: float | None = None  # of the last evaluation, for the progress bar

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches; a smaller last batch would have noisier statistics, so its images wait for another epoch."""
        return len(self.dataset.train) // self.recipe.batch_size

    def run(self, folder: Path) -> Generator[dict[str, Any], None, None]:
        """Train to the last epoch; write a checkpoint and a record after every epoch, and yield the records.

        Raises:
            TrainingFailed: A loss is not finite, or the network has collapsed. The last finished epoch stays on the disk.
        """
        writes = self.settings.world.rank == 0
        self.time_left = TimeLeft(self.recipe, self.evaluator.guesses(), training_records(folder))
        with ExitStack() as stack:
            events = None
            if writes and self.settings.tensorboard:
                events = stack.enter_context(TensorBoardWriter(folder / "tensorboard"))
            while self.epoch < self.recipe.epochs:
                record = self._epoch_with_record()
                if writes:
                    # The record contains the seconds of the checkpoint, so the checkpoint is written first. It holds the rest
                    # of the record, which a run appends that is resumed after its process was killed between the two.
                    start = time.perf_counter()
                    checkpoint.save(folder, dataclasses.replace(self.state(), record=record))
                    record["checkpoint_seconds"] = round(time.perf_counter() - start, 3)
                    append_record(folder, record)
                self.time_left.add(record)
                if events is not None:
                    events.add(record)
                self.settings.world.barrier()
                yield record
                self._check_alive(record)

    def _epoch_with_record(self) -> dict[str, Any]:
        """Train and measure one epoch; return its record."""
        reset_peak_memory(self.settings.device)  # otherwise the peak could be that of an earlier evaluation
        start, cpu_start = time.perf_counter(), time.process_time()
        losses = self.train_epoch()
        self.epoch += 1
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        record: dict[str, Any] = {
            "epoch": self.epoch,
            "losses": losses,
            "learning_rate": learning_rate(self.recipe, self.epoch * self.steps_per_epoch - 1, self.steps_per_epoch),
            "seconds": round(seconds, 3),
            "cpu_seconds": round(cpu_seconds, 3),
            "images_per_second": round(self.steps_per_epoch * self.recipe.batch_size / seconds, 1),
            "device_type": self.settings.device.type,
            "start_memory_bytes": self.start_memory_bytes,
            "peak_memory_bytes": peak_memory_bytes(self.settings.device),
        }
        # Rank 0 alone evaluates: evaluation has no gradients to average, and every rank would compute the same numbers.
        if self.settings.world.rank == 0 and self.recipe.evaluates(self.epoch):
            start = time.perf_counter()
            part = self.settings.evaluated_part
            record[part] = self.evaluator.main()
            record["evaluate_seconds"] = round(time.perf_counter() - start, 3)
            self._accuracy_pct = record[part]["accuracy_pct"]
        if self.settings.world.rank == 0 and self.evaluator.watched and self.recipe.watches(self.epoch):
            start = time.perf_counter()
            record["watched"] = self.evaluator.subnets()
            record["watch_seconds"] = round(time.perf_counter() - start, 3)
        return record

    def train_epoch(self) -> dict[str, float]:
        """Make one pass over the training images; return the mean of every loss.

        Raises:
            TrainingFailed: A loss is not finite.
        """
        settings = self.settings
        self.net.train()
        # Every rank computes the order of all images and takes its share of each batch from it.
        order = torch.randperm(len(self.dataset.train), generator=generator(settings.seed, "order", self.epoch))
        size, first_step = self.recipe.batch_size, self.epoch * self.steps_per_epoch
        batches = [order[step * size : (step + 1) * size] for step in range(self.steps_per_epoch)]
        meter = LossMeter()
        steps: Iterable[StepContext] = self.loader.epoch(batches, first_step)
        bar = None
        if settings.progress and settings.world.rank == 0:
            from tqdm import tqdm  # a training without a bar needs nothing but torch, torchvision and numpy

            title = f"epoch {self.epoch + 1}/{self.recipe.epochs}"
            steps = bar = tqdm(steps, total=self.steps_per_epoch, desc=title, unit="batch", leave=False)
        # Dropout draws from torch's global generator. The rank is part of the seed: ranks with equal masks would add noise that
        # averaging their gradients does not reduce.
        with layers_seeded(settings.seed, "layers", self.epoch, settings.world.rank):
            for step, context in enumerate(steps):
                losses = self.train_step(context, first_step + step)
                if "loss" not in losses:
                    raise UsageError(
                        f"step of {type(self.method).__name__} returned {', '.join(losses) or 'no losses'}",
                        allowed="losses by name, 'loss' among them: what was minimised",
                    )
                if wrong := [name for name, value in losses.items() if not isinstance(value, Tensor) or value.ndim]:
                    raise UsageError(
                        f"step of {type(self.method).__name__} returned {wrong[0]}, which is no scalar tensor",
                        allowed="scalar tensors, such as loss.detach()",
                    )
                meter.add(losses)
                if step % READ_STEPS == 0:
                    self._check_finite(meter)
                    if bar is not None:
                        bar.set_postfix(self._bar_numbers(meter.last()))
        self._check_finite(meter)
        means = meter.means()
        if bad := [f"{name} {mean}" for name, mean in means.items() if not math.isfinite(mean)]:
            raise TrainingFailed(f"{', '.join(bad)} in epoch {self.epoch + 1}", todo="The last finished epoch is kept.")
        return {name: settings.world.mean(mean) for name, mean in means.items()}

    def _check_finite(self, meter: LossMeter) -> None:
        """Stop when a loss was not finite; the epoch that it belongs to is not written."""
        if (first := meter.first_not_finite()) is not None:
            step, loss = first
            raise TrainingFailed(
                f"the loss was {loss} in epoch {self.epoch + 1}, step {step + 1}",
                todo="The last finished epoch is kept; try a lower rate, a longer warm-up or a smaller lambda.",
            )

    def train_step(self, context: StepContext, step: int) -> Losses:
        """Make one step on this rank's part of a batch; return the losses.

        The order matters. A method may call backward several times (stimulative training does so for the main network, the
        sub-network and their shared prefix), and each call adds to the gradients. They are complete only when the method
        returns. Then they are unscaled, because each rank may have another loss scale, averaged over the ranks in a single
        reduction, and applied.

        Args:
            context: Images, labels and the generator of the step, from the loader.
            step: Global number of the step.
        """
        rate = learning_rate(self.recipe, step, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # None instead of zeros: a block that no pass reaches has no gradient, so that weight decay and momentum skip it too
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._add_gradients(context, step)
        self.precision.unscale(self.optimizer)
        self.settings.world.average(self.parameters)
        self.precision.step(self.optimizer)
        return losses

    def _add_gradients(self, context: StepContext, step: int) -> Losses:
        """Add the gradients of a batch, in `accumulate` parts one after the other, and return the mean losses.

        All parts of a step draw the same sub-networks, so that the parts differ from the whole batch in nothing but what is not
        a mean over images: the statistics of batch norms, and the distance of self distillation with `feature=batch`.
        """
        num_parts = self.recipe.accumulate
        draws = context.rng.getstate()
        means: Losses = {}
        for part in context.split(num_parts):
            part.rng.setstate(draws)
            part = dataclasses.replace(
                part,
                autocast=self.precision.autocast,
                backward=lambda loss: self.precision.backward(loss / num_parts),
                label_smoothing=self.recipe.label_smoothing,
                epoch=step / self.steps_per_epoch,
            )
            for name, value in self.method.step(self.net, self.auxiliary, part).items():
                means[name] = means[name] + value / num_parts if name in means else value / num_parts
        return means

    def _bar_numbers(self, loss: float) -> dict[str, str]:
        """Return the numbers for the progress bar: loss, last accuracy, time left."""
        numbers = {"loss": f"{loss:.3f}"}
        if self._accuracy_pct is not None:
            numbers[self.settings.evaluated_part] = f"{self._accuracy_pct:.2f}%"
        if (seconds := self.time_left.after(self.epoch)) is not None:
            numbers["whole run"] = in_words(seconds)
        return numbers

    def _check_alive(self, record: Mapping[str, Any]) -> None:
        """Stop a run whose network only guesses, so that it doesn't train in vain for the remaining epochs."""
        guessing = math.log(max(2, len(self.dataset.classes)))
        cross_entropy = record["losses"].get("main_ce", 0.0)
        after_warmup = self.epoch - self.recipe.warmup_epochs
        late = self.epoch > 1 and after_warmup > 1 and after_warmup * self.steps_per_epoch >= COLLAPSED_STEPS
        if late and cross_entropy >= COLLAPSED_FRAC * guessing:
            raise TrainingFailed(
                f"the network collapsed: its cross entropy was {cross_entropy:.2f} in epoch {self.epoch}, "
                f"{guessing:.2f} is guessing",
                todo="Try a lower learning rate, a longer warm-up or a smaller lambda; the checkpoint is kept.",
            )

    def state(self) -> checkpoint.Checkpoint:
        """Return everything that another process needs to continue from here."""
        return checkpoint.Checkpoint(
            epoch=self.epoch,
            network=_on_cpu(self.net.module),
            auxiliary=_on_cpu(self.auxiliary) if self.auxiliary else {},
            optimizer=self.optimizer.state_dict(),
            scaler=self.precision.scaler.state_dict(),
        )

    def resume(self, state: checkpoint.Checkpoint, source: str) -> None:
        """Continue from a checkpoint.

        Args:
            state: The checkpoint.
            source: The checkpoint's file, for error messages.

        Raises:
            CheckpointError: The checkpoint is of another network or method, was converted, or has numbers that are not finite.
        """
        load_weights(self.net, state.network, source)
        if bool(state.auxiliary) != (self.auxiliary is not None) or not state.optimizer:
            raise CheckpointError(
                f"{source} is of another method or was converted, so it can't be resumed",
                todo="--init starts a new run from its weights.",
            )
        if self.auxiliary is not None:
            self.auxiliary.load_state_dict(dict(state.auxiliary))
        self.optimizer.load_state_dict(dict(state.optimizer))
        if state.scaler:
            self.precision.scaler.load_state_dict(dict(state.scaler))
        self.epoch = state.epoch


def make_optimizer(recipe: Recipe, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe; the trainer sets its learning rate before every step.

    On a GPU one kernel updates all parameters. On the CPU the plain update stays: its rounding is that of the golden curves.
    """
    fused = all(parameter.device.type == "cuda" for parameter in parameters)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters, lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=fused
        )
    return torch.optim.SGD(
        parameters,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov and recipe.momentum > 0,
        fused=fused,
    )


def _on_cpu(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's state dict in main memory."""
    return {key: value.detach().cpu().clone() for key, value in module.state_dict().items()}
