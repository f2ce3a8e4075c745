"""Bounded caches: never over their limit, least recently used goes first."""

from hypothesis import given
from hypothesis import strategies as st

from stimcore.engine.cache import Kept


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), max_size=60))
def test_it_never_holds_more_than_its_limit(puts: list[tuple[int, int]]) -> None:
    kept: Kept[int, bytes] = Kept(64, len)
    for key, size in puts:
        kept.put(key, bytes(size))
        assert kept.bytes <= 64
        assert key in kept


def test_the_least_recently_used_goes_first() -> None:
    kept: Kept[str, bytes] = Kept(3, len)
    for key in "abc":
        kept.put(key, b"1")
    assert kept.find("a") == b"1"
    kept.put("d", b"1")
    assert "b" not in kept and "a" in kept


def test_a_smaller_limit_drops_the_least_recently_used() -> None:
    kept: Kept[str, bytes] = Kept(3, len)
    for key in "abc":
        kept.put(key, b"1")
    kept.find("a")
    kept.resize(2)
    assert "b" not in kept and kept.bytes == 2
    kept.put("d", b"1")
    assert len(kept) == 2


def test_room_is_made_before_what_comes() -> None:
    kept: Kept[str, bytes] = Kept(3, len)
    for key in "abc":
        kept.put(key, b"1")
    kept.make_room(2)
    assert kept.bytes == 1 and "c" in kept
    kept.make_room(9)
    assert kept.bytes == 0


def test_what_alone_exceeds_the_limit_is_made_but_not_kept() -> None:
    kept: Kept[str, bytes] = Kept(3, len)
    assert kept.get("a", lambda: b"12345") == b"12345"
    assert "a" not in kept and kept.bytes == 0
