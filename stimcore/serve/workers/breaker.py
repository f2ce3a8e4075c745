"""A circuit breaker: it counts crashes, and opens when there are so many that the server should stop trying for a while."""

import time
from collections import deque
from collections.abc import Callable


class CircuitBreaker:
    """Opens when there were more than `crashes` crashes within the last `window_s` seconds.

    Without it, an input or a driver that ends every worker would keep the machine busy with starting processes, and every
    client waiting. While it is open, requests are refused at once and the server reports that it is not ready, so that a load
    balancer turns to another one. It closes by itself when the crashes are old enough.

    Args:
        crashes: Crashes that are still normal.
        window_s: Seconds for which a crash counts.
        clock: Seconds, never going back.

    Example:
        >>> seconds = iter([0.0, 1.0, 2.0, 70.0])
        >>> breaker = CircuitBreaker(1, 60, clock=lambda: next(seconds))
        >>> breaker.record()
        >>> breaker.record()
        >>> breaker.open, breaker.open
        (True, False)
    """

    def __init__(self, crashes: int, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._window_s, self._clock = crashes, window_s, clock
        self._times: deque[float] = deque()

    def record(self) -> None:
        """Count a crash."""
        self._times.append(self._clock())

    @property
    def open(self) -> bool:
        """Whether work should be refused."""
        now = self._clock()
        while self._times and now - self._times[0] > self._window_s:
            self._times.popleft()
        return len(self._times) > self._limit
