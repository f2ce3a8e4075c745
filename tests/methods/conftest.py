"""Small networks of every family, and a batch that fits them."""

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stimcore.methods.base import StepContext
from stimcore.nets.catalogue import build
from stimcore.nets.staged import StagedNet
from stimcore.train.seeds import layers_seeded

FAMILIES = {
    "resnet20": (3, 32, 32),
    "mobilenetv3-w0.25": (3, 32, 32),
    "resnet18": (3, 16, 16),
    "densenet-2-3-2-k6": (3, 16, 16),
    "vit-1-2-d8": (3, 16, 16),
    "convnext-1-2-d8": (3, 16, 16),
}
"""Name of one network per residual family -> shape of the images that it is tested on."""

Fresh = Callable[..., StagedNet]
"""What the fixture `fresh` returns: a function of the network's name, `dtype` and `shape`."""
BatchFor = Callable[..., StepContext]
"""What the fixture `batch_for` returns: a function of a network, `size` and `seed`."""


def gradient(tensor: Tensor) -> Tensor:
    """Return the gradient of a tensor that has one."""
    assert tensor.grad is not None
    return tensor.grad


HEAVY = {"resnet18": pytest.mark.slow}
"""Eleven million parameters take as long as all the others together, for the kind of block that ResNet-20 has too."""


@pytest.fixture(params=[pytest.param(name, marks=HEAVY.get(name, ())) for name in FAMILIES])
def family(request: pytest.FixtureRequest) -> str:
    """The name of one network per family."""
    return str(request.param)


@pytest.fixture
def fresh() -> Fresh:
    """Return a function that builds a network with seeded weights and ten classes, in training mode."""

    def make(name: str, *, dtype: torch.dtype = torch.float32, shape: tuple[int, int, int] | None = None) -> StagedNet:
        with layers_seeded(0, name):
            net = build(name, input_shape=shape or FAMILIES[name], num_classes=10)
            for parameter in net.parameters():  # the head of a fresh transformer is zero: all logits would be equal
                if parameter.ndim > 1 and not parameter.any():
                    torch.nn.init.normal_(parameter, std=0.1)
        return net.to(dtype).train()

    return make


@pytest.fixture
def batch_for() -> BatchFor:
    """Return a function that makes a seeded batch for a network."""

    def make(net: StagedNet, *, size: int = 4, seed: int = 0) -> StepContext:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn((size, *net.input_shape), generator=generator).to(next(net.parameters()).dtype)
        labels = torch.randint(0, net.num_classes, (size,), generator=generator)
        return StepContext(images=images, labels=labels, rng=random.Random(seed))

    return make
