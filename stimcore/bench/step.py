"""One training step: stimulative with and without a shared prefix, over common training, in time and peak memory.

Two plain loops of torch take turns with them: common training as a tutorial writes it, with torch's default memory layout and
with `channels_last`. The floor of a stimulative step is counted: the multiply-accumulates of the main network and of the drawn
sub-network behind the prefix that both share, over those of the main network alone.

All variants take turns in one process on the same batch, so that a busy machine slows all of them alike. Time is processor time
(of all threads together) or GPU time (CUDA events). Memory on the GPU is the allocator's peak. On the CPU the resident size
of a process never falls again, so that it can't compare variants; there `memory.py` counts the bytes of live tensors.
"""

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stimcore.bench.check import at_least
from stimcore.bench.memory import LiveTensorBytes
from stimcore.methods.base import Method, StepContext
from stimcore.methods.table import METHODS, make
from stimcore.nets.catalogue import build
from stimcore.nets.cost import Costs
from stimcore.nets.staged import StagedNet
from stimcore.runs.machine import describe, flush_denormals, pick_device
from stimcore.subnets.sampling import draw_ordered
from stimcore.train.precision import Precision
from stimcore.train.seeds import generator, layers_seeded, spec_rng

BASE = "common"
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    BASE: ("common", {}),
    "two_forward": ("stimulative", {"two_forward": True}),
    "shared_prefix": ("stimulative", {}),
}
"""Name -> method and its options; the first is what the others are divided by."""
PLAIN = {"plain": False, "plain_channels_last": True}
"""Name of a plain loop -> whether it uses `channels_last`."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured; the options of the command say what each field is."""

    network: str
    batch_size: int
    pixels: int
    classes: int
    rounds: int
    memory_rounds: int
    precision: str
    device: str
    every_method: bool


