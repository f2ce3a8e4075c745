"""One budget of memory for the bodies of all requests together, and of the large responses."""

from collections import Counter

from starlette.types import ASGIApp, Receive, Scope, Send

from stimcore.serve.errors import Busy, TooMany
from stimcore.serve.http.addresses import address_group
from stimcore.serve.limits import Limits
from stimcore.serve.metrics import Metrics


class ByteBudget:
    """The bytes that all requests hold together, and those of each address.

    A limit for single bodies is not enough: a few hundred connections with a body each would fill the memory. Bytes count from
    their arrival, decompressed, until the request is answered, so that inferences that wait count too.

    Args:
        total: Bytes that all requests may hold.
        per_address: Bytes that the requests of one address may hold.

    Example:
        >>> budget = ByteBudget(total=100, per_address=60)
        >>> first = budget.open("10.0.0.7")
        >>> first.add(60)
        >>> budget.used
        60
        >>> first.close()
        >>> budget.used
        0
    """

    def __init__(self, total: int, per_address: int) -> None:
        self.total, self.per_address = total, per_address
        self.used = 0
        self._by_group: Counter[str] = Counter()

    def open(self, address: str) -> "Share":
        """Return an empty share for a request of an address."""
        return Share(self, address_group(address))

    def take(self, group: str, count: int) -> None:
        """Count bytes that arrived.

        Raises:
            TooMany: The requests of this address hold too much.
            Busy: All requests together hold too much.
        """
        if self._by_group[group] + count > self.per_address:
            raise TooMany(
                f"the requests of this address hold {self._by_group[group]:,} bytes",
                allowed=f"at most {self.per_address:,}",
                todo="Try again in a moment.",
            )
        if self.used + count > self.total:
            raise Busy(f"requests hold {self.used:,} bytes of {self.total:,}", todo="Try again in a moment.")
        self.used += count
        self._by_group[group] += count

    def give_back(self, group: str, count: int) -> None:
        """Count bytes that are no longer held."""
        self.used -= count
        self._by_group[group] -= count
        if not self._by_group[group]:
            del self._by_group[group]


class Share:
    """What one request holds of a budget.

    Args:
        budget: The budget.
        group: The address that the bytes count for, as `address_group` returns it.

    Attributes:
        held: Bytes that the request holds.
    """

    def __init__(self, budget: ByteBudget, group: str) -> None:
        self._budget, self._group = budget, group
        self.held = 0

    def add(self, count: int) -> None:
        """Hold more bytes.

        Raises:
            TooMany: The requests of this address hold too much.
            Busy: All requests together hold too much.
        """
        self._budget.take(self._group, count)
        self.held += count

    def close(self) -> None:
        """Give all bytes back."""
        self._budget.give_back(self._group, self.held)
        self.held = 0


class BudgetMiddleware:
    """Opens a share of the budget for every request, as `share` in its state, and closes it after the response.

    Args:
        app: The inner application.
        limits: `in_flight_bytes` and `in_flight_bytes_per_address` apply.
        metrics: Shows the bytes that are held.
    """

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self.budget = ByteBudget(limits.in_flight_bytes, limits.in_flight_bytes_per_address)
        metrics.in_flight_bytes.set_function(lambda: float(self.budget.used))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        share = scope["state"]["share"] = self.budget.open(scope["state"]["address"])
        try:
            await self.app(scope, receive, send)
        finally:
            share.close()
