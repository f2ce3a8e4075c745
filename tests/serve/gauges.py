"""Values of the gauges of a server that does nothing."""

from collections.abc import Mapping

from stimcore.serve.metrics import GaugeValues


def idle(engine_caches: Mapping[str, float]) -> GaugeValues:
    """Return the values of a server that is ready and has nothing to do.

    Args:
        engine_caches: What its workers report of the caches of their engines.
    """
    return GaugeValues(
        waiting_calls=0,
        calls_at_workers=0,
        jobs={},
        known_results=0,
        known_hits=0,
        worker_restarts=0,
        engine_caches=engine_caches,
        ready=True,
    )
