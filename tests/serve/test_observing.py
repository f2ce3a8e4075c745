"""What the server says of itself: bounded metrics, a log that is JSON line by line."""

import json
import re
from typing import Any

from tests.serve.conftest import Start
from tests.serve.processes import Running
from tests.serve.test_bad_input import URL, body, tensor


def test_metrics_are_bounded_and_true(start: Start) -> None:
    server = start(limits=["model_labels=2"])
    for name in ("tiny.common", "tiny.stimulative", "tiny.common.main", "tiny.common.subnet-d1-1-1", "made-up-1", "made-up-2"):
        server.http.post(f"/v2/models/{name}/infer", content=json.dumps(body()))
    text = server.http.get("/metrics").text
    assert set(re.findall(r'stim_inferences_total\{model="([^"]+)"', text)) == {"tiny.common", "tiny.stimulative", "other"}
    assert 'stim_inferences_total{model="other",result="done"} 2.0' in text
    assert 'stim_inferences_total{model="other",result="refused"} 2.0' in text
    assert 'stim_requests_total{route="/v2/models/{name}/infer",status="200"} 4.0' in text
    assert "made-up" not in text and "stim_ready 1.0" in text
    for i in range(50):
        server.http.get(f"/v1/made-up-{i}")
    assert "made-up" not in server.http.get("/metrics").text


def test_every_line_of_the_log_is_json_with_the_request_id(server: Running) -> None:
    answer = server.http.get("/v1/status", headers={"X-Request-Id": "my-id-7"})
    assert answer.headers["X-Request-Id"] == "my-id-7"
    other = server.http.post(URL, content=json.dumps(body(inputs=[tensor(name="no")])), headers={"X-Request-Id": "a b"})
    id_ = other.headers["X-Request-Id"]
    assert re.fullmatch("[0-9a-f]{32}", id_)
    server.until(lambda: id_ in server.log.read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in server.log.read_text(encoding="utf-8").splitlines()]
    found: dict[str, Any] = {line.get("request"): line for line in lines if line["event"] == "request"}
    assert found["my-id-7"] | {"time": 0, "ms": 0} == {
        "time": 0,
        "level": "info",
        "event": "request",
        "request": "my-id-7",
        "method": "GET",
        "route": "/v1/status",
        "status": 200,
        "ms": 0,
    }
    assert (found[id_]["status"], found[id_]["code"], found[id_]["route"]) == (400, "usage", "/v2/models/{name}/infer")
