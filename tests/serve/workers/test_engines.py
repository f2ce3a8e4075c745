"""The engines of a worker: what they report to the metrics while bundles are opened and closed."""

from pathlib import Path

from stimcore.bundle import open_bundle
from stimcore.serve.metrics import Metrics
from stimcore.serve.repository.models import bundle_ref
from stimcore.serve.workers.config import WorkerConfig
from stimcore.serve.workers.engines import EngineCache
from tests.serve.gauges import idle


def test_lookups_of_closed_engines_stay_counted(exported: Path) -> None:
    cache = EngineCache(WorkerConfig(device="cpu", threads=1, engines=1, keep_bytes=1 << 28))
    bundles = [open_bundle(exported / "tiny" / method) for method in ("common", "stimulative")]
    lookups = []
    for bundle in bundles:  # the second one takes the place of the first
        cache.open(bundle_ref(bundle)).prepare([bundle.topology.full], lambda: False)
        lookups.append({name: value for name, value in cache.metrics().items() if not name.endswith("_bytes")})
    cache.close(bundle_ref(bundles[0]))  # is closed already
    cache.close(bundle_ref(bundles[1]))
    first, second = lookups
    assert sum(first.values()) > 0
    assert second == {name: 2 * value for name, value in first.items()}
    assert cache.metrics() == second, "nothing is kept any more, and every lookup counts still"


def test_a_worker_without_engines_shows_none_of_its_predecessor() -> None:
    metrics = Metrics(model_labels=1)
    for caches, shown in (({"sessions_bytes": 5.0}, True), ({}, False)):
        text = metrics.text(idle(caches))
        assert (b'stim_engine_cache{cache="sessions",what="bytes"} 5.0' in text) is shown
