"""Evaluations through a real server: numbers of the engine, events, cancelling, watching, sharing, remembering, fairness."""

import threading
import time
from pathlib import Path

import pytest

from stimcore.bundle import Bundle, open_bundle
from stimcore.engine.engine import Engine
from stimcore.errors import SpecError, Unavailable, UsageError
from stimcore.serve import types
from stimcore.serve.client.client import Client
from stimcore.serve.errors import NotFound, TooLarge
from stimcore.serve.jobs.job import Job
from stimcore.serve.jobs.queue import JobQueue
from stimcore.serve.jobs.result_cache import ResultCache
from stimcore.serve.limits import Limits
from stimcore.serve.repository.repository import ModelRepository
from stimcore.serve.workers.messages import Report
from stimcore.subnets.families import ordered
from tests.serve.conftest import Start
from tests.serve.processes import Running


def request(method: str = "common", *specs: str, **more: object) -> types.JobRequest:
    return types.JobRequest.model_validate({"experiment": "tiny", "method": method, "specs": specs, **more})


@pytest.fixture(scope="module")
def common(exported: Path) -> Bundle:
    return open_bundle(exported / "tiny" / "common")


@pytest.fixture
def client(server: Running) -> Client:
    return server.client()


@pytest.mark.parametrize("recalibrate", [True, False])
def test_results_are_the_engines(client: Client, common: Bundle, recalibrate: bool) -> None:
    specs = ["main", "d1-1-1", "1-3.4-5-6.7-8-9", "d3-2-1", "2-1-3.4-6-5.7-9-8"]
    job = client.wait(client.submit(request("common", *specs, recalibrate=recalibrate)).id)
    assert (job.state, job.phase, job.error) == ("done", "done", None)
    assert job.images == job.images_total == 300
    (*_, last) = Engine(common, device="cpu", threads=1).evaluate(
        [common.topology.parse(text) for text in specs], recalibrate=recalibrate
    )
    for text, result in zip(specs, job.results, strict=True):
        score = last.results[common.topology.parse(text)]
        assert result == types.Result.model_validate(score.to_dict())
    assert job.main == job.results[0]


