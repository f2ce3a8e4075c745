"""Jobs on a real server: the engine's results, events, cancelling, watching, sharing, known results, fairness."""

import threading
import time
from pathlib import Path

import pytest

from stimcore.analysis.result import Result
from stimcore.bundle import Bundle, open_bundle
from stimcore.engine.engine import Engine
from stimcore.errors import SpecError, Unavailable, UsageError
from stimcore.serve import types
from stimcore.serve.client.client import Client
from stimcore.serve.errors import NotFound, TooLarge
from stimcore.subnets.families import ordered
from tests.serve.conftest import Start
from tests.serve.evaluations import job_request, submit_long
from tests.serve.processes import Running


@pytest.fixture(scope="module")
def common(exported: Path) -> Bundle:
    return open_bundle(exported / "tiny" / "common")


@pytest.fixture
def client(server: Running) -> Client:
    return server.client()


@pytest.mark.parametrize("recalibrate", [True, False])
def test_results_are_the_engines(client: Client, common: Bundle, recalibrate: bool) -> None:
    specs = ["main", "d1-1-1", "1-3.4-5-6.7-8-9", "d3-2-1", "2-1-3.4-6-5.7-9-8"]
    job = client.wait(client.submit(job_request("common", *specs, recalibrate=recalibrate)).id)
    assert (job.state, job.phase, job.error) == ("done", "done", None)
    assert job.images == job.images_total == 300
    (*_, last) = Engine(common, device="cpu", threads=1).evaluate(
        [common.topology.parse(text) for text in specs], recalibrate=recalibrate
    )
    for text, result in zip(specs, job.results, strict=True):
        assert result == last.results[common.topology.parse(text)]
    assert job.main == job.results[0]


