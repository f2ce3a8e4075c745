"""The engine against the plain torch reference, and its promises: any specs, any order, caches, stopping."""

import gc
import random
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stimcore.analysis.intervals import paired_drop
from stimcore.analysis.result import Result
from stimcore.bundle import Bundle, open_bundle
from stimcore.data.images import Images
from stimcore.data.normalise import Normalisation
from stimcore.engine import calibrator
from stimcore.engine import engine as engine_module
from stimcore.engine.budget import Budget
from stimcore.engine.engine import Engine
from stimcore.engine.executor import execute
from stimcore.engine.inference import Progress
from stimcore.engine.provider import Provider, Session, file_session
from stimcore.engine.spotcheck import spot_check
from stimcore.errors import SpecError
from stimcore.reference.evaluate import evaluate
from stimcore.runs.trained_run import open_run
from stimcore.subnets.families import deletions, ordered, permutations, without
from stimcore.subnets.part_name import STEM, PartName
from stimcore.subnets.spec import Spec


def reference(bundle: Bundle, spec: Spec, *, recalibrate: bool = True) -> np.ndarray:
    """Logits of torch, one sub-network by itself."""
    experiment = bundle.experiment
    run_dir = experiment.path.parents[1] / "runs" / experiment.name / f"{bundle.method}-0"
    net = open_run(run_dir).net
    pixels, labels = experiment.evaluation
    calibration = Images(pixels=experiment.calibration, labels=np.zeros(len(experiment.calibration), np.int64))
    progress = evaluate(
        net,
        spec,
        Images(pixels=pixels, labels=labels),
        Normalisation(experiment.mean, experiment.std),
        calibration=calibration if recalibrate else None,
    )
    return progress.logits


def last(engine: Engine, specs: list[Spec], **options: object) -> dict[Spec, Result]:
    reports = list(engine.evaluate(specs, **options))  # type: ignore[arg-type]
    assert reports[-1].done
    return dict(reports[-1].results)


def some_specs(bundle: Bundle, seed: int, count: int) -> list[Spec]:
    topology = bundle.topology
    everything = [*ordered(topology), *deletions(topology), *permutations(topology)]
    return random.Random(seed).sample(everything, count)


