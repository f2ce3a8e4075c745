"""What holds for every network of the catalogue, on sub-networks that Hypothesis picks."""

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stimcore.errors import SpecError
from stimcore.nets.cost import Costs
from stimcore.nets.cut import cut
from stimcore.nets.narrowed import Narrowed
from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet, prefix_length
from stimcore.reference.calibrate import recalibrated
from stimcore.subnets import families, sampling
from stimcore.subnets.spec import Spec

Images = Callable[[int], Tensor]
few = settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def draw(net: StagedNet, seed: int) -> Spec:
    """Any sub-network: ordered, deletion or permutation."""
    rng = random.Random(seed)
    kinds = [kind for kind in families.KINDS if families.count(net.topology, kind)]
    return sampling.sample(net.topology, rng.choice(kinds), 2, rng)[0]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@torch.no_grad()
def test_the_full_spec_is_the_plain_network_bit_for_bit(net: StagedNet, images: Images) -> None:
    plain = net.module(images(2))
    assert plain.isfinite().all()
    assert plain.std() > 0
    assert torch.equal(net(images(2)), plain)
    assert torch.equal(net(images(2), net.topology.full), plain)


@few
@given(seed=st.integers(0, 2**32))
@torch.no_grad()
def test_a_subnetwork_is_the_network_of_only_its_blocks(net: StagedNet, images: Images, seed: int) -> None:
    spec = draw(net, seed)
    with blocks_that_run(net) as ran:
        logits = net(images(2), spec)
    # not that the logits differ from those of the main network: a block with random weights may change nothing on two images
    assert tuple(ran) == spec.blocks
    out = images(2)
    for module in plain_modules(net, spec):
        out = module(out)
    assert torch.equal(out, logits)


@contextmanager
def blocks_that_run(net: StagedNet) -> Iterator[list[int]]:
    """Collect the numbers of the blocks that run, in order; a narrowed block runs the module of the whole one."""
    ran: list[int] = []
    handles = [
        net.block(number).register_forward_pre_hook(lambda module, inputs, number=number: ran.append(number))
        for number in range(1, net.topology.num_blocks + 1)
    ]
    try:
        yield ran
    finally:
        for handle in handles:
            handle.remove()


def plain_modules(net: StagedNet, spec: Spec) -> list[nn.Module]:
    """Return the blocks of a spec in a row; where channels are missing, as modules of the reduced width."""
    if net.topology.kind(spec) in ("main", "ordered", "delete") and all(spec.stages):
        small = cut(net, spec)
        parameters = {id(p) for p in net.parameters()}
        assert not any(id(p) in parameters for p in small.parameters())
        return [small.eval()]
    return [net.stem, *(net.block(block) for block in spec.blocks), net.head]


@few
@given(seed=st.integers(0, 2**32))
def test_deleted_blocks_get_no_gradient(net: StagedNet, images: Images, seed: int) -> None:
    spec = draw(net, seed)
    net.zero_grad()
    net(images(2), spec).sum().backward()
    for block in range(1, net.topology.num_blocks + 1):
        reached = [p.grad is not None for p in net.block(block).parameters()]
        assert all(reached) if block in spec.blocks else not any(reached)
    narrowed = [part.module for part in net.route(spec) if isinstance(part.module, Narrowed)]
    assert not narrowed or sum(gradient_inside(module) for module in narrowed) > 0
    net.zero_grad()


def gradient_inside(part: Narrowed) -> float:
    """Return the size of the gradient of the channels that remain; assert that the others have none."""
    gradients = copy.deepcopy(part.module)
    for gradient, parameter in zip(gradients.parameters(), part.module.parameters(), strict=True):
        assert parameter.grad is not None
        gradient.data = parameter.grad.clone()
    narrowed = Narrowed(gradients, part.axes, part.kept)
    sliced = [key for key, _ in gradients.named_parameters() if key in part.axes]
    inside = {key: value for key, value in narrowed.slices().items() if key in sliced}
    size = sum(float(value.detach().abs().sum()) for value in inside.values())
    narrowed.write({key: torch.zeros_like(value) for key, value in inside.items()})
    assert sliced
    assert not any(gradients.get_parameter(key).any() for key in sliced)
    return size


