"""How clearly a sub-network shows that one training method copes with damage and another doesn't, and which shows it best."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stimcore.analysis.result import Result, Sweep
from stimcore.analysis.spreads import first_blocks_kept
from stimcore.subnets.families import count_operations
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

CLEAR_POINTS = 20.0
"""A contrast of this many points is clear enough that a network with more than half of its blocks gone isn't needed."""
TIE_POINTS = 1.0
"""Contrasts that differ by less than this count as equal."""


@dataclass(frozen=True)
class Contrast:
    """What one stored state shows.

    Attributes:
        spec: The sub-network.
        num_gone: Blocks that don't run.
        num_swaps: Swaps inside of stages that make its order; 0 where all blocks stand in their own order.
        points: Drop of the first method minus drop of the second, in percentage points; with one method its drop.
    """

    spec: Spec
    num_gone: int
    num_swaps: int
    points: float


def contrasts(topology: Topology, first: Iterable[Sweep], second: Iterable[Sweep] | None = None) -> list[Contrast]:
    """Return the contrast of every state that both methods have stored.

    States in which the first block of a stage is missing or moved are left out: the paper's methods never skip these blocks, so
    that what such a state shows is not loafing.

    Args:
        topology: The network.
        first: Stored sweeps of the method that is expected to lose more.
        second: Stored sweeps of the other method; None where there is only one method.

    Example:
        >>> def sweep(method, **drops):
        ...     results = [Result.counted(Spec.from_text(text), images=100, correct=90 - drop, lost=drop, won=0)
        ...                for text, drop in (("1-2-3", 0), ("1-3", drops["short"]), ("2-3", 80))]
        ...     return Sweep(experiment="", method=method, kind="delete", provider="", images=100, main=results[0],
        ...                  results=results)
        >>> net = Topology.of("toy", [3])
        >>> [(str(c.spec), c.num_gone, c.points) for c in contrasts(net, [sweep("a", short=30)], [sweep("b", short=5)])]
        [('1-3', 1, 25.0)]
    """
    drops = _drops(topology, first)
    others = None if second is None else _drops(topology, second)
    return [
        Contrast(
            spec,
            topology.num_blocks - len(spec.blocks),
            count_operations(spec),
            drop if others is None else drop - others[spec],
        )
        for spec, drop in drops.items()
        if spec != topology.full and (others is None or spec in others)
    ]


def clearest(states: Sequence[Contrast], num_blocks: int) -> Contrast | None:
    """Return the state that shows the difference best; None where nothing is stored.

    With at most half of the blocks gone a network still looks like itself. Such a state is preferred where one is clear
    enough. Among equally clear ones the state with the fewest blocks gone is chosen, then the one in its own order.

    Args:
        states: Contrasts of one experiment.
        num_blocks: Blocks of the whole network.

    Example:
        >>> states = [Contrast(Spec.from_text(text), gone, 0, points)
        ...           for text, gone, points in (("1", 3, 60.0), ("1-2", 2, 40.5), ("1-3", 2, 40.0), ("1-3-4", 1, 40.2))]
        >>> str(clearest(states, 4).spec), str(clearest(states[:1], 4).spec), clearest([], 4)
        ('1-3-4', '1', None)
    """
    half = [state for state in states if 2 * state.num_gone <= num_blocks and state.points >= CLEAR_POINTS]
    candidates = half or list(states)
    if not candidates:
        return None
    largest = max(state.points for state in candidates)
    tied = [state for state in candidates if state.points > largest - TIE_POINTS]
    return min(tied, key=lambda state: (state.num_gone, state.num_swaps, -state.points, state.spec))


def clearest_deletion(states: Iterable[Contrast]) -> Contrast | None:
    """Return the clearest state without exactly one block; None where none is stored.

    Example:
        >>> states = [Contrast(Spec.from_text(text), 1, 0, points) for text, points in (("1-2", 3.0), ("1-3", 5.0))]
        >>> str(clearest_deletion(states).spec)
        '1-3'
    """
    single = [state for state in states if state.num_gone == 1 and state.num_swaps == 0]
    return max(single, key=lambda state: state.points, default=None)


def clearest_swap(states: Iterable[Contrast]) -> Contrast | None:
    """Return the clearest state in which all blocks run and exactly two have changed places; None where none is stored.

    Example:
        >>> states = [Contrast(Spec.from_text(text), 0, 1, points) for text, points in (("1-3-2-4", 3.0), ("1-2-4-3", 5.0))]
        >>> str(clearest_swap(states).spec)
        '1-2-4-3'
    """
    swapped = [state for state in states if state.num_gone == 0 and state.num_swaps == 1]
    return max(swapped, key=lambda state: state.points, default=None)


def _drops(topology: Topology, sweeps: Iterable[Sweep]) -> dict[Spec, float]:
    results: list[Result] = [result for sweep in sweeps for result in first_blocks_kept(topology, sweep).results]
    return {result.spec: result.drop_pct for result in results}
