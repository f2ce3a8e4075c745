"""Values by key within a number of bytes: what the engine keeps between calls."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """The least recently used values are dropped when all together exceed a limit. Safe to share between threads.

    Args:
        limit: In bytes.
        size: Bytes of a value.
    """

    def __init__(self, limit: int, size: Callable[[V], int]) -> None:
        self.limit, self.bytes = limit, 0
        self.hits, self.misses = 0, 0
        self._size, self._items = size, OrderedDict[K, tuple[V, int]]()
        self._lock = threading.RLock()

    def find(self, key: K) -> V | None:
        """The value, None when it isn't kept."""
        with self._lock:
            item = self._items.get(key)
            if item is None:
                self.misses += 1
                return None
            self.hits += 1
            self._items.move_to_end(key)
            return item[0]

    def put(self, key: K, value: V) -> V:
        """Keeps a value in place of any older one; returns it. One that alone exceeds the limit is not kept."""
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

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value, made when it isn't kept; two threads never make the same one at once."""
        with self._lock:
            found = self.find(key)
            return self.put(key, make()) if found is None else found

    def resize(self, limit: int) -> None:
        """Sets another limit, in bytes; drops what exceeds it."""
        with self._lock:
            self.limit = limit
            self._drop()

    def make_room(self, size: int) -> None:
        """Drops what would have to go when so many bytes came: their memory can be used for what comes."""
        with self._lock:
            self._drop(min(size, self.limit))

    def _drop(self, coming: int = 0) -> None:
        while self.bytes + coming > self.limit:
            _, (_, old) = self._items.popitem(last=False)
            self.bytes -= old

    def __contains__(self, key: K) -> bool:
        with self._lock:
            return key in self._items

    def __len__(self) -> int:
        return len(self._items)
