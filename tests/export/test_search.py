"""The best network under a limit: what is chosen, that its file says what another program measures, and what is refused."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from stimcore.bundle import Bundle
from stimcore.engine.engine import Engine
from stimcore.engine.graph.cost import GraphCosts
from stimcore.engine.graph.external import load_inlined
from stimcore.errors import UsageError
from stimcore.export import search
from stimcore.export.search import Limit, Search
from stimcore.nets.catalogue import build
from stimcore.nets.cost import Costs
from stimcore.runs.trained_run import open_run
from stimcore.subnets.families import deletions, ordered
from tests.bundles import export_run, random_net, write_pictures, write_run


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("search")
    pictures, run_dir = root / "pictures", root / "run"
    write_pictures(pictures, random_net("resnet14", 8, 0), side=8, train=200, test=200)
    write_run(run_dir, pictures, "resnet14", side=8)
    return export_run(run_dir, root / "exported" / "small", list(ordered(open_run(run_dir).net.topology)))


@pytest.fixture(scope="module")
def counts(bundle: Bundle) -> dict[str, int]:
    """Correct images of the main network and of every set of deletions."""
    (progress,) = [p for p in Engine(bundle, device="cpu").evaluate(list(deletions(bundle.topology))) if p.done]
    return {str(spec): result.correct for spec, result in progress.results.items()}


def test_costs_counted_in_the_graph_are_those_of_torch(bundle: Bundle) -> None:
    costs = GraphCosts(load_inlined(bundle.read, "main.onnx"), bundle.experiment.image_shape)
    net = build("resnet14", input_shape=bundle.experiment.image_shape, num_classes=len(bundle.experiment.classes))
    reference = Costs(net)
    for text in ("1-2.3-4.5-6", "d1-1-1", "2.3.5-6", "x.3.5"):
        spec = bundle.topology.parse(text)
        counted, expected = costs.of(bundle.topology.route(spec)), reference.of(spec)
        assert (counted.parameters, counted.macs) == (expected.parameters, expected.macs)


@pytest.mark.parametrize("share", [0.9, 0.6, 0.45])
def test_the_best_of_all_deletions_within_a_number_of_macs(bundle: Bundle, counts: dict[str, int], share: float) -> None:
    limit = Limit("MACs", share * bundle.main.macs)
    best = Search(bundle, limit).among_deletions()
    costs = GraphCosts(load_inlined(bundle.read, "main.onnx"), bundle.experiment.image_shape)
    affordable = {
        text: correct
        for text, correct in counts.items()
        if costs.of(bundle.topology.route(bundle.topology.parse(text))).macs <= limit.value
    }
    assert counts[str(best.spec)] == max(affordable.values())
    assert best.macs <= limit.value
    assert (best.evaluated, best.exact) == (16, True)
    # another program measures what is stated
    session = ort.InferenceSession(best.file)
    pixels, labels = bundle.experiment.evaluation
    logits = session.run(None, {"images": bundle.experiment.normalise(pixels)})[0]
    assert (logits.argmax(1) == labels).sum() == best.correct
    assert Path(best.file).stat().st_size == best.bytes
    weights = sum(int(np.prod(tensor.dims)) for tensor in onnx.load(best.file).graph.initializer)
    assert weights <= best.parameters  # batch norms are folded


def test_bytes_are_those_of_the_file(bundle: Bundle) -> None:
    whole = len(Engine(bundle, device="cpu").standalone(bundle.topology.full))
    limit = Limit("MB", 0.7 * whole / 1e6)
    for best in (Search(bundle, limit).among_listed(), Search(bundle, limit).among_deletions()):
        assert Path(best.file).stat().st_size <= 0.7 * whole
    assert bundle.topology.depths(Search(bundle, limit).among_listed().spec) is not None


def test_times_are_those_of_the_file(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "_times", lambda self, specs: {spec: float(len(spec.blocks)) for spec in specs})
    best = Search(bundle, Limit("ms", 4.0)).among_deletions()
    assert best.ms == len(best.spec.blocks) <= 4
    with pytest.raises(UsageError, match=r"no network of .* is within 1 ms; allowed: 2 ms and more, which x.3.5"):
        Search(bundle, Limit("ms", 1.0)).among_deletions()


def test_a_beam_finds_a_good_network(bundle: Bundle, counts: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Limit("MACs", 0.6 * bundle.main.macs)
    exact = Search(bundle, limit).among_deletions()
    monkeypatch.setattr(search, "LARGEST_EXACT", 3)
    monkeypatch.setattr(search, "BEAM", 2)
    cheapest = Search(bundle, limit).among_deletions()
    assert cheapest.macs <= limit.value
    assert not cheapest.exact
    assert cheapest.evaluated < len(counts)
    assert cheapest.correct >= exact.correct - 0.05 * exact.images


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("2ms", Limit("ms", 2.0)),
        ("0.5 ms", Limit("ms", 0.5)),
        ("1s", Limit("ms", 1000.0)),
        ("500us", Limit("ms", 0.5)),
        ("800kB", Limit("MB", 0.8)),
        (" 1.5MB ", Limit("MB", 1.5)),
        ("20MMACs", Limit("MACs", 2e7)),
    ],
)
def test_limits_are_read(text: str, limit: Limit) -> None:
    read = Limit.parse(text)
    assert read.kind == limit.kind
    assert read.value == pytest.approx(limit.value)


@pytest.mark.parametrize("text", ["2", "ms", "-1ms", "0ms", "fast", "", "3 MACs", "1e3MB", "٣ms"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="as in 2ms"):
        Limit.parse(text)


@pytest.mark.parametrize("kind", ["ms", "MB", "MACs"])
def test_an_offered_limit_suffices(kind: Any) -> None:
    for value in (
        1e-5,
        0.00012344,
        0.696412,
        0.9999999,
        1.0,
        2.0,
        12.345678,
        1234.5,
        1100.0,
        281200.0,
        281201.0,
        1234567.0,
        8.1e9,
    ):
        offered = Limit.parse(Limit(kind, value).at_least())
        assert offered.kind == kind
        assert value <= offered.value <= value * 1.0011


@pytest.mark.parametrize("unit", ["kMACs", "MMACs", "GMACs"])
def test_a_limit_of_macs_is_a_whole_number(unit: str) -> None:
    factor = {"kMACs": 1000, "MMACs": 10**6, "GMACs": 10**9}[unit]
    for macs in (1100, 281200, 1234567, 299, 4 * 10**9 + 7):
        assert Limit.parse(f"{Decimal(macs) / factor:f}{unit}").value == macs


@pytest.mark.parametrize("unit", ["MB", "MMACs"])
def test_the_limit_in_the_refusal_finds_the_cheapest_network(bundle: Bundle, unit: str) -> None:
    with pytest.raises(UsageError, match="is within") as refused:
        Search(bundle, Limit.parse(f"0.0001{unit}")).among_listed()
    offered, _, _ = refused.value.allowed.partition(" and more")
    assert Search(bundle, Limit.parse(offered)).among_listed().spec is not None


def test_a_limit_that_nothing_meets(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match=r"no network of .* is within 1,000 MACs; allowed: [0-9.]+ MMACs and more"):
        Search(bundle, Limit("MACs", 1000.0)).among_deletions()
