"""Self distillation: the loss put together by hand, and what is a constant in it."""

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from stimcore.errors import UsageError
from stimcore.methods.exits import Shape
from stimcore.methods.self_distillation import Adapter, SelfDistillation
from stimcore.methods.table import make, restore
from stimcore.train.seeds import layers_seeded
from tests.methods.conftest import BatchFor, Fresh, gradient


@pytest.mark.parametrize("feature", ["batch", "image"])
def test_the_loss_by_hand(feature: str, fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh("resnet20")
    batch = batch_for(net)
    method = SelfDistillation(feature=feature)
    with layers_seeded(0):
        students = method.make_auxiliary(net)
    outs, out = {}, net.stem(batch.images)
    for block in range(1, 10):
        out = outs[block] = net.block(block)(out)
    logits, deep = net.head(out), out.mean((2, 3))
    expected = F.cross_entropy(logits, batch.labels).item()
    target = torch.softmax(logits / 3, 1)
    for end in (3, 6):
        vector = students.adapters[str(end)](outs[end])
        z = students.heads[str(end)](vector)
        soft = -(target * torch.log_softmax(z / 3, 1)).sum(1).mean().item()
        squares = (vector - deep) ** 2
        distance = (squares.sum().sqrt() if feature == "batch" else squares.sum(1).sqrt().mean()).item()
        expected += 0.8 * F.cross_entropy(z, batch.labels).item() + 0.2 * soft + 0.02 * distance
    assert method.step(net, students, batch)["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_heads_with_weights_of_zero(fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh("resnet20")
    method = SelfDistillation(beta=0.0)
    with layers_seeded(0):
        students = method.make_auxiliary(net)
    for parameter in [*students.heads.parameters(), *net.head.parameters()]:
        parameter.data.zero_()
    losses = method.step(net, students, batch_for(net))
    assert losses["loss"].item() == pytest.approx(math.log(10) * (1 + 2 * 0.8 + 2 * 0.2), rel=1e-5)


def test_the_deepest_head_gets_the_gradient_of_its_cross_entropy_alone(fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh("resnet20")
    batch = batch_for(net)
    method = SelfDistillation()
    with layers_seeded(0):
        students = method.make_auxiliary(net)
    method.step(net, students, batch)
    weight = net.module.get_parameter("linear.weight")
    distilled = gradient(weight).clone()
    net.zero_grad()
    torch.autograd.backward(F.cross_entropy(net(batch.images), batch.labels))
    assert torch.allclose(distilled, gradient(weight), rtol=1e-4, atol=1e-6)
    assert gradient(net.block(9).get_parameter("conv2.weight")).abs().max() > 0


@pytest.mark.parametrize(
    ("source", "target"), [((16, 32, 32), (64, 8, 8)), ((24, 7, 7), (40, 2, 2)), ((8, 5, 5), (8, 5, 5)), ((4, 1, 1), (6, 1, 1))]
)
def test_adapters_reach_the_deepest_size(source: Shape, target: Shape) -> None:
    with layers_seeded(0):
        adapter = Adapter(source, target)
    sizes = []
    adapter[-2].register_forward_pre_hook(lambda module, inputs: sizes.append(tuple(inputs[0].shape[1:])))
    assert adapter(torch.rand(2, *source)).shape == (2, target[0])
    assert sizes == [target]


@pytest.mark.parametrize(
    "options", [{"alpha": 1.1}, {"alpha": -0.1}, {"beta": -1}, {"beta": math.nan}, {"temperature": 0}, {"feature": "pixel"}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="allowed"):
        SelfDistillation(**options)


def test_a_run_stored_before_the_option_took_the_distance_per_image() -> None:
    stored = {"alpha": 0.2, "beta": 0.02, "temperature": 3.0}
    assert restore("self_distillation", stored) == SelfDistillation(feature="image")
    assert make("self_distillation", stored) == SelfDistillation() == SelfDistillation(feature="batch")
    assert restore("self_distillation", stored | {"feature": "batch"}) == SelfDistillation()
    assert restore("stimulative", {"weight": 5.0}) == make("stimulative", {"weight": 5.0})
    with pytest.raises(UsageError, match="there is no method 'imported'"):
        restore("imported", {})
