"""Metrics: true, and bounded in number whatever names clients make up."""

import json
import re

from tests.serve.conftest import Start
from tests.serve.inference import body


def test_metrics_are_bounded_and_true(start: Start) -> None:
    server = start(limits=["model_labels=2"])
    for name in ("tiny.common", "tiny.stimulative", "tiny.common.main", "tiny.common.subnet-d1-1-1", "made-up-1", "made-up-2"):
        server.http.post(f"/v2/models/{name}/infer", content=json.dumps(body()))
    text = server.http.get("/metrics").text
    assert set(re.findall(r'stim_inferences_total\{model="([^"]+)"', text)) == {"tiny.common", "tiny.stimulative", "other"}
    assert 'stim_inferences_total{model="other",result="done"} 2.0' in text
    assert 'stim_inferences_total{model="other",result="refused"} 2.0' in text
    assert 'stim_requests_total{route="/v2/models/{name}/infer",status="200"} 4.0' in text
    assert "made-up" not in text
    assert "stim_ready 1.0" in text
    for i in range(50):
        server.http.get(f"/v1/made-up-{i}")
    assert "made-up" not in server.http.get("/metrics").text
