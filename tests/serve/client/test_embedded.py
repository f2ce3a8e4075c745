"""The embedded server: it is started again when it dies, and it never outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from stimcore.errors import Unavailable, UsageError
from stimcore.serve.client.embedded import EmbeddedServer
from stimcore.serve.errors import TooMany
from tests.serve.evaluations import job_request
from tests.serve.exported import make_heavy
from tests.serve.processes import in_session

ON_CPU = ("--device", "cpu", "--threads", "1")
PARENT = """
import sys, time
from pathlib import Path
from stimcore.serve.client.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]), arguments=sys.argv[3:])
print(server.pid, flush=True)
if sys.argv[2] == "ready":
    server.wait_ready()
    print("ready", flush=True)
time.sleep(60)
"""


def test_it_answers_survives_its_servers_death_and_ends(exported: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        EmbeddedServer(exported / "nowhere")
    server = EmbeddedServer(exported, arguments=ON_CPU)
    try:
        server.wait_ready()
        client = server.client()
        assert client.catalogue().experiments[0].name == "tiny"
        assert httpx.get(server.url + "/v1/catalogue").status_code == 401, "others on this machine don't know the token"
        os.kill(server.pid, signal.SIGKILL)
        assert client.catalogue().experiments[0].name == "tiny", "the same address, after a pause"
        assert server.restarts == 1
        pids = [server.pid, *(child.pid for child in psutil.Process(server.pid).children())]
    finally:
        server.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with pytest.raises(Unavailable):
        client.catalogue()


def test_its_bounds_hold_per_visitor(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started where the tokens of another server are set; the address of a visitor counts, whatever the name of the tab."""
    monkeypatch.setenv("STIMCORE_TOKEN_FILE", "/nowhere")
    monkeypatch.setenv("STIMCORE_READ_TOKEN", "of-another-server-1")
    limits = ("--limit", "jobs_per_address=1", "--limit", "hang_s=60")
    server = EmbeddedServer(exported, arguments=[*ON_CPU, *limits])
    try:
        server.wait_ready()
        first, second, other = (server.client(forwarded_for=address) for address in ("10.0.0.7", "10.0.0.7", "10.0.0.8"))
        worker = psutil.Process(server.pid).children()[0]
        worker.suspend()
        try:
            assert first.submit(job_request("common", "d1-1-2")).state in ("queued", "running")
            with pytest.raises(TooMany, match="address"):
                second.submit(job_request("common", "d1-1-3"))
            assert other.submit(job_request("common", "d1-2-1")).state in ("queued", "running")
        finally:
            worker.resume()
    finally:
        server.stop()


@pytest.mark.slow
def test_a_server_that_hangs_is_replaced(exported: Path) -> None:
    server = EmbeddedServer(exported, arguments=ON_CPU)
    try:
        server.wait_ready()
        client = server.client()
        assert client.catalogue().experiments
        time.sleep(1.5)  # until it has answered the supervisor once
        began = time.monotonic()
        os.kill(server.pid, signal.SIGSTOP)
        assert client.catalogue().experiments[0].name == "tiny", "the same address, after a pause"
        assert server.restarts == 1
        assert time.monotonic() - began < 30, "10 s until it is killed, and the start of another one on a busy machine"
    finally:
        server.stop()


def parent(folder: Path, until: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a program that starts a server; both run in a new session."""
    words = [sys.executable, "-c", PARENT, str(folder), until, *ON_CPU, *arguments]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True)


def gone(session: int, seconds: float = 60) -> bool:
    """Wait until no process of a session runs; return whether none does."""
    end = time.monotonic() + seconds
    while in_session(session):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(
    "when",
    [
        *(pytest.param(when, marks=pytest.mark.slow) for when in ("at once", "while its worker starts", "while it hashes")),
        "ready",
    ],
)
def test_it_ends_when_its_parent_is_killed(exported: Path, own_exported: Path, when: str) -> None:
    if when == "while it hashes":
        make_heavy(own_exported)
    program = parent(own_exported if when == "while it hashes" else exported, when)
    assert program.stdout is not None
    server = psutil.Process(int(program.stdout.readline()))
    if when == "ready":
        assert program.stdout.readline() == "ready\n"
    elif when != "at once":
        while not server.children():
            time.sleep(0.01)
    if when == "while it hashes":
        time.sleep(1)
    program.kill()
    program.wait()
    program.stdout.close()
    assert gone(program.pid)


@pytest.mark.slow
def test_a_start_that_fails_is_a_sentence_and_leaves_no_process(exported: Path, own_exported: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(Unavailable, match="can't start. Its log"):
        EmbeddedServer(exported, arguments=["--device", "gpu"]).wait_ready()
    make_heavy(own_exported)
    with pytest.raises(Unavailable, match="not ready after 2 s"):
        EmbeddedServer(own_exported, arguments=ON_CPU).wait_ready(2)
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_folder_of_nonsense_is_served_as_far_as_it_goes(tmp_path: Path) -> None:
    (tmp_path / "odd" / "half").mkdir(parents=True)
    (tmp_path / "odd" / "half" / "manifest.json").write_text("[]", encoding="utf-8")
    server = EmbeddedServer(tmp_path, arguments=ON_CPU)
    try:
        server.wait_ready()
        catalogue = server.client().catalogue()
        assert catalogue.experiments == []
        assert [problem.path for problem in catalogue.problems] == ["odd/half"]
    finally:
        server.stop()
