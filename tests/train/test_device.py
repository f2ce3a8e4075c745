"""What training does for a GPU: no step waits for it, losses are added up where they are, batches may come in parts.

The steps run on the CPU here. A read of a number is the same operation on every device, so that a step that has none on the CPU
has none on a GPU; the tests marked `gpu` ask CUDA itself.
"""

import dataclasses
import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from stimcore.data.images import Dataset, Images
from stimcore.errors import UsageError
from stimcore.methods.base import StepContext
from stimcore.methods.stimulative import Stimulative
from stimcore.methods.table import METHODS, make
from stimcore.nets.catalogue import build
from stimcore.nets.transfer import send
from stimcore.recipes.recipe import Recipe
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology
from stimcore.train.losses import LossMeter
from stimcore.train.settings import Settings
from stimcore.train.trainer import READ_STEPS, Trainer, make_optimizer
from tests.heavy import all_slow_but
from tests.train.conftest import MakeTrainer

WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "equal")
"""Operations whose result the processor needs: on a GPU it waits for them."""


class WaitsCounted(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no annotation there
    """Collects the operations that would make the processor wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no annotation there
        self.waits: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in WAITING:
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def waits_counted() -> Iterator[list[str]]:
    with WaitsCounted() as mode:
        yield mode.waits


@pytest.mark.parametrize("method", METHODS)
def test_no_step_waits(method: str, trainer_for: MakeTrainer) -> None:
    trainer = trainer_for(method)
    order = torch.arange(48)
    batches = [order[start : start + 16] for start in (0, 16, 32)]
    meter = LossMeter()
    with waits_counted() as waits:
        for step, context in enumerate(trainer.loader.epoch(batches, 0)):
            meter.add(trainer.train_step(context, step))
    assert waits == []
    with waits_counted() as waits:
        meter.means()
    assert waits  # the counter counts


@pytest.mark.parametrize(
    ("network", "method"),
    [
        *itertools.product(["resnet20"], METHODS),
        *all_slow_but(itertools.product(["convnext-mini"], METHODS)),
        *all_slow_but(itertools.product(["densenet-2-2-2-2-k4", "vit-tiny", "mobilenetv3-w0.5"], ["stimulative"])),
    ],
)
def test_a_step_stays_on_a_device_without_numbers(network: str, method: str, recipe: Recipe) -> None:
    """`meta` tensors have shapes and no numbers: an operation that needs a number, or one on the processor, fails."""
    train = Images(pixels=np.zeros((4, 1, 12, 12), np.uint8), labels=np.arange(4) % 3)
    data = Dataset(name="tiny", train=train, test=train, classes=("a", "b", "c"), mean=(0.3,), std=(0.25,))
    net = build(network, input_shape=data.image_shape, num_classes=3)
    assert net.residuals is not None  # found by computing with numbers, once, before the first step
    plan = dataclasses.replace(recipe, network=network, batch_size=2)
    trainer = Trainer(net, make(method, {}), plan, data, Settings(seed=0, device=torch.device("meta")))
    before = [parameter.clone() for parameter in trainer.parameters]
    for step, context in enumerate(trainer.loader.epoch([torch.arange(2), torch.arange(2, 4)], 0)):
        losses = trainer.train_step(context, step)
    assert {tensor.device.type for tensor in (*losses.values(), *before, *trainer.parameters)} == {"meta"}
    assert any(parameter.grad is not None for parameter in trainer.parameters)
    with pytest.raises(RuntimeError, match="meta"):
        losses["loss"].item()


def test_an_epoch_reads_its_losses_now_and_then(trainer_for: MakeTrainer, recipe: Recipe) -> None:
    """48 images in batches of 2 are 24 steps: two looks at the losses on the way, one at the end."""
    trainer = trainer_for("stimulative", plan=dataclasses.replace(recipe, batch_size=2))
    with waits_counted() as waits:
        losses = trainer.train_epoch()
    assert trainer.steps_per_epoch == 24 > READ_STEPS
    assert len(waits) <= 3 * 3 + len(losses)
    with waits_counted() as waits:
        float(torch.ones(()))
    assert waits == ["_local_scalar_dense"]


def test_the_meter_adds_like_the_processor_does() -> None:
    values = [0.1, 3e-8, 12345.678, 0.3]
    meter = LossMeter()
    for value in values:
        meter.add({"loss": torch.tensor(value), "main_ce": torch.tensor(value / 3)})
    assert meter.means()["loss"] == sum(float(torch.tensor(value)) for value in values) / 4  # to the last bit
    assert meter.last() == float(torch.tensor(0.3))
    assert meter.first_not_finite() is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_meter_finds_the_first_loss_that_is_not_finite(bad: float) -> None:
    meter = LossMeter()
    for value in (1.0, 2.0, bad, 3.0, float("nan")):
        meter.add({"loss": torch.tensor(value)})
    first = meter.first_not_finite()
    assert first is not None
    assert first[0] == 2
    assert str(first[1]) == str(bad)


def gradients(trainer: Trainer, context: StepContext) -> dict[str, Tensor]:
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer._add_gradients(context, 0)
    return {name: p.grad.clone() for name, p in trainer.net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("method", ["common", "stimulative"])
@pytest.mark.parametrize("accumulate", [2, 4])
def test_gradients_of_the_parts_are_those_of_the_batch(
    method: str, accumulate: int, trainer_for: MakeTrainer, recipe: Recipe
) -> None:
    whole, parts = trainer_for(method), trainer_for(method, plan=dataclasses.replace(recipe, accumulate=accumulate))
    for trainer in (whole, parts):
        trainer.net.double().eval()  # batch norms are the only layers in which the images of a batch see each other
    images = torch.randn(16, *whole.net.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(16) % 3

    def context() -> StepContext:
        return StepContext(images=images, labels=labels, rng=random.Random(5))

    expected, ours = gradients(whole, context()), gradients(parts, context())
    assert expected.keys() == ours.keys()
    for name, gradient in expected.items():
        assert torch.allclose(ours[name], gradient, rtol=1e-9, atol=1e-12), name


def test_parts_of_a_step_draw_one_sub_network(
    trainer_for: MakeTrainer, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[Spec]] = []
    draw = Stimulative.draw

    def recorded(method: Stimulative, topology: Topology, rng: random.Random) -> list[Spec]:
        drawn.append(draw(method, topology, rng))
        return drawn[-1]

    trainer = trainer_for("stimulative", plan=dataclasses.replace(recipe, accumulate=4))
    monkeypatch.setattr(Stimulative, "draw", recorded)
    for step, context in enumerate(trainer.loader.epoch([torch.arange(16), torch.arange(16, 32)], 0)):
        trainer.train_step(context, step)
    assert len(drawn) == 8
    assert drawn[:4] == drawn[:1] * 4
    assert drawn[4:] == drawn[4:5] * 4
    assert drawn[0] != drawn[4]


def test_a_batch_that_does_not_divide_is_refused(trainer_for: MakeTrainer, recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="a batch of 16 in 3 parts on 1 processes"):
        trainer_for(plan=dataclasses.replace(recipe, accumulate=3))


def test_colours_of_grey_images_are_refused_before_the_first_step(trainer_for: MakeTrainer, recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="imagenet_colour with images of 1 channel; allowed: images of 3 channels"):
        trainer_for(plan=dataclasses.replace(recipe, augmentation="imagenet_colour"))


def test_a_run_in_parts_learns(trainer_for: MakeTrainer, recipe: Recipe, tmp_path: Path) -> None:
    plan = dataclasses.replace(recipe, epochs=8, augmentation="none", accumulate=2)
    rows = list(trainer_for("stimulative", plan=plan).run(tmp_path))
    assert rows[-1]["losses"]["main_ce"] < 0.8 * rows[0]["losses"]["main_ce"]


def test_on_the_cpu_the_optimiser_is_the_plain_one(trainer_for: MakeTrainer, recipe: Recipe) -> None:
    trainer = trainer_for()
    for name in ("sgd", "adamw"):
        optimizer = make_optimizer(dataclasses.replace(recipe, optimizer=name), trainer.parameters)
        assert not optimizer.param_groups[0]["fused"]


@pytest.fixture
def cuda() -> Iterator[torch.device]:
    """The GPU, with an error for every operation that waits for it."""
    device = torch.device("cuda")
    yield device
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_waits_for_the_gpu(
    method: str, precision: str, trainer_for: MakeTrainer, recipe: Recipe, cuda: torch.device
) -> None:
    trainer = trainer_for(method, plan=dataclasses.replace(recipe, precision=precision), device=cuda)
    order = torch.arange(48)
    batches = [order[start : start + 16] for start in (0, 16, 32)]
    for step, context in enumerate(trainer.loader.epoch(batches, 0)):
        trainer.train_step(context, step)  # cuDNN picks its kernels, which waits
    torch.cuda.set_sync_debug_mode("error")
    for step, context in enumerate(trainer.loader.epoch(batches, 3)):
        trainer.train_step(context, 3 + step)
    torch.cuda.set_sync_debug_mode("default")
    assert make_optimizer(trainer.recipe, trainer.parameters).param_groups[0]["fused"]


@pytest.mark.gpu
def test_augmentation_on_the_gpu_is_that_of_the_cpu(tiny: Dataset, trainer_for: MakeTrainer, cuda: torch.device) -> None:
    index = torch.arange(16)
    on_cpu = next(trainer_for().loader.epoch([index], 0))
    on_gpu = next(trainer_for(device=cuda).loader.epoch([index], 0))
    assert torch.equal(on_cpu.labels, on_gpu.labels.cpu())
    assert torch.allclose(on_cpu.images, on_gpu.images.cpu(), atol=1e-6)
    assert len(tiny.train) == 48


def test_what_is_sent_is_what_arrives() -> None:
    values = torch.arange(6).view(2, 3)
    assert torch.equal(send(values, torch.device("cpu")), values)
    assert send(values, torch.device("meta")).shape == (2, 3)
