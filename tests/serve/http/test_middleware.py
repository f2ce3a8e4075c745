"""Middleware: who gets in, what a request leaves in the log, and what a client sees of a defect of the server."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from stimcore.serve.client.client import Client
from stimcore.serve.errors import Denied
from stimcore.serve.http.app import application
from stimcore.serve.service import Service, ServiceConfig
from tests.serve.conftest import Start
from tests.serve.inference import URL, body, tensor
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


def test_without_a_token_no_page_in_a_browser_gets_in(server: Running) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Host": "127.0.0.1.evil.example:80"}):
        assert server.http.get("/v1/catalogue", headers=headers).status_code == 401
    for headers in ({"Host": f"localhost:{server.port}"}, {"Origin": "http://localhost:8501"}, {"Host": "[::1]:80"}):
        assert server.http.get("/v1/catalogue", headers=headers).status_code == 200


def test_every_line_of_the_log_is_json_with_the_request_id(server: Running) -> None:
    answer = server.http.get("/v1/status", headers={"X-Request-Id": "my-id-7"})
    assert answer.headers["X-Request-Id"] == "my-id-7"
    other = server.http.post(URL, content=json.dumps(body(inputs=[tensor(name="no")])), headers={"X-Request-Id": "a b"})
    id_ = other.headers["X-Request-Id"]
    assert re.fullmatch("[0-9a-f]{32}", id_)
    server.until(lambda: id_ in server.log.read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in server.log.read_text(encoding="utf-8").splitlines()]
    requests: dict[str, Any] = {line.get("request"): line for line in lines if line["event"] == "request"}
    assert requests["my-id-7"] | {"time": 0, "ms": 0} == {
        "time": 0,
        "level": "info",
        "event": "request",
        "request": "my-id-7",
        "method": "GET",
        "route": "/v1/status",
        "status": 200,
        "ms": 0,
    }
    assert (requests[id_]["status"], requests[id_]["code"], requests[id_]["route"]) == (400, "usage", "/v2/models/{name}/infer")


def test_a_defect_of_the_server_is_a_json_error_with_the_request_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = application(Service(ServiceConfig(folder=tmp_path)))

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
