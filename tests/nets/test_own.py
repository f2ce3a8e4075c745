"""Any module as stages of blocks: what a run of it determines, and what is refused with a reason."""

import random
from collections import OrderedDict
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from stimcore.errors import UsageError
from stimcore.nets.catalogue import build
from stimcore.nets.own import check_trains, staged
from stimcore.nets.probe import why_fixed
from stimcore.nets.staged import StagedNet
from stimcore.subnets.sampling import draw_ordered


class Residual(nn.Module):
    """Adds a convolution to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.norm(self.conv(x)).relu()
        return out


class Scaled(Residual):
    """Looks residual, but its shortcut scales."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = 0.5 * x + self.norm(self.conv(x))
        return out


class Plain(nn.Module):
    """A network as a user might write it."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.first, self.blocks = nn.Conv2d(3, 4, 3, padding=1), nn.Sequential(*blocks)
        self.last = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.blocks(self.first(x)).mean((2, 3)))
        return out


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def network(middle: type[nn.Module] = Residual) -> Plain:
    return Plain([Residual(4), Residual(4), nn.Conv2d(4, 8, 3, 2, 1), middle(8), Residual(8)])


def in_stages(module: Plain, cuts: Sequence[int] = (2, 5), head: nn.Module | None = None, shape: int = 8) -> StagedNet:
    blocks, stages, start = list(module.blocks), [], 0
    for end in cuts:
        stages.append(blocks[start:end])
        start = end
    head = head or nn.Sequential(OrderedDict(pool=Mean(), last=module.last))
    return staged(module, stem=module.first, stages=stages, head=head, input_shape=(3, shape, shape), name="mine")


@torch.no_grad()
def test_removable_blocks_are_determined_by_running_them() -> None:
    module = network(Scaled).train()
    net = in_stages(module)
    assert module.training
    assert all(m.training for m in module.modules())
    assert net.topology.sizes == (2, 3)
    assert net.topology.network == "mine"
    assert net.num_classes == 5
    assert net.topology.fixed == {
        3: "it changes the resolution, so there is no skip path around it",
        4: "it has no identity shortcut, so there is no skip path around it",
    }
    assert net.topology.removable == (1, 2, 5)
    net.eval()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(net(images), module(images))
    assert list(net.module.state_dict()) == list(module.state_dict())
    for seed in range(5):
        assert net(images, draw_ordered(net.topology, random.Random(seed))).isfinite().all()


def test_a_stage_changes_its_shape_at_its_beginning() -> None:
    with pytest.raises(UsageError, match=r"block 3 changes the shape in the middle of stage 1.*stages\[0\]\[:2\]"):
        in_stages(network(), cuts=(5,))


def test_parts_make_up_the_module() -> None:
    with pytest.raises(UsageError, match="no part has the parameters blocks.4.conv.weight"):
        in_stages(network(), cuts=(2, 4))
    module = network()
    with_softmax = nn.Sequential(Mean(), module.last, nn.Softmax(1))
    with pytest.raises(UsageError, match="do not compute what the module computes.*Put what its forward does"):
        in_stages(module, head=with_softmax)
    with pytest.raises(UsageError, match=r"the head does not accept \[2, 8, 4, 4\]"):
        in_stages(module, head=module.last)
    with pytest.raises(UsageError, match="at least one stage, none without blocks"):
        in_stages(module, cuts=(0, 5))
    body = nn.Sequential(nn.Conv2d(3, 4, 1), Residual(4), nn.ReLU())
    with pytest.raises(UsageError, match="allowed: logits"):
        staged(body, stem=body[0], stages=[[body[1]]], head=body[2], input_shape=(3, 8, 8))


class Fails(nn.Module):
    """Raises whatever a foreign module may raise when it runs."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error("something is missing")


@pytest.mark.parametrize(
    "error", [RuntimeError, TypeError, ValueError, AssertionError, IndexError, KeyError, AttributeError, ZeroDivisionError]
)
@pytest.mark.parametrize(("place", "what"), [(-1, "the network"), (0, "the stem"), (2, "block 2"), (3, "the head")])
def test_whatever_a_foreign_module_raises_becomes_one_sentence(error: type[Exception], place: int, what: str) -> None:
    head = nn.Sequential(Mean(), nn.Linear(4, 5))
    parts: list[nn.Module] = [nn.Conv2d(3, 4, 3, padding=1), Residual(4), Residual(4), head]
    module: nn.Module = nn.Sequential(*parts)
    if place < 0:
        module = nn.Sequential(*parts, Fails(error))
    else:
        parts[place] = nn.Sequential(parts[place], Fails(error))  # the module itself computes
    stem, *blocks, head = parts  # type: ignore[assignment]
    with pytest.raises(UsageError, match=f"{what} does not accept .*something is missing") as refused:
        staged(module, stem=stem, stages=[blocks], head=head, input_shape=(3, 8, 8))
    assert "\n" not in str(refused.value)


