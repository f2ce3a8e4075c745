"""A cache of values within a number of bytes: what the engine keeps between calls."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRUCache(Generic[K, V]):
    """A cache that drops the least recently used values when all together exceed a limit. Threads may share it.

    Args:
        limit: Bytes.
        size: Returns the bytes of a value.

    Example:
        >>> cache = LRUCache(limit=4, size=len)
        >>> cache.put("a", "12"), cache.put("b", "12"), cache.get("a"), cache.put("c", "12")
        ('12', '12', '12', '12')
        >>> "a" in cache, "b" in cache, cache.bytes
        (True, False, 4)
    """

    def __init__(self, limit: int, size: Callable[[V], int]) -> None:
        self.limit, self.bytes = limit, 0
        self.hits, self.misses = 0, 0
        self._size, self._items = size, OrderedDict[K, tuple[V, int]]()
        self._making: dict[K, threading.Lock] = {}
        # reentrant: methods that hold it call each other
        self._lock = threading.RLock()

    def get(self, key: K) -> V | None:
        """Return a value, None when it is not cached."""
        with self._lock:
            item = self._items.get(key)
            if item is None:
                self.misses += 1
                return None
            self.hits += 1
            self._items.move_to_end(key)
            return item[0]

    def put(self, key: K, value: V) -> V:
        """Cache a value in place of an older one with the same key, and return it. A value above the limit is not cached."""
        size = self._size(value)
        with self._lock:
            if key in self._items:
                self.bytes -= self._items.pop(key)[1]
            if size > self.limit:
                return value
            self._items[key] = value, size
            self.bytes += size
            self._drop()
        return value

    def get_or_make(self, key: K, make: Callable[[], V]) -> V:
        """Return a value, and make it when it is not cached.

        Threads that need the same value wait for the one that makes it; others are not held up.
        """
        value = self.get(key)
        if value is not None:
            return value
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        try:
            with making:
                with self._lock:
                    made = self._items.get(key)  # by the thread that was waited for: neither a hit nor another miss
                return self.put(key, make()) if made is None else made[0]
        finally:
            with self._lock:
                # those who still wait have this lock too, and those who come later find the value before they ask for a lock
                self._making.pop(key, None)

    def resize(self, limit: int) -> None:
        """Set another limit, in bytes, and drop what exceeds it."""
        with self._lock:
            self.limit = limit
            self._drop()

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._items.clear()
            self.bytes = 0

    def make_room(self, size: int) -> None:
        """Drop what a value of `size` bytes will push out, so that its memory is free while the value is computed."""
        with self._lock:
            self._drop(min(size, self.limit))

    def _drop(self, coming: int = 0) -> None:
        while self.bytes + coming > self.limit:
            _, (_, size) = self._items.popitem(last=False)
            self.bytes -= size

    def __contains__(self, key: K) -> bool:
        with self._lock:
            return key in self._items

    def __len__(self) -> int:
        return len(self._items)
