"""Bounded caches: never over their limit, least recently used goes first."""

from hypothesis import given
from hypothesis import strategies as st

from stimcore.engine.cache import LRUCache


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), max_size=60))
def test_it_never_holds_more_than_its_limit(puts: list[tuple[int, int]]) -> None:
    cache: LRUCache[int, bytes] = LRUCache(64, len)
    for key, size in puts:
        cache.put(key, bytes(size))
        assert cache.bytes <= 64
        assert key in cache


def test_the_least_recently_used_goes_first() -> None:
    cache: LRUCache[str, bytes] = LRUCache(3, len)
    for key in "abc":
        cache.put(key, b"1")
    assert cache.get("a") == b"1"
    cache.put("d", b"1")
    assert "b" not in cache
    assert "a" in cache


def test_a_smaller_limit_drops_the_least_recently_used() -> None:
    cache: LRUCache[str, bytes] = LRUCache(3, len)
    for key in "abc":
        cache.put(key, b"1")
    cache.get("a")
    cache.resize(2)
    assert "b" not in cache
    assert cache.bytes == 2
    cache.put("d", b"1")
    assert len(cache) == 2


def test_room_is_made_before_what_comes() -> None:
    cache: LRUCache[str, bytes] = LRUCache(3, len)
    for key in "abc":
        cache.put(key, b"1")
    cache.make_room(2)
    assert cache.bytes == 1
    assert "c" in cache
    cache.make_room(9)
    assert cache.bytes == 0


def test_what_alone_exceeds_the_limit_is_made_but_not_kept() -> None:
    cache: LRUCache[str, bytes] = LRUCache(3, len)
    assert cache.get_or_make("a", lambda: b"12345") == b"12345"
    assert "a" not in cache
    assert cache.bytes == 0
