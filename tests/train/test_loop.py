"""Stimulative training in loops that are not ours: plain torch, accelerate, Lightning, DistributedDataParallel."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stimcore.bench.curves import golden_problem, single_threaded
from stimcore.errors import UsageError
from stimcore.methods.base import StepContext
from stimcore.methods.stimulative import Stimulative
from stimcore.nets.catalogue import build
from stimcore.nets.staged import StagedNet
from stimcore.train.loop import StimulativeLoss, stimulative_loss
from stimcore.train.schedule import learning_rate
from stimcore.train.seeds import layers_seeded, spec_rng
from stimcore.train.trainer import Trainer
from tests.train.golden import FOLDER, STEPS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "own-loop.md"
CPU = torch.device("cpu")


@pytest.fixture
def problem() -> Iterator[tuple[Trainer, list[StepContext]]]:
    """The network of the golden curves with its optimiser, and its batches."""
    with single_threaded():
        trainer, contexts = golden_problem("common", {}, CPU)
        yield trainer, list(contexts)


def golden() -> list[float]:
    rows = json.loads((FOLDER / "stimulative.json").read_text(encoding="utf-8"))
    return [row["loss"] for row in rows]


def set_rate(trainer: Trainer, step: int) -> None:
    for group in trainer.optimizer.param_groups:
        group["lr"] = learning_rate(trainer.recipe, step, trainer.steps_per_epoch)


def test_a_plain_loop_has_the_golden_losses(problem: tuple[Trainer, list[StepContext]]) -> None:
    trainer, contexts = problem
    losses = []
    for step, context in enumerate(contexts):
        set_rate(trainer, step)
        trainer.optimizer.zero_grad()
        loss = stimulative_loss(trainer.net, (context.images, context.labels), step)
        torch.autograd.backward(loss)
        trainer.optimizer.step()
        losses.append(loss.item())
    assert len(losses) == STEPS
    assert losses == pytest.approx(golden(), rel=1e-5)


def test_accelerate_has_the_golden_losses(problem: tuple[Trainer, list[StepContext]]) -> None:
    from accelerate import Accelerator

    trainer, contexts = problem
    accelerator = Accelerator(cpu=True)
    module, optimizer = accelerator.prepare(StimulativeLoss(trainer.net), trainer.optimizer)
    losses = []
    for step, context in enumerate(contexts):
        set_rate(trainer, step)
        optimizer.zero_grad()
        loss = module((context.images, context.labels), step)
        accelerator.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses == pytest.approx(golden(), rel=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_lightning_has_the_golden_losses(problem: tuple[Trainer, list[StepContext]], tmp_path: Path) -> None:
    import lightning

    ours, contexts = problem

    class Training(lightning.LightningModule):
        def __init__(self, net: StagedNet) -> None:
            super().__init__()
            self.net = net
            self.automatic_optimization = False
            self.losses: list[float] = []

        def training_step(self, batch: tuple[Tensor, Tensor], _number: int) -> None:
            optimizer: Any = self.optimizers()
            set_rate(ours, self.global_step)
            optimizer.zero_grad()
            loss = stimulative_loss(self.net, batch, self.global_step)
            self.manual_backward(loss)
            optimizer.step()
            self.losses.append(loss.item())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return ours.optimizer

    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    fit = lightning.Trainer(accelerator="cpu", devices=1, max_epochs=1, default_root_dir=tmp_path, **quiet)
    module = Training(ours.net)
    batches: Any = [(context.images, context.labels) for context in contexts]
    fit.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    assert module.losses == pytest.approx(golden(), rel=1e-5)


METHODS = [
    Stimulative(),
    Stimulative(weight=5.0, sample="deletions", subnets=2),
    Stimulative(target="labels", sandwich=True),
    Stimulative(amplitude=4.0),
]


@pytest.mark.parametrize("network", ["resnet8", "vit-1-2-d8"])
@pytest.mark.parametrize("method", METHODS, ids=range(len(METHODS)))
def test_its_gradients_are_those_of_the_trainers_step(network: str, method: Stimulative) -> None:
    net, batch = small(network)
    losses = method.step(net, None, StepContext(images=batch[0], labels=batch[1], rng=spec_rng(3, "spec", 7)))
    expected = gradients(net)
    statistics = {key: value.clone() for key, value in net.state_dict().items() if "running" in key}
    net, batch = small(network)
    loss = stimulative_loss(net, batch, 7, method=method, seed=3)
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(losses["loss"].item(), rel=1e-12)
    for one, other in zip(gradients(net), expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in statistics.items())


def test_accumulated_gradients_are_the_sum_of_the_parts() -> None:
    net, (images, labels) = small("resnet8", size=8)
    sums: list[Tensor] = []
    for part in (slice(0, 4), slice(4, 8)):
        net.zero_grad()
        torch.autograd.backward(stimulative_loss(net, (images[part], labels[part]), 5))
        sums = [a + b for a, b in zip(sums, gradients(net), strict=True)] if sums else gradients(net)
    net.zero_grad()
    for part in (slice(0, 4), slice(4, 8)):  # the number of the step stays: both parts have the same sub-network
        torch.autograd.backward(stimulative_loss(net, (images[part], labels[part]), 5))
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(gradients(net), sums, strict=True))


def small(network: str, size: int = 4) -> tuple[StagedNet, tuple[Tensor, Tensor]]:
    with layers_seeded(0):
        net = build(network, input_shape=(1, 8, 8), num_classes=3).double()
        nn.init.normal_(list(net.head.parameters())[-2], std=0.3)
    generator = torch.Generator().manual_seed(0)
    return net.train(), (torch.randn(size, 1, 8, 8, generator=generator).double(), torch.arange(size) % 3)


def gradients(net: StagedNet) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in net.parameters()]


def test_normalised_logits_need_a_head_that_normalises_them() -> None:
    """The loss without such a head is another one, and nothing would show it."""
    method = Stimulative(weight=0.0, normalised_ce=True, amplitude=2.0)
    with layers_seeded(0, "weights"):
        net = build("resnet8", input_shape=(1, 8, 8), num_classes=3)
    images, labels = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    with pytest.raises(UsageError, match=r"normalised_ce with a network whose head .*: net = method\.wrap\(net\)\."):
        stimulative_loss(net, (images, labels), 0, method=method)
    wrapped = method.wrap(net).eval()
    expected = nn.functional.cross_entropy(wrapped(images), labels)
    assert stimulative_loss(wrapped, (images, labels), 0, method=method).item() == pytest.approx(expected.item())


def test_smaller_inputs_are_not_for_own_loops() -> None:
    net, batch = small("resnet8")
    with pytest.raises(UsageError, match="smallest_side=0.5 in a loop of your own.*allowed: smallest_side=1"):
        stimulative_loss(net, batch, 0, method=dataclasses.replace(Stimulative(), smallest_side=0.5))
    with pytest.raises(UsageError, match="target=frozen in a loop of your own, which has no teacher; allowed: target=main"):
        stimulative_loss(net, batch, 0, method=dataclasses.replace(Stimulative(), target="frozen"))


def test_label_smoothing_of_the_module_is_that_of_the_function() -> None:
    net, batch = small("resnet8")
    expected = stimulative_loss(net, batch, 0, label_smoothing=0.1).item()
    assert StimulativeLoss(net, label_smoothing=0.1)(batch, 0).item() == pytest.approx(expected, rel=1e-12)
    assert StimulativeLoss(net)(batch, 0).item() != pytest.approx(expected, rel=1e-3)


def test_a_module_without_sub_networks_is_refused() -> None:
    net, batch = small("resnet8")
    compiled = torch.compile(net, backend="eager")
    assert stimulative_loss(compiled, batch, 0).isfinite()  # type: ignore[arg-type]  # acts as the network does
    with pytest.raises(UsageError, match="^Sequential in the place of a network .* StimulativeLoss"):
        stimulative_loss(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), batch, 0)  # type: ignore[arg-type]


ALONE = """
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

