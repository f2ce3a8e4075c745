"""Sample spaces of the stimulative step: every draw has the gradients of separate whole forwards, and refusals."""

import copy
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stimcore.errors import UsageError
from stimcore.methods.base import StepContext
from stimcore.methods.stimulative import Stimulative
from stimcore.methods.table import make
from stimcore.nets.staged import StagedNet
from stimcore.subnets import families
from stimcore.subnets.sampling import (
    SAMPLE_SPACES,
    smallest_deletion,
    smallest_ordered,
)
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology
from tests.heavy import all_slow_but

RESNET = Topology.of("resnet20", (3, 3, 3), {4: "stride 2", 7: "stride 2"})
MOBILENET = Topology.of("mobilenetv3", (2, 3, 4, 2, 3), dict.fromkeys((1, 3, 6, 10, 12), "stride"))
MIDDLE = Topology.of("middle", (5,), {3: "wider"})
DENSE = Topology.of("dense", (2, 3), ordered_only=True)
DRAWS = 12_000


@pytest.mark.parametrize("sample", ["deletions", "deletions+permutations"])
def test_a_network_without_removable_blocks_is_refused_before_the_first_step(
    sample: str, fresh: Callable[..., StagedNet]
) -> None:
    net = fresh("densenet-2-3-2-k6")
    with pytest.raises(UsageError, match="no block that can be deleted: its layers concatenate; allowed: sample=ordered"):
        Stimulative(sample=sample).make_auxiliary(net)
    Stimulative().make_auxiliary(net)


def test_caps_that_do_not_fit_are_refused_before_the_first_step(fresh: Callable[..., StagedNet]) -> None:
    for sample in SAMPLE_SPACES:
        with pytest.raises(UsageError, match="3 numbers from 0, one per stage"):
            Stimulative(sample=sample, max_skipped=(0, 1)).make_auxiliary(fresh("resnet20"))


# ---- gradients ----

NETS = {"resnet20": (3, 8, 8), "mobilenetv3-w0.25": (3, 32, 32)}


class Given(Stimulative):
    """A stimulative step with given sub-networks."""

    specs: tuple[Spec, ...] = ()

    def draw(self, topology: Topology, rng: random.Random) -> list[Spec]:
        return list(self.specs)


def _small(fresh: Callable[..., StagedNet], name: str) -> StagedNet:
    net = fresh(name, dtype=torch.float64, shape=NETS[name])
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return net


def _batch(net: StagedNet, seed: int, label_smoothing: float = 0.0) -> StepContext:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((6, *net.input_shape), generator=generator, dtype=torch.float64)
    labels = torch.randint(0, net.num_classes, (6,), generator=generator)
    return StepContext(images=images, labels=labels, rng=random.Random(seed), label_smoothing=label_smoothing)


def _plain(net: StagedNet, method: Stimulative, specs: list[Spec], batch: StepContext) -> tuple[dict[str, float], list[Tensor]]:
    """Losses and gradients from whole forwards and the formula; uses nothing of the step."""
    net = copy.deepcopy(net)
    main = net(batch.images)
    ce = F.cross_entropy(main, batch.labels, label_smoothing=batch.label_smoothing)
    terms = []
    for spec in specs:
        sub = net(batch.images, spec)
        if method.target == "labels":
            terms.append(F.cross_entropy(sub, batch.labels, label_smoothing=batch.label_smoothing))
        else:
            p = main.detach().softmax(1)
            terms.append((p * (main.detach().log_softmax(1) - sub.log_softmax(1))).sum(1).mean())
    second = torch.stack(terms).mean()
    loss = ce + method.weight * second
    torch.autograd.backward(loss)
    name = "sub_ce" if method.target == "labels" else "sub_kl"
    losses = {"loss": loss.item(), "main_ce": ce.item(), name: second.item()}
    return losses, [p.grad for p in net.parameters() if p.grad is not None]


