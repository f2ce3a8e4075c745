"""The stimulative step: same gradients as two whole forwards, and the options of Stimulative Training++."""

import copy
import dataclasses
import random
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from stimcore.errors import UsageError
from stimcore.export.graphs import network_graph
from stimcore.methods.base import Losses, Method, StepContext
from stimcore.methods.common import Common
from stimcore.methods.stimulative import Stimulative
from stimcore.nets.catalogue import build
from stimcore.nets.logit_norm import LogitNorm, with_normalised_logits
from stimcore.nets.staged import StagedNet
from stimcore.subnets.sampling import draw_ordered
from stimcore.train.seeds import layers_seeded
from tests.methods.conftest import BatchFor, Fresh


def _no_dropout(net: StagedNet) -> StagedNet:
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return net


def _gradients(net: StagedNet, method: Method, batch: StepContext) -> tuple[Losses, dict[str, Tensor]]:
    net.zero_grad(set_to_none=True)
    losses = method.step(net, None, batch)
    gradients = {name: parameter.grad.clone() for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert len(gradients) == len(list(net.parameters()))
    return losses, gradients


def _images(net: StagedNet, size: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((size, *net.input_shape), generator=generator, dtype=dtype)
    return images, torch.randint(0, net.num_classes, (size,), generator=generator)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("subnets", [1, 2])
def test_shared_prefix_has_the_gradients_of_two_forwards(
    family: str, seed: int, subnets: int, fresh: Fresh, batch_for: BatchFor
) -> None:
    """To 1e-5 of the largest gradient of each parameter; in double precision, so that only a wrong formula could differ."""
    net = _no_dropout(fresh(family, dtype=torch.float64))
    images, labels = _images(net)
    steps = []
    for two_forward in (False, True):
        stepped = copy.deepcopy(net)
        method = Stimulative(weight=3.0, subnets=subnets, two_forward=two_forward)
        batch = StepContext(images=images, labels=labels, rng=random.Random(seed))
        steps.append((*_gradients(stepped, method, batch), stepped.state_dict()))
    (losses, gradients, state), (plain_losses, plain, plain_state) = steps
    for name, value in plain_losses.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-9), name
    for name, gradient in plain.items():
        assert (gradients[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-12, name
    for name, value in plain_state.items():  # the running statistics are the same too
        assert torch.allclose(state[name].double(), value.double(), rtol=1e-9), name


@pytest.mark.parametrize("name", ["resnet20"])
def test_in_single_precision_too(name: str, fresh: Fresh) -> None:
    net = fresh(name)
    images, labels = _images(net, size=16, dtype=torch.float32)
    results = []
    for two_forward in (False, True):
        batch = StepContext(images=images, labels=labels, rng=random.Random(1))
        results.append(_gradients(copy.deepcopy(net), Stimulative(two_forward=two_forward), batch)[1])
    flat = [torch.cat([gradient.flatten() for gradient in result.values()]) for result in results]
    assert (flat[0] - flat[1]).norm() <= 1e-5 * flat[1].norm()


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), weight=st.floats(0, 20))
def test_the_loss_is_the_papers(seed: int, weight: float) -> None:
    with layers_seeded(0):
        net = build("resnet20", input_shape=(1, 8, 8), num_classes=4).double().train()
    images, labels = _images(net, size=4, seed=seed)
    spec = draw_ordered(net.topology, random.Random(seed))
    main, sub = net(images), net(images, spec)
    p, q = torch.softmax(main, 1), torch.softmax(sub, 1)
    expected = F.cross_entropy(main, labels) + weight * (p * (p / q).log()).sum(1).mean()
    losses = Stimulative(weight=weight).step(net, None, StepContext(images=images, labels=labels, rng=random.Random(seed)))
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("two_forward", [False, True])
def test_the_frozen_original_is_a_teacher_that_no_step_changes(two_forward: bool, fresh: Fresh) -> None:
    """Its logits are those of the network before, with running statistics; the loss is CE(main, y) + weight * KL(it || sub)."""
    net = fresh("resnet20", dtype=torch.float64)
    images, labels = _images(net, size=4)
    net(images)  # running statistics that differ from those of the batch
    method = Stimulative(weight=2.0, target="frozen", two_forward=two_forward)
    teacher = method.make_auxiliary(net)
    assert teacher is not None
    with net.evaluating(), torch.no_grad():
        expected_teacher = net(images)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)
    plain = copy.deepcopy(net)
    batch = StepContext(images=images, labels=labels, rng=random.Random(3))
    losses = method.step(net, teacher, batch)
    spec = draw_ordered(net.topology, random.Random(3))
    p, q = torch.softmax(expected_teacher, 1), torch.softmax(plain(images, spec), 1)
    expected = F.cross_entropy(plain(images), labels) + 2.0 * (p * (p / q).log()).sum(1).mean()
    torch.autograd.backward(expected)
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-9)
    for (name, ours), other in zip(net.named_parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None
        assert other.grad is not None
        assert torch.allclose(ours.grad, other.grad, rtol=1e-7, atol=1e-10), name
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert torch.equal(teacher(images), expected_teacher)


def test_a_weight_of_zero_is_common_training(family: str, fresh: Fresh, batch_for: BatchFor) -> None:
    net = _no_dropout(fresh(family, dtype=torch.float64))
    batch = batch_for(net)
    assert _gradients(net, Stimulative(weight=0.0), batch)[1].keys() == dict(net.named_parameters()).keys()
    ours = _gradients(net, Stimulative(weight=0.0), batch)[1]
    plain = _gradients(net, Common(), batch)[1]
    for name, gradient in plain.items():
        assert torch.allclose(ours[name], gradient, rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize(("epoch", "weight"), [(0.0, 0.0), (1.0, 2.0), (3.0, 6.0), (7.5, 6.0)])
def test_the_weight_warms_up_linearly(epoch: float, weight: float, fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh("resnet20", dtype=torch.float64)
    batch = dataclasses.replace(batch_for(net), epoch=epoch)
    losses, ours = _gradients(net, Stimulative(weight=6.0, weight_warmup=3.0), batch)
    batch = dataclasses.replace(batch_for(net), epoch=epoch)
    expected, plain = _gradients(net, Stimulative(weight=weight), batch)
    assert losses["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-12)
    for name, gradient in plain.items():
        assert torch.allclose(ours[name], gradient, rtol=1e-9, atol=1e-12), name


def test_when_the_full_network_is_drawn_the_kl_is_zero(fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh("resnet20", dtype=torch.float64)
    batch = batch_for(net)
    losses, gradients = _gradients(net, Stimulative(weight=5.0, max_skipped=(0, 0, 0)), batch)
    assert losses["sub_kl"].item() == pytest.approx(0, abs=1e-12)
    for name, gradient in _gradients(net, Common(), batch)[1].items():
        assert torch.allclose(gradients[name], gradient, rtol=1e-7, atol=1e-10), name


def test_a_skipped_block_learns_from_the_main_network_alone(fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh("resnet20", dtype=torch.float64)
    batch = batch_for(net)
    rng = random.Random(0)
    spec = draw_ordered(net.topology, random.Random(0))
    skipped = set(range(1, 10)) - set(spec.blocks)
    assert skipped
    prefixes = tuple(f"module.layer{(block + 2) // 3}.{(block + 2) % 3}." for block in skipped)
    ours = _gradients(net, Stimulative(weight=5.0), StepContext(images=batch.images, labels=batch.labels, rng=rng))[1]
    plain = _gradients(net, Common(), batch)[1]
    for name, gradient in plain.items():
        same = torch.allclose(ours[name], gradient, rtol=1e-7, atol=1e-12)
        assert same == name.startswith(prefixes), name


def test_running_statistics_are_those_of_the_main_network_alone(family: str, fresh: Fresh, batch_for: BatchFor) -> None:
    nets = [_no_dropout(fresh(family)) for _ in range(2)]
    for net, method in zip(nets, (Stimulative(weight=1.0), Common()), strict=True):
        method.step(net, None, batch_for(net))
    for (name, ours), plain in zip(nets[0].named_buffers(), nets[1].buffers(), strict=True):
        assert torch.allclose(ours.double(), plain.double(), rtol=1e-5, atol=1e-7), name


def test_the_sample_space_caps_what_is_skipped() -> None:
    with layers_seeded(0):
        net = build("resnet50", input_shape=(3, 32, 32), num_classes=2)
    depths = {net.topology.depths(draw_ordered(net.topology, random.Random(s), (0, 1, 3, 0))) for s in range(300)}
    assert depths == {(3, b, c, 3) for b in (3, 4) for c in (3, 4, 5, 6)}
    batch = StepContext(images=torch.zeros(2, 3, 32, 32), labels=torch.tensor([0, 1]), rng=random.Random(0))
    with pytest.raises(UsageError, match="4 numbers from 0"):
        Stimulative(max_skipped=(0, 1)).step(net, None, batch)


def test_several_subnets_are_averaged(fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh("resnet20", dtype=torch.float64)
    images, labels = _images(net)
    rng = random.Random(7)
    specs = [draw_ordered(net.topology, rng) for _ in range(3)]
    main = net(images)
    kls = [F.kl_div(net(images, spec).log_softmax(1), main.softmax(1), reduction="batchmean").item() for spec in specs]
    losses = Stimulative(subnets=3).step(net, None, StepContext(images=images, labels=labels, rng=random.Random(7)))
    assert losses["sub_kl"].item() == pytest.approx(sum(kls) / 3, rel=1e-9)


def test_the_divergence_may_be_averaged_over_the_classes_too() -> None:
    main, sub = (torch.randn(6, 100, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    by_default = torch.nn.KLDivLoss(reduction="none")(sub.log_softmax(1), main.softmax(1)).mean()  # what `KLDivLoss()` returns
    method = Stimulative(weight=10.0, divide_by_classes=True)
    assert method.divergence(main, sub).item() == pytest.approx(by_default.item(), rel=1e-5)
    assert 100 * by_default.item() == pytest.approx(Stimulative().divergence(main, sub).item(), rel=1e-5)
    minus = Stimulative(amplitude=2.0, divide_by_classes=True).divergence(main, sub)
    assert 100 * minus.item() == pytest.approx(Stimulative(amplitude=2.0).divergence(main, sub).item(), rel=1e-5)


def test_kl_minus_by_hand() -> None:
    main, sub = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[0.0, 5.0, 10.0]])
    # both have deviation sqrt(2/3) of their own unit: normalised they are +-sqrt(3/2), 0
    a = 2 * (3 / 2) ** 0.5
    p = torch.softmax(torch.tensor([a, 0.0, -a]), 0)
    q = torch.softmax(torch.tensor([-a, 0.0, a]), 0)
    expected = (p * (p / q).log()).sum().item()
    assert Stimulative(amplitude=2.0).divergence(main, sub).item() == pytest.approx(expected, rel=1e-5)
    # how large the logits are changes nothing
    assert Stimulative(amplitude=2.0).divergence(100 * main, sub).item() == pytest.approx(expected, rel=1e-5)


def test_normalised_logits_have_mean_zero_and_the_amplitude_as_deviation() -> None:
    out = LogitNorm(3.0)(torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]]))
    assert torch.allclose(out.mean(1), torch.zeros(2), atol=1e-6)
    assert out[0].std(correction=0).item() == pytest.approx(3, rel=1e-5)
    assert torch.isfinite(out).all()  # equal logits: epsilon keeps them finite


def test_with_normalised_ce_the_network_carries_the_normalisation(family: str, fresh: Fresh, batch_for: BatchFor) -> None:
    net = _no_dropout(fresh(family))
    method = Stimulative(amplitude=4.0, normalised_ce=True)
    trained = method.wrap(net)
    assert list(trained.state_dict()) == list(net.state_dict())
    batch = batch_for(net)
    losses = method.step(trained, None, batch)
    normalised = F.layer_norm(net(batch.images), (10,), eps=1e-7) * 4.0
    assert losses["main_ce"].item() == pytest.approx(F.cross_entropy(normalised, batch.labels).item(), rel=1e-4)
    spec = net.topology.ordered([1] * len(net.topology.sizes))
    assert torch.allclose(trained(batch.images, spec).std(1, correction=0), torch.full((4,), 4.0), rtol=0.01)
    assert Stimulative(amplitude=4.0).wrap(net) is net
    assert Stimulative().wrap(net) is net


def test_the_exported_graph_carries_it_too(fresh: Fresh) -> None:
    net = with_normalised_logits(fresh("resnet20"), 4.0)
    images = torch.randn((3, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    net(torch.randn((4, 3, 32, 32), generator=torch.Generator().manual_seed(1)))
    net.eval()
    model, _ = network_graph(net, "torchscript")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits = session.run(None, {"images": images.numpy()})[0]
    assert np.allclose(logits, net(images).detach().numpy(), atol=1e-4)
    assert np.allclose(logits.std(1), 4.0, rtol=1e-4)


def test_smaller_inputs_go_to_the_subnet(fresh: Fresh) -> None:
    net = fresh("resnet20", dtype=torch.float64)
    images, labels = _images(net)
    small = F.interpolate(images, size=14)
    method = Stimulative(smallest_side=0.43)
    spec = draw_ordered(net.topology, random.Random(5))
    kl = F.kl_div(net(small, spec).log_softmax(1), net(images).softmax(1), reduction="batchmean").item()
    batch = StepContext(images=images, labels=labels, rng=random.Random(5), smaller=(small,))
    assert method.step(net, None, batch)["sub_kl"].item() == pytest.approx(kl, rel=1e-9)


def test_sides_are_uniform_between_the_smallest_and_the_crop() -> None:
    method = Stimulative(smallest_side=0.43, subnets=2)
    rng = random.Random(0)
    drawn = [side for _ in range(2000) for side in method.draw_sides(32, rng)]
    assert len(drawn) == 4000
    assert set(drawn) == set(range(14, 33))
    assert max(drawn.count(side) for side in set(drawn)) < 2 * min(drawn.count(side) for side in set(drawn))
    assert Stimulative().draw_sides(32, rng) == ()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"weight": -1.0}, "a lambda of -1.0; allowed: 0 and more"),
        ({"weight": float("nan")}, "a lambda of nan"),
        ({"temperature": 0.0}, "a temperature of 0.0; allowed: more than 0"),
        ({"subnets": 0}, "subnets=0; allowed: 1 and more"),
        ({"smallest_side": 0.0}, "a smallest_side of 0.0"),
        ({"smallest_side": 1.5}, "a smallest_side of 1.5"),
        ({"normalised_ce": True}, "normalised_ce without an amplitude"),
        ({"amplitude": 0.0}, "an amplitude of 0.0; allowed: more than 0"),
        ({"amplitude": 1.0, "temperature": 2.0}, "a temperature of 2.0 with an amplitude"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Stimulative(**options)
