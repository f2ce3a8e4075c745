"""The most accurate sub-network within a limit of time, bytes or multiply-accumulates, as one file that was measured.

The family of all sets of deleted blocks is evaluated as a whole where it is small, by one walk over the tree of its prefixes.
Where it is large, a beam goes through it: the best networks of a round lose one further block each in the next.
"""

import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import onnxruntime as ort

from stimcore.bundle import Bundle
from stimcore.bundle.manifest import MAIN
from stimcore.engine.cuda import CPU
from stimcore.engine.engine import Engine
from stimcore.engine.graph.cost import GraphCost, GraphCosts
from stimcore.engine.graph.external import load_inlined
from stimcore.engine.provider import session_options
from stimcore.errors import UsageError
from stimcore.export import latency
from stimcore.export.standalone import FOLDER, write_standalone
from stimcore.subnets.families import count_deletions, deletions, without
from stimcore.subnets.spec import Spec

LARGEST_EXACT = 1023
"""Families of up to ten removable blocks are evaluated as a whole."""
BEAM = 8
"""Networks from which a beam goes on."""
WARM_UP, ROUNDS = 5, 40
"""Calls of a file that do not count, and calls that do."""
SLACK = 1.2
"""A network whose estimated time is more than this times the limit is not built and timed."""

Kind = Literal["ms", "MB", "MACs"]
_UNITS: Mapping[str, tuple[Kind, float]] = {
    "us": ("ms", 1e-3),
    "ms": ("ms", 1.0),
    "s": ("ms", 1e3),
    "kB": ("MB", 1e-3),
    "MB": ("MB", 1.0),
    "GB": ("MB", 1e3),
    "kMACs": ("MACs", 1e3),
    "MMACs": ("MACs", 1e6),
    "GMACs": ("MACs", 1e9),
}
_LIMIT = re.compile(rf"\s*([0-9]*\.?[0-9]+)\s*({'|'.join(_UNITS)})\s*", re.ASCII)


@dataclass(frozen=True)
class Limit:
    """What a network may cost.

    Attributes:
        kind: Milliseconds for one image, megabytes of the file, or multiply-accumulates for one image.
        value: The limit, above 0.
    """

    kind: Kind
    value: float

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """Return the limit that a text such as `2ms`, `0.5MB` or `20MMACs` states.

        Raises:
            UsageError: The text is no limit above zero.

        Example:
            >>> Limit.parse("500us"), Limit.parse("1.5 GMACs")
            (Limit(kind='ms', value=0.5), Limit(kind='MACs', value=1500000000.0))
        """
        match = _LIMIT.fullmatch(text)
        value = float(match[1]) if match else 0.0
        if match is None or value <= 0:
            raise UsageError(
                f"--best-under '{text}'", allowed="more than nothing, as in 2ms, 500us, 0.1s, 800kB, 1.2MB, 20MMACs or 1.5GMACs"
            )
        kind, factor = _UNITS[match[2]]
        # in decimals: as floats, 0.0011 million MACs would be a little less than the 1,100 of a network
        return cls(kind, float(Decimal(match[1]) * Decimal(str(factor))))

    def at_least(self) -> str:
        """Return a limit that `parse` reads and that is not below this one, to four digits.

        Example:
            >>> Limit("MB", 0.696412).at_least(), Limit("MACs", 1234567.0).at_least()
            ('0.6965 MB', '1.235 MMACs')
        """
        unit, factor = ("MMACs", 1e6) if self.kind == "MACs" else (self.kind, 1.0)
        return f"{latency.rounded_up(self.value / factor)} {unit}"

    def __str__(self) -> str:
        return f"{self.value:,.0f} MACs" if self.kind == "MACs" else f"{self.value:.4g} {self.kind}"


@dataclass(frozen=True, kw_only=True)
class Best:
    """The network that was chosen, written as one file.

    Attributes:
        spec: The sub-network.
        file: The file, below the bundle's folder.
        correct: Evaluation images that the file classifies correctly.
        images: Number of evaluation images.
        ms: Median for one image here, in milliseconds.
        bytes: Bytes of the file.
        parameters: Number of weights.
        macs: Multiply-accumulates for one image.
        evaluated: Sub-networks whose accuracy was compared.
        exact: Whether these are all of the family.
    """

    spec: Spec
    file: str
    correct: int
    images: int
    ms: float
    bytes: int
    parameters: int
    macs: int
    evaluated: int
    exact: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "network": str(self.spec),
            "file": self.file,
            "correct": self.correct,
            "images": self.images,
            "batch1_p50_ms": self.ms,
            "bytes": self.bytes,
            "parameters": self.parameters,
            "macs": self.macs,
            "evaluated": self.evaluated,
            "exact": self.exact,
        }


