"""Schemathesis over our own OpenAPI: whatever fits the schema, or just does not, is answered as the schema says."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serve.conftest import Start
from tests.serve.processes import Running


@pytest.mark.slow
def test_schemathesis_finds_nothing(start: Start, tmp_path: Path) -> None:
    server = start(limits=["jobs_per_client=4", "lease_s=1"])
    checks = (
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method"
    )
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{server.url}/openapi.json",
            "--checks",
            checks,
            "--max-examples",
            "25",
            "--seed",
            "7",
            "--exclude-path-regex",
            "/events$",
            "--phases",
            "examples,coverage,fuzzing",
            "--no-color",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert server.live()


def test_every_route_says_what_it_does_and_how_it_refuses(server: Running) -> None:
    schema = server.http.get("/openapi.json").json()
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            assert operation["summary"] and len(operation["summary"]) < 90, path
            if path != "/metrics":
                assert {"400", "401", "404", "503"} <= set(operation["responses"]), path
                assert "422" not in operation["responses"], path
