"""Running a check over many drawn inputs: few by default, thousands in the slow tests."""

from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")
SHORT, LONG = 6, 200
"""Inputs of each kind by default, and in the slow tests."""


def try_all(strategy: SearchStrategy[T], check: Callable[[T], None], num: int) -> None:
    """Run a check on `num` drawn inputs.

    Hypothesis does not look for smaller inputs here: a server remembers what came before, and a slow input would be tried a
    hundred times.
    """

    @settings(
        max_examples=num,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(strategy)
    def run(value: T) -> None:
        check(value)

    run()
