"""Stochastic depth: survival, gates, scaling."""

import dataclasses
import random

import pytest
import torch
from torch import Tensor, nn

from stimcore.errors import UsageError
from stimcore.methods.stochastic_depth import StochasticDepth, droppable, scale_branches, survival
from stimcore.nets.cut import cut
from stimcore.nets.own import staged
from tests.methods.conftest import FAMILIES, BatchFor, Fresh, gradient

ADDING = [name for name in FAMILIES if not name.startswith("densenet")]
"""Families whose blocks add to their input instead of concatenating."""


class Always(random.Random):
    """A generator that always draws one number."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self.value = value

    def random(self) -> float:
        return self.value


def test_survival_falls_linearly_to_the_last(fresh: Fresh) -> None:
    topology = fresh("resnet20").topology
    assert survival(topology, 9, 0.9) == pytest.approx(0.9)
    assert survival(topology, 3, 0.9) == pytest.approx(1 - 0.1 / 3)
    assert survival(topology, 9, 0.5) == pytest.approx(0.5)


def test_the_first_block_of_a_stage_never_drops(fresh: Fresh) -> None:
    assert droppable(fresh("resnet20")) == [2, 3, 5, 6, 8, 9]
    assert droppable(fresh("mobilenetv3-w0.25")) == [2, 4, 5, 7, 8, 9, 11, 13, 14]


def test_gates_are_drawn_with_their_probability(fresh: Fresh) -> None:
    net, rng = fresh("resnet20"), random.Random(0)
    method = StochasticDepth(last_survival=0.5)
    counts = dict.fromkeys(droppable(net), 0)
    for _ in range(4000):
        dropped, factors = method.draw(net, rng)
        assert not dropped & set(factors)
        assert dropped | set(factors) == set(counts)
        for block in dropped:
            counts[block] += 1
        assert all(factor == pytest.approx(1 / survival(net.topology, block, 0.5)) for block, factor in factors.items())
    for block, count in counts.items():
        assert count / 4000 == pytest.approx(1 - survival(net.topology, block, 0.5), abs=0.03)


@pytest.mark.parametrize("family", ADDING)
def test_dropping_everything_runs_the_smallest_ordered_subnet(family: str, fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh(family)
    batch = batch_for(net)
    smallest = net.topology.ordered([1] * len(net.topology.sizes))
    expected = torch.nn.functional.cross_entropy(net(batch.images, smallest), batch.labels)
    drawn = dataclasses.replace(batch, rng=Always(0.9999))
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    expected = torch.nn.functional.cross_entropy(net(batch.images, smallest), batch.labels)
    losses = StochasticDepth(last_survival=1e-9).step(net, None, dataclasses.replace(drawn, rng=Always(1 - 1e-12)))
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("family", ADDING)
def test_a_kept_branch_is_divided_by_its_probability(family: str, fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh(family)
    block = droppable(net)[0]
    x = net.stem(batch_for(net).images)
    for number in range(1, block):
        x = net.block(number)(x)
    branch = []
    handle = net.residuals[block].register_forward_hook(lambda module, inputs, output: branch.append(output.clone()))
    whole = net.block(block)(x)
    handle.remove()
    if net.residuals[block] is net.block(block):  # nothing follows the addition
        branch = [whole - x]
    with scale_branches(net, {block: 2.0}):
        doubled = net.block(block)(x)
    plain_sum = 2 * branch[0] + x
    assert torch.allclose(doubled, plain_sum.relu() if family.startswith("resnet") else plain_sum, atol=1e-5)


def test_a_survival_of_one_is_common_training(family: str, fresh: Fresh, batch_for: BatchFor) -> None:
    from stimcore.methods.common import Common

    net = fresh(family)
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch = batch_for(net)
    ours = StochasticDepth(last_survival=1.0).step(net, None, batch)
    gradients = [gradient(p).clone() for p in net.parameters()]
    net.zero_grad()
    assert Common().step(net, None, batch)["loss"] == ours["loss"]
    assert all(torch.equal(a, gradient(p)) for a, p in zip(gradients, net.parameters(), strict=True))


def test_a_dropped_block_gets_no_gradient(fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh("resnet20")
    StochasticDepth(last_survival=1e-9).step(net, None, dataclasses.replace(batch_for(net), rng=Always(1 - 1e-12)))
    for number in range(1, 10):
        assert (net.block(number).get_parameter("conv1.weight").grad is None) == (number in droppable(net))


def test_hooks_are_gone_even_after_an_error(fresh: Fresh) -> None:
    net = fresh("resnet20")
    with pytest.raises(RuntimeError), scale_branches(net, {2: 2.0}):
        net(torch.zeros(1, 1, 1, 1))
    assert not any(module._forward_hooks for module in net.modules())


def test_options_and_networks_that_do_not_fit_are_refused(fresh: Fresh) -> None:
    for value in (0, 1.1, float("nan")):
        with pytest.raises(UsageError, match="allowed: more than 0, at most 1"):
            StochasticDepth(last_survival=value)
    plain = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)), nn.Flatten(), nn.Linear(3 * 16, 2))
    net = staged(plain, stem=plain[0], stages=[[plain[1], plain[2]]], head=plain[3:], input_shape=(3, 4, 4))
    with pytest.raises(UsageError, match="no residual branch"):
        StochasticDepth().make_auxiliary(net)


class PostActivation(nn.Module):
    """As ResNets have it: a branch, an addition, a ReLU; the last norm of the branch is zero at first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.relu(self.norm(self.conv(self.relu(x))) + x))