class Search:
    """A search for the best sub-network of a bundle.

    Args:
        bundle: Opened and verified.
        limit: What the network may cost.
        threads: Threads inside one operator of a file that is timed.
        report: Gets a line about every step.
    """

    def __init__(
        self, bundle: Bundle, limit: Limit, *, threads: int = 1, report: Callable[[str], None] = lambda _line: None
    ) -> None:
        self._bundle, self._limit, self._threads, self._report = bundle, limit, threads, report
        self._engine = Engine(bundle, device="cpu")
        self._files: dict[Spec, bytes] = {}
        self._graph_costs: GraphCosts | None = None

    def among_listed(self) -> Best:
        """Return the best of the networks that the bundle lists.

        Raises:
            UsageError: None is within the limit; the message names the cheapest.
        """
        topology = self._bundle.topology
        correct = {topology.parse(entry.spec): entry.correct for entry in self._bundle.manifest.networks.values()}
        return self._best(correct, exact=True)

    def among_deletions(self) -> Best:
        """Return the best network that any set of deletions leaves, the main network included.

        Raises:
            UsageError: The layers concatenate, or no network is within the limit; the message names the cheapest.
        """
        topology = self._bundle.topology
        if not topology.removable:
            raise UsageError(f"{topology.network} has no block that can be deleted", allowed="--search listed")
        number = count_deletions(topology)
        if number <= LARGEST_EXACT:
            self._report(f"evaluates all {number:,} sets of deletions")
            return self._best(self._evaluate([topology.full, *deletions(topology)]), exact=True)
        return self._best(self._beam(), exact=False)

    def _beam(self) -> dict[Spec, int]:
        """Return correct images of every network that the beam has come across."""
        topology = self._bundle.topology
        estimate = self._estimated_times() if self._limit.kind == "ms" else None
        correct = self._evaluate([topology.full])
        beam = [topology.full]
        while not all(self._may_fit(spec, estimate, 1.0) for spec in beam):
            children = {
                without(topology, sorted({block, *self._deleted(spec)}))
                for spec in beam
                for block in topology.removable
                if block in spec.blocks
            }
            if not children:
                break
            new = self._evaluate(sorted(children - set(correct)))
            correct |= new
            beam = sorted(children, key=lambda spec: (-correct[spec], spec))[:BEAM]
            self._report(f"{len(self._deleted(beam[0]))} blocks deleted: at best {correct[beam[0]]:,} images right")
        return correct

    def _deleted(self, spec: Spec) -> set[int]:
        return set(self._bundle.topology.full.blocks) - set(spec.blocks)

    def _evaluate(self, specs: Sequence[Spec]) -> dict[Spec, int]:
        """Return how many evaluation images each sub-network classifies correctly."""
        for progress in self._engine.evaluate(specs):
            if progress.done:
                return {spec: progress.results[spec].correct for spec in specs}
        raise AssertionError("an evaluation that nobody stops ends")

    def _cost(self, spec: Spec) -> GraphCost:
        if (name := self._bundle.listed(spec)) is not None:  # measured in torch, also where layers concatenate
            entry = self._bundle.manifest.networks[name]
            return GraphCost(entry.parameters, entry.macs)
        if self._graph_costs is None:
            model = load_inlined(self._bundle.read, MAIN)
            self._graph_costs = GraphCosts(model, self._bundle.experiment.image_shape)
        return self._graph_costs.of(self._engine.route(spec))

    def _may_fit(self, spec: Spec, estimate: Mapping[int, float] | None, slack: float) -> bool:
        """Return whether a network can be within the limit, as far as is known before its file is built."""
        cost = self._cost(spec)
        if self._limit.kind == "MACs":
            return cost.macs <= self._limit.value
        if self._limit.kind == "MB":
            return 4 * cost.parameters <= 1e6 * self._limit.value
        assert estimate is not None
        saved = sum(estimate[block] for block in self._deleted(spec) if block in estimate)
        return estimate[0] - saved <= slack * self._limit.value

    def _best(self, correct: Mapping[Spec, int], *, exact: bool) -> Best:
        """Return the most accurate network whose file is within the limit when it is measured."""
        deletable = self._limit.kind == "ms" and bool(self._bundle.topology.removable) and self._is_deletion(correct)
        estimate = self._estimated_times() if deletable else None
        ranked = sorted(correct, key=lambda spec: (-correct[spec], self._cost(spec).macs, spec))
        cheapest: tuple[float, Spec] | None = None
        for spec in ranked:
            if estimate is not None and not self._may_fit(spec, estimate, SLACK):
                continue
            if self._limit.kind != "ms" and not self._may_fit(spec, None, 1.0):
                continue
            measured = self._measured(spec)
            if measured <= self._limit.value:
                return self._written(spec, len(correct), exact=exact)
            if cheapest is None or measured < cheapest[0]:
                cheapest = measured, spec
        if cheapest is None:
            smallest = min(ranked, key=lambda spec: self._cost(spec).macs)
            cheapest = self._measured(smallest), smallest
        cost = Limit(self._limit.kind, cheapest[0])
        raise UsageError(
            f"no network of {self._bundle.path} is within {self._limit}",
            allowed=f"{cost.at_least()} and more, which {self._bundle.topology.short(cheapest[1])} takes",
        )

    def _is_deletion(self, correct: Iterable[Spec]) -> bool:
        removable = set(self._bundle.topology.removable)
        return all(self._deleted(spec) <= removable for spec in correct)

    def _file(self, spec: Spec) -> bytes:
        if spec not in self._files:
            self._files[spec] = self._engine.standalone(spec)
        return self._files[spec]

    def _measured(self, spec: Spec) -> float:
        """Return what a network costs: MACs are counted, bytes and times are those of its file."""
        if self._limit.kind == "MACs":
            return float(self._cost(spec).macs)
        if self._limit.kind == "MB":
            return len(self._file(spec)) / 1e6
        return self._times([spec])[spec]

    def _times(self, specs: Sequence[Spec]) -> dict[Spec, float]:
        """Return the median time of files for one image, in milliseconds; the files take turns."""
        image = {"images": np.zeros((1, *self._bundle.experiment.image_shape), np.float32)}
        sessions = {
            spec: ort.InferenceSession(self._file(spec), session_options(self._threads), providers=[CPU]) for spec in specs
        }
        times: dict[Spec, list[float]] = {spec: [] for spec in specs}
        for turn in range(WARM_UP + ROUNDS):
            for spec, session in sessions.items():
                start = time.perf_counter()
                session.run(None, image)
                if turn >= WARM_UP:
                    times[spec].append(1e3 * (time.perf_counter() - start))
        return {spec: statistics.median(values) for spec, values in times.items()}

    def _estimated_times(self) -> dict[int, float]:
        """Return the time of the main network under 0, and what the deletion of each block saves."""
        topology = self._bundle.topology
        self._report(f"times the main network and {len(topology.removable)} deletions")
        single = {block: without(topology, [block]) for block in topology.removable}
        times = self._times([topology.full, *single.values()])
        main = times[topology.full]
        return {0: main} | {block: max(0.0, main - times[spec]) for block, spec in single.items()}

    def _written(self, spec: Spec, evaluated: int, *, exact: bool) -> Best:
        """Write the file into the bundle, where it is compared with the engine on all evaluation images."""
        self._report(f"writes {self._bundle.topology.short(spec)}")
        milliseconds = self._times([spec])[spec]
        (row,) = write_standalone(self._bundle, [spec])
        cost = self._cost(spec)
        return Best(
            spec=spec,
            file=str(self._bundle.path / FOLDER / row.file),
            correct=row.correct,
            images=row.images,
            ms=round(milliseconds, 4),
            bytes=row.bytes,
            parameters=cost.parameters,
            macs=cost.macs,
            evaluated=evaluated,
            exact=exact,
        )


def measured_on(threads: int) -> dict[str, Any]:
    """Return where the time of a `Best` was measured."""
    return latency.conditions(threads) | {"calls": ROUNDS}
