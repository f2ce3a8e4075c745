"""The circuit breaker opens after too many crashes within its window, and closes when they are old."""

from stimcore.serve.workers.breaker import CircuitBreaker


class Clock:
    """A clock that shows what a test sets."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_only_crashes_within_the_window_count() -> None:
    clock = Clock()
    breaker = CircuitBreaker(2, 10, clock)

    def crash_at(seconds: float) -> bool:
        clock.now_s = seconds
        breaker.record()
        return breaker.open

    assert [crash_at(seconds) for seconds in (0, 5, 11, 12, 13)] == [False, False, False, True, True]
    clock.now_s = 22.5
    assert not breaker.open
