"""Which of many like cases run in every test run; `make slow` runs them all."""

from collections.abc import Iterable
from typing import Any

import pytest


def all_slow_but(values: Iterable[Any], *kept: Any) -> list[Any]:
    """Return cases for `pytest.mark.parametrize`, of which all have the mark `slow` but those that are kept.

    Args:
        values: The cases; a tuple is one case of several arguments.
        kept: Some of them.

    Raises:
        ValueError: A case that is kept is none.

    Example:
        >>> [getattr(case, "values", case) for case in all_slow_but(["a", "b", ("c", 1)], "b")]
        [('a',), 'b', ('c', 1)]
    """
    cases = list(values)
    if unknown := [case for case in kept if case not in cases]:
        raise ValueError(f"no cases: {unknown}")
    return [
        case if case in kept else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for case in cases
    ]
