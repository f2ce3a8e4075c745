"""The trained networks of an experiment as plain values: what each is, what is measured of it, and its repeats."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stimcore.analysis import paper
from stimcore.analysis.result import Result, Sweep
from stimcore.subnets.spec import Spec

HitsOf = Callable[[Spec], NDArray[np.bool_] | None]
"""Returns bool `[images]` for a sub-network, set where it classifies the image correctly; None where nothing is stored."""


def no_hits(spec: Spec) -> None:
    """Return None: nothing is stored image by image."""


METHOD_ORDER = tuple(row.method for row in paper.TABLE_R3)
"""Training methods in the order of Table r3, which tables and legends follow."""

IMPORTED = "imported"
"""The method of weights that were not trained here."""
BASE_METHODS = ("common", IMPORTED)
"""Methods whose networks show loafing: common training, or imported weights where nothing was trained here."""


def method_position(method: str) -> int:
    """Return the place of a method in tables and legends: that of Table r3; methods that it does not list come last.

    Example:
        >>> sorted(["imported", "stimulative", "common"], key=method_position)
        ['common', 'stimulative', 'imported']
    """
    return METHOD_ORDER.index(method) if method in METHOD_ORDER else len(METHOD_ORDER)


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """One network of an experiment: it was trained (or imported) once.

    Attributes:
        name: Folder of its bundle.
        method: Training method, `imported` for imported weights.
        depths: Blocks per stage of this network.
        twin: Whether it is a sub-network of the experiment's main network that was trained alone.
        main: This whole network on all evaluation images.
        label: `reduced recipe`, `paper` or `imported weights`.
        options: Options of the method.
        recipe: Recipe as plain values; empty for imported weights.
        sweeps: Family (`ordered`, `delete`, `permute`) -> results of its sub-networks, for the families that were swept.
        seed: Seed of the run.
        hits: Which evaluation images a sub-network classifies correctly, where that is stored.
        repeats: The same run with other seeds; see `stimcore.analysis.seeds.group_by_run`.
    """

    name: str
    method: str
    depths: tuple[int, ...]
    twin: bool
    main: Result
    label: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    sweeps: Mapping[str, Sweep] = field(default_factory=dict)
    seed: int = 0
    hits: HitsOf = field(default=no_hits, compare=False, repr=False)
    repeats: Sequence["TrainedNetwork"] = ()

    @property
    def short(self) -> str:
        """Short form of its depths, such as `d2-2-2`."""
        return "d" + "-".join(map(str, self.depths))

    @property
    def lambda_weight(self) -> float | None:
        """Lambda of stimulative training, None for other methods."""
        return float(self.options["weight"]) if self.method == "stimulative" and "weight" in self.options else None


Network = TypeVar("Network", bound=TrainedNetwork)


def find_method(networks: Sequence[Network], method: str) -> Network | None:
    """Return the whole network that stands for a method: the one in the folder of that name, else the only one.

    Returns:
        None where the method was not trained, or several of its networks have other names and none stands out.

    Example:
        >>> from stimcore.subnets.spec import Spec
        >>> main = Result.counted(Spec.from_text("1.2"), images=10, correct=9, lost=0, won=0)
        >>> first, second = (TrainedNetwork(name=name, method="stimulative", depths=(1, 1), twin=False, main=main)
        ...                  for name in ("stimulative", "stimulative-lambda5"))
        >>> find_method([second, first], "stimulative").name, find_method([first], "common")
        ('stimulative', None)
    """
    candidates = [network for network in networks if network.method == method and not network.twin]
    named = [network for network in candidates if network.name == method]
    return named[0] if named else candidates[0] if len(candidates) == 1 else None


def find_base(networks: Sequence[Network]) -> Network | None:
    """Return the whole network that shows loafing: common training, else imported weights, else None.

    Example:
        >>> from stimcore.subnets.spec import Spec
        >>> main = Result.counted(Spec.from_text("1.2"), images=10, correct=9, lost=0, won=0)
        >>> imported = TrainedNetwork(name="weights", method="imported", depths=(1, 1), twin=False, main=main)
        >>> find_base([imported]).name
        'weights'
    """
    return next((base for method in BASE_METHODS if (base := find_method(networks, method)) is not None), None)


def main_result(network: TrainedNetwork) -> Result:
    """Return the result of the whole network."""
    return network.main
