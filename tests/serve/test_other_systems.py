"""What macOS and Windows lack is not needed: real commands run under `tests/other_systems/sitecustomize.py`, which hides it."""

import ast
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets import InvalidStatus, Origin
from websockets.sync.client import connect

from tests.serve.test_container import free_port
from tests.test_imports import modules

ROOT = Path(__file__).parents[2]
COMMANDS = """
import importlib, json, runpy, sys
for name in json.loads(sys.argv[2]):
    importlib.import_module(name)
for words in json.loads(sys.argv[1]):
    sys.argv = words
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        print("code", end.code, flush=True)
"""
SERVER = """
import sys, time
from pathlib import Path
import httpx, numpy as np
from stimcore.serve.client import embedded
from stimcore.serve.client.embedded import EmbeddedServer
assert not embedded.INHERITS
server = EmbeddedServer(Path(sys.argv[1]), arguments=["--device", "cpu", "--threads", "1"])
server.wait_ready()
http = httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.token}"}, timeout=60, trust_env=False)
shape = http.get("/v2/models/tiny.common").json()["inputs"][0]["shape"][1:]
images = {"name": "images", "datatype": "FP32", "shape": [1, *shape], "data": [0.0] * int(np.prod(shape))}
answer = http.post("/v2/models/tiny.common/infer", json={"inputs": [images]})
print(answer.status_code, answer.json()["outputs"][0]["name"])
server._process.kill()
server._process.wait()
while server.restarts == 0 or not embedded._ready(http):
    time.sleep(0.05)
print("again at the same address")
server.stop()
print("ended with", server._process.returncode)
"""


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Environment variables under which Python hides what the other systems lack."""
    given = {key: value for key, value in os.environ.items() if not key.startswith("STIMCORE_")}
    return given | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1] / "other_systems"), str(ROOT)])}


def run(environment: dict[str, str], *words: str) -> str:
    """Run Python in that environment; return what it printed."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_hidden_is_hidden_from_our_code_only(environment: dict[str, str], tmp_path: Path) -> None:
    code = """
import os, signal, socket, subprocess
print([hasattr(os, "nice"), hasattr(signal, "SIGHUP"), hasattr(socket, "AF_UNIX")])
tries = {"import fcntl": ImportError, "from os import fork": ImportError, "open('/proc/cpuinfo')": OSError,
         "subprocess.Popen(['true'], pass_fds=[1])": ValueError, "import asyncio": None}
for text, error in tries.items():
    try:
        exec(compile(text, __file__, "exec"))
        print(text, error is None)
    except Exception as reason:
        print(text, error is not None and isinstance(reason, error))
"""
    others = tmp_path / "theirs.py"
    others.write_text(code, encoding="utf-8")
    seen = run(environment, str(others)).splitlines()
    assert seen[0] == "[True, True, True]"
    assert [line.rpartition(" ")[2] for line in seen[1:]] == ["False", "False", "False", "False", "True"]
    path = str(ROOT / "stimcore" / "made_up.py")
    script = f"exec(compile({code!r}, {path!r}, 'exec'), {{'__file__': {path!r}}})"
    seen = run(environment, "-c", script).splitlines()
    assert seen[0] == "[False, False, False]"
    assert [line.rpartition(" ")[2] for line in seen[1:]] == ["True"] * 5


def test_the_server_starts_answers_and_is_started_again(environment: dict[str, str], exported: Path) -> None:
    assert run(environment, "-c", SERVER, str(exported)).splitlines() == [
        "200 logits",
        "again at the same address",
        "ended with 0",
    ]


@pytest.mark.slow
def test_verify_sweep_and_report_run(environment: dict[str, str], own_exported: Path, tmp_path: Path) -> None:
    bundle = str(own_exported / "tiny" / "common")
    words = [
        ["stimcore.bundle", "verify", bundle],
        ["stimcore.sweep", bundle, "--kind", "delete", "--device", "cpu", "--store"],
        ["stimcore.report", str(ROOT / "exported" / "densenet-loafing"), "--out", str(tmp_path / "report"), "--no-svg"],
    ]
    printed = run(environment, "-c", COMMANDS, json.dumps(words), json.dumps(modules("app")))
    assert [line for line in printed.splitlines() if line.startswith("code")] == ["code 0"] * 3, printed
    assert (own_exported / "tiny" / "common" / "sweep-delete.json").is_file()
    assert list((tmp_path / "report").rglob("*.html"))


@pytest.fixture
def dashboard(environment: dict[str, str], exported: Path, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    words = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(port), "--server.headless", "true"]
    with (tmp_path / "log").open("w", encoding="utf-8") as log:
        variables = environment | {"STIMCORE_EXPORTED": str(exported), "STREAMLIT_SERVER_BASE_URL_PATH": "class"}
        process = subprocess.Popen(words, cwd=ROOT, env=variables, stdout=log, stderr=log)
        try:
            url, end = f"http://127.0.0.1:{port}/class", time.monotonic() + 60
            while time.monotonic() < end and process.poll() is None:
                try:
                    httpx.get(f"{url}/_stcore/health").raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.1)
            assert process.poll() is None, (tmp_path / "log").read_text(encoding="utf-8")
            yield url
        finally:
            process.terminate()
            process.wait(20)


def test_the_dashboard_starts_behind_a_sub_path_for_its_own_pages_alone(dashboard: str) -> None:
    assert httpx.get(f"{dashboard}/_stcore/health").text == "ok"
    text = httpx.get(f"{dashboard}/").text
    (script,) = re.findall(r'src="\./(static/js/index[^"]*)"', text)
    answer = httpx.get(f"{dashboard}/{script}", headers={"Accept-Encoding": "gzip"})
    assert (answer.status_code, answer.headers["content-encoding"]) == (200, "gzip")
    # no cookie is sent, as in a frame of another site
    upload, origin = f"{dashboard}/_stcore/upload_file/nobody/1", dashboard.removesuffix("/class")
    assert httpx.put(upload, headers={"Origin": origin}, files={"file": b"x"}).status_code != 403
    assert httpx.put(upload, headers={"Origin": "http://evil.example"}, files={"file": b"x"}).status_code == 403
    stream = f"{dashboard.replace('http', 'ws', 1)}/_stcore/stream"
    with connect(stream, origin=Origin(origin)):
        pass
    with pytest.raises(InvalidStatus, match="403"):
        connect(stream, origin=Origin("http://evil.example"))


TEXT_METHODS = {"read_text": 0, "write_text": 1}
"""Methods of `Path` that take an encoding -> the position at which it may stand."""


def calls_without_encoding(path: Path) -> list[str]:
    """The calls in a file that read or write text in whatever encoding the machine prefers."""
    calls = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        names = {keyword.arg for keyword in node.keywords}
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        of_path = called in TEXT_METHODS and isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) != "files"
        text = of_path and len(node.args) <= TEXT_METHODS[called]
        piped = called in ("run", "Popen", "check_output") and names & {"text", "universal_newlines"}
        if (text or piped) and "encoding" not in names:
            calls.append(f"{path}:{node.lineno}: {ast.unparse(node)[:80]}")
    return calls


def test_texts_are_read_and_written_in_an_encoding_that_is_named() -> None:
    """Without one Windows takes that of the region, in which our files do not open."""
    paths = [path for folder in ("stimcore", "app") for path in (ROOT / folder).rglob("*.py")]
    assert len(paths) > 100
    assert [call for path in paths for call in calls_without_encoding(path)] == []
