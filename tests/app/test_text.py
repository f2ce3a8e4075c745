"""Words and numbers: the examples in the docstrings of the modules without Streamlit, run."""

import doctest
from types import ModuleType

import pytest

from app import text
from stimcore.web import arrangement


@pytest.mark.parametrize("module", [text, arrangement], ids=lambda m: m.__name__)
def test_examples(module: ModuleType) -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_numbers_of_nats() -> None:
    assert [text.nats(v) for v in (0.0, 99_999.0, 5e43, float("inf"))] == ["0", "1e+05", "10^44", "beyond any number"]


@pytest.mark.parametrize("hostile", ["![x](http://example.org)", "<img src=x>", "$x$", ":red[x]", "`x`", "a|b", "~~x~~", "# x"])
def test_plain_escapes_every_sign_of_markdown(hostile: str) -> None:
    escaped = text.plain(hostile)
    assert escaped.replace("\\", "") == hostile
    for sign in "`*_[]<>$:~#|":
        assert escaped.count(sign) == escaped.count("\\" + sign)
