"""Which connections are open, and which of them have to go: bounds for all, bounds per address, and a reserve for health."""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from stimcore.serve.http.addresses import Network, address_group, is_trusted
from stimcore.serve.limits import Limits

RESERVE = 16
"""Connections above the bounds that are accepted to answer whether the server is alive and ready."""
RESERVE_HEADER_S = 2.0
"""Time for the head of a request on such a connection."""
GRACE_S = 1.0
"""Age from which a connection without a complete head counts as half open.

Many connections that are accepted at once are read one after the other, and none of them is late for that.
"""


class Aborts(Protocol):
    """A transport, as far as this module knows it."""

    def abort(self) -> None:
        """Close it at once."""


class HasTransport(Protocol):
    """A connection, as far as this module knows it."""

    @property
    def transport(self) -> Aborts:
        """Its transport."""


class ConnectionTable:
    """All connections of a server.

    - At most `connections` are open, and `connections_per_address` of one address. A further connection is accepted into a
      reserve, on which only the health of the server is answered. There the newest goes first: a health check sends its request
      at once, while a connection that waits holds the place of nobody.
    - An address that has more than `half_open_per_address` connections on which no complete request arrived yet loses the
      oldest of them.

    Trusted proxies stand for many clients, so that no bound per address holds for them.

    Args:
        limits: Limits of the server.
        trusted: Trusted proxies.
        clock: Seconds, never going back.
    """

    def __init__(self, limits: Limits, trusted: Sequence[Network] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._trusted, self._clock = limits, trusted, clock
        self._groups: dict[HasTransport, str | None] = {}
        self._counts: Counter[str] = Counter()
        self._half_open: dict[str, OrderedDict[HasTransport, float]] = {}
        self._reserve: OrderedDict[HasTransport, None] = OrderedDict()

    def add(self, connection: HasTransport, address: str) -> bool:
        """Add a new connection, and close others that it takes the place of.

        Returns:
            Whether it may ask for everything; False when it belongs to the reserve.
        """
        group = None if is_trusted(address, self._trusted) else address_group(address)
        over = group is not None and self._counts[group] >= self._limits.connections_per_address
        if over or len(self._groups) >= self._limits.connections:
            while len(self._reserve) >= RESERVE:
                self._reserve.popitem(last=False)[0].transport.abort()
            self._reserve[connection] = None
            return False
        self._groups[connection] = group
        if group is not None:
            self._counts[group] += 1
            waiting = self._half_open.setdefault(group, OrderedDict())
            waiting[connection] = self._clock()
            self._close_half_open(waiting)
        return True

    def _close_half_open(self, waiting: OrderedDict[HasTransport, float]) -> None:
        while len(waiting) > self._limits.half_open_per_address:
            oldest, since = next(iter(waiting.items()))
            if self._clock() - since < GRACE_S:
                return
            waiting.popitem(last=False)
            oldest.transport.abort()

    def head_complete(self, connection: HasTransport) -> None:
        """Note that the head of a request has arrived on a connection."""
        group = self._groups.get(connection)
        if group is not None and (waiting := self._half_open.get(group)) is not None:
            waiting.pop(connection, None)
            if not waiting:
                del self._half_open[group]

    def remove(self, connection: HasTransport) -> None:
        """Remove a connection that has ended."""
        self.head_complete(connection)
        self._reserve.pop(connection, None)
        group = self._groups.pop(connection, None)
        if group is not None:
            self._counts[group] -= 1
            if not self._counts[group]:
                del self._counts[group]

    def counts(self) -> dict[str, Any]:
        """Return how many connections are open, half open, and in the reserve."""
        half_open = sum(len(waiting) for waiting in self._half_open.values())
        return {"open": len(self._groups), "half_open": half_open, "reserve": len(self._reserve)}
