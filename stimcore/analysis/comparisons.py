"""Which networks of an experiment are compared with which: methods in order, nested families, twins, lambdas, Pareto fronts.

The report and the dashboard both choose with these functions, so that they show the same comparison for the same bundles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from stimcore.analysis.estimates import Estimate, accuracy
from stimcore.analysis.loafing import find_ordered
from stimcore.analysis.networks import BASE_METHODS, TrainedNetwork, find_base, find_method
from stimcore.analysis.result import Result, Sweep
from stimcore.analysis.seeds import Pick, measured, on_shared_seeds, side_by_side, training_settings
from stimcore.subnets.topology import Topology

# --- twins: the loafing gap ---


@dataclass(frozen=True)
class TwinGap:
    """A twin next to the same architecture inside a main network.

    Attributes:
        twin: The network that was trained alone.
        main: The main network.
        alone: Accuracy of the twin in percent; over seeds where the gap is.
        inside: Accuracy of the same architecture inside the main network, likewise.
        points: Accuracy of the twin minus accuracy inside, in points, with the interval of `side_by_side`.
    """

    twin: TrainedNetwork
    main: TrainedNetwork
    alone: Estimate
    inside: Estimate
    points: Estimate


def twin_gaps(networks: Sequence[TrainedNetwork], main: TrainedNetwork) -> list[TwinGap]:
    """Return the loafing gap of every twin inside one main network; none where its ordered sub-networks were not swept.

    Args:
        networks: Networks of the experiment; those that are twins are compared.
        main: The main network.

    Example:
        >>> from stimcore.subnets.spec import Spec
        >>> small = Result.counted(Spec.from_text("1.2"), images=10, correct=8, lost=0, won=0)
        >>> inside = Result.counted(Spec.from_text("1.3"), images=10, correct=5, lost=4, won=0)
        >>> full = Result.counted(Spec.from_text("1-2.3"), images=10, correct=9, lost=0, won=0)
        >>> sweep = Sweep(experiment="", method="common", kind="ordered", provider="", images=10, main=full,
        ...               results=[inside, full])
        >>> twin = TrainedNetwork(name="twin-d1-1", method="common", depths=(1, 1), twin=True, main=small)
        >>> main = TrainedNetwork(name="common", method="common", depths=(2, 1), twin=False, main=full,
        ...                       sweeps={"ordered": sweep})
        >>> [(gap.twin.short, round(gap.points.value, 6)) for gap in twin_gaps([twin, main], main)]
        [('d1-1', 30.0)]
    """
    gaps = []
    for twin in networks:
        beside = side_by_side(twin, main, of_second=ordered(twin.depths)) if twin.twin else None
        if beside is not None:
            gaps.append(TwinGap(twin, main, beside.first, beside.second, beside.difference))
    return gaps


def ordered(depths: Sequence[int]) -> Pick:
    """Return the choice of the ordered sub-network with these depths, which a network's sweep holds or which it is itself."""

    def pick(network: TrainedNetwork) -> Result | None:
        return network.main if network.depths == tuple(depths) else find_inside(network, depths)

    return pick


def find_inside(network: TrainedNetwork, depths: Sequence[int]) -> Result | None:
    """Return the result of an ordered sub-network inside a network: from its sweep, else from hits that are stored of it.

    The largest networks have too many ordered sub-networks to sweep. Exported ones have stored hits all the same.

    Args:
        network: The network that contains it.
        depths: Blocks per stage, at most those of the network.

    Returns:
        None where nothing is stored of it, or the network has no such sub-network.

    Example:
        >>> import numpy as np
        >>> from stimcore.subnets.spec import Spec
        >>> rows = {"1.3": [True, False, False], "1-2.3": [True, True, False]}
        >>> main = Result.counted(Spec.from_text("1-2.3"), images=3, correct=2, lost=0, won=0)
        >>> network = TrainedNetwork(name="common", method="common", depths=(2, 1), twin=False, main=main,
        ...                          hits=lambda spec: np.array(rows[str(spec)]) if str(spec) in rows else None)
        >>> inside = find_inside(network, (1, 1))
        >>> (inside.correct, inside.images), find_inside(network, (3, 1))
        ((1, 3), None)
    """
    sweep = network.sweeps.get("ordered")
    if sweep is not None and (result := find_ordered(sweep, depths)) is not None:
        return result
    if not _is_nested(tuple(depths), network.depths):
        return None
    topology = Topology.of(network.name, network.depths)
    spec = topology.ordered(depths)
    inside, main = network.hits(spec), network.hits(topology.full)
    if inside is None or main is None:
        return None
    return Result.counted(
        spec, images=len(inside), correct=int(inside.sum()), lost=int((main & ~inside).sum()), won=int((inside & ~main).sum())
    )