def test_illegal_specs_are_refused_with_the_reason(net: StagedNet, images: Images) -> None:
    topology = net.topology
    stages = topology.stages
    with pytest.raises(SpecError, match="stages were given"):
        net(images(1), Spec(stages[:-1]))
    with pytest.raises(SpecError, match="runs twice"):
        net(images(1), Spec(((*stages[0], stages[0][-1]), *stages[1:])))
    with pytest.raises(SpecError, match=f"has no block {topology.num_blocks + 1}"):
        net(images(1), Spec((*stages[:-1], (*stages[-1], topology.num_blocks + 1))))
    if topology.ordered_only:
        with pytest.raises(SpecError, match="layers concatenate"):
            net(images(1), Spec((stages[0][1:], *stages[1:])))
    for block, why in list(topology.fixed.items())[:2]:
        stage = topology.stage_of(block)
        rest = tuple(b for b in stages[stage] if b != block)
        for changed, what in ((rest, "deleted"), ((*rest, block), "moved")):
            with pytest.raises(SpecError, match=f"block {block} .*can't be {what}: {why}"):
                net(images(1), Spec((*stages[:stage], changed, *stages[stage + 1 :])))


def test_state_dict_has_the_keys_of_the_plain_network(net: StagedNet) -> None:
    assert list(net.state_dict()) == [f"module.{key}" for key in net.module.state_dict()]
    parts = [part.module for part in net.route(net.topology.full)]
    in_parts = [id(p) for part in parts for p in part.parameters()]
    assert sorted(in_parts) == sorted(id(p) for p in net.module.parameters())


@torch.no_grad()
def test_parts_with_equal_names_compute_the_same(net: StagedNet, images: Images) -> None:
    rng = random.Random(0)
    one, other = (sampling.draw_ordered(net.topology, rng) for _ in range(2))
    shared = prefix_length(net.route(one), net.route(other))
    assert shared >= 2
    outs = []
    for spec in (one, other):
        out = images(2)
        for part in net.route(spec)[:shared]:
            out = part.module(out)
        outs.append(out)
    assert torch.equal(*outs)


def test_costs_add_up(family: StagedNet) -> None:
    costs = Costs(family)
    assert costs.main.parameters == sum(p.numel() for p in family.module.parameters())
    assert costs.main.macs > 0
    spec = sampling.draw_ordered(family.topology, random.Random(5))
    small = cut(family, spec)
    assert costs.of(spec) == Costs(small).main
    assert costs.of(spec).parameters == sum(p.numel() for p in small.parameters())
    assert list(costs.parts(spec)) == list(family.topology.route(spec))


@few
@given(seed=st.integers(0, 2**32))
def test_calibration_touches_statistics_only(family: StagedNet, images: Images, seed: int) -> None:
    spec = draw(family, seed)
    before = copy.deepcopy(family.state_dict())
    with torch.no_grad():
        calibrated = recalibrated(family, spec, images(48), batch_size=16)
    after = family.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    changed = {key for key, value in calibrated.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all(key.endswith(statistics) for key in changed)
    running = {id(norm) for part in calibrated.route(spec) for norm in batch_norms(part.module)}
    for norm in batch_norms(calibrated):
        assert (id(norm) in running) == (norm.num_batches_tracked == 3)


@few
@given(seed=st.integers(0, 2**32))
@torch.no_grad()
def test_calibrating_a_subnetwork_is_calibrating_its_twin(family: StagedNet, images: Images, seed: int) -> None:
    spec = sampling.draw_ordered(family.topology, random.Random(seed))
    inside = recalibrated(family, spec, images(48), batch_size=16)(images(4), spec)
    small = cut(family, spec)
    alone = recalibrated(small, small.topology.full, images(48), batch_size=16)(images(4))
    assert torch.equal(inside, alone)