def _same(net: StagedNet, method: Stimulative, specs: list[Spec], batch: StepContext) -> None:
    """The step's losses and gradients are those of whole forwards; running statistics are those of the main network."""
    losses, gradients = _plain(net, method, specs, batch)
    alone = copy.deepcopy(net)
    alone(batch.images)
    ours = copy.deepcopy(net)
    stepped = method.step(ours, None, batch)
    assert stepped.keys() == losses.keys()
    for name, value in losses.items():
        assert stepped[name].item() == pytest.approx(value, rel=1e-12, abs=1e-14), name
    largest = max(gradient.norm() for gradient in gradients)
    for (name, parameter), gradient in zip(ours.named_parameters(), gradients, strict=True):
        assert parameter.grad is not None, name
        # a bias before a batch norm has the gradient 0 up to rounding of gradients of the usual size
        assert (parameter.grad - gradient).norm() <= 1e-12 * max(gradient.norm(), 1e-2 * largest), (name, specs)
    for (name, buffer), expected in zip(ours.named_buffers(), alone.buffers(), strict=True):
        assert torch.allclose(buffer.double(), expected.double(), rtol=1e-12), name


@pytest.mark.parametrize(
    ("name", "sandwich"),
    [
        ("resnet20", False),
        ("resnet20", True),
        *all_slow_but([("mobilenetv3-w0.25", False), ("mobilenetv3-w0.25", True)]),  # a second each
    ],
)
@pytest.mark.parametrize("sample", SAMPLE_SPACES)
@pytest.mark.parametrize("target", ["main", "labels"])
def test_gradients_are_those_of_whole_forwards(
    name: str, sandwich: bool, sample: str, target: str, fresh: Callable[..., StagedNet]
) -> None:
    net = _small(fresh, name)
    draws = ((0, 1), (1, 1), (2, 2)) if name == "resnet20" else ((2, 2),)  # seed and sub-networks; large networks take longer
    for seed, subnets in draws:
        method = Stimulative(weight=2.0, sample=sample, target=target, sandwich=sandwich, subnets=subnets)
        rng = random.Random(seed)
        specs = [SAMPLE_SPACES[sample](net.topology, rng, None) for _ in range(subnets)]
        if sandwich:
            smallest = net.topology.ordered([1] * len(net.topology.sizes))
            specs += [smallest if sample == "ordered" else families.without(net.topology, net.topology.removable)]
        _same(net, method, specs, _batch(net, seed, label_smoothing=0.1))


@pytest.mark.parametrize("target", ["main", "labels"])
@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("resnet20", ["2-3.4-5-6.7-8-9"]),  # without block 1 only the stem is shared
        ("resnet20", ["x.4.7"]),  # an empty stage
        ("resnet20", ["x.4-5-6.7-8-9", "main"]),
        ("resnet20", ["main"]),  # the full network: everything but the head is shared
        ("resnet20", ["main", "main"]),
        ("resnet20", ["3-1-2.4-6-5.7-9-8"]),  # everything is moved
        ("resnet20", ["1-3.4-6.7-9", "2-1.4-5-6.7-8-9"]),  # prefixes of different lengths
        *all_slow_but([("mobilenetv3-w0.25", ["1.3.6.10.12"]), ("mobilenetv3-w0.25", ["1-2.3-5-4.6-9-7.10.12-14-13"])]),
        ("mobilenetv3-w0.25", ["main"]),
    ],
)
def test_gradients_at_the_edges_of_the_spaces(
    target: str, name: str, texts: list[str], fresh: Callable[..., StagedNet]
) -> None:
    net = _small(fresh, name)
    method = Given(weight=2.0, target=target)
    specs = tuple(net.topology.parse(text) for text in texts)
    object.__setattr__(method, "specs", specs)  # methods are frozen
    _same(net, method, list(specs), _batch(net, 3))
    two = Given(weight=2.0, target=target, two_forward=True)
    object.__setattr__(two, "specs", specs)
    _same(net, two, list(specs), _batch(net, 3))


