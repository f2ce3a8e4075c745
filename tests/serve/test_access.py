"""Who gets in: addresses, tokens, hosts and origins; and what is refused before anything starts."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from stimcore.errors import Unavailable, UsageError
from stimcore.serve import __main__ as serve
from stimcore.serve.client.client import Client
from stimcore.serve.errors import Denied
from tests.serve.conftest import Start
from tests.serve.processes import Running


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
    ],
)
def test_wrong_use_is_refused_before_anything_starts(
    exported: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], match: str
) -> None:
    monkeypatch.delenv("STIMCORE_TOKEN", raising=False)
    with pytest.raises(UsageError, match=re.escape(match)):
        serve.main([str(exported), "--port", "0", *words])


def test_an_inherited_socket_is_guarded_as_any_other(exported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STIMCORE_TOKEN", raising=False)
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        copy = str(os.dup(everywhere.fileno()))  # serve closes what it was given
        with pytest.raises(UsageError, match="--fd with --host or --port"):
            serve.main([str(exported), "--fd", copy, "--port", "0"])
        with pytest.raises(UsageError, match="there is no token"):
            serve.main([str(exported), "--fd", copy])
    with (tmp_path / "file").open("w") as file, pytest.raises(UsageError, match="is no socket"):
        serve.main([str(exported), "--fd", str(file.fileno())])


def test_a_short_token_a_missing_folder_a_taken_port(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(Unavailable, match="Give another --port"):
            serve.main([str(exported), "--port", str(taken.getsockname()[1])])
    with pytest.raises(UsageError, match="no folder"):
        serve.main([str(exported / "nowhere")])
    monkeypatch.setenv("STIMCORE_TOKEN", "short")
    with pytest.raises(UsageError, match="5 characters"):
        serve.main([str(exported), "--port", "0"])


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with serve._listening("127.0.0.1", 0, None, None) as listening:
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


def test_a_token_opens_everything_but_health_is_open(start: Start) -> None:
    token = "correct-horse-battery"
    server = start(token=token, words=["--host", "0.0.0.0"])
    bare = httpx.Client(base_url=server.url.replace("0.0.0.0", "127.0.0.1"))
    assert bare.get("/v2/health/live").status_code == bare.get("/v2/health/ready").status_code == 200
    for path in ("/v1/catalogue", "/v2", "/metrics", "/openapi.json", "/nothing"):
        for wrong in ({}, {"Authorization": f"Bearer {token}x"}, {"Authorization": "Bearer"}, {"Authorization": "Bearer \xff"}):
            answer = bare.get(path, headers={key: value.encode("latin-1") for key, value in wrong.items()})
            assert answer.status_code == 401 and answer.json()["code"] == "denied"
            assert answer.headers["WWW-Authenticate"] == "Bearer" and token not in answer.text
    for path in ("/v1/catalogue", "/v2", "/metrics", "/openapi.json"):
        assert bare.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    with pytest.raises(Denied, match="token is missing or wrong"):
        Client(str(bare.base_url)).catalogue()
    assert Client(str(bare.base_url), token).catalogue().experiments
    assert token not in server.log.read_text(encoding="utf-8")


def test_without_a_token_no_page_in_a_browser_gets_in(server: Running) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Host": "127.0.0.1.evil.example:80"}):
        assert server.http.get("/v1/catalogue", headers=headers).status_code == 401
    for headers in ({"Host": f"localhost:{server.port}"}, {"Origin": "http://localhost:8501"}, {"Host": "[::1]:80"}):
        assert server.http.get("/v1/catalogue", headers=headers).status_code == 200
