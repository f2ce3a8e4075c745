"""DenseNets inside each other: shapes, weights and statistics that a sub-network inherits by channel slicing."""

import copy
import random

import pytest
import torch
from torch import Tensor, nn

from stimcore.methods.base import StepContext
from stimcore.methods.stimulative import Stimulative
from stimcore.nets.catalogue import build
from stimcore.nets.cut import cut
from stimcore.nets.densenet import SIZES, densenet
from stimcore.nets.narrowed import Narrowed
from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet
from stimcore.reference.calibrate import recalibrated
from stimcore.subnets.spec import Spec
from tests.nets.conftest import SIDE, lively


def pictures(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def write_into(big: StagedNet, spec: Spec, small: StagedNet) -> None:
    """Write the weights and statistics of a smaller DenseNet into the slices of a larger one."""
    for target, source in zip(big.route(spec), small.route(small.topology.full), strict=True):
        state = source.module.state_dict()
        if isinstance(target.module, Narrowed):
            target.module.write(state)
        else:
            target.module.load_state_dict(state)


@pytest.mark.parametrize(("inner", "outer"), [(121, 264), (121, 169)])
def test_a_densenet_cut_out_of_a_larger_one(inner: int, outer: int) -> None:
    big = lively(build(f"densenet{outer}", input_shape=(3, SIDE, SIDE), num_classes=5), seed=1)
    small = lively(build(f"densenet{inner}", input_shape=(3, SIDE, SIDE), num_classes=5), seed=2)
    spec = big.topology.ordered(SIZES[inner])
    inside = cut(big, spec)
    assert [v.shape for v in inside.module.state_dict().values()] == [v.shape for v in small.module.state_dict().values()]
    assert inside.topology.sizes == small.topology.sizes
    assert inside.topology.channels == small.topology.channels
    before = {key: value.clone() for key, value in big.module.state_dict().items()}
    write_into(big, spec, small)
    with torch.no_grad():
        assert torch.equal(big(pictures(2), spec), small.module(pictures(2)))
        assert torch.equal(
            recalibrated(big, spec, pictures(32), 16)(pictures(2), spec),
            recalibrated(small, small.topology.full, pictures(32), 16)(pictures(2)),
        )
    # weights that the smaller one does not have are unchanged
    last = f"features.denseblock4.denselayer{SIZES[outer][3]}.conv1.weight"
    assert torch.equal(big.module.state_dict()[last], before[last])


def test_slices_follow_the_channels_of_each_layer() -> None:
    """By hand: stem 12, growth 6. With one block less in stage 1, transition 1 gives 9 channels instead of 12."""
    net = densenet((2, 3, 2), 6, input_shape=(3, SIDE, SIDE), num_classes=5)
    parts = {str(part.name): part.module for part in net.route(net.topology.parse("d1-3-2"))}
    block = parts["block5@9"]
    assert isinstance(block, Narrowed)
    whole = net.block(5).get_parameter("layer.conv1.weight")
    assert whole.shape[1] == 12 + 2 * 6
    expected = torch.cat((whole[:, :9], whole[:, 12:24]), 1)
    assert torch.equal(block.slices()["layer.conv1.weight"], expected)
    transition = parts["transition2@9+3"]
    assert isinstance(transition, Narrowed)
    whole = transition.module.get_parameter("conv.weight")
    assert whole.shape[:2] == (15, 30)
    assert torch.equal(transition.slices()["conv.weight"], torch.cat((whole[:13, :9], whole[:13, 12:30]), 1))
    head = parts["head@13+2"]
    assert isinstance(head, Narrowed)
    classifier = net.head.get_parameter("classifier.weight")
    assert torch.equal(head.slices()["classifier.weight"], torch.cat((classifier[:, :13], classifier[:, 15:27]), 1))


def test_training_a_narrowed_part_writes_its_own_channels_statistics() -> None:
    net = lively(densenet((2, 3, 2), 6, input_shape=(3, SIDE, SIDE), num_classes=5))
    part = {str(p.name): p.module for p in net.route(net.topology.parse("d1-3-2"))}["block5@9"]
    assert isinstance(part, Narrowed)
    norm = batch_norms(part)[0]
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    part.train()
    x = torch.randn(4, 21, 4, 4, generator=torch.Generator().manual_seed(0))
    part(x)
    expected = before.clone()
    kept = [*range(9), *range(12, 24)]
    expected[kept] = 0.9 * before[kept] + 0.1 * x.mean((0, 2, 3))
    assert torch.allclose(norm.running_mean, expected, atol=1e-6)
    assert torch.equal(norm.running_mean[9:12], before[9:12])


def test_the_layers_of_a_cut_network_report_their_reduced_sizes() -> None:
    net = densenet((2, 2), 4, input_shape=(3, SIDE, SIDE), num_classes=5)
    small = cut(net, net.topology.parse("d1-2"))
    for module in small.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.shape[:2] == (module.out_channels, module.in_channels)
        if isinstance(module, nn.Linear):
            assert module.weight.shape == (module.out_features, module.in_features)
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_mean.shape == (module.num_features,)


def test_a_cut_densenet_has_sub_networks_too() -> None:
    net = lively(densenet((3, 3, 2), 6, input_shape=(3, SIDE, SIDE), num_classes=5))
    inside, outside = net.topology.parse("d1-2-1"), net.topology.parse("d2-3-2")
    small = cut(net, outside)
    with torch.no_grad():
        assert torch.equal(small(pictures(2), small.topology.parse("d1-2-1")), net(pictures(2), inside))


@pytest.mark.parametrize("name", ["densenet-2-3-2-k6", "resnet18"])
def test_a_stimulative_step_equals_two_forwards(name: str) -> None:
    """Gradients of sharing the prefix, and that the sub-network's pass leaves running statistics alone."""
    fresh = lively(build(name, input_shape=(3, SIDE, SIDE), num_classes=5), seed=4).double().train()
    gradients, statistics = [], []
    for two_forward in (False, True):
        net = copy.deepcopy(fresh)
        labels = torch.arange(8) % 5
        batch = StepContext(images=pictures(8).double(), labels=labels, rng=random.Random(2))
        Stimulative(two_forward=two_forward).step(net, None, batch)
        gradients.append([p.grad for p in net.parameters()])
        statistics.append([norm.running_mean for norm in batch_norms(net)])
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.allclose(one, other, rtol=1e-9, atol=1e-12)
    assert all(torch.allclose(a, b) for a, b in zip(*statistics, strict=True))


def test_narrowed_networks_train_in_place() -> None:
    """Several sub-networks may run forward before the first backward, and each updates its running statistics."""
    net = build("densenet-2-3-2-k6", input_shape=(3, 16, 16), num_classes=5).train()
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    specs = [net.topology.parse(text) for text in ("d1-1-1", "d2-1-2", "main")]
    separate: list[Tensor] = []
    for spec in specs:
        net.zero_grad()
        copy.deepcopy(net)(images, spec)  # a forward alone leaves the gradients of others as they are
        net(images, spec).square().sum().backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in net.parameters()]
        separate = [a + b for a, b in zip(separate, gradients, strict=True)] if separate else gradients
    net.zero_grad()
    before = {norm: norm.num_batches_tracked.clone() for norm in batch_norms(net) if norm.num_batches_tracked is not None}
    torch.autograd.backward([net(images, spec).square().sum() for spec in specs])
    for parameter, expected in zip(net.parameters(), separate, strict=True):
        assert parameter.grad is None or torch.allclose(parameter.grad, expected, rtol=1e-4, atol=1e-5)
    tracked = [norm.num_batches_tracked for norm in before if norm.num_batches_tracked is not None]
    assert any(now == count + 3 for now, count in zip(tracked, before.values(), strict=True))