def test_stored_results_make_the_worker_open_the_bundle(start: Start) -> None:
    running = start()
    client = running.client()
    assert client.submit(job_request("stimulative", "d1-1-1", interactive=False)).source == "stored"
    assert client.submit(job_request("stimulative", "d1-1-1")).source == "stored"
    label = '{cache="calibration",what="bytes"}'
    deadline = time.monotonic() + 60
    while not running.metric(f"stim_engine_cache{label}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running.metric(f"stim_engine_cache{label}") > 0
    job = client.wait(client.submit(job_request("stimulative", "1-2-3.4-6-5.7-8")).id)
    assert job.source == "measured"
    assert running.metric('stim_engine_cache{cache="calibration",what="hits"}') > 0


def test_events_agree_with_polling(client: Client) -> None:
    job = client.submit(job_request("common", "d1-2-2", "d2-2-1", fresh=True))
    events = list(client.events(job.id))
    assert [event.id for event in events] == sorted({event.id for event in events})
    assert {"progress", "result", "done"} >= {event.type for event in events}
    assert [event.type for event in events].count("done") == 1
    assert events[-1].type == "done"
    assert events[-1].data == {"state": "done", "source": "measured"}
    final = [event for event in events if event.type == "result"][-1]
    polled = client.job(job.id)
    assert [Result.from_dict(row) for row in final.data["results"]] == list(polled.results)
    assert final.data["images"] == 300
    again = list(client.events(job.id, last_event_id=final.id))
    assert [event.type for event in again] == ["done"], "a stream continues where it was"


def test_numbers_come_early_and_grow(client: Client) -> None:
    job = client.submit(job_request("common", "d2-3-3", "d3-2-3", fresh=True))
    seen = [event.data["images"] for event in client.events(job.id) if event.type == "result"]
    assert seen == sorted(seen)
    assert seen[-1] == 300


def test_some_images_only(client: Client) -> None:
    job = client.wait(client.submit(job_request("common", "d1-1-1", max_images=37)).id)
    assert [result.images for result in job.results] == [37]
    everything = client.wait(client.submit(job_request("common", "d1-1-1", max_images=100_000)).id)
    assert everything.images == 300
    assert everything.request.max_images is None


def test_stored_then_cached_then_fresh(client: Client, exported: Path) -> None:
    bundle = open_bundle(exported / "tiny" / "stimulative")
    stored = bundle.sweep("ordered")
    assert stored is not None
    specs = [str(spec) for spec in ordered(bundle.topology)]
    job = client.submit(job_request("stimulative", *specs))
    assert (job.state, job.source, job.provider) == ("done", "stored", stored["provider"])
    assert list(job.results) == [Result.from_dict(row) for row in stored["results"]]
    deleted = "1-3.4-5-6.7-8-9"
    first = client.wait(client.submit(job_request("stimulative", deleted, "d1-1-1")).id)
    assert first.source == "measured"
    second = client.submit(job_request("stimulative", "d1-1-1", deleted))
    assert (second.state, second.source) == ("done", "cached")
    assert list(second.results) == list(reversed(first.results))
    fresh = client.wait(client.submit(job_request("stimulative", "d1-1-1", fresh=True)).id)
    assert fresh.source == "measured"
    assert fresh.results[0] == first.results[1]


def test_identical_evaluations_are_one(server: Running) -> None:
    clients = [server.client() for _ in range(6)]
    jobs: list[types.Job] = []

    def submit(client: Client) -> None:
        jobs.append(client.submit(job_request("common", "d1-1-2", "d2-1-2", fresh=True)))

    threads = [threading.Thread(target=submit, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.id for job in jobs}) == 1
    assert clients[0].cancel(jobs[0].id).state in ("queued", "running"), "others still watch it"
    assert clients[1].wait(jobs[0].id).state == "done"


def test_cancelling_stops_the_work(server: Running, client: Client) -> None:
    job = submit_long(client)
    server.until(lambda: client.job(job.id).state == "running")
    assert client.cancel(job.id).state == "cancelled"
    (worker,) = server.workers()
    time.sleep(0.5)
    before = worker.cpu_times().user
    time.sleep(0.5)
    assert worker.cpu_times().user - before < 0.1, "the worker is idle"
    assert list(client.events(job.id))[-1].data["state"] == "cancelled"
    assert client.wait(client.submit(job_request("common", "d1-1-1")).id).state == "done"


@pytest.mark.slow
def test_a_job_without_watchers_is_dropped_and_a_stream_counts_as_watching(start: Start) -> None:
    server = start(limits=["lease_s=0.5"])
    client = server.client()
    left = submit_long(client)
    server.until(lambda: {line.id: line.state for line in client.jobs()}[left.id] == "dropped", 10)
    watched = submit_long(client, count=40)
    assert list(client.events(watched.id))[-1].data["state"] == "done"
    assert client.job(left.id).state == "dropped"


def test_interactive_work_goes_first(server: Running, client: Client) -> None:
    sweep = submit_long(client)
    server.until(lambda: client.job(sweep.id).state == "running")
    quick = client.wait(client.submit(job_request("common", "d3-1-2", fresh=True)).id, every_s=0.02)
    assert quick.state == "done"
    assert client.job(sweep.id).state in ("queued", "running"), "the sweep waited for it"
    assert client.cancel(sweep.id).state == "cancelled"


def test_refusals_are_the_libraries_errors(client: Client) -> None:
    with pytest.raises(NotFound, match="no method 'nobody'; allowed: common, stimulative"):
        client.submit(job_request("nobody", "main"))
    with pytest.raises(NotFound, match="no experiment"):
        client.check_spec("etc", "main")
    with pytest.raises(SpecError, match="depths"):
        client.submit(job_request("common", "d1-1-9"))
    with pytest.raises(UsageError, match="no specs"):
        client.submit(job_request("common"))
    with pytest.raises(UsageError, match="max_images"):
        client.submit(job_request("common", "main", max_images=0))
    with pytest.raises(TooLarge, match="5,833 specs"):
        client.submit(job_request("common", *["main"] * 5833))
    with pytest.raises(NotFound, match="no evaluation"):
        client.job("never-was")
    with pytest.raises(NotFound, match="no evaluation"):
        list(client.events("never-was"))


def test_a_server_that_is_down_is_one_sentence() -> None:
    client = Client("http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="can't be reached. Is it running"):
        client.status()
    with pytest.raises(UsageError, match="address"):
        Client("localhost:8000")


def test_the_caches_of_the_engines_are_in_the_metrics(server: Running, client: Client) -> None:
    client.wait(client.submit(job_request("common", "1-2-3.4-6-5.7-8", fresh=True)).id)
    text = server.http.get("/metrics").text
    for cache in ("statistics", "calibration", "evaluation", "sessions"):
        for what in ("bytes", "hits", "misses"):
            assert f'stim_engine_cache{{cache="{cache}",what="{what}"}}' in text
    held = float(text.split('stim_engine_cache{cache="sessions",what="bytes"} ')[1].split("\n")[0])
    assert held > 0
