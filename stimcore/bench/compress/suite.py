"""Small networks of one time: trained alone, pruned and fine-tuned, or cut out of a stimulated network.

Accuracy, time, bytes, memory and training time of each say whether stimulative training pays where one small network is wanted.

    python -m venv tp && tp/bin/pip install torch-pruning
    python -m stimcore.bench compress --work DIR --torch-pruning tp/bin/python --json docs/measurements/compress.json

ResNet-20 with the scarce recipe, at about 0.8, 0.6 and 0.4 of its time in onnxruntime: ordered sub-networks of these times,
trained alone; commonly trained, pruned by Torch-Pruning to the same time and fine-tuned; cut out of a network of stimulative
training; and the same fine-tuned. Both fine-tunings have the same epochs and the same small rate, and nothing is chosen by test
images. Every finished step is kept in the folder `--work`: a call that was stopped goes on there, and one with more seeds adds
them. Every training runs on one thread.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stimcore import files
from stimcore.bench.check import at_least
from stimcore.bench.choices import COMPRESS_SLACK, COMPRESS_TARGETS, COMPRESS_WAYS
from stimcore.bench.compress.figures import accuracies, differences, training_times
from stimcore.bench.compress.net import Channels, prunable_resnet, with_convolved_shortcuts
from stimcore.bench.compress.program import prune as prune_outside
from stimcore.bench.compress.program import version
from stimcore.bench.compress.timing import ratios, session_from, session_of, take_turns
from stimcore.bench.compress.work import Network, Training, Work, training_seconds
from stimcore.errors import UsageError
from stimcore.nets.catalogue import build
from stimcore.nets.cost import Costs
from stimcore.nets.cut import cut
from stimcore.nets.staged import StagedNet
from stimcore.runs import checkpoint
from stimcore.runs.machine import describe
from stimcore.subnets.families import ordered
from stimcore.train.seeds import layers_seeded

RATIOS = tuple(round(0.05 * step, 2) for step in range(1, 19))
ROUND_TO = (1, 4, 8)
"""Shares of channels that are pruned for a try, and the numbers of which what is left is a multiple."""
BATCHES = {1: 1, 32: 5}
"""Images of a call -> how many times fewer turns it has."""
QUICK_TURNS = 2


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured; the options of the command say what each field is."""

    work: Path
    runs: Path | None
    seeds: Sequence[int]
    sizes: Sequence[str] | None
    epochs: int
    learning_rate: float
    turns: int
    torch_pruning: Path | None
    data_root: Path | None
    quick: bool


def run(settings: Settings) -> dict[str, Any]:
    """Measure what is missing in the folder, and return the report.

    Raises:
        UsageError: A number is out of range, the folder was made with other settings, or `torch_pruning` is no environment with
            torch-pruning.
        StimcoreError: A training, a pruning or an export failed.
    """
    at_least(settings, epochs=1, turns=1)
    if not settings.learning_rate > 0:
        raise UsageError(f"--learning-rate {settings.learning_rate:g}", allowed="above 0")
    if len(set(settings.seeds)) < len(settings.seeds):
        raise UsageError(f"--seeds {' '.join(map(str, settings.seeds))}", allowed="each seed once")
    beside = {} if settings.torch_pruning is None else {"torch_pruning": version(settings.torch_pruning)}
    torch.set_num_threads(1)
    work = Work(folder=settings.work, runs=settings.runs, quick=settings.quick, data_root=settings.data_root)
    work.claim(
        {"quick": settings.quick, "epochs": settings.epochs, "learning_rate": settings.learning_rate, "turns": settings.turns}
    )
    bench = _Bench(settings, work)
    seeds = [bench.measured(seed) for seed in settings.seeds]
    rows = [row for measured in seeds for row in measured.rows]
    return {
        "bench": "compress",
        "network": work.recipe.network,
        "recipe": work.recipe.name,
        "machine": describe(torch.device("cpu")) | {"threads": 1} | beside,
        "n": len(seeds),
        "seeds": list(settings.seeds),
        "quick": settings.quick,
        "turns": {f"batch{batch}": turns for batch, turns in turns_of(bench.turns).items()},
        "images": rows[0]["images"],
        "train_images": work.recipe.train_per_class,
        "epochs": work.recipe.epochs,
        "fine_tuning": {"epochs": settings.epochs, "learning_rate": settings.learning_rate},
        "sizes": bench.sizes,
        "pruned": bench.chosen if beside else {},
        "ways": [way for way in COMPRESS_WAYS if way != "pruned" or beside],
        "accuracy": accuracies(rows),
        "differences": differences([measured.hits for measured in seeds], list(bench.sizes)),
        "training_s": training_times([measured.seconds for measured in seeds], list(bench.sizes)),
        "rows": rows,
    }


