"""The OpenAPI document: complete, and true of whatever fits it or just does not (schemathesis)."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from stimcore.serve import types
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


def test_every_route_has_a_summary_and_its_error_responses(server: Running) -> None:
    schema = server.http.get("/openapi.json").json()
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            assert 0 < len(operation["summary"]) < 90, path
            if path != "/metrics":
                assert {"400", "401", "404", "503"} <= set(operation["responses"]), path
                assert "422" not in operation["responses"], path


def test_every_place_in_a_path_is_described(server: Running) -> None:
    """Also where FastAPI does not read it: see `v2.DirectRoute`."""
    schema = server.http.get("/openapi.json").json()
    assert "/v2/models/{name}/infer" in schema["paths"]
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            described = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
            assert described == {name.partition(":")[0] for name in re.findall(r"{(.*?)}", path)}, path


def test_a_result_has_one_named_schema(server: Running) -> None:
    schema = server.http.get("/openapi.json").json()
    schemas = schema["components"]["schemas"]
    assert schemas["Result"] == types.RESULT_SCHEMA
    assert schemas["MethodInfo"]["properties"]["main"] == {"$ref": "#/components/schemas/Result"}
    assert schemas["Job"]["properties"]["results"]["items"] == {"$ref": "#/components/schemas/Result"}
