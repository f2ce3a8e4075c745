"""The command line of the server: wrong use is one sentence, before anything starts."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from stimcore import files
from stimcore.errors import Unavailable, UsageError
from stimcore.serve import __main__ as serve
from stimcore.serve.service import ServiceConfig


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--host", "0.0.0.0"], "there is no token. Set STIMCORE_TOKEN"),
        (["--host", "::"], "there is no token"),
        (["--host", "no.such.host.invalid"], "there is no address"),
        (["--port", "70000"], "--port 70000"),
        (["--threads", "0"], "--threads 0"),
        (["--limit", "jobs=none"], "limit jobs=none"),
        (["--engine", "tensorrt"], "there is no engine"),
        (["--engine", "triton://host"], "there is no engine"),
        (["--engine", "triton://host:x"], "there is no engine"),
        (["--engine", "https://host:443"], "there is no engine"),
        (["--engine", "triton+https://host:443/path"], "there is no engine"),
    ],
)
def test_wrong_use_is_refused_before_anything_starts(
    exported: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], match: str
) -> None:
    monkeypatch.delenv("STIMCORE_TOKEN", raising=False)
    with pytest.raises(UsageError, match=re.escape(match)):
        serve.main([str(exported), "--port", "0", *words])


def config_of(words: list[str], monkeypatch: pytest.MonkeyPatch) -> ServiceConfig:
    """Return what a command line would serve; the command ends where the service would start."""

    class Started(Exception):
        """Holds the configuration."""

    def service(config: ServiceConfig, **_: object) -> None:
        raise Started(config)

    monkeypatch.setattr(serve, "Service", service)
    with pytest.raises(Started) as started:
        serve.main(words)
    config = started.value.args[0]
    assert isinstance(config, ServiceConfig)
    return config


@pytest.mark.parametrize(("asked", "run"), [("2", 2), ("3", 3), ("4", 3), ("100000", 3)])
def test_no_more_threads_run_than_there_are_processors(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: str, run: int
) -> None:
    """A command line that fits a larger machine works, and says what it does."""
    monkeypatch.setattr(serve, "usable_cpus", lambda: 3)
    assert config_of([str(exported), "--port", "0", "--threads", asked], monkeypatch).threads == run
    told = f"--threads {asked}: 3 run, one for each processor that this process may use\n"
    assert capsys.readouterr().err == ("" if int(asked) == run else told)


@pytest.mark.parametrize(
    ("num_descriptors", "words", "accepted"),
    [(60, [], 12), (60, ["--metrics-port", "0"], 1), (560, [], 512), (559, [], 511), (558, ["--limit", "connections=10"], 10)],
)
def test_no_more_connections_are_accepted_than_there_are_descriptors_for(
    exported: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    num_descriptors: int,
    words: list[str],
    accepted: int,
) -> None:
    """A system may give a process 256 descriptors: health must be answered when strangers hold all connections."""
    monkeypatch.setattr(files, "allow_descriptors", lambda wanted: min(wanted, num_descriptors))
    config = config_of([str(exported), "--port", "0", "--threads", "1", *words], monkeypatch)
    assert config.limits.connections == accepted
    asked = 10 if words[:1] == ["--limit"] else 512
    told = f"connections={asked}: {accepted} are accepted, because this process may have {num_descriptors} file descriptors; "
    assert capsys.readouterr().err == ("" if accepted == asked else f"{told}'ulimit -n' sets how many\n")


def test_an_inherited_socket_is_guarded_as_any_other(exported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STIMCORE_TOKEN", raising=False)
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        copy = str(os.dup(everywhere.fileno()))  # serve closes what it was given
        with pytest.raises(UsageError, match="--fd with --host or --port"):
            serve.main([str(exported), "--fd", copy, "--port", "0"])
        with pytest.raises(UsageError, match="there is no token"):
            serve.main([str(exported), "--fd", copy])
    with (tmp_path / "file").open("w") as file, pytest.raises(UsageError, match="is not a socket"):
        serve.main([str(exported), "--fd", str(file.fileno())])


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets")
def test_a_unix_socket_is_of_this_machine(exported: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        command = [sys.executable, "-m", "stimcore.serve", str(exported), "--device", "cpu", "--fd", str(listening.fileno())]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STIMCORE_")}
        process = subprocess.Popen(
            command,
            pass_fds=[listening.fileno()],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"stimcore serves {exported} at unix:{path}\n"
        with httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://localhost", timeout=60) as http:
            assert http.get("/v1/catalogue").json()["experiments"]
    finally:
        process.terminate()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


def test_a_short_token_a_missing_folder_a_taken_port(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        with pytest.raises(Unavailable, match="Give another --port"):
            serve.main([str(exported), "--port", str(occupied.getsockname()[1])])
    with pytest.raises(UsageError, match="no folder"):
        serve.main([str(exported / "nowhere")])
    monkeypatch.setenv("STIMCORE_TOKEN", "short")
    with pytest.raises(UsageError, match="5 characters"):
        serve.main([str(exported), "--port", "0"])


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with serve._listen("127.0.0.1", 0, None, None) as listening:
        assert listening.proto == socket.IPPROTO_TCP, "asyncio sets TCP_NODELAY only then; without, an answer takes 40 ms more"


def test_a_device_that_is_not_there_is_one_sentence(exported: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stimcore.serve", str(exported), "--port", "0", "--device", "gpu", "--log-level", "error"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert re.fullmatch(r"error: there is no device 'gpu'; allowed: auto, cpu, cuda.*\n", done.stderr)
