"""Two real processes that train one network: same sub-network, gradients averaged once, same weights for ever."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stimcore.methods.base import StepContext
from stimcore.methods.table import METHODS, make
from stimcore.nets.catalogue import build
from stimcore.nets.staged import StagedNet
from stimcore.runs import checkpoint
from stimcore.runs.run import training_records
from stimcore.train.parallel import World, join, leave
from stimcore.train.seeds import layers_seeded, spec_rng
from tests.train.conftest import MakeTrainer, digest, newest

ROOT = Path(__file__).parents[2]

OTHER = """
import sys
import torch
from tests.train.test_parallel import computed

torch.set_num_threads(1)
print("ready", flush=True)
torch.save(computed(), sys.argv[1])
"""
"""The program of rank 1; rank 0 is the process of the tests."""


def computed() -> dict[str, Any]:
    """Join the other process, and return what both compute together: the same on both ranks."""
    world = join(torch.device("cpu"))
    assert world.size == 2
    gradients = {}
    for name in METHODS:
        net, heads = built(name)
        parameters = [*net.parameters(), *(heads.parameters() if heads else [])]
        images, labels = half(world, 0)
        make(name, {}).step(net, heads, StepContext(images=images, labels=labels, rng=random.Random(0)))
        world.average(parameters)
        gradients[name] = [None if p.grad is None else p.grad.clone() for p in parameters]
    net, heads = built("stimulative")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    weights = []
    for step in range(20):
        optimizer.zero_grad()
        images, labels = half(world, step)
        make("stimulative", {}).step(net, heads, StepContext(images=images, labels=labels, rng=spec_rng(0, step)))
        world.average(net.parameters())
        optimizer.step()
        weights.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    mean = world.mean(float(world.rank))
    world.barrier()
    leave()
    return {"gradients": gradients, "weights": weights, "mean": mean}


def built(method: str) -> tuple[StagedNet, nn.Module | None]:
    """A network in double precision with the method's heads."""
    with layers_seeded(0, "weights"):
        net = build("resnet20", input_shape=(1, 8, 8), num_classes=3).double().train()
        heads = make(method, {}).make_auxiliary(net)
    return net, None if heads is None else heads.double()


def half(world: World, step: int) -> tuple[Tensor, Tensor]:
    """Return the part of this rank of a batch of eight."""
    generator = torch.Generator().manual_seed(step)
    images = torch.randn((8, 1, 8, 8), generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (8,), generator=generator)
    mine = world.share(torch.arange(8))
    return images[mine], labels[mine]


def launch(*command: str, port: int) -> subprocess.CompletedProcess[str]:
    """Run a command in two processes through torchrun."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([*torchrun, *command], env=environment, capture_output=True, text=True, timeout=300, check=False)


def free_port() -> int:
    """Return a port that is free now."""
    import socket

    with socket.socket() as box:
        box.bind(("127.0.0.1", 0))
        return int(box.getsockname()[1])


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two gloo processes computed, this one and another, in the environment that torchrun gives them."""
    result = tmp_path_factory.mktemp("ranks") / "rank1.pt"
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    environment = os.environ | shared | {"RANK": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", OTHER, str(result)]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        ready = other.stdout.readline()  # a process that can't start would be waited for ten minutes
        assert ready == "ready\n", other.communicate()[1][-3000:]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (shared | {"RANK": "0"}).items():
                patch.setenv(name, value)
            here = computed()
        _, errors = other.communicate(timeout=300)
    assert other.returncode == 0, errors[-3000:]
    return [here, torch.load(result)]


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_the_mean_of_the_half_batches(method: str, ranks: list[dict[str, Any]]) -> None:
    expected = []
    for rank in (0, 1):
        net, heads = built(method)
        images, labels = half(World(rank=rank, size=2), 0)
        make(method, {}).step(net, heads, StepContext(images=images, labels=labels, rng=random.Random(0)))
        expected.append([p.grad for p in [*net.parameters(), *(heads.parameters() if heads else [])]])
    for one, other, here, there in zip(*expected, *(rank["gradients"][method] for rank in ranks), strict=True):
        assert (one is None) == (here is None) == (there is None)
        if one is not None:
            assert torch.equal(here, there)
            assert torch.allclose(here, (one + other) / 2, rtol=1e-12, atol=1e-15)


def test_weights_stay_equal_over_twenty_steps(ranks: list[dict[str, Any]]) -> None:
    first, second = (rank["weights"] for rank in ranks)
    assert len(first) == 20
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[-1])


def test_a_number_is_averaged_over_all(ranks: list[dict[str, Any]]) -> None:
    assert [rank["mean"] for rank in ranks] == [0.5, 0.5]


def test_shares_are_a_partition() -> None:
    index = torch.arange(12)
    for size in (1, 2, 3):
        parts = [World(rank=rank, size=size).share(index) for rank in range(size)]
        assert sorted(torch.cat(parts).tolist()) == list(range(12))
        assert {len(part) for part in parts} == {12 // size}


@pytest.mark.slow
def test_the_command_under_torchrun(folder: Path, tmp_path: Path) -> None:
    """Two processes, one run folder; rank 0 alone speaks and writes."""
    where = ["--dataset", f"folder:{folder}", "--run-dir", str(tmp_path / "two"), "--device", "cpu"]
    options = ["--batch-size", "16", "--train-per-class", "0", "--epochs", "1", "--learning-rate", "0.02", "--quiet"]
    done = launch("-m", "stimcore.train", "resnet20-fashion", *where, *options, port=free_port())
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("epoch 1/1") == 1
    assert len(training_records(tmp_path / "two")) == 1
    assert len(checkpoint.list_paths(tmp_path / "two")) == 1


@pytest.mark.slow
def test_resumed_under_torchrun_it_ends_with_the_same_weights(folder: Path, tmp_path: Path) -> None:
    """Batch-norm buffers of the other rank differ until it loads the checkpoint of rank 0; weights don't depend on them."""
    common = ["-m", "stimcore.train", "resnet20-fashion", "--dataset", f"folder:{folder}", "--batch-size", "16", "--quiet"]
    more = ["--train-per-class", "0", "--device", "cpu", "--learning-rate", "0.02"]
    done = launch(*common, *more, "--run-dir", str(tmp_path / "two"), "--epochs", "2", port=free_port())
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("epoch 2/2") == 1
    assert len(training_records(tmp_path / "two")) == 2
    (tmp_path / "two" / "checkpoint-0002.pt").rename(tmp_path / "whole.pt")
    done = launch(*common, *more, "--run-dir", str(tmp_path / "two"), "--epochs", "2", "--resume", port=free_port())
    assert done.returncode == 0, done.stderr[-3000:]
    whole, resumed = checkpoint.load(tmp_path / "whole.pt"), newest(tmp_path / "two")[1]
    assert digest(whole) == digest(resumed)
    assert np.isfinite(training_records(tmp_path / "two")[-1]["losses"]["loss"])


def test_a_batch_that_can_not_be_shared_is_refused(trainer_for: MakeTrainer) -> None:
    from stimcore.errors import UsageError

    with pytest.raises(UsageError, match="a batch of 16 on 3 processes; allowed: a multiple of the processes"):
        trainer_for(world=World(rank=0, size=3))