def test_whoever_sees_stored_numbers_finds_the_network_ready(start: Start) -> None:
    running = start()
    client = running.client()
    assert client.submit(request("stimulative", "d1-1-1", interactive=False)).source == "stored"
    assert client.submit(request("stimulative", "d1-1-1")).source == "stored"
    label = '{cache="calibration",what="bytes"}'
    deadline = time.monotonic() + 60
    while not running.metric(f"stim_engine_cache{label}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running.metric(f"stim_engine_cache{label}") > 0
    job = client.wait(client.submit(request("stimulative", "1-2-3.4-6-5.7-8")).id)
    assert job.source == "measured" and running.metric('stim_engine_cache{cache="calibration",what="hits"}') > 0


def test_events_tell_the_same_as_polling(client: Client) -> None:
    job = client.submit(request("common", "d1-2-2", "d2-2-1", fresh=True))
    events = list(client.events(job.id))
    assert [event.id for event in events] == sorted({event.id for event in events})
    assert {"progress", "result", "done"} >= {event.type for event in events}
    assert [event.type for event in events].count("done") == 1 and events[-1].type == "done"
    assert events[-1].data == {"state": "done", "source": "measured"}
    final = [event for event in events if event.type == "result"][-1]
    polled = client.job(job.id)
    assert [types.Result.model_validate(row) for row in final.data["results"]] == list(polled.results)
    assert final.data["images"] == 300
    again = list(client.events(job.id, last_event_id=final.id))
    assert [event.type for event in again] == ["done"], "a stream is taken up where it was"


def test_numbers_come_early_and_grow(client: Client) -> None:
    job = client.submit(request("common", "d2-3-3", "d3-2-3", fresh=True))
    seen = [event.data["images"] for event in client.events(job.id) if event.type == "result"]
    assert seen == sorted(seen) and seen[-1] == 300


def test_some_images_only(client: Client) -> None:
    job = client.wait(client.submit(request("common", "d1-1-1", max_images=37)).id)
    assert [result.images for result in job.results] == [37]
    everything = client.wait(client.submit(request("common", "d1-1-1", max_images=100_000)).id)
    assert everything.images == 300 and everything.request.max_images is None


def test_stored_then_cached_then_fresh(client: Client, exported: Path) -> None:
    bundle = open_bundle(exported / "tiny" / "stimulative")
    stored = bundle.sweep("ordered")
    assert stored is not None
    specs = [str(spec) for spec in ordered(bundle.topology)]
    job = client.submit(request("stimulative", *specs))
    assert (job.state, job.source, job.provider) == ("done", "stored", stored["provider"])
    assert list(job.results) == [types.Result.model_validate(row) for row in stored["results"]]
    deleted = "1-3.4-5-6.7-8-9"
    first = client.wait(client.submit(request("stimulative", deleted, "d1-1-1")).id)
    assert first.source == "measured"
    second = client.submit(request("stimulative", "d1-1-1", deleted))
    assert (second.state, second.source) == ("done", "cached")
    assert list(second.results) == list(reversed(first.results))
    fresh = client.wait(client.submit(request("stimulative", "d1-1-1", fresh=True)).id)
    assert fresh.source == "measured" and fresh.results[0] == first.results[1]


def test_identical_evaluations_are_one(server: Running) -> None:
    clients = [server.client() for _ in range(6)]
    jobs: list[types.Job] = []

    def submit(client: Client) -> None:
        jobs.append(client.submit(request("common", "d1-1-2", "d2-1-2", fresh=True)))

    threads = [threading.Thread(target=submit, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.id for job in jobs}) == 1
    assert clients[0].cancel(jobs[0].id).state in ("queued", "running"), "others still watch it"
    assert clients[1].wait(jobs[0].id).state == "done"


def long(client: Client, *, count: int = 127, interactive: bool = False) -> types.Job:
    """Work of some seconds: up to 127 deletions, on one thread."""
    blocks = (1, 2, 3, 5, 6, 8, 9)
    specs = []
    for mask in range(1, count + 1):
        gone = {block for i, block in enumerate(blocks) if mask >> i & 1}
        stages = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
        kept = [[str(block) for block in stage if block not in gone] for stage in stages]
        specs.append(".".join("-".join(stage) or "x" for stage in kept))
    return client.submit(request("common", *specs, fresh=True, interactive=interactive))


def test_cancelling_stops_the_work(server: Running, client: Client) -> None:
    job = long(client)
    server.until(lambda: client.job(job.id).state == "running")
    assert client.cancel(job.id).state == "cancelled"
    (worker,) = server.workers()
    time.sleep(0.5)
    before = worker.cpu_times().user
    time.sleep(0.5)
    assert worker.cpu_times().user - before < 0.1, "the worker rests"
    assert list(client.events(job.id))[-1].data["state"] == "cancelled"
    assert client.wait(client.submit(request("common", "d1-1-1")).id).state == "done"


def test_what_nobody_watches_is_dropped_and_a_stream_is_a_watch(start: Start) -> None:
    server = start(limits=["lease_s=0.5"])
    client = server.client()
    left = long(client)
    server.until(lambda: {line.id: line.state for line in client.jobs()}[left.id] == "dropped", 10)
    watched = long(client, count=40)
    assert list(client.events(watched.id))[-1].data["state"] == "done"
    assert client.job(left.id).state == "dropped"


def test_interactive_work_goes_first(server: Running, client: Client) -> None:
    sweep = long(client)
    server.until(lambda: client.job(sweep.id).state == "running")
    quick = client.wait(client.submit(request("common", "d3-1-2", fresh=True)).id, every_s=0.02)
    assert quick.state == "done"
    assert client.job(sweep.id).state in ("queued", "running"), "the sweep waited for it"
    assert client.cancel(sweep.id).state == "cancelled"


def test_refusals_are_the_libraries_errors(client: Client) -> None:
    with pytest.raises(NotFound, match="no method 'nobody'; allowed: common, stimulative"):
        client.submit(request("nobody", "main"))
    with pytest.raises(NotFound, match="no experiment"):
        client.check_spec("etc", "main")
    with pytest.raises(SpecError, match="depths"):
        client.submit(request("common", "d1-1-9"))
    with pytest.raises(UsageError, match="no specs"):
        client.submit(request("common"))
    with pytest.raises(UsageError, match="max_images"):
        client.submit(request("common", "main", max_images=0))
    with pytest.raises(TooLarge, match="5,833 specs"):
        client.submit(request("common", *["main"] * 5833))
    with pytest.raises(NotFound, match="no evaluation"):
        client.job("never-was")
    with pytest.raises(NotFound, match="no evaluation"):
        list(client.events("never-was"))


def test_a_server_that_is_down_is_one_sentence(exported: Path) -> None:
    client = Client("http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="can't be reached. Is it running"):
        client.status()
    with pytest.raises(UsageError, match="address"):
        Client("localhost:8000")


def test_what_the_engines_keep_is_in_the_metrics(server: Running, client: Client) -> None:
    client.wait(client.submit(request("common", "1-2-3.4-6-5.7-8", fresh=True)).id)
    text = server.http.get("/metrics").text
    for cache in ("statistics", "calibration", "evaluation", "sessions"):
        for what in ("bytes", "hits", "misses"):
            assert f'stim_engine_cache{{cache="{cache}",what="{what}"}}' in text
    held = float(text.split('stim_engine_cache{cache="sessions",what="bytes"} ')[1].split("\n")[0])
    assert held > 0


def test_a_first_number_is_not_shared_out_but_everything_after_it_is(exported: Path) -> None:
    library, limits = ModelRepository(exported, exported.parent / "runs"), Limits()
    library.put(library.look())
    jobs = JobQueue(library, ResultCache(limits.known_results), limits, lambda: "CPUExecutionProvider")

    wanted = (
        request("common", "d1-2-2", fresh=True),
        request("stimulative", "d1-2-2", fresh=True),
        request("common", "d1-2-2", "d2-1-2", fresh=True),
    )
    first, second, several = (jobs.submit(one, "somebody") for one in wanted)

    def stepped(phase: str) -> Job:
        job = jobs.next()
        assert job is not None
        jobs.report(job, Report(job.number, phase, 1, 9, {}, False), "CPUExecutionProvider")
        jobs.put_back(job)
        return job

    assert [stepped("calibrate") for _ in range(3)] == [first] * 3
    assert [stepped("evaluate"), stepped("calibrate"), stepped("evaluate")] == [first, second, second]
    assert [stepped("calibrate"), stepped("evaluate"), stepped("evaluate")] == [several, first, second]
