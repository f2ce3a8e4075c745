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
        # reentrant: `get_or_make` holds it while it calls the other methods
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

        Values are made one at a time: two threads that need the same one would otherwise both make it, and making sessions is
        bound by memory, not by the processor.
        """
        with self._lock:
            value = self.get(key)
            return self.put(key, make()) if value is None else value

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
