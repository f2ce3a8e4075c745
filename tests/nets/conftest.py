"""Networks at sizes that cost little, with weights and statistics unlike those of a fresh network."""

from collections.abc import Callable
from functools import lru_cache

import pytest
import torch
from torch import nn

from stimcore.nets.catalogue import NETWORKS, build
from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet
from stimcore.train.seeds import layers_seeded

SIDE = 8
"""Pixels per side; every network of the catalogue accepts that with its stem for small images."""
NAMES = [*NETWORKS, "mobilenetv3-w0.5", "densenet-2-3-2-k6"]
LARGE = ("resnet56", "resnet110", "resnet1202", "resnet101", "resnet152", "densenet169", "densenet201", "densenet264")
"""Networks that are others of the list with more of the same blocks: up to a second each, in every test."""
FAMILIES = ["resnet20", "resnet18", "resnet50", "mobilenetv3-w0.5", "densenet-2-3-2-k6"]
"""One of every kind of block."""


def lively(net: StagedNet, seed: int = 0) -> StagedNet:
    """Give batch norms random scales, shifts and statistics, small enough for 1,202 layers; return it in evaluation mode.

    Without batch norms, weights that are all equal get random values: those of other norms, of layer scales, of some heads.
    """
    generator = torch.Generator().manual_seed(seed)
    if not batch_norms(net):
        for parameter in net.parameters():
            if bool((parameter == parameter.flatten()[0]).all()):
                nn.init.uniform_(parameter, -0.5, 0.5, generator=generator)
    for norm in batch_norms(net):
        for tensor, low, high in (
            (norm.weight, 0.2, 0.6),
            (norm.bias, -0.2, 0.2),
            (norm.running_mean, -0.5, 0.5),
            (norm.running_var, 0.5, 2.0),
        ):
            assert tensor is not None
            nn.init.uniform_(tensor, low, high, generator=generator)
    return net.eval()


@lru_cache(maxsize=1)
def _built(name: str) -> StagedNet:
    with layers_seeded(0, name):
        return lively(build(name, input_shape=(3, SIDE, SIDE), num_classes=5))


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in NAMES]
)
def net(request: pytest.FixtureRequest) -> StagedNet:
    """Every network of the catalogue in turn; tests must not change it."""
    return _built(request.param)


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow) if name == "resnet50" else name for name in FAMILIES]
)
def family(request: pytest.FixtureRequest) -> StagedNet:
    """A network per kind of block."""
    return _built(request.param)


@pytest.fixture
def images() -> Callable[[int], torch.Tensor]:
    """Random images `[B, 3, SIDE, SIDE]`."""
    return lambda count: torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
