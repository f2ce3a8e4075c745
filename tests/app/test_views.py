"""Every page without a browser: a real server, small real bundles, and Streamlit's AppTest."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app import session
from app.sources import connection
from app.watch import WatchedJobs
from stimcore.bundle import Bundle, open_bundle
from stimcore.errors import UsageError
from stimcore.serve.types import RunInfo
from stimcore.subnets.families import KINDS, count, family
from stimcore.sweep.sweep import Settings, measured_sweep, store_sweep
from tests.app.browsing import ROOT, free_port
from tests.bundles import small_experiment

VIEWS = ("break_it", "subnetworks", "damage", "train", "use_it")
FULL = "1-2-3.4-5-6.7-8-9"


@pytest.fixture
def at(small: list[Bundle], monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """A visitor of the small experiment."""
    return visitor(small[0].path.parents[1], monkeypatch)


def visitor(folder: Path, monkeypatch: pytest.MonkeyPatch, **variables: str) -> AppTest:
    """Return a visitor of a folder of bundles, before the first run of the page."""
    monkeypatch.delenv("STIMCORE_SERVER", raising=False)
    monkeypatch.setenv("STIMCORE_EXPORTED", str(folder))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    st.cache_data.clear()
    return AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=90)


@pytest.fixture(scope="module", autouse=True)
def servers() -> Iterator[None]:
    """Ends the servers that these tests started."""
    yield
    connection._embedded.clear()


def component(at: AppTest, key: str) -> Any:
    """Return the data that a browser component received last."""
    drawn = [b for b in at.get("bidi_component") if key in b.proto.component_name]
    return json.loads(drawn[-1].proto.json)


def finished(at: AppTest) -> AppTest:
    """Run the page until nothing is being measured."""
    for _ in range(200):
        if any(m.value.startswith("Done: ") for m in at.markdown):
            return at
        at.run()
    raise AssertionError([m.value for m in at.markdown])


@pytest.mark.parametrize("view", VIEWS)
def test_page_draws(at: AppTest, view: str) -> None:
    at.run()
    if view != "break_it":
        at.switch_page(f"views/{view}.py").run()
    assert not at.exception, at.exception
    assert at.title[0].value
    assert any("400 images" in c.value for c in at.caption)


def test_what_the_server_refuses_stays_until_the_visitor_turns_away(at: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(request: object) -> None:
        raise UsageError("20 trainings wait already", todo="Try again when one has ended.")

    monkeypatch.setattr("app.panels.start_training.is_this_machine", lambda: True)
    monkeypatch.setattr("app.sources.trainings.start_run", full)
    at.run().switch_page("views/train.py").run()
    at.button(key="start_run").click().run()
    for _ in range(3):  # the page draws itself anew whenever a run ends
        assert [error.value for error in at.error] == ["20 trainings wait already. Try again when one has ended."]
        at.run()
    at.switch_page("views/damage.py").run().switch_page("views/train.py").run()
    assert not at.error


def test_runs_of_one_method_stand_side_by_side(at: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server makes them in one experiment where lambda or the seed alone differs."""
    watched = {"name": "smallest", "spec": "1.4.7", "correct": 3, "images": 4, "accuracy_pct": 75.0, "interval_pct": [20, 99]}
    test = {"correct": 3, "images": 4, "accuracy_pct": 75.0, "interval_pct": [20, 99]}
    rows = [{"epoch": epoch, "losses": {"loss": 1.0}, "test": test, "watched": [watched]} for epoch in (1, 2)]
    made = [
        RunInfo(name=f"mine/{name}", method="stimulative", epochs=2, rows=rows, active=False, state="done", managed=True)
        for name in ("stimulative-0", "stimulative-lambda5-0", "stimulative-1")
    ]
    monkeypatch.setattr("app.sources.trainings.runs", lambda: made)
    at.run().switch_page("views/train.py").run()
    assert not at.exception, at.exception
    for label in ("Stimulative training", "Stimulative training (λ = 5)", "Stimulative training, seed 1"):
        assert [m.value for m in at.markdown if m.value.startswith(f"● {label}: the fan")], label