class PreActivation(nn.Module):
    """As transformers have it: two branches, one after the other, and nothing after the additions."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.one(x.tanh())
        return torch.as_tensor(x + self.other(x.tanh()))


def test_branches_of_own_blocks_are_found_by_running() -> None:
    blocks: list[nn.Module] = [PostActivation(), PreActivation(), PostActivation(), PreActivation()]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *blocks, head)
    net = staged(module, stem=module[0], stages=[blocks[:2], blocks[2:]], head=head, input_shape=(3, 6, 6))
    assert droppable(net) == [2, 4]
    assert net.residuals[1] is blocks[0].get_submodule("norm")
    assert net.residuals[2] is blocks[1]
    assert cut(net, net.topology.full).residuals.keys() == net.residuals.keys()
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0)).abs()
    nn.init.ones_(blocks[0].get_submodule("norm").get_parameter("weight"))
    net.eval()
    for number in (1, 2):
        with torch.no_grad(), scale_branches(net, {number: 0.0}):
            assert torch.allclose(net.block(number)(x), x)
        with torch.no_grad(), scale_branches(net, {number: 1.0}):
            assert torch.allclose(net.block(number)(x), blocks[number - 1](x), atol=1e-6)
    with torch.no_grad():
        whole = blocks[1](x)
        with scale_branches(net, {2: 2.0}):
            assert torch.allclose(net.block(2)(x), x + 2 * (whole - x), atol=1e-6)


def test_a_twin_of_first_blocks_trains_as_usual(fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh("resnet20")
    twin = cut(net, net.topology.ordered([1, 1, 1]))
    method = StochasticDepth()
    method.make_auxiliary(twin)
    assert torch.isfinite(method.step(twin, None, batch_for(twin))["loss"])


def test_where_layers_concatenate_a_dropped_one_adds_zeros(fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh("densenet-2-3-2-k6")
    assert droppable(net) == [2, 4, 5, 7]
    x = net.block(1)(net.stem(batch_for(net).images))
    with scale_branches(net, {2: 0.0}):
        out = net.block(2)(x)
    assert torch.equal(out[:, : x.shape[1]], x)
    assert not out[:, x.shape[1] :].any()


def test_a_twin_keeps_its_branches(fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh("resnet20")
    twin = cut(net, net.topology.ordered([2, 1, 3]))
    assert droppable(twin) == [2, 5, 6]
    assert set(map(id, twin.branch_ends.values())) <= set(map(id, twin.modules()))
    assert torch.isfinite(StochasticDepth().step(twin, None, batch_for(twin))["loss"])


def test_a_last_survival_of_one_half_trains_resnet20(fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh("resnet20", shape=(3, 8, 8))
    batch = batch_for(net, size=8)
    method = StochasticDepth(last_survival=0.5)
    method.make_auxiliary(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    losses, dropped = [], set()
    for step in range(30):
        optimizer.zero_grad(set_to_none=True)
        losses.append(method.step(net, None, dataclasses.replace(batch, rng=random.Random(step)))["loss"].item())
        dropped |= {block for block in droppable(net) if net.block(block).get_parameter("conv1.weight").grad is None}
        optimizer.step()
    assert dropped == set(droppable(net))
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])  # the same batch in every step is learnt by heart
