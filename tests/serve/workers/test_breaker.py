"""The circuit breaker opens after too many crashes within its window, and closes when they are old."""

from stimcore.serve.workers.breaker import CircuitBreaker


def test_only_crashes_within_the_window_count() -> None:
    now = 0.0
    breaker = CircuitBreaker(2, 10, clock=lambda: now)
    opened = []
    for now in (0.0, 5.0, 11.0, 12.0, 13.0):
        breaker.record()
        opened.append(breaker.open)
    assert opened == [False, False, False, True, True]
    now = 22.5
    assert not breaker.open