def show(report: Mapping[str, Any]) -> int:
    """Print a line for every size and way; return the exit code."""
    for size in ("main", *report["sizes"]):
        for way in ("common", "stimulative") if size == "main" else report["ways"]:
            mine = [row for row in report["rows"] if (row["size"], row["way"]) == (size, way)]
            accuracy = report["accuracy"][size][way]
            time_ratio = statistics.median(row["batch1_over_main"] for row in mine)
            print(
                f"{size:8} {way:12} {accuracy['value']:6.2f}% [{accuracy['low']:.2f}, {accuracy['high']:.2f}] "
                f"{time_ratio:5.2f} of the main network's time {mine[0]['bytes'] / 1e6:6.2f} MB"
            )
    if "pruned" not in report["ways"]:
        print("pruned networks are left out: --torch-pruning PYTHON names an environment that has torch-pruning")
    print(f"n = {report['n']}, {report['network']}, {report['machine']['device']}")
    return 0


@dataclass(frozen=True, kw_only=True)
class _OfSeed:
    """What was measured with one seed.

    Attributes:
        rows: A row for every network.
        hits: Size and way -> bool `[N]`.
        seconds: Name of a training -> processor time of its steps.
    """

    rows: Sequence[dict[str, Any]]
    hits: Mapping[tuple[str, str], NDArray[np.bool_]]
    seconds: Mapping[str, float]