class Variant:
    """A training method with a network, an optimiser and one batch; its step can be repeated.

    Args:
        net: A network that nothing else uses.
        method: The training method.
        batch_size: Images per step.
        precision: Number format.
        device: Where the step runs.
    """

    def __init__(self, net: StagedNet, method: Method, batch_size: int, precision: str, device: torch.device) -> None:
        self.net = method.wrap(net).to(device).train()
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's annotation leaves it out
        with layers_seeded("bench"):
            self.auxiliary: nn.Module | None = method.make_auxiliary(self.net)
        if self.auxiliary is not None:
            self.auxiliary.to(device)
        self.method, self.device, self.precision = method, device, Precision(precision, device)
        parameters = [*self.net.parameters(), *(self.auxiliary.parameters() if self.auxiliary else [])]
        self.optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4)
        images = torch.randn((batch_size, *net.input_shape), generator=generator("bench images"))
        self.images = images.to(device).contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(0, net.num_classes, (batch_size,), generator=generator("bench labels")).to(device)

    def step(self, rng: random.Random) -> None:
        """Do one step, the optimiser's update included."""
        self.optimizer.zero_grad(set_to_none=True)
        context = StepContext(
            images=self.images,
            labels=self.labels,
            rng=rng,
            autocast=self.precision.autocast,
            backward=self.precision.backward,
        )
        with layers_seeded("bench layers"):
            self.compute(context)
        self.precision.step(self.optimizer)

    def compute(self, context: StepContext) -> None:
        """Compute the gradients of one step."""
        self.method.step(self.net, self.auxiliary, context)

    def seconds(self, rng: random.Random) -> float:
        """Do one step and return its processor or GPU time in seconds."""
        if self.device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch's stub
            start.record()
            self.step(rng)
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end)) / 1e3
        before = time.process_time()
        self.step(rng)
        return time.process_time() - before

    def peak_bytes(self, rng: random.Random) -> int:
        """Do one step and return the largest number of bytes that are allocated at one moment, those from before included."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.step(rng)
            return int(torch.cuda.max_memory_allocated(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        state = [value for slot in self.optimizer.state.values() for value in slot.values() if isinstance(value, torch.Tensor)]
        modules = [self.net, *([self.auxiliary] if self.auxiliary else [])]
        weights = [tensor for module in modules for tensor in module.state_dict(keep_vars=True).values()]
        with LiveTensorBytes([self.images, self.labels, *state, *weights]) as live:
            self.step(rng)
        return int(live.peak_bytes)


class PlainLoop(Variant):
    """Common training as a tutorial of torch writes it: forward, cross entropy, backward.

    Args:
        net: A network that nothing else uses.
        batch_size: Images per step.
        precision: Number format.
        device: Where the step runs.
        channels_last: Memory layout of weights and images; torch's default when False.
    """

    def __init__(self, net: StagedNet, batch_size: int, precision: str, device: torch.device, *, channels_last: bool) -> None:
        super().__init__(net, make(BASE, {}), batch_size, precision, device)
        if not channels_last:
            self.net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's annotation leaves it out
            self.images = self.images.contiguous()

    def compute(self, context: StepContext) -> None:
        """Compute the gradients of one step."""
        with context.autocast():
            loss = nn.functional.cross_entropy(self.net.module(context.images), context.labels)
        context.backward(loss)


@flush_denormals()
def run(settings: Settings) -> dict[str, Any]:
    """Measure, and return the report.

    Raises:
        UsageError: A number is out of range.
    """
    at_least(settings, batch_size=2, pixels=8, classes=2, rounds=1, memory_rounds=1)
    device = pick_device(settings.device)
    variants = dict(VARIANTS)
    if settings.every_method:
        variants |= {name: (name, {}) for name in METHODS if name not in ("common", "stimulative")}
    benches: dict[str, Variant] = {}
    for name, (method, extra) in variants.items():
        with layers_seeded("bench weights"):
            net = build(settings.network, input_shape=(3, settings.pixels, settings.pixels), num_classes=settings.classes)
        benches[name] = Variant(net, make(method, extra), settings.batch_size, settings.precision, device)
    for name, channels_last in PLAIN.items():
        with layers_seeded("bench weights"):
            net = build(settings.network, input_shape=(3, settings.pixels, settings.pixels), num_classes=settings.classes)
        benches[name] = PlainLoop(net, settings.batch_size, settings.precision, device, channels_last=channels_last)
    # the first steps allocate memory and pick kernels; every variant takes them with the same draws
    for bench in benches.values():
        for number in range(2):
            bench.step(spec_rng("bench warm-up", number))
    draws = representative_draws(benches[BASE].net, settings.rounds)
    few = draws[:: max(1, len(draws) // settings.memory_rounds)]
    memory = {name: [bench.peak_bytes(spec_rng("bench", draw)) for draw in few] for name, bench in benches.items()}
    seconds: dict[str, list[float]] = {name: [] for name in benches}
    names = list(benches)
    for draw in draws:
        names = names[1:] + names[:1]
        for name in names:
            seconds[name].append(benches[name].seconds(spec_rng("bench", draw)))
    others = [name for name in benches if name != BASE]
    floor = counted_floor(benches[BASE].net, draws)
    means = {name: sum(seconds[name]) / sum(seconds[BASE]) for name in others}
    best_plain = min(PLAIN, key=lambda name: statistics.median(seconds[name]))
    return {
        "bench": "step",
        "network": settings.network,
        "machine": describe(device),
        "n": settings.rounds,
        "batch_size": settings.batch_size,
        "pixels": settings.pixels,
        "precision": settings.precision,
        "ratios": {
            **{name: _median_ratio(seconds[name], seconds[BASE]) for name in others},
            **{f"memory_{name}": max(memory[name]) / max(memory[BASE]) for name in others},
            "floor": floor,
            "shared_prefix_over_floor": means["shared_prefix"] / floor,
            "common_over_best_plain": _median_ratio(seconds[BASE], seconds[best_plain]),
        },
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "mean_ratios": means,
        "images_per_second": {name: settings.batch_size / statistics.median(values) for name, values in seconds.items()},
        "peak_bytes": {name: max(values) for name, values in memory.items()},
    }


def representative_draws(net: StagedNet, count: int) -> list[int]:
    """Return seeds whose sub-networks represent all draws: the middles of `count` equal shares of 1,000 draws sorted by cost.

    A sub-network that leaves the main network's path early costs several times as much as one that leaves it late, so that the
    mean over a handful of plain draws depends on luck. The cost of a draw is counted in multiply-accumulates behind the shared
    prefix.
    """
    costs = Costs(net)
    behind = [(macs_behind_prefix(net, seed, costs), seed) for seed in range(1000)]
    behind.sort()
    return [behind[int((number + 0.5) * len(behind) / count)][1] for number in range(count)]


def macs_behind_prefix(net: StagedNet, seed: int, costs: Costs) -> int:
    """Return the multiply-accumulates for one image of a drawn sub-network behind the prefix shared with the main network."""
    main = list(costs.parts(net.topology.full))
    parts = costs.parts(draw_ordered(net.topology, spec_rng("bench", seed)))
    shared = next((i for i, (a, b) in enumerate(zip(main, parts, strict=False)) if a != b), len(main) - 1)
    return sum(cost.macs for cost in list(parts.values())[shared:])


def counted_floor(net: StagedNet, draws: Sequence[int]) -> float:
    """Return the mean operations of a stimulative step with a shared prefix, over those of a common step.

    Forward and backward of a part take the same multiple of its multiply-accumulates in both, so that the multiple cancels out.
    """
    costs = Costs(net)
    behind = statistics.mean(macs_behind_prefix(net, draw, costs) for draw in draws)
    return 1 + behind / costs.main.macs


def _median_ratio(values: list[float], base: list[float]) -> float:
    return statistics.median(value / other for value, other in zip(values, base, strict=True))