lines = [line for name in sys.argv[1:] for line in Path(name).read_text().splitlines() if line[:1] not in ("#", "")]
declared = {re.match(r"[A-Za-z0-9_-]+", line)[0].lower().replace("_", "-") for line in lines} - {"torch"}
for name, owners in packages_distributions().items():
    if declared & {owner.lower().replace("_", "-") for owner in owners}:
        sys.modules[name] = None
import torch
from torch import nn
from stimcore.nets.own import staged
from stimcore.train.loop import stimulative_loss

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
    def forward(self, x):
        return x + self.norm(self.conv(x)).relu()

head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(4, 3))
plain = nn.Sequential(nn.Conv2d(1, 4, 3), Block(), Block(), Block(), head)
net = staged(plain, stem=plain[0], stages=[plain[1:4]], head=head, input_shape=(1, 8, 8))
stimulative_loss(net, (torch.rand(4, 1, 8, 8), torch.arange(4) % 3), 0).backward()
print(sum(parameter.grad is not None for parameter in net.parameters()), "torchvision" in declared, "numpy" in declared)
"""


def test_nothing_but_torch_is_needed() -> None:
    """Every other package that the project declares is made unimportable."""
    code = "import re\n" + ALONE
    words = [sys.executable, "-W", "ignore", "-c", code, "requirements.txt", "requirements-dev.txt"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["16", "True", "True"]


WORKER = """
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from stimcore.train.loop import StimulativeLoss
from tests.train.test_loop import small

torch.set_num_threads(1)
dist.init_process_group("gloo")
net, (images, labels) = small("resnet8", size=8)
module = DistributedDataParallel(StimulativeLoss(net))
optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
share = slice(dist.get_rank(), None, dist.get_world_size())
weights = []
for step in range(20):
    optimizer.zero_grad()
    module((images[share], labels[share]), step).backward()
    optimizer.step()
    weights.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
torch.save(weights, f"{sys.argv[1]}/rank{dist.get_rank()}.pt")
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_keep_equal_weights(tmp_path: Path) -> None:
    """DistributedDataParallel needs no option for unused weights: the main network uses all of them in every step."""
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*words, str(tmp_path / "worker.py"), str(tmp_path)], cwd=ROOT, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    assert len(one) == 20
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0], one[-1])


def test_the_documented_loops_add_at_most_twelve_lines() -> None:
    codes = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(codes) == 3
    for code in codes:
        added = [line for line in code.splitlines() if line.rstrip().endswith("# added")]
        assert 2 <= len(added) <= 12
        assert any("stimulative_loss" in line or "StimulativeLoss" in line for line in added)
        compile(code, str(DOCS), "exec")
    exec(compile(codes[0], str(DOCS), "exec"), {"__name__": "docs"})