class _Bench:
    """The steps for one seed after the other."""

    def __init__(self, settings: Settings, work: Work) -> None:
        self._settings, self._work = settings, work
        self._shape, self._num_classes = work.image_shape()
        self.turns = QUICK_TURNS if settings.quick else settings.turns
        self._all_sizes = self._choose_sizes()
        """Sizes of the folder; those that are asked for may be fewer."""
        asked = self._asked_sizes() or list(self._all_sizes)
        self.sizes = {size: value for size, value in self._all_sizes.items() if size in asked}
        self.chosen: dict[str, dict[str, Any]] = {}
        """Size -> how channels were pruned to its time: `ratio`, `round_to`, `channels`, and `over_size`: times as slow."""

    def measured(self, seed: int) -> _OfSeed:
        """Train, prune, fine-tune, export and time everything of a seed that was not done before."""
        work = self._work
        runs = {method: work.trained(Training(name=method, seed=seed, method=method)) for method in ("common", "stimulative")}
        networks: dict[tuple[str, str], Network] = {}
        seconds = {name: training_seconds(run) for name, run in runs.items()}
        # the main network of the experiment comes first: twins are networks of an experiment that has one
        bundles = {
            method: work.exported(run, f"{method}-seed{seed}", experiment="networks", subnets=subnets)
            for (method, run), subnets in zip(runs.items(), (["main"], ["main", *self._all_sizes]), strict=True)
        }
        for method, bundle in bundles.items():
            networks["main", method] = work.network(f"main-{method}-seed{seed}", bundle, bundle.topology.full)
        for size in self._all_sizes:
            spec = bundles["stimulative"].topology.parse(size)
            networks[size, "extracted"] = work.network(f"{size}-extracted-seed{seed}", bundles["stimulative"], spec)
        trainings: dict[tuple[str, str], Training] = {}
        took: dict[str, float] = {}
        for size in self.sizes:
            trainings[size, "tuned"] = self._fine_tuning(f"tuned-{size}", seed, runs["stimulative"], spec=size)
        if self._settings.torch_pruning is not None:
            for size, (weights, pruning_s) in self._pruned(seed, runs["common"], networks).items():
                network = f"stimcore.bench.compress.net:{_channels(weights).name}"
                trainings[size, "pruned"] = self._fine_tuning(f"pruned-{size}", seed, weights, network=network)
                took[f"pruned-{size}"] = pruning_s
        for size in self.sizes:  # the longest come last
            trainings[size, "alone"] = Training(name=f"twin-{size}", seed=seed, spec=size)
        for (size, way), training in trainings.items():
            run, name = work.trained(training), f"{way}-{size}-seed{seed}"
            # a pruned network is no sub-network of the main one: it is an experiment of its own
            bundle = work.exported(run, name, experiment=name if way == "pruned" else "networks")
            networks[size, way] = work.network(f"{size}-{way}-seed{seed}", bundle, bundle.topology.full)
            seconds[f"{way}-{size}"] = took.get(f"{way}-{size}", 0.0) + training_seconds(run)
        networks = {key: network for key, network in networks.items() if key[0] in ("main", *self.sizes)}
        times = self._times(seed, networks)
        rows = [
            {"seed": seed, "size": size, "way": way, **network.figures, **times[f"{size}-{way}"]}
            for (size, way), network in networks.items()
        ]
        return _OfSeed(rows=rows, hits={key: network.hits for key, network in networks.items()}, seconds=seconds)

    def _fine_tuning(self, name: str, seed: int, init: Path, *, spec: str = "", network: str = "") -> Training:
        """Return a fine-tuning, which is common training with few epochs at a small rate."""
        epochs, rate = self._settings.epochs, self._settings.learning_rate
        return Training(name=name, seed=seed, spec=spec, init=init, network=network, epochs=epochs, learning_rate=rate)

    def _fresh(self) -> StagedNet:
        """Return the main network with random weights: what a network computes does not change its time."""
        with layers_seeded("bench weights"):
            return build(self._work.recipe.network, input_shape=self._shape, num_classes=self._num_classes).eval()

    def _asked_sizes(self) -> list[str] | None:
        """Return the short forms of the sizes that are asked for; None where none are named.

        Raises:
            UsageError: The network does not have one, or it is the network itself.
        """
        topology = self._fresh().topology
        if self._settings.sizes is None:
            return None
        specs = [topology.parse(size) for size in self._settings.sizes]
        for spec in specs:
            if topology.depths(spec) is None or spec == topology.full:
                raise UsageError(f"--sizes {spec}", allowed="ordered sub-networks of the main network, such as d1-1-1")
        return [topology.short(spec) for spec in specs]

    def _choose_sizes(self) -> dict[str, float]:
        """Return the ordered sub-networks of the folder -> their time over the main network's, the largest first.

        The first call decides which they are.

        Raises:
            UsageError: Others are asked for now.
        """
        net, asked = self._fresh(), self._asked_sizes()
        topology = net.topology

        def measure() -> dict[str, float]:
            names = [topology.short(spec) for spec in ordered(topology) if spec != topology.full] if asked is None else asked
            sessions = {name: session_of(cut(net, topology.parse(name))) for name in names}
            shares = ratios(take_turns(sessions | {"main": session_of(net)}, self._shape, batch=1, turns=self.turns), "main")
            return {name: shares[name] for name in (nearest(shares) if asked is None else asked)}

        shares: dict[str, float] = self._work.kept("sizes", measure)
        if not set(asked or ()) <= set(shares):
            raise UsageError(
                f"{self._work.folder} was measured with the sizes {' '.join(shares)}, not {' '.join(asked or ())}",
                todo="Give some of them to go on, or another folder with --work.",
            )
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    def _pruned(self, seed: int, common: Path, networks: Mapping[tuple[str, str], Network]) -> dict[str, tuple[Path, float]]:
        """Return size -> file of pruned weights, and the processor time that pruning took.

        The first seed tries every ratio and decides by time alone; the channels of the others are as many.
        """
        folder = self._work.folder / "pruned" / f"seed{seed}"
        weights = folder / "weights.pt"

        def prune(asked: Sequence[tuple[float, int]]) -> list[dict[str, Any]]:
            folder.mkdir(parents=True, exist_ok=True)
            state = self._work.opened(common).net.module.state_dict()
            checkpoint.write(weights, with_convolved_shortcuts(state))
            assert self._settings.torch_pruning is not None
            return prune_outside(self._settings.torch_pruning, weights, folder, self._shape, asked)

        def choose() -> dict[str, Any]:
            rows = prune([(ratio, multiple) for ratio in RATIOS for multiple in ROUND_TO])
            before, different = _channels(weights), dict[Channels, dict[str, Any]]()
            for row in rows:
                channels = _channels(folder / row["file"])
                if is_even(before, channels, row["ratio"], row["round_to"]):
                    different.setdefault(channels, row)
            rows = list(different.values())
            nets = {row["file"]: self._prunable(folder / row["file"]) for row in rows}
            subnets = {size: networks[size, "extracted"].file for size in self._all_sizes}
            sessions = {size: session_from(file.read_bytes()) for size, file in subnets.items()}
            times = take_turns(
                sessions | {file: session_of(net) for file, net in nets.items()}, self._shape, batch=1, turns=self.turns
            )
            chosen = {}
            for size in self._all_sizes:
                over = ratios(times, size)
                file = widest({row["file"]: (over[row["file"]], Costs(nets[row["file"]]).main.macs) for row in rows})
                row = next(row for row in rows if row["file"] == file)
                chosen[size] = {"ratio": row["ratio"], "round_to": row["round_to"], "over_size": over[file]}
            return chosen

        tried = {"ratios": list(RATIOS), "round_to": list(ROUND_TO), "sizes": list(self._all_sizes)}
        every = self._work.kept("pruned/chosen", choose, source=tried)
        asked = list(dict.fromkeys((row["ratio"], row["round_to"]) for row in every.values()))
        rows = self._work.kept(f"pruned/seed{seed}", lambda: prune(asked), source=[list(pair) for pair in asked])
        pruned = {(row["ratio"], row["round_to"]): (folder / row["file"], row["seconds"]) for row in rows}
        self.chosen = {size: every[size] for size in self.sizes}
        for row in self.chosen.values():
            row["channels"] = _channels(pruned[row["ratio"], row["round_to"]][0]).name
        return {size: pruned[row["ratio"], row["round_to"]] for size, row in self.chosen.items()}

    def _prunable(self, weights: Path) -> StagedNet:
        """Return a network with the channels of a file of weights."""
        return prunable_resnet(_channels(weights), input_shape=self._shape, num_classes=self._num_classes).eval()

    def _times(self, seed: int, networks: Mapping[tuple[str, str], Network]) -> dict[str, dict[str, float]]:
        """Return size and way -> times, measured anew where the files are others than those that were measured."""
        contents = {f"{size}-{way}": network.file.read_bytes() for (size, way), network in networks.items()}
        hashes = {f"{size}-{way}": files.sha256(network.file) for (size, way), network in networks.items()}

        def measure() -> dict[str, dict[str, float]]:
            sessions = {name: session_from(content) for name, content in contents.items()}
            medians: dict[str, dict[str, float]] = {name: {} for name in sessions}
            for batch, turns in turns_of(self.turns).items():
                times = take_turns(sessions, self._shape, batch=batch, turns=turns)
                over = ratios(times, "main-common")
                for name in sessions:
                    medians[name] |= {
                        f"batch{batch}_ms": round(statistics.median(times[name]), 4),
                        f"batch{batch}_over_main": round(over[name], 4),
                    }
            return medians

        times: dict[str, dict[str, float]] = self._work.kept(f"times-seed{seed}", measure, source=hashes)
        return times