def test_your_own_network_by_name() -> None:
    """`MODULE:FUNCTION` names it wherever the command line takes a network."""
    net = build("tests.nets.own_network:residual", input_shape=(3, 8, 8), num_classes=7)
    assert net.topology.network == "residual"
    assert net.num_classes == 7
    with pytest.raises(UsageError, match="no network 'nowhere_at_all:build'.*PYTHONPATH"):
        build("nowhere_at_all:build", input_shape=(3, 8, 8), num_classes=7)
    with pytest.raises(UsageError, match="no network 'tests.nets.own_network:nothing'"):
        build("tests.nets.own_network:nothing", input_shape=(3, 8, 8), num_classes=7)
    for other in ("os:getcwd", "math:pi", "json:JSONDecoder", "builtins:int", "tests.nets.own_network:of_classes_alone"):
        with pytest.raises(UsageError, match=rf"{other}.* as a network; allowed: a function of input_shape and num_classes"):
            build(other, input_shape=(3, 8, 8), num_classes=7)
    with pytest.raises(UsageError, match="own_network:plain returned a Sequential"):
        build("tests.nets.own_network:plain", input_shape=(3, 8, 8), num_classes=7)
    with pytest.raises(UsageError, match="returned a network of 10 logits; allowed: num_classes of them, here 7"):
        build("tests.nets.own_network:of_ten_classes", input_shape=(3, 8, 8), num_classes=7)
    with pytest.raises(UsageError, match="for images of 3x32x32; allowed: those of input_shape, here 3x8x8"):
        build("tests.nets.own_network:of_large_images", input_shape=(3, 8, 8), num_classes=7)


def test_what_happens_in_training_alone_is_found_before_it() -> None:
    net = build("tests.nets.own_network:with_two_heads", input_shape=(3, 8, 8), num_classes=7)
    with pytest.raises(UsageError, match="in training, with 2 images at a time, the head returns a tuple; allowed: parts that"):
        check_trains(net, 2)
    counting = build("tests.nets.own_network:with_extra_state", input_shape=(3, 8, 8), num_classes=7)
    with pytest.raises(
        UsageError, match=r"keeps 0\._extra_state, which is no tensor and in no checkpoint; allowed: parameters"
    ):
        check_trains(counting, 2)
    one = build("tests.nets.own_network:over_one_position", input_shape=(3, 8, 8), num_classes=7)
    before = {key: value.clone() for key, value in one.state_dict().items()}
    with pytest.raises(UsageError, match="in training, with 1 image at a time, block 1 does not accept .*more than 1 value"):
        check_trains(one, 1)
    check_trains(one, 2)
    assert all(torch.equal(value, before[key]) for key, value in one.state_dict().items()), "statistics stay"


class Normed(nn.Module):
    """A residual block whose weight is divided by its norm."""

    def __init__(self, norm: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.conv = norm(nn.Conv2d(4, 4, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv(x)
        return out


@pytest.mark.parametrize(
    "norm",
    [parametrizations.weight_norm, parametrizations.spectral_norm, nn.utils.weight_norm, nn.utils.spectral_norm],
    ids=["weight", "spectral", "old weight", "old spectral"],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_block_whose_weight_has_a_norm_is_removable(norm: Callable[[nn.Module], nn.Module]) -> None:
    block = Normed(norm)
    example = torch.rand(1, 4, 8, 8)
    with torch.no_grad():
        block(example)  # as a network has run once before its blocks are looked at
    assert why_fixed(block.eval(), example) is None
    assert torch.isfinite(block(example)).all(), "the block itself stays as it is"


class Divided(nn.Module):
    """A block that divides by its own parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + x / self.scale


def test_a_shortcut_that_cannot_be_found_is_called_so() -> None:
    assert (why_fixed(Divided(), torch.rand(1, 4, 8, 8)) or "").startswith("its shortcut can't be found")