@pytest.fixture
def repeated(small: list[Bundle], tmp_path: Path) -> Path:
    """The small experiment where common training was repeated with two other seeds."""
    folder = tmp_path / "repeated"
    shutil.copytree(small[0].path.parent, folder / small[0].path.parent.name)
    original = open_bundle(folder / small[0].path.parent.name / "common")
    specs = [original.topology.parse(text) for text in ("main", "d1-1-1")]
    store_sweep(original, *measured_sweep(original, specs, "ordered", Settings(device="cpu")))
    for seed in (1, 2):
        copy = folder / small[0].path.parent.name / f"common-seed{seed}"
        shutil.copytree(original.path, copy)
        manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
        (copy / "manifest.json").write_text(json.dumps({**manifest, "seed": seed}), encoding="utf-8")
    return folder


@pytest.mark.slow
def test_seeds_are_no_methods_but_stand_beside_the_numbers(
    repeated: Path, small: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = visitor(repeated, monkeypatch)
    finished(at.run())
    assert [row["key"] for row in component(at, "lanes")["rows"]] == ["common", "stimulative"]
    at.switch_page("views/subnetworks.py").run()
    assert not at.exception, at.exception
    (over_seeds,) = [table.value for table in at.table if "● seeds" in table.value]
    assert list(over_seeds["● seeds"]) == ["0, 1, 2"]
    assert f"{small[0].main.accuracy_pct:.2f} %" in over_seeds["● full network, mean"].iloc[0]


def test_break_it_shows_what_the_bundles_say(at: AppTest, small: list[Bundle]) -> None:
    finished(at.run())
    rows = component(at, "lanes")["rows"]
    assert [r["key"] for r in rows] == ["common", "stimulative"]
    assert [r["accuracy_pct"] for r in rows] == pytest.approx([b.main.accuracy_pct for b in small])
    assert component(at, "diagram")["text"] == FULL
    at.text_input(key="spec").set_value("d1-2-3").run()
    finished(at)
    assert component(at, "diagram")["text"] == "1-x2-x3.4-5-x6.7-8-9"
    listed = [next(e for e in b.manifest.networks.values() if e.spec == "1.4-5.7-8-9") for b in small]
    assert [r["accuracy_pct"] for r in component(at, "lanes")["rows"]] == pytest.approx([e.accuracy_pct for e in listed])


def test_presets_undo_reset_and_address(at: AppTest) -> None:
    at.run()
    at.button(key="preset Swap 2 and 3").click().run()
    assert at.text_input(key="spec").value == "1-3-2.4-5-6.7-8-9"
    assert at.query_params["spec"] in ("1-3-2.4-5-6.7-8-9", ["1-3-2.4-5-6.7-8-9"])
    at.button(key="undo_button").click().run()
    assert at.text_input(key="spec").value == FULL
    assert at.button(key="undo_button").disabled
    at.text_input(key="spec").set_value("9-9").run()
    assert "Showing the full network" in at.error[0].value
    assert not at.exception


def test_teacher_view_hides_and_reveals(at: AppTest) -> None:
    at.query_params["view"] = "class"
    at.query_params["spec"] = "1-2-3.4-x5-6.7-8-9"
    at.run()
    assert all(r["hidden"] for r in component(at, "lanes")["rows"])
    assert component(at, "lanes")["large"]
    assert not at.caption
    at.slider(key="guess common 1-2-3.4-x5-6.7-8-9").set_value(30)
    at.button(key="reveal").click().run()
    finished(at)
    rows = component(at, "lanes")["rows"]
    assert not any(r["hidden"] for r in rows)
    assert [r["guess_pct"] for r in rows] == [30, None], "nobody moved the second slider"
    at.text_input(key="spec").set_value("1-2-3.4-x5-x6.7-8-9").run()
    at.slider(key="guess stimulative 1-2-3.4-x5-x6.7-8-9").set_value(70).run()
    # nothing of that is a guess about the next one
    at.text_input(key="spec").set_value("1-2-3.4-x5-x6.7-8-x9").run()
    asked = "guess common 1-2-3.4-x5-x6.7-8-x9"
    assert {slider.value for slider in at.slider} == {50}
    at.slider(key=asked).set_value(49).run()
    at.slider(key=asked).set_value(50).run()
    at.button(key="reveal").click().run()
    assert [r["guess_pct"] for r in component(at, "lanes")["rows"]] == [50, None], "moved, and back"


def test_recalibration_can_be_switched_off(at: AppTest) -> None:
    at.query_params["spec"] = "d1-1-1"
    finished(at.run())
    with_it = component(at, "lanes")["rows"][0]["accuracy_pct"]
    at.toggle(key="recalibrate").set_value(False).run()
    finished(at)
    assert component(at, "lanes")["rows"][0]["accuracy_pct"] != with_it


def settings_alone(batch_norms: bool) -> None:
    import streamlit as st

    from app.views.break_it import settings

    st.write(repr(settings("1-2", classroom=False, batch_norms=batch_norms)))


def test_without_batch_norms_there_is_no_switch_for_recalibration() -> None:
    """Not even an old address switches off what isn't done."""
    at = AppTest.from_function(settings_alone, kwargs={"batch_norms": False})
    at.query_params["recalibrate"] = "false"
    at.run()
    assert not at.exception
    assert [toggle.label for toggle in at.toggle] == ["Guess first"]
    assert [caption.value for caption in at.caption] == ["No re-calibration"]
    assert at.markdown[-1].value.strip("`") == "('1-2', True)"
    with_norms = AppTest.from_function(settings_alone, kwargs={"batch_norms": True}).run()
    assert [toggle.label for toggle in with_norms.toggle] == ["Guess first", "Re-calibrate"]


def test_families_that_are_not_stored_are_measured_on_request(at: AppTest, small: list[Bundle]) -> None:
    at.run()
    at.switch_page("views/subnetworks.py").run()
    assert not at.get("plotly_chart")[:0]
    assert any("did not come with this bundle" in m.value for m in at.markdown)
    for bundle in small:
        at.button(key=f"start measure ordered {bundle.fingerprint}").click()
    at.run()
    for _ in range(200):
        if len(at.get("plotly_chart")) >= 2:
            break
        at.run()
    assert not at.exception
    figure = json.loads(at.get("plotly_chart")[0].proto.spec)
    points = [t for t in figure["data"] if t["type"] == "scatter" and t["name"] == "Common training"]
    assert len(points[0]["customdata"]) == count(small[0].topology, "ordered") == 27
    at.selectbox(key="subnet").set_value("d3-3-3").run()
    assert at.metric[0].value == f"{small[0].main.accuracy_pct:.1f} %"


def test_use_it_offers_the_best_within_the_budget(at: AppTest, small: list[Bundle]) -> None:
    at.run()
    at.switch_page("views/use_it.py").run()
    assert not at.exception
    at.slider(key="budget").set_value(at.slider(key="budget").min).run()
    assert not at.warning, "nothing is offered at the left end"
    at.slider(key="budget").set_value(at.slider(key="budget").max).run()
    best = max(e.accuracy_pct for b in small for e in b.manifest.networks.values())
    assert any(f"**{best:.1f} %** right at" in m.value for m in at.markdown)
    assert any("Checked against PyTorch on 400 images" in m.value for m in at.markdown)
    code = at.code[0].value
    compile(code, "shown", "exec")
    assert "images" in code
    assert "logits" in code
    assert sum("sub-networks agree" in m.value for m in at.markdown) == 2


def test_a_download_is_fetched_as_the_visitor_in_another_thread(
    at: AppTest, small: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamlit fetches downloads where there is no visitor: the server would not know whom it serves."""
    fetches: list[Callable[[], bytes]] = []
    button = st.download_button

    def drawn(label: str, data: Any, *args: Any, **options: Any) -> bool:
        if callable(data):
            fetches.append(data)
        return button(label, data, *args, **options)

    monkeypatch.setattr(st, "download_button", drawn)
    at.run()
    at.switch_page("views/use_it.py").run()
    assert not at.exception
    visitor = at.session_state[session.memory_key(connection.Connection)]
    asked: list[str] = []

    def fetched(experiment: str, *_names: str) -> bytes:
        asked.append(experiment)
        return b"file"

    monkeypatch.setattr(visitor.client, "onnx", fetched)
    at.slider(key="budget").set_value(at.slider(key="budget").max).run()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(fetches[-1]).result() == b"file"
    assert asked == [small[0].path.parent.name]


def test_own_image(at: AppTest) -> None:
    import io

    from PIL import Image

    at.run()
    at.switch_page("views/use_it.py").run()
    out = io.BytesIO()
    Image.new("RGB", (30, 60), "white").save(out, "PNG")
    at.file_uploader(key="own").set_value(("mine.png", out.getvalue(), "image/png")).run()
    assert not at.exception
    assert not at.error
    at.file_uploader(key="own").set_value(("mine.png", b"no picture", "image/png")).run()
    assert "The image can't be read" in at.error[0].value
    assert not at.exception


def test_empty_folder_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = visitor(tmp_path, monkeypatch).run()
    assert not at.exception
    assert "There are no trained networks" in at.info[0].value
    assert at.button


def test_missing_folder_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = visitor(tmp_path / "nowhere", monkeypatch).run()
    assert not at.exception
    assert "There is no folder" in at.error[0].value


def test_broken_bundle_is_named_and_the_other_shown(
    small: list[Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(small[0].path.parent, tmp_path / "small")
    (tmp_path / "small" / "common" / "manifest.json").write_text("{", encoding="utf-8")
    at = visitor(tmp_path, monkeypatch).run()
    assert not at.exception
    assert "could not be opened" in at.warning[0].value
    assert [r["key"] for r in component(at, "lanes")["rows"]] == ["stimulative"]


def test_server_down_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    at = visitor(tmp_path, monkeypatch, STIMCORE_SERVER=address).run()
    assert not at.exception
    assert "can't be reached" in at.error[0].value
    at.button[0].click().run()
    assert not at.exception
    assert "can't be reached" in at.error[0].value


def test_own_experiments_appear_by_name(small: list[Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "other"):
        shutil.copytree(small[0].path.parent, tmp_path / name)
    at = visitor(tmp_path, monkeypatch).run()
    assert at.selectbox(key="experiment").options == ["mine", "other"]
    at.text_input(key="spec").set_value("d1-1-1").run()
    at.selectbox(key="experiment").set_value("other").run()
    assert not at.exception
    assert at.text_input(key="spec").value == FULL
    at.query_params["spec"] = "d1-1-1"
    at.run()
    at.selectbox(key="experiment").set_value("mine").run()
    assert at.text_input(key="spec").value == FULL
    assert "spec" not in at.query_params


@pytest.mark.slow
def test_turning_to_another_state_ends_the_old_work(fashion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = visitor(fashion.parent, monkeypatch)
    at.query_params["spec"] = "1-3-2.4-5-6.7-9-8"
    at.query_params["recalibrate"] = "false"  # not stored: it has to be measured
    at.run()
    watched = at.session_state[session.memory_key(WatchedJobs)].by_key
    before = {job.id for w in watched.values() if (job := w.job) and job.state in ("queued", "running")}
    assert before
    at.text_input(key="spec").set_value(FULL).run()
    client = connection._embedded(fashion.parent).client()
    until = time.monotonic() + 10
    while time.monotonic() < until and any(client.job(i).state in ("queued", "running") for i in before):
        time.sleep(0.2)
    states = {client.job(i).state for i in before}
    assert states <= {"cancelled", "dropped", "done"}, states
    assert states & {"cancelled", "dropped"}, states


def test_a_killed_model_server_is_replaced_under_the_page(at: AppTest, small: list[Bundle]) -> None:
    finished(at.run())
    server = connection._embedded(small[0].path.parents[1])
    os.kill(server.pid, signal.SIGKILL)
    at.text_input(key="spec").set_value("x1-2-3.4-5-6.7-8-9").run()
    for _ in range(20):
        if any(m.value.startswith("Done: ") for m in at.markdown):
            break
        time.sleep(0.5)
        again = [b for b in at.button if b.label == "Try again"]
        (again[0].click() if again else at).run()
    assert not at.exception
    finished(at)
    assert server.restarts == 1


@pytest.mark.slow
@pytest.mark.parametrize("network", ["vit-2-2-d8", "convnext-2-2-d8"])
def test_every_page_works_for_networks_without_batch_norms(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With everything stored that a trained experiment stores, and an edit that is not."""
    bundles = small_experiment(tmp_path, network=network, train=100, test=100)
    for bundle in bundles:
        for kind in KINDS:
            sweep, measured = measured_sweep(bundle, list(family(bundle.topology, kind)), kind, Settings(device="cpu"))
            store_sweep(bundle, sweep, measured)
    for view in VIEWS:
        at = visitor(bundles[0].path.parents[1], monkeypatch).run()
        if view != "break_it":
            at.switch_page(f"views/{view}.py").run()
        assert not at.exception, (view, at.exception)
        assert [error.value for error in at.error] == [], view
        assert at.title[0].value
    topology = bundles[0].topology
    last = topology.removable[-1]
    stages = [[f"x{block}" if block == last else str(block) for block in stage] for stage in topology.stages]
    at = visitor(bundles[0].path.parents[1], monkeypatch)
    at.query_params["spec"] = ".".join("-".join(stage) for stage in stages)
    at.query_params["recalibrate"] = "false"  # of another experiment, in whose address it meant something
    finished(at.run())
    assert [toggle.label for toggle in at.toggle] == ["Guess first"]
    assert any(caption.value == "No re-calibration" for caption in at.caption)
    assert len(component(at, "lanes")["rows"]) == len(bundles)