def turns_of(turns: int) -> dict[int, int]:
    """Return images of a call -> turns.

    Example:
        >>> turns_of(60)
        {1: 60, 32: 12}
    """
    return {batch: -(-turns // fewer) for batch, fewer in BATCHES.items()}


def nearest(shares: Mapping[str, float], targets: Sequence[float] = COMPRESS_TARGETS) -> list[str]:
    """Return the name whose time is nearest to each target, each name once.

    Example:
        >>> nearest({"main": 1.0, "a": 0.78, "b": 0.45, "c": 0.62}, (0.8, 0.6, 0.4))
        ['a', 'c', 'b']
    """
    names: list[str] = []
    for target in targets:
        left = [name for name in shares if name not in (*names, "main")]
        names.append(min(left, key=lambda name: abs(shares[name] - target)))
    return names


def is_even(before: Channels, after: Channels, ratio: float, round_to: int) -> bool:
    """Return whether every layer has lost the share that was asked for, up to rounding.

    Torch-Pruning leaves a layer whole of which rounding would leave nothing, and prunes the others all the same.

    Example:
        >>> before = Channels((16, 64), (16, 64))
        >>> is_even(before, Channels((8, 56), (8, 56)), 0.2, 8), is_even(before, Channels((16, 16), (16, 16)), 0.8, 8)
        (True, False)
    """
    pairs = zip((*before.stages, *before.inner), (*after.stages, *after.inner), strict=True)
    return all(abs(left - (1 - ratio) * count) < max(round_to, 1.5) for count, left in pairs)


def widest(candidates: Mapping[str, tuple[float, int]]) -> str:
    """Return the candidate with the most operations of those that are fast enough; the fastest one where none is.

    Args:
        candidates: Name -> time over that of the sub-network, and multiply-accumulates.

    Example:
        >>> widest({"a": (1.2, 900), "b": (1.01, 700), "c": (0.9, 500)}), widest({"a": (1.3, 900), "b": (1.1, 700)})
        ('b', 'b')
    """
    fast = {name: macs for name, (time_ratio, macs) in candidates.items() if time_ratio <= COMPRESS_SLACK}
    return max(fast, key=lambda name: fast[name]) if fast else min(candidates, key=lambda name: candidates[name][0])


def _channels(weights: Path) -> Channels:
    """Return the numbers of channels in a file of weights."""
    return Channels.of(torch.load(weights, map_location="cpu", weights_only=True))
