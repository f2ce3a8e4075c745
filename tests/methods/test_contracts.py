"""What holds for every training method on every family of networks."""

import copy
import dataclasses
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

import stimcore.methods
from stimcore.errors import UsageError
from stimcore.methods.base import Losses, Method, StepContext
from stimcore.methods.table import METHODS, make
from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet
from stimcore.train.seeds import layers_seeded
from tests.methods.conftest import BatchFor, Fresh

FOLDER = Path(stimcore.methods.__file__).parent


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Method:
    return make(request.param, {})


def _stepped(method: Method, net: StagedNet, batch: StepContext) -> tuple[Losses, dict[str, Tensor]]:
    """Return the losses and the gradients of one step."""
    with layers_seeded(1):
        auxiliary = method.make_auxiliary(net)
    with layers_seeded(2):  # dropout inside heads
        losses = method.step(net, auxiliary, batch)
    parameters = dict(net.named_parameters())
    gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    for name, parameter in [] if auxiliary is None else auxiliary.named_parameters():
        assert parameter.grad is not None, name
        gradients[f"auxiliary.{name}"] = parameter.grad
    return losses, gradients


def test_one_step_gives_finite_losses_and_gradients(method: Method, family: str, fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh(family)
    losses, gradients = _stepped(method, net, batch_for(net))
    assert {"loss", "main_ce"} <= set(losses)
    for name, value in losses.items():
        assert value.ndim == 0, name
        assert torch.isfinite(value), name
        assert not value.requires_grad, name
    for name, gradient in gradients.items():
        assert torch.isfinite(gradient).all(), name
    assert any(name.startswith("module.") and g.abs().max() > 0 for name, g in gradients.items())
    without = {name for name, p in net.named_parameters() if p.grad is None}
    assert not without or type(method).__name__ == "StochasticDepth"  # its dropped blocks do not run


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(
    method: Method, family: str, fresh: Fresh, batch_for: BatchFor
) -> None:
    runs = []
    for _ in range(2):
        net = fresh(family)
        runs.append(_stepped(method, net, batch_for(net, seed=3)))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(gradient, runs[1][1][name]) for name, gradient in runs[0][1].items())


def test_a_step_leaves_the_global_generators_and_the_modes_alone(
    method: Method, family: str, fresh: Fresh, batch_for: BatchFor
) -> None:
    net = fresh(family)
    for module in net.modules():  # dropout may only draw from torch's own generator; it is not the method's doing
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with layers_seeded(1):
        auxiliary = method.make_auxiliary(net)
    before = torch.random.get_rng_state(), random.getstate()
    hooks = [len(module._forward_hooks) for module in net.modules()]
    method.step(net, auxiliary, batch_for(net))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1] == random.getstate()
    assert all(module.training for module in net.modules())
    assert all(norm.track_running_stats for norm in batch_norms(net))
    assert hooks == [len(module._forward_hooks) for module in net.modules()]


def test_making_the_heads_leaves_the_network_alone(method: Method, family: str, fresh: Fresh) -> None:
    net = fresh(family)
    before = copy.deepcopy(net.state_dict())
    with layers_seeded(1):
        method.make_auxiliary(net)
    assert all(module.training for module in net.modules())
    after = net.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_heads_are_no_part_of_the_network(method: Method, family: str, fresh: Fresh) -> None:
    net = fresh(family)
    of_net = set(map(id, net.parameters()))
    with layers_seeded(1):
        auxiliary = method.make_auxiliary(net)
    assert auxiliary is None or not of_net & set(map(id, auxiliary.parameters()))


def test_a_batch_of_two_works(method: Method, family: str, fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh(family)
    losses, _ = _stepped(method, net, batch_for(net, size=2))
    assert torch.isfinite(losses["loss"])


def test_every_method_has_a_file_and_a_card_and_there_is_no_other_card() -> None:
    cards = {path.stem for path in FOLDER.glob("*.md")}
    assert cards == set(METHODS)
    for name, kind in METHODS.items():
        assert Path(kind.__module__.replace(".", "/")).name == name
        assert dataclasses.is_dataclass(kind), name
        assert kind.__dataclass_params__.frozen, name
        card = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
        for heading in ("## Idea", "## Cost per step", "## When it does not help", "## Choices"):
            assert heading in card, (name, heading)
        for field in dataclasses.fields(kind):
            assert f"`{field.name}`" in card, f"the card of {name} does not explain its option {field.name}"


def test_an_unknown_method_or_option_is_refused_with_what_there_is() -> None:
    with pytest.raises(UsageError, match="there is no method 'comon'.*common, layer_supervision"):
        make("comon", {})
    with pytest.raises(UsageError, match="stochastic_depth has no option p; allowed: last_survival"):
        make("stochastic_depth", {"p": 1})
    with pytest.raises(UsageError, match="no options"):
        make("common", {"weight": 1})
