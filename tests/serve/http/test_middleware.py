"""Middleware: who gets in, what a request leaves in the log, and what a client sees of a defect of the server."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from stimcore.serve.client.client import Client
from stimcore.serve.errors import Denied, Forbidden
from stimcore.serve.http.app import application
from stimcore.serve.http.middleware import ErrorMiddleware
from stimcore.serve.service import Service, ServiceConfig
from tests.serve.conftest import Start
from tests.serve.exported import make_heavy
from tests.serve.inference import URL, body, raw, tensor
from tests.serve.processes import Running


def test_a_token_opens_everything_but_health_is_open(start: Start) -> None:
    token = "correct-horse-battery"
    server = start(token=token, words=["--host", "0.0.0.0"])
    bare = httpx.Client(base_url=server.url.replace("0.0.0.0", "127.0.0.1"))
    assert bare.get("/v2/health/live").status_code == bare.get("/v2/health/ready").status_code == 200
    for path in ("/v1/catalogue", "/v2", "/metrics", "/openapi.json", "/nothing"):
        for wrong in ({}, {"Authorization": f"Bearer {token}x"}, {"Authorization": "Bearer"}, {"Authorization": "Bearer \xff"}):
            answer = bare.get(path, headers=[(key.encode(), value.encode("latin-1")) for key, value in wrong.items()])
            assert answer.status_code == 401
            assert answer.json()["code"] == "denied"
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert token not in answer.text
    for path in ("/v1/catalogue", "/v2", "/metrics", "/openapi.json"):
        assert bare.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    with pytest.raises(Denied, match="token is missing or wrong"):
        Client(str(bare.base_url)).catalogue()
    assert Client(str(bare.base_url), token).catalogue().experiments
    assert token not in server.log.read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer  "])
def test_the_name_of_the_scheme_has_no_case(guarded: Running, scheme: str) -> None:
    for token, status in ((ADMIN, 200), (READER, 200), (ADMIN + "x", 401)):
        answer = httpx.get(f"{guarded.url}/v1/catalogue", headers={"Authorization": scheme + token})
        assert answer.status_code == status


@pytest.mark.parametrize("start_", ["", "Basic ", "Bearer", "Bearerx ", "Token ", "Bearer: "])
def test_a_token_without_its_scheme_opens_nothing(guarded: Running, start_: str) -> None:
    for token in (ADMIN, READER):
        assert httpx.get(f"{guarded.url}/v1/catalogue", headers={"Authorization": start_ + token}).status_code == 401


def test_head_answers_as_get_does_without_a_body(server: Running, guarded: Running) -> None:
    places = {"name": "tiny.common", "version": "1", "experiment": "tiny", "method": "stimulative", "kind": "ordered"}
    asked = {"spec": "d1-1-1", "text": "d1-1-1"}
    paths = [path for path, routes in server.http.get("/openapi.json").json()["paths"].items() if "get" in routes]
    for path in (*paths, "/openapi.json", "/v2/models/{name}/versions/{version}", "/nothing"):
        url = path.format(**places, id="nobody", run="nobody")
        got, head = (server.http.request(method, url, params=asked) for method in ("GET", "HEAD"))
        assert head.content == b""
        if path.endswith("/events"):
            assert head.status_code == 405
            continue
        assert head.status_code == got.status_code, path
        names = ("content-type", "x-stimcore-bundle", "content-security-policy")
        assert [head.headers.get(name) for name in names] == [got.headers.get(name) for name in names]
        if path not in ("/metrics", "/v2/models/stats"):  # which change from one moment to the next
            assert head.headers["content-length"] == got.headers["content-length"], path
    assert server.http.head(URL).status_code == 405
    assert server.http.head("/v1/jobs/nobody/events%0A").status_code == 405
    assert httpx.head(guarded.metrics_url).status_code == 200
    assert httpx.head(f"{guarded.url}/v1/catalogue").status_code == 401
    lines = [line for line in server.lines() if line.get("method") == "HEAD"]
    assert "/v2/health/live" in {line["route"] for line in lines}


def test_without_a_token_no_page_in_a_browser_gets_in(server: Running) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Host": "127.0.0.1.evil.example:80"}):
        assert server.http.get("/v1/catalogue", headers=headers).status_code == 401
    refused = server.http.get("/v1/catalogue", headers={"Host": "evil.example."}).json()["error"]
    assert refused.startswith("Host is evil.example")
    for headers in (
        {"Host": f"localhost:{server.port}"},
        {"Origin": "http://localhost:8501"},
        {"Host": "[::1]:80"},
        {"Host": "127.0.0.2:8000"},
        {"Host": "localhost."},
    ):
        assert server.http.get("/v1/catalogue", headers=headers).status_code == 200
    answer = raw(server, b"GET /v1/catalogue HTTP/1.0\r\n\r\n", until=b"has a token")
    assert b" 401 " in answer
    assert b"the request has no Host; allowed: localhost" in answer


def test_a_server_answers_at_any_number_of_this_machine(start: Start) -> None:
    """All of 127.0.0.0/8 is this machine on Linux, and the server starts there without a token."""
    server = start(words=["--host", "127.0.0.2"])
    assert server.url.startswith("http://127.0.0.2:")
    assert server.http.get("/v1/catalogue").status_code == 200


def test_requests_wait_for_the_first_opening_and_those_about_the_server_do_not(start: Start, own_exported: Path) -> None:
    make_heavy(own_exported)
    server = start(own_exported, wait=False)
    for path, status in (("/v2/health/live", 200), ("/v2/health/ready", 503), ("/v1/status", 200), ("/metrics", 200)):
        assert server.http.get(path).status_code == status
    with pytest.raises(httpx.ReadTimeout):
        server.http.get("/v1/catalogue", timeout=0.5)


def test_every_line_of_the_log_is_json_with_the_request_id(server: Running) -> None:
    answer = server.http.get("/v1/status", headers={"X-Request-Id": "my-id-7"})
    assert answer.headers["X-Request-Id"] == "my-id-7"
    other = server.http.post(URL, content=json.dumps(body(inputs=[tensor(name="no")])), headers={"X-Request-Id": "a b"})
    id_ = other.headers["X-Request-Id"]
    assert re.fullmatch("[0-9a-f]{32}", id_)
    server.until(lambda: id_ in server.log.read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in server.log.read_text(encoding="utf-8").splitlines()]
    assert "traceparent" not in answer.headers
    requests: dict[str, Any] = {line.get("request"): line for line in lines if line["event"] == "request"}
    assert requests["my-id-7"] | {"time": 0, "ms": 0} == {
        "time": 0,
        "level": "info",
        "event": "request",
        "request": "my-id-7",
        "address": "127.0.0.1",
        "method": "GET",
        "route": "/v1/status",
        "status": 200,
        "ms": 0,
    }
    assert (requests[id_]["status"], requests[id_]["code"], requests[id_]["route"]) == (400, "usage", "/v2/models/{name}/infer")


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_trace_is_in_the_log_and_in_the_answer(server: Running) -> None:
    headers = {"traceparent": TRACE, "X-Request-Id": "traced"}
    assert server.http.post(URL, content=json.dumps(body()), headers=headers).headers["traceparent"] == TRACE
    server.until(lambda: any(line.get("request") == "traced" for line in server.lines()))
    (line,) = [line for line in server.lines() if line.get("request") == "traced"]
    assert line["traceparent"] == TRACE
    for bad in ("", "x", TRACE[:-1], TRACE + "0", "ff" + TRACE[2:], TRACE.upper(), TRACE.replace(TRACE[3:35], "0" * 32)):
        assert "traceparent" not in server.http.get("/v2", headers={"traceparent": bad}).headers


ADMIN, READER = "correct-horse-battery", "only-for-reading-1"


@pytest.fixture(scope="module")
def guarded(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with both tokens, a trusted proxy, a port for metrics, and a page that may frame it."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "token").write_text(ADMIN + "\n")
    words = ["--trusted-proxy", "127.0.0.1", "--metrics-port", "0", "--frame-ancestors", "https://school.example"]
    variables = {"STIMCORE_TOKEN_FILE": str(folder / "token"), "STIMCORE_READ_TOKEN": READER}
    with Running(
        exported, folder / "server.log", words=words, variables=variables, limits=["jobs_per_address=1", "hang_s=60"]
    ) as running:
        running.token = ADMIN
        running.http.headers["Authorization"] = f"Bearer {ADMIN}"
        yield running


def test_the_read_only_token_opens_everything_but_what_changes_the_server(guarded: Running) -> None:
    paths = guarded.http.get("/openapi.json").json()["paths"]
    admin = {
        ("/v1/rescan", "post"),
        ("/v1/runs", "get"),
        ("/v1/runs", "post"),
        ("/v1/runs/offer", "get"),
        ("/v1/runs/{experiment}/{run}", "get"),
        ("/v1/runs/{experiment}/{run}", "delete"),
        ("/v1/runs/{experiment}/{run}/continue", "post"),
        ("/v1/runs/{experiment}/{run}/events", "get"),
        ("/v2/repository/models/{name}/load", "post"),
        ("/v2/repository/models/{name}/unload", "post"),
    }
    seen = set()
    for path, operations in paths.items():
        for method in operations:
            answer = guarded.http.request(
                method, path.replace("{name}", "tiny.common"), headers={"Authorization": f"Bearer {READER}"}, content=b"x"
            )
            assert answer.status_code != 401
            if answer.status_code == 403:
                assert answer.json()["code"] == "forbidden"
                seen.add((path, method))
    assert seen == admin
    for path, method in admin:
        url = path.format(name="tiny.common", experiment="a", run="b") + "%0A"  # the router takes it for the path without
        answer = guarded.http.request(method, url, headers={"Authorization": f"Bearer {READER}"}, content=b"x")
        assert answer.status_code in (403, 404), url
    for sneaky in (
        "/v1/%72uns",
        "/v2/repository/models/tiny.common%0A/load",
        "/v2/repository/models/../models/tiny.common/load",
    ):
        answer = guarded.http.request("POST", sneaky, headers={"Authorization": f"Bearer {READER}"})
        assert answer.status_code in (403, 404)
    reader = Client(guarded.url, READER)
    with pytest.raises(Forbidden, match="read-only token"):
        reader.runs()
    assert reader.catalogue().experiments
    assert guarded.http.get("/v1/runs").status_code == 200
    for wrong in (ADMIN[:-1], READER + "x", "x"):
        assert httpx.get(f"{guarded.url}/v1/catalogue", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401


def test_metrics_have_a_port_of_their_own_without_a_token(guarded: Running) -> None:
    assert guarded.metrics_url.endswith("/metrics")
    answer = httpx.get(guarded.metrics_url)
    assert answer.status_code == 200
    assert "stim_ready 1.0" in answer.text
    base = guarded.metrics_url.removesuffix("/metrics")
    for path in ("/v1/catalogue", "/v2/health/ready", "/openapi.json", "/"):
        refused = httpx.get(base + path)
        assert refused.status_code == 404
        assert set(refused.json()) == {"error", "code"}
    assert httpx.get(f"{guarded.url}/metrics").status_code == 401, "the other port asks for the token as before"


def test_pages_of_other_sites_may_not_frame_a_response(server: Running, guarded: Running) -> None:
    assert server.http.get("/v2").headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert guarded.http.get("/v2").headers["Content-Security-Policy"] == "frame-ancestors https://school.example"


def test_forwarded_addresses_count_only_from_trusted_proxies(server: Running, guarded: Running) -> None:
    forwarded = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9"}
    for which, address in ((server, "127.0.0.1"), (guarded, "203.0.113.9")):
        id_ = which.http.get("/v1/status", headers=forwarded).headers["X-Request-Id"]
        which.until(lambda which=which, id_=id_: any(line.get("request") == id_ for line in which.lines()))
        (line,) = [line for line in which.lines() if line.get("request") == id_]
        assert line["address"] == address


def test_bounds_per_address_hold_whatever_name_a_client_sends(guarded: Running) -> None:
    value = {"experiment": "tiny", "method": "common", "specs": ["main"], "fresh": True, "interactive": False}
    worker = guarded.workers()[0]
    worker.suspend()
    try:
        jobs = []
        for address, spec, status in (
            ("203.0.113.1", "d1-1-1", 202),
            ("203.0.113.1", "d1-1-2", 429),
            ("203.0.113.2", "d1-1-3", 202),
        ):
            headers = {"X-Stimcore-Client": spec, "X-Forwarded-For": address}
            answer = guarded.http.post("/v1/jobs", json=value | {"specs": [spec]}, headers=headers)
            assert answer.status_code == status, answer.text
            jobs.append(answer.json().get("id", ""))
        assert answer.json()["state"] in ("queued", "running")
    finally:
        worker.resume()
    for job, name in ((jobs[0], "d1-1-1"), (jobs[2], "d1-1-3")):
        guarded.http.delete(f"/v1/jobs/{job}", headers={"X-Stimcore-Client": name})


def test_a_page_of_another_site_composes_nothing(server: Running) -> None:
    """An image in such a page sends neither Origin nor a foreign Host, only `Sec-Fetch-Site`."""
    path = "/v1/experiments/tiny/methods/common/onnx?spec=d1-1-1"
    for site, status in (("cross-site", 401), ("same-site", 200), ("same-origin", 200), ("none", 200)):
        assert server.http.get(path, headers={"Sec-Fetch-Site": site}).status_code == status
    assert server.http.get("/v2/health/live", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_a_defect_of_the_server_is_a_json_error_with_the_request_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    service = Service(ServiceConfig(folder=tmp_path))
    asyncio.run(service.rescan())
    app = application(service)

    @app.get("/defect")
    async def defect() -> None:
        raise ZeroDivisionError("a defect")

    answer = TestClient(app, base_url="http://localhost").get("/defect", headers={"X-Request-Id": "my-id"})
    assert answer.status_code == 500
    assert answer.json() == {"error": "the server failed; its log has the reason under my-id.", "code": "error"}
    assert answer.headers["X-Request-Id"] == "my-id"
    (failed,) = [record for record in caplog.records if record.getMessage() == "failed"]
    assert failed.exc_info is not None
    assert failed.exc_info[0] is ZeroDivisionError


async def end_of_request(error: BaseException, *, started: bool, draining: bool) -> list[Message]:
    """Return what is sent for a request that ends with an error, before or after its response has begun."""
    sent: list[Message] = []
    ending = asyncio.Event()
    if draining:
        ending.set()

    async def inner(_scope: Scope, _receive: Receive, send: Send) -> None:
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await ErrorMiddleware(inner, ending)({"type": "http", "method": "GET", "state": {"request_id": "x"}}, receive, send)
    return sent


@pytest.mark.parametrize(
    ("error", "status"),
    [(asyncio.CancelledError(), 503), (Forbidden("not for you"), 403), (RuntimeError("a defect"), 500)],
)
def test_a_request_has_one_head_however_it_ends(error: BaseException, status: int) -> None:
    before = asyncio.run(end_of_request(error, started=False, draining=True))
    assert [message.get("status") for message in before] == [status, None]
    after = asyncio.run(end_of_request(error, started=True, draining=True))
    assert [message.get("status") for message in after] == [200], "uvicorn closes the connection of such a response"


def test_only_the_end_of_the_server_turns_a_cancellation_into_a_refusal() -> None:
    for started in (False, True):
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(end_of_request(asyncio.CancelledError(), started=started, draining=False))
