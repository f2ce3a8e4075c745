"""Bounded caches: never over their limit, least recently used goes first."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
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


def test_different_values_are_made_at_once() -> None:
    cache: LRUCache[str, bytes] = LRUCache(9, len)
    both = threading.Barrier(2)

    def make() -> bytes:
        both.wait(timeout=30)  # broken where one waits until the other has made its value
        return b"1"

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda key: cache.get_or_make(key, make), "ab")) == [b"1", b"1"]


def test_the_same_value_is_made_once() -> None:
    cache: LRUCache[str, bytes] = LRUCache(9, len)
    asked, values = threading.Barrier(2), iter([b"1", b"2"])

    def ask(_: int) -> bytes:
        asked.wait(timeout=30)
        return cache.get_or_make("a", lambda: next(values))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, range(2))) == [b"1", b"1"]


def test_a_value_that_can_not_be_made_is_tried_again() -> None:
    cache: LRUCache[str, bytes] = LRUCache(9, len)
    with pytest.raises(MemoryError):
        cache.get_or_make("a", _fail)
    assert cache.get_or_make("a", lambda: b"1") == b"1"


def _fail() -> bytes:
    raise MemoryError