def test_what_was_prepared_before_a_stop_is_kept(small: list[Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(small[0], device="cpu")
    specs = [spec for spec in deletions(small[0].topology) if small[0].listed(spec) is None][:27]  # listed ones are known
    passes: list[None] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        passes.append(None)
        return execute(*arguments, **options)

    monkeypatch.setattr(calibrator, "execute", counted)
    monkeypatch.setattr(engine_module, "SPECS_TOGETHER", 9)
    engine.prepare(specs, lambda: len(passes) == 2)
    assert len(passes) == 2, "the first of three groups, and what was begun of the second"
    engine.prepare(specs, lambda: False)
    assert len(passes) == 2 + 2, "the second and the third group"
    pixels = small[0].experiment.normalise(small[0].experiment.evaluation[0][:2])
    for spec in specs:
        engine.logits(spec, pixels)
    assert len(passes) == 4


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_any_set_of_specs_equals_the_torch_reference(small: list[Bundle], seed: int) -> None:
    bundle = small[seed % 2]
    specs = some_specs(bundle, seed, 4)
    scores = last(Engine(bundle, device="cpu"), specs)
    labels = bundle.experiment.evaluation[1]
    main = reference(bundle, bundle.topology.full).argmax(1) == labels
    for spec in specs:
        logits = reference(bundle, spec)
        right = logits.argmax(1) == labels
        score = scores[spec]
        assert score.images == len(labels)
        assert score.correct == right.sum()
        drop = paired_drop(int((main & ~right).sum()), int((right & ~main).sum()), len(labels))
        assert score.drop_pct == pytest.approx(drop.drop_pct, abs=1e-6)
        assert score.drop_interval_pct == pytest.approx(drop.interval_pct, abs=1e-6)
        shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
        ce = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]
        assert score.ce_nats == pytest.approx(ce.mean(), abs=1e-4)
        assert score.max_ce_nats == pytest.approx(ce.max(), abs=1e-3)


def test_without_recalibration_all_run_on_the_trained_statistics(small: list[Bundle]) -> None:
    bundle = small[0]
    spec = without(bundle.topology, [5])
    labels = bundle.experiment.evaluation[1]
    score = last(Engine(bundle, device="cpu"), [spec], recalibrate=False)[spec]
    assert score.correct == (reference(bundle, spec, recalibrate=False).argmax(1) == labels).sum()
    assert score.correct != last(Engine(bundle, device="cpu"), [spec])[spec].correct


def test_logits_are_within_a_ten_thousandth_of_their_scale(small: list[Bundle]) -> None:
    bundle = small[0]
    images = bundle.experiment.normalise(bundle.experiment.evaluation[0])
    for spec in some_specs(bundle, 3, 3):
        truth = reference(bundle, spec)
        logits = Engine(bundle, device="cpu").logits(spec, images)
        assert np.abs(logits - truth).max() <= 1e-4 * np.abs(truth).max()


def test_the_main_network_has_no_drop_and_no_divergence(small: list[Bundle]) -> None:
    bundle = small[0]
    score = last(Engine(bundle, device="cpu"), [])[bundle.topology.full]
    assert (score.drop_pct, score.kl_nats) == (0, 0)
    assert score.drop_interval_pct == pytest.approx(paired_drop(0, 0, score.images).interval_pct, abs=1e-6)


def test_small_units_small_sessions_and_small_memory_change_nothing(small: list[Bundle]) -> None:
    bundle = small[0]
    specs = list(ordered(bundle.topology))
    plain = last(Engine(bundle, device="cpu"), specs)
    tight = Budget(working=1 << 22, statistics=0, calibration=0, evaluation=0, sessions=1 << 16, unit=1 << 16, unit_steps=3)
    scores = last(Engine(bundle, device="cpu", threads=3, budget=tight), specs)
    for spec, score in scores.items():
        assert (score.correct, score.drop_interval_pct) == (plain[spec].correct, plain[spec].drop_interval_pct)
        assert score.ce_nats == pytest.approx(plain[spec].ce_nats, abs=1e-6)


def test_an_edit_runs_only_the_blocks_behind_it(small: list[Bundle]) -> None:
    bundle = small[0]
    engine = Engine(bundle, device="cpu")
    first = last(engine, [without(bundle.topology, [5])])
    before = engine.metrics()
    again = last(engine, [without(bundle.topology, [5, 8])])
    after = engine.metrics()
    # nothing of the prefix up to block 7 was measured again: only block 9 and what is new behind it has new statistics
    new = after["statistics_bytes"] - before["statistics_bytes"]
    assert (
        0
        < new
        <= sum(
            200 + m.nbytes + v.nbytes
            for m, v in engine.calibrated([bundle.topology.full])[(STEM, *map(PartName.block, range(1, 10)))].values()
        )
        + 200
    )
    assert last(Engine(bundle, device="cpu"), [without(bundle.topology, [5, 8])]) == again
    assert last(engine, [without(bundle.topology, [5])]) == first


def test_activations_are_kept_only_where_an_edit_begins(small: list[Bundle]) -> None:
    bundle = small[0]
    engine, graph = Engine(bundle, device="cpu"), Engine(bundle, device="cpu").graph
    last(engine, [without(bundle.topology, [1])])
    per_image = {
        end: sum(graph.image_bytes(part) for part in (STEM, *map(PartName.block, ends)))
        for end, ends in (("main", (1, 2, 4, 5, 7, 8)), ("edited", (2, 4, 5, 7, 8)))
    }
    metrics = engine.metrics()
    assert metrics["evaluation_bytes"] == per_image["main"] * len(bundle.experiment.evaluation[1])
    assert metrics["calibration_bytes"] == per_image["edited"] * len(bundle.experiment.calibration)


def test_a_smaller_budget_holds_from_then_on_and_changes_no_number(small: list[Bundle]) -> None:
    bundle = small[0]
    engine = Engine(bundle, device="cpu")
    spec = without(bundle.topology, [5, 8])
    first = last(engine, [spec])
    limit = 1 << 20
    engine.resize_caches(Budget(statistics=limit, calibration=limit, evaluation=limit, sessions=limit))
    for _ in range(2):
        assert all(size <= limit for name, size in engine.metrics().items() if name.endswith("_bytes"))
        assert last(engine, [spec]) == first


def test_an_engine_that_got_ready_goes_on_from_the_main_network_and_says_the_same(small: list[Bundle]) -> None:
    bundle = small[0]
    engine = Engine(bundle, device="cpu")
    engine.warm_up(lambda: True)
    assert engine.metrics()["calibration_bytes"] == 0
    engine.warm_up(lambda: False)
    ready = engine.metrics()
    per_image = sum(engine.graph.image_bytes(part) for part in (STEM, *map(PartName.block, (1, 2, 4, 5, 7, 8))))
    assert ready["calibration_bytes"] == per_image * len(bundle.experiment.calibration)
    spec = without(bundle.topology, [5])
    assert last(engine, [spec]) == last(Engine(bundle, device="cpu"), [spec])
    assert engine.metrics()["calibration_hits"] == ready["calibration_hits"] + 1


def test_what_a_stopped_evaluation_learned_is_used_by_the_next(small: list[Bundle]) -> None:
    bundle = small[0]
    engine = Engine(bundle, device="cpu", threads=1)
    for progress in engine.evaluate([without(bundle.topology, [1])], chunk_images=125):
        if progress.images == 250 and progress.phase == "evaluate":
            break
    kept = engine.metrics()["evaluation_bytes"]
    assert kept > 0
    spec = without(bundle.topology, [9])
    assert last(engine, [spec]) == last(Engine(bundle, device="cpu"), [spec])
    metrics = engine.metrics()
    assert metrics["evaluation_hits"] > 0
    assert metrics["evaluation_bytes"] > kept


def test_a_dropped_engine_is_gone_at_once(small: list[Bundle]) -> None:
    gc.disable()  # which would find what refers to itself, but only sometime
    try:
        engine = Engine(small[0], device="cpu")
        last(engine, [without(small[0].topology, [5])])
        gone = weakref.ref(engine)
        del engine
        assert gone() is None
    finally:
        gc.enable()


def test_the_sessions_of_a_cold_start_are_made_side_by_side(small: list[Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [small[1].topology.parse(entry.spec) for entry in small[1].manifest.networks.values()]
    engine = Engine(small[1], device="cpu", threads=2, budget=Budget(unit_steps=1))
    both, met, make = threading.Barrier(2), threading.Event(), Provider.session

    def session(provider: Provider, model: bytes, threads: int) -> Session:
        if not met.is_set():
            both.wait(timeout=30)  # broken where one worker waits for the session that the other one makes
            met.set()
        return make(provider, model, threads)

    monkeypatch.setattr(Provider, "session", session)
    assert any(report.phase == "evaluate" for report in engine.evaluate(listed, max_images=50))


def test_reports_come_chunk_by_chunk_and_narrow(small: list[Bundle]) -> None:
    bundle = small[0]
    reports = [r for r in Engine(bundle, device="cpu", threads=1).evaluate([], chunk_images=125) if r.phase == "evaluate"]
    assert [r.images for r in reports] == [125, 250, 375, 400]
    main = bundle.topology.full
    widths = [r.results[main].interval_pct[1] - r.results[main].interval_pct[0] for r in reports]
    assert widths[-1] < widths[0]


def test_it_stops_when_asked_and_goes_on_afterwards(small: list[Bundle]) -> None:
    bundle = small[0]
    engine = Engine(bundle, device="cpu", threads=1)
    seen: list[Progress] = []
    for report in engine.evaluate([without(bundle.topology, [2])], chunk_images=125, should_stop=lambda: len(seen) >= 3):
        seen.append(report)
    assert len(seen) == 3
    assert not seen[-1].done
    spec = without(bundle.topology, [2])
    assert last(engine, [spec]) == last(Engine(bundle, device="cpu"), [spec])


def test_only_the_first_images_when_that_is_asked(small: list[Bundle]) -> None:
    bundle = small[0]
    engine = Engine(bundle, device="cpu")
    score = last(engine, [], max_images=130)[bundle.topology.full]
    assert score.images == 130
    assert (
        score.correct
        == (reference(bundle, bundle.topology.full).argmax(1)[:130] == bundle.experiment.evaluation[1][:130]).sum()
    )


def test_an_illegal_spec_is_refused(small: list[Bundle]) -> None:
    with pytest.raises(SpecError, match="block 4 can't be deleted"):
        Engine(small[0], device="cpu").route(small[0].topology.parse("1-2-3.5-6.7-8-9"))


def test_listed_statistics_are_those_that_would_be_measured(small: list[Bundle]) -> None:
    bundle = small[0]
    spec = bundle.topology.parse("d1-2-3")
    stored = Engine(bundle, device="cpu").calibrated([spec])
    measured = Engine(_unlisted(bundle), device="cpu").calibrated([spec])
    for route, statistics in measured.items():
        for norm, (mean, var) in statistics.items():
            np.testing.assert_array_equal(stored[route][norm][0], mean)
            np.testing.assert_array_equal(stored[route][norm][1], var)


def _unlisted(bundle: Bundle) -> Bundle:
    from dataclasses import replace

    networks = {"main.onnx": bundle.manifest.networks["main.onnx"]}
    manifest = replace(bundle.manifest, networks=networks)
    spec = replace(networks["main.onnx"], spec="another")  # so that not even the main network's are taken over
    return replace(bundle, manifest=replace(manifest, networks={"main.onnx": spec}))


def test_a_committed_bundle_gives_its_stored_accuracies(fashion: Path) -> None:
    """A listed file of the shipped experiment has the manifest's accuracy; the engine agrees with it on the first images."""
    bundle = open_bundle(fashion / "stimulative")
    name = "subnet-d1-1-1.onnx"
    entry = bundle.manifest.networks[name]
    assert spot_check(bundle, name) == entry.correct == entry.correct_torch
    pixels, labels = bundle.experiment.evaluation
    logits = file_session(bundle.path / name).run(None, {"images": bundle.experiment.normalise(pixels[:1000])})[0]
    spec = bundle.topology.parse(entry.spec)
    score = last(Engine(bundle, device="cpu"), [spec], max_images=1000)[spec]
    assert score.correct == int((logits.argmax(1) == labels[:1000]).sum())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["common", "stimulative"])
def test_a_committed_bundle_gives_its_stored_accuracies_to_the_image(fashion: Path, method: str) -> None:
    """Two sub-networks of the shipped experiment, on all of its images: as the manifest and the stored sweeps say."""
    rng = random.Random(method)
    bundle = open_bundle(fashion / method)
    entry = bundle.manifest.networks[rng.choice(sorted(bundle.manifest.networks))]
    spec = bundle.topology.parse(entry.spec)
    other = rng.choice(list(deletions(bundle.topology, 1)))
    scores = last(Engine(bundle, device="cpu"), [spec, other])
    assert scores[spec].correct == entry.correct == entry.correct_torch
    stored = bundle.sweep("delete")
    assert stored is not None
    assert stored["bundle"] == bundle.fingerprint
    assert scores[other].correct == next(r["correct"] for r in stored["results"] if r["spec"] == str(other))
