"""What a browser computes from the parts of a network is what the engine counts, image by image."""

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser

from stimcore.bundle import Bundle, open_bundle
from stimcore.engine.engine import Engine
from stimcore.engine.graph.main_graph import MainGraph
from stimcore.publish.parts import part_graphs
from stimcore.publish.site import Settings, build_site, evenly
from stimcore.subnets.spec import Spec
from tests.publish.hosting import hosted, runtime_or_skip, visit

IMAGES = 500
CLOSE = 1e-3
"""Two largest logits that are closer than this may change places with the order of float sums."""
MEASURE = """
async ([root, job, experiment]) => {
  const { run } = await import(root + 'page/compute.js');
  const found = {};
  return await new Promise((resolve, reject) => run(experiment, job, (report) => {
    if (report.phase === 'failed') reject(new Error(report.message));
    if (report.phase === 'done') found[report.method] = report.seen;
    if (report.phase === 'answer') found[report.spec] = report.logits;
    if (report.phase === 'finished') resolve(found);
  }));
}
"""


def test_chained_parts_compute_what_the_engine_computes(small: list[Bundle]) -> None:
    bundle = small[0]
    engine = Engine(bundle, device="cpu", threads=1)
    graph = MainGraph.load(bundle.read, bundle.manifest.parts, bundle.topology)
    spec = bundle.topology.parse("1-3-2.4-6.7-8-9")
    statistics, route = engine.calibrated([spec]), engine.route(spec)
    value: NDArray[np.float32] = bundle.experiment.normalise(bundle.experiment.evaluation[0][:8])
    expected = engine.logits(spec, value)
    for i, part in enumerate(route):
        graphs = part_graphs(graph, part)
        session = ort.InferenceSession(graphs.run.SerializeToString(), providers=["CPUExecutionProvider"])
        names = [entry.name for entry in session.get_inputs()]
        values = [array for norm in graphs.norms for array in statistics[route[: i + 1]][norm]]
        (value,) = session.run(None, dict(zip(names, [value, *values], strict=True)))
    np.testing.assert_allclose(value, expected, atol=1e-4)


@pytest.fixture(scope="module")
def experiment() -> Path:
    return Path(__file__).parents[2] / "exported" / "resnet20-fashion"


@pytest.fixture(scope="module")
def url(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    runtime = runtime_or_skip()
    out = tmp_path_factory.mktemp("equal") / "site"
    build_site([experiment], Settings(images=IMAGES, walls="stored", runtime=runtime)).write(out)
    with hosted(out) as address:
        yield address


def states(bundle: Bundle, count: int, seed: int) -> list[Spec]:
    """Draw stored states of all families; a state of two families counts once."""
    sweeps = [bundle.sweep(kind) for kind in bundle.sweeps]
    texts = sorted({result["spec"] for sweep in sweeps if sweep for result in sweep["results"]})
    return [Spec.from_text(text) for text in random.Random(seed).sample(texts, count)]


def expected(bundle: Bundle, specs: list[Spec]) -> Mapping[Spec, tuple[int, int]]:
    """Return state -> right answers and close calls on the page's images; on all images the engine counts what is stored."""
    engine, (pixels, labels) = Engine(bundle, device="cpu", threads=1), bundle.experiment.evaluation
    stored = {r["spec"]: r["correct"] for kind in bundle.sweeps for r in (bundle.sweep(kind) or {})["results"]}
    index = evenly(len(labels), IMAGES)
    counted = {}
    for progress in engine.evaluate(specs, collect_hits=True):
        hits = progress.hits
    for spec in specs:
        assert int(hits[spec].sum()) == stored[str(spec)], spec
        logits = np.sort(engine.logits(spec, bundle.experiment.normalise(pixels[index])), axis=1)
        counted[spec] = int(hits[spec][index].sum()), int((logits[:, -1] - logits[:, -2] < CLOSE).sum())
    return counted


@pytest.mark.slow
def test_twenty_stored_states_are_counted_to_the_image(browser: Browser, url: str, experiment: Path) -> None:
    total = 0
    with visit(browser, f"{url}/?spec=main") as page:
        for seed, method in enumerate(("common", "stimulative")):
            bundle = open_bundle(experiment / method)
            specs = states(bundle, 10, seed)
            for spec, (correct, close) in expected(bundle, specs).items():
                job: dict[str, Any] = {
                    "kind": "measure",
                    "quick": False,
                    "methods": [method],
                    "route": [str(part) for part in bundle.topology.route(spec)],
                    "recalibrate": True,
                }
                seen = page.evaluate(MEASURE, [f"{url}/", job, experiment.name])[method]
                print(f"{method} {spec}: {seen['correct']} of {seen['images']} in the browser, {correct} here; {close} close")
                assert seen["images"] == IMAGES
                assert abs(seen["correct"] - correct) <= close, spec
                assert seen["correct"] == correct or close, spec
                total += 1
    assert total == 20


@pytest.mark.slow
def test_without_recalibration_drops_are_against_the_same_kind_of_network(browser: Browser, url: str, experiment: Path) -> None:
    bundle = open_bundle(experiment / "common")
    engine, (pixels, labels) = Engine(bundle, device="cpu", threads=1), bundle.experiment.evaluation
    index, spec = evenly(len(labels), IMAGES), bundle.topology.parse("1-x2-3.4-x5-6.7-8-9")
    images = bundle.experiment.normalise(pixels[index])
    main, this = (
        engine.logits(some, images, recalibrate=False).argmax(1) == labels[index] for some in (bundle.topology.full, spec)
    )
    job = {
        "kind": "measure",
        "quick": False,
        "methods": ["common"],
        "route": [str(part) for part in bundle.topology.route(spec)],
        "recalibrate": False,
    }
    with visit(browser, f"{url}/?spec=main") as page:
        seen = page.evaluate(MEASURE, [f"{url}/", job, experiment.name])["common"]
    counts = [int(this.sum()), int((main & ~this).sum()), int((this & ~main).sum())]
    assert [seen[key] for key in ("correct", "lost", "won")] == pytest.approx(counts, abs=seen["close"])


@pytest.mark.slow
def test_listed_networks_give_the_logits_of_onnxruntime(browser: Browser, url: str, experiment: Path) -> None:
    bundle = open_bundle(experiment / "stimulative")
    engine, pixels = Engine(bundle, device="cpu", threads=1), bundle.experiment.evaluation[0]
    specs = [bundle.topology.parse(text) for text in ("d1-1-1", "d2-3-1", "main")]
    files = [{"method": "stimulative", "spec": str(spec), "file": bundle.listed(spec)} for spec in specs]
    with visit(browser, f"{url}/?spec=main") as page:
        for image in (0, 4_321):
            shown = [int(value) for value in pixels[image].ravel()]
            job = {"kind": "classify", "files": files, "pixels": shown}
            logits = page.evaluate(MEASURE, [f"{url}/", job, experiment.name])
            for spec in specs:
                here = engine.logits(spec, bundle.experiment.normalise(pixels[image : image + 1]))[0]
                np.testing.assert_allclose(logits[str(spec)], here, atol=1e-4)