def test_where_every_block_is_removable_nothing_but_stem_and_head_may_run(fresh: Callable[..., StagedNet]) -> None:
    whole = _small(fresh, "resnet20")
    head = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(1), torch.nn.Linear(16, 10, dtype=torch.float64))
    blocks = [whole.block(number) for number in (1, 2, 3)]
    net = StagedNet(
        torch.nn.Sequential(whole.stem, *blocks, head),
        Topology.of("first stage", (3,)),
        stem=whole.stem,
        blocks=blocks,
        head=head,
        input_shape=(3, 8, 8),
        num_classes=10,
    )
    images = torch.randn((4, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    batch = StepContext(images=images, labels=torch.tensor([0, 1, 2, 3]), rng=random.Random(0))
    spec = smallest_deletion(net.topology)
    assert spec == Spec(((),))
    method = Given(target="labels")
    object.__setattr__(method, "specs", (spec,))
    assert method.step(net, None, batch)["sub_ce"].item() == pytest.approx(
        F.cross_entropy(net(images, spec), batch.labels).item(), rel=1e-12
    )


def test_a_deleted_block_learns_from_the_main_network_alone(fresh: Callable[..., StagedNet]) -> None:
    net = _small(fresh, "resnet20")
    batch = _batch(net, 0)
    common = copy.deepcopy(net)
    torch.autograd.backward(F.cross_entropy(common(batch.images), batch.labels))
    method = Given(weight=5.0)
    object.__setattr__(method, "specs", (net.topology.parse("1-3.4-5-6.7-8-9"),))
    method.step(net, None, batch)
    for number in range(1, 10):
        ours, alone = (next(other.block(number).parameters()).grad for other in (net, common))
        assert ours is not None
        assert alone is not None
        assert torch.allclose(ours, alone, rtol=1e-9) == (number == 2), number


# ---- sandwich, smaller inputs, refusals ----


def test_the_sandwich_adds_the_smallest_behind_the_draws() -> None:
    for sample, draw in SAMPLE_SPACES.items():
        plain, rule = (Stimulative(sample=sample, subnets=2, sandwich=on) for on in (False, True))
        specs = rule.draw(MOBILENET, random.Random(0))
        assert specs[:-1] == plain.draw(MOBILENET, random.Random(0))
        rng = random.Random(0)
        assert specs[:-1] == [draw(MOBILENET, rng, None) for _ in range(2)]
        assert specs[-1] == (smallest_ordered(MOBILENET) if sample == "ordered" else smallest_deletion(MOBILENET))
        assert (plain.num_subnets, rule.num_subnets) == (2, 3)
    capped = Stimulative(sandwich=True, max_skipped=(0, 1, 1, 1, 1)).draw(MOBILENET, random.Random(0))
    assert capped[-1] == MOBILENET.ordered([2, 2, 3, 1, 2])


def test_every_sub_network_of_the_sandwich_has_its_smaller_images(fresh: Callable[..., StagedNet]) -> None:
    net = _small(fresh, "resnet20")
    method = Stimulative(sandwich=True, subnets=2, smallest_side=0.5)
    sides = method.draw_sides(8, random.Random(0))
    assert len(sides) == 3
    batch = _batch(net, 0)
    smaller = tuple(F.interpolate(batch.images, size=side) for side in sides)
    specs = method.draw(net.topology, random.Random(0))
    p = net(batch.images).softmax(1).detach()
    kls = [
        F.kl_div(net(images, spec).log_softmax(1), p, reduction="batchmean").item()
        for spec, images in zip(specs, smaller, strict=True)
    ]
    drawn = StepContext(images=batch.images, labels=batch.labels, rng=random.Random(0), smaller=smaller)
    assert method.step(net, None, drawn)["sub_kl"].item() == pytest.approx(sum(kls) / 3, rel=1e-9)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sample": "permutations"}, r"sample=permutations; allowed: ordered, deletions, deletions\+permutations"),
        ({"target": "teacher"}, "target=teacher; allowed: main, labels"),
        ({"target": "labels", "temperature": 2.0}, "a temperature of 2.0 with target=labels; allowed: neither"),
        (
            {"target": "labels", "divide_by_classes": True},
            "divide_by_classes with target=labels; allowed: divide_by_classes=",
        ),
        ({"target": "labels", "amplitude": 4.0}, "an amplitude of 4.0 with target=labels; allowed: neither"),
        (
            {"target": "labels", "amplitude": 4.0, "normalised_ce": True},
            "an amplitude of 4.0 with target=labels; allowed: neither",
        ),
        (
            {"sandwich": True, "sample": "deletions", "max_skipped": (0, 1, 1)},
            "several sub-networks are the smallest; allowed: sample=ordered, or no max_skipped",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make("stimulative", options)