# --- sub-networks inside larger networks: Tables r5 and r6 ---


@dataclass(frozen=True)
class NestedNetwork:
    """One network of a nested family, trained alone.

    Attributes:
        name: Name of its row and column.
        network: The network.
    """

    name: str
    network: TrainedNetwork

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks per stage."""
        return self.network.depths

    @property
    def sweep(self) -> Sweep | None:
        """Its ordered sub-networks; None where they were not swept."""
        return self.network.sweeps.get("ordered")


def nested_family(networks: Sequence[TrainedNetwork], main_name: str) -> list[NestedNetwork]:
    """Return the networks that were each trained alone, by common training or imported, from the smallest to the main network.

    Imported weights count like common training: Tables r5 and r6 only ask that each network was trained alone. All have the
    same seeds, those that they share, where they share any: the table compares them with each other.

    Args:
        networks: Networks of the experiment.
        main_name: Name of the main network's row and column; twins are named by their depths.

    Example:
        >>> from stimcore.subnets.spec import Spec
        >>> main = Result.counted(Spec.from_text("1.2"), images=10, correct=9, lost=0, won=0)
        >>> twin = TrainedNetwork(name="twin-d1-1", method="imported", depths=(1, 1), twin=True, main=main)
        >>> whole = TrainedNetwork(name="common", method="common", depths=(3, 3), twin=False, main=main)
        >>> [member.name for member in nested_family([whole, twin], "resnet14")]
        ['d1-1', 'resnet14']
    """
    base = find_base(networks)
    twins = [network for network in networks if network.twin and network.method in BASE_METHODS]
    members = sorted(twins, key=lambda network: (sum(network.depths), network.name))
    whole = [base] if base is not None else []
    names = [*(twin.short for twin in members), *(main_name for _ in whole)]
    return [NestedNetwork(name, network) for name, network in zip(names, on_shared_seeds([*members, *whole]), strict=True)]


def nested_table(members: Sequence[NestedNetwork]) -> dict[tuple[str, str], Estimate]:
    """Return the cells (sub-network, main network) of a table such as r5, in percent; the diagonal is each network alone.

    They are means over the seeds of the main network where there are several.

    Pairs that are not nested are absent, and so are pairs of which nothing is stored: neither a sweep of the main network nor
    hits of the sub-network inside it.

    Example:
        >>> from stimcore.subnets.spec import Spec
        >>> small = Result.counted(Spec.from_text("1.2"), images=10, correct=8, lost=0, won=0)
        >>> inside = Result.counted(Spec.from_text("1.3"), images=10, correct=2, lost=7, won=0)
        >>> full = Result.counted(Spec.from_text("1-2.3"), images=10, correct=9, lost=0, won=0)
        >>> sweep = Sweep(experiment="", method="common", kind="ordered", provider="", images=10, main=full,
        ...               results=[inside, full])
        >>> members = [
        ...     NestedNetwork("small", TrainedNetwork(name="a", method="common", depths=(1, 1), twin=True, main=small)),
        ...     NestedNetwork("large", TrainedNetwork(name="b", method="common", depths=(2, 1), twin=False, main=full,
        ...                                           sweeps={"ordered": sweep})),
        ... ]
        >>> {cell: accuracy.value for cell, accuracy in nested_table(members).items()}
        {('small', 'small'): 80.0, ('small', 'large'): 20.0, ('large', 'large'): 90.0}
    """

    def cell(row: NestedNetwork, column: NestedNetwork) -> Estimate | None:
        if row is not column and not _is_nested(row.depths, column.depths):
            return None
        pick = ordered(row.depths)
        return measured(column.network, lambda run: None if (result := pick(run)) is None else accuracy(result))

    cells = {(row.name, column.name): cell(row, column) for column in members for row in members}
    return {names: accuracy for names, accuracy in cells.items() if accuracy is not None}


def _is_nested(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    return small != large and len(small) == len(large) and all(a <= b for a, b in zip(small, large, strict=True))


# --- lambda: Fig. r3 ---


@dataclass(frozen=True)
class LambdaAblation:
    """Runs of stimulative training that differ in lambda alone.

    Attributes:
        points: Lambda, above 0, and the network; by rising lambda.
        common: Common training with the same recipe; None where there is none.
    """

    points: Sequence[tuple[float, TrainedNetwork]]
    common: TrainedNetwork | None


def lambda_ablation(networks: Sequence[TrainedNetwork]) -> LambdaAblation:
    """Return the runs over lambda that compare: those with the recipe of common training that differ in lambda alone.

    All of them have the same seeds, those that they share, where they share any.

    Where common training is missing, they are the largest group of runs with one recipe. Of runs with other options, such as
    another sample space, those belong to it that have the options of the run that stands for stimulative training; where none
    does, the largest group with equal options.

    Example:
        >>> from stimcore.subnets.spec import Spec
        >>> main = Result.counted(Spec.from_text("1.2"), images=10, correct=9, lost=0, won=0)
        >>> runs = [TrainedNetwork(name=f"lambda{weight:g}", method="stimulative", depths=(1, 1), twin=False, main=main,
        ...                        options={"weight": weight}, recipe={"epochs": epochs})
        ...         for weight, epochs in ((10.0, 4), (1.0, 4), (5.0, 500))]
        >>> [weight for weight, _ in lambda_ablation(runs).points]
        [1.0, 10.0]
    """
    runs = [network for network in networks if network.lambda_weight and not network.twin]
    common = find_method(networks, "common")
    groups = [[run for run in runs if _same_recipe(run, other)] for other in ([common] if common is not None else runs)]
    with_recipe = max(groups, key=len, default=[])
    first = find_method(with_recipe, "stimulative")
    alike = [[run for run in with_recipe if _same_but_lambda(run, o)] for o in ([first] if first is not None else with_recipe)]
    chosen = max(alike, key=len, default=[])
    shared = on_shared_seeds([*chosen, *([] if common is None else [common])])
    points = sorted(((run.lambda_weight or 0.0, run) for run in shared[: len(chosen)]), key=lambda point: point[0])
    return LambdaAblation(points, None if common is None else shared[-1])


def _same_recipe(a: TrainedNetwork, b: TrainedNetwork) -> bool:
    # Options belong to the method: lambda is one of them, and common training has none. The label belongs to the whole request:
    # a paper's recipe with another lambda has not the paper's settings any more, and is still the same recipe otherwise.
    return {**training_settings(a.recipe), "options": None} == {**training_settings(b.recipe), "options": None}


def _same_but_lambda(a: TrainedNetwork, b: TrainedNetwork) -> bool:
    return {**a.options, "weight": None} == {**b.options, "weight": None}


# --- accuracy against cost ---


@dataclass(frozen=True)
class Option:
    """A network that can be chosen for what it costs.

    Attributes:
        name: Name for a reader, or of its file.
        accuracy_pct: Accuracy in percent.
        cost: Milliseconds per image, or million multiply-accumulates per image.
        method: Folder of its bundle.
        file: Name of its ONNX file.
        spec: The sub-network in its long form.
    """

    name: str
    accuracy_pct: float
    cost: float
    method: str = ""
    file: str = ""
    spec: str = ""


def pareto_front(options: Sequence[Option]) -> list[Option]:
    """Return the options that no other one beats (every cheaper one is less accurate), by rising cost.

    Example:
        >>> options = [Option("a", 90, 3), Option("b", 80, 1), Option("c", 70, 2)]
        >>> [option.name for option in pareto_front(options)]
        ['b', 'a']
    """
    front: list[Option] = []
    for option in sorted(options, key=lambda o: (o.cost, -o.accuracy_pct)):
        if not front or option.accuracy_pct > front[-1].accuracy_pct:
            front.append(option)
    return front


def best_within(options: Sequence[Option], budget: float) -> Option | None:
    """Return the most accurate option that costs at most `budget`, the cheapest among equals; None where none does.

    Example:
        >>> options = [Option("a", 90, 3), Option("b", 90, 2), Option("c", 70, 1)]
        >>> best_within(options, 2.5).name, best_within(options, 0.5)
        ('b', None)
    """
    affordable = [option for option in options if option.cost <= budget]
    return max(affordable, key=lambda o: (o.accuracy_pct, -o.cost), default=None)


# --- order of methods ---


def ranking(values: Mapping[str, float]) -> list[str]:
    """Return the names from the largest value to the smallest; equal values keep the order given.

    Example:
        >>> ranking({"a": 1.0, "b": 3.0, "c": 2.0})
        ['b', 'c', 'a']
    """
    return sorted(values, key=lambda name: -values[name])


def count_agreeing_pairs(ours: Mapping[str, float], theirs: Mapping[str, float]) -> tuple[int, int]:
    """Return how many pairs of names both rank alike, and how many pairs both have; a tie on either side does not agree.

    Example:
        >>> count_agreeing_pairs({"a": 3.0, "b": 1.0, "c": 2.0}, {"a": 30, "b": 20, "c": 10})
        (2, 3)
    """
    pairs = list(combinations([name for name in theirs if name in ours], 2))
    return sum((ours[a] - ours[b]) * (theirs[a] - theirs[b]) > 0 for a, b in pairs), len(pairs)
