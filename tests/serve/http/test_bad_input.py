"""The catalogue of bad input that trusted servers test: all of it is refused with a 4xx and a sentence; the server lives on."""

import gzip
import json
import re
import urllib.parse
import zlib
from typing import Any

import numpy as np
import pytest

from tests.serve.conftest import Start
from tests.serve.inference import ONE, URL, binary, body, in_binary, raw, refused, tensor
from tests.serve.processes import Running


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        (body(inputs=[]), "expected 1 inputs but got 0"),
        (body(inputs=...), "expected 1 inputs but got no"),
        (body(inputs=[tensor(), tensor()]), "expected 1 inputs but got 2"),
        (body(inputs=[tensor(name="pictures")]), "unexpected inference input 'pictures'"),
        (body(inputs=[tensor(), tensor(name="more")]), "expected 1 inputs but got 2"),
        (body(inputs=["images"]), "expected 1 inputs"),
        (body(inputs=[tensor(datatype="INT64")]), "data-type is 'INT64', but model expects 'FP32'"),
        (body(inputs=[tensor(datatype="FP16")]), "data-type is 'FP16'"),
        (body(inputs=[tensor(datatype="BYTES", data=["x"] * 144)]), "data-type is 'BYTES'"),
        (body(inputs=[tensor(datatype=...)]), "data-type is None"),
        (body(inputs=[tensor(shape=[1, 1, 12, 2**60])]), "unexpected shape"),
        (body(inputs=[tensor(shape=[2**62, 2**62, 12, 12])]), "unexpected shape"),
        (body(inputs=[tensor(shape=[-1, 1, 12, 12])]), "unexpected shape"),
        (body(inputs=[tensor(shape=[0, 1, 12, 12], data=[])]), "unexpected shape"),
        (body(inputs=[tensor(shape=[True, 1, 12, 12])]), "unexpected shape"),
        (body(inputs=[tensor(shape=[1.0, 1, 12, 12])]), "unexpected shape"),
        (body(inputs=[tensor(shape=[1, 144])]), "unexpected shape"),
        (body(inputs=[tensor(shape="1,1,12,12")]), "unexpected shape"),
        (body(inputs=[tensor(shape=...)]), "unexpected shape"),
        (body(inputs=[tensor(data=[0.0] * 143)]), "Shape does not match"),
        (body(inputs=[tensor(data=[0.0] * 145)]), "Shape does not match"),
        (body(inputs=[tensor(data=...)]), "Unable to parse 'data'"),
        (body(inputs=[tensor(data="zeros")]), "Unable to parse 'data'"),
        (body(inputs=[tensor(data=["0"] * 144)]), "Unable to parse 'data'"),
        (body(inputs=[tensor(data=[None] * 144)]), "Unable to parse 'data'"),
        (body(inputs=[tensor(data=[True] * 144)]), "Unable to parse 'data'"),
        (body(inputs=[tensor(data=[[0.0], [0.0, 1.0]] * 48)]), "ragged"),
        (body(inputs=[tensor(data=[10**400] + [0] * 143)]), "Unable to parse 'data'"),
        (body(inputs=[tensor(data=[1e39] + [0] * 143)]), "not finite"),
        (body(inputs=[tensor(data=[[[[0.0]]]])]), "Shape does not match"),
        (body(inputs=[tensor(data=[{"0": 0}] * 144)]), "Unable to parse 'data'"),
        (body(inputs=[tensor(parameters={"binary_data_size": 576})]), "both 'data' and 'binary_data_size'"),
        (body(inputs=[tensor(parameters={"shared_memory_region": "x"})]), "shared_memory_region"),
        (body(inputs=[tensor(parameters=[1])]), "'parameters' is [1]"),
        (body(outputs=[{"name": "logits"}, {"name": "logits"}]), "unexpected outputs: 2"),
        (body(outputs=[{"name": "softmax"}]), "unexpected inference output 'softmax'"),
        (body(outputs=[{"name": "logits", "parameters": {"classification": 3}}]), "classification"),
        (body(outputs=[{"name": "logits", "parameters": {"binary_data": "yes"}}]), "'binary_data' is 'yes'"),
        (body(parameters={"sequence_id": 4}), "sequence_id"),
        (body(parameters={"spec": 7}), "'spec' is 7"),
        (body(parameters={"spec": "d9-9-9"}), "depths"),
        (body(parameters={"spec": "../../etc/passwd"}), "stage 1 is empty"),
        (body(parameters={"timeout": 0}), "timeout is 0"),
        (body(parameters={"timeout": -1}), "timeout is -1"),
        (body(parameters={"timeout": 1.5}), "'timeout' is 1.5"),
        (body(parameters={"timeout": 300_000_001}), "timeout is 300000001; allowed: 1 to 300000000"),
        (body(parameters={"timeout": 10**400}), "timeout is 1000"),
        (body(parameters={"priority": 3}), "priority is 3; allowed: 1, 2 to go after"),
        (body(parameters={"priority": -1}), "priority is -1"),
        (body(parameters={"priority": "high"}), "'priority' is 'high'"),
        (body(parameters={"priority": True}), "'priority' is True"),
        (body(parameters={"sequence_start": True}), "sequence_start"),
        (body(id=7), "id is 7"),
        (body(extra=1), "'extra'"),
        ([body()], "no JSON object"),
        (None, "no JSON object"),
    ],
)
def test_inference_requests(server: Running, request_: Any, match: str) -> None:
    refused(server, 400, match, content=json.dumps(request_))


@pytest.mark.parametrize(
    "text",
    ["", "{", "{'inputs': 1}", '{"inputs": [NaN]}', "[Infinity]", "[-Infinity]", "\x00\xff", "nul", '"' * 99, "9" * 5000],
)
def test_what_is_not_json(server: Running, text: str) -> None:
    refused(server, 400, "failed to parse", content=text.encode("latin-1"))


def test_nesting(server: Running) -> None:
    for depth in (101, 120, 250_000):
        refused(server, 400, "nested too deeply", content="[" * depth + "]" * depth)
        refused(server, 400, "nested too deeply", url="/v2/repository/index", content='[{"a":' * (depth // 2) + "[" * 9)
    refused(server, 400, "nested too deeply", url="/v1/jobs", content="[" * 250_000)
    for depth in (50, 100):
        refused(server, 400, "no JSON object", content="[" * depth + "]" * depth)


def test_numbers_that_no_float_holds(server: Running) -> None:
    for number in ("1e999", "-1e999", "1e39"):
        text = json.dumps(body(inputs=[tensor(data="HERE")])).replace('"HERE"', f"[{number}{', 0' * 143}]")
        refused(server, 400, "not finite", content=text)


@pytest.mark.parametrize("length", ["999999", "99999999999", "-1", "1e3", "٣", "", "0x10", "9" * 5000])
def test_header_lengths(server: Running, length: str) -> None:
    words = binary(body(), b"")
    words["headers"]["Inference-Header-Content-Length"] = length.encode()
    refused(server, 400, **words)


def test_binary_sizes(server: Running) -> None:
    data = ONE.tobytes()
    refused(server, 400, "byte size mismatch", **in_binary(data[:-4], 576))
    refused(server, 400, "byte size mismatch", **in_binary(data + b"more", 576))
    refused(server, 400, "byte size mismatch", **in_binary(data, 572))
    refused(server, 400, "byte size mismatch", **in_binary(data, -576))
    refused(server, 400, "'binary_data_size' is '576'", **in_binary(data, "576"))
    refused(server, 400, "unexpected additional input data", **binary(body(), b"more"))
    for bad in (np.nan, np.inf, -np.inf):
        refused(server, 400, "not finite", **in_binary(np.full_like(ONE, bad).tobytes(), 576))


def test_sizes(server: Running) -> None:
    many = np.zeros((1025, 1, 12, 12), np.float32)
    refused(server, 413, "batch-size must be <= 1024", **in_binary(many.tobytes(), many.nbytes, shape=[1025, 1, 12, 12]))
    numbers = json.dumps(body(inputs=[tensor(data=[0.123456789] * 100_000)]))
    refused(server, 413, "at most 1,048,576. Send tensors as binary data", content=numbers)
    refused(server, 413, "bytes of JSON", **binary({"inputs": ["x" * 2**20]}, b""))
    raw_images = {"Inference-Header-Content-Length": "0"}
    refused(server, 400, "multiple of 576", content=bytes(2**26), headers=raw_images)
    refused(server, 413, "at most 67,108,864", content=b"x" * (2**26 + 1), headers=raw_images)
    refused(server, 413, "at most 67,108,864", content=(b"x" * 2**20 for _ in range(65)), headers=raw_images)
    for url in ("/v1/jobs", "/v2/repository/index", "/v2/repository/models/tiny.common/load"):
        refused(server, 413, url=url, content=b" " * (2**20 + 1))
        announced = f"POST {url} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {2**31}\r\n\r\n"
        assert b" 413 " in raw(server, announced.encode()), "two gigabytes are refused before one byte of them is read"


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_compression_bombs_are_counted_after_inflation(server: Running, pack: Any) -> None:
    encoding = "gzip" if pack is gzip.compress else "deflate"
    bomb = pack(bytes(2**27))
    assert len(bomb) < 2**19
    refused(server, 413, "decompressed", content=bomb, headers={"Content-Encoding": encoding})
    refused(server, 400, f"not {encoding}", content=b"plain", headers={"Content-Encoding": encoding})
    refused(server, 400, "cut off", content=pack(bytes(1000))[:-6], headers={"Content-Encoding": encoding})
    refused(server, 400, "Content-Encoding is 'br'", content=b"x", headers={"Content-Encoding": "br"})


TRAVERSALS = [
    "../etc",
    "a/../b",
    "../../etc/passwd",
    "model/..",
    "..",
    "/etc/passwd",
    "model/subdir",
    "model/",
    " ..",
    ".. ",
    *(" ", "\t", "\n", "\r", "\v", "\f", "\u00a0", "\u2003"),
    "...",
    "model..1",
    "x" * 256,
    "x" * 5000,
    "tiny.common\n",
    "tiny.common\x00",
    "tiny/common",
]


@pytest.mark.parametrize("name", TRAVERSALS)
def test_names_are_looked_up_and_never_paths(server: Running, name: str) -> None:
    quoted = urllib.parse.quote(name, safe="")
    if name == "..":
        quoted = "..%20"  # a client resolves a bare one by itself, before it sends anything
    for url, method in (
        (f"/v2/models/{quoted}", "GET"),
        (f"/v2/models/{quoted}/infer", "POST"),
        (f"/v2/repository/models/{quoted}/load", "POST"),
        (f"/v2/repository/models/{quoted}/unload", "POST"),
        (f"/v1/experiments/{quoted}/spec?text=main", "GET"),
        (f"/v1/experiments/tiny/methods/{quoted}/training", "GET"),
        (f"/v1/experiments/tiny/methods/common/sweeps/{quoted}", "GET"),
        (f"/v1/jobs/{quoted}", "DELETE"),
    ):
        refused(server, (404, 405), url=url, method=method)
    job = {"experiment": name, "method": "common", "specs": ["main"]}
    refused(server, 404, url="/v1/jobs", content=json.dumps(job))


@pytest.mark.parametrize(
    ("url", "method", "status"),
    [
        (URL, "GET", 405),
        ("/v2/models/tiny.common/versions/2/infer", "POST", 404),
        ("/v2/models/tiny.common/versions/-1", "GET", 404),
        ("/v2/health/live", "POST", 405),
        ("/v2/health/live", "BREW", 405),
        ("/v1/jobs", "PUT", 405),
        ("/nothing", "GET", 404),
        ("/v2/nothing", "GET", 404),
        ("/docs", "GET", 404),
        ("/v1/jobs/x/events", "GET", 404),
        ("/v1/experiments/tiny/spec", "GET", 400),
        ("/v1/experiments/tiny/samples?count=x", "GET", 400),
        ("/v1/experiments/tiny/samples?count=999999999999", "GET", 413),
        ("/v1/experiments/tiny/samples?seed=-1", "GET", 400),
        ("/v1/experiments/tiny/methods/common/onnx?spec=d0", "GET", 400),
        (f"/v1/experiments/tiny/spec?text={'1-' * 9000}&method=nobody", "GET", 404),
    ],
)
def test_paths_methods_and_queries(server: Running, url: str, method: str, status: int) -> None:
    refused(server, status, url=url, method=method)


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def test_every_route_with_every_method(server: Running) -> None:
    paths = server.http.get("/openapi.json").json()["paths"]
    for path, operations in paths.items():
        url = re.sub(r"\{\w+\}", "nobody", path)
        for method in METHODS:
            answer = server.http.request(method, url, content=b"{")
            if method.lower() in operations or method == "HEAD":
                assert answer.status_code < 500, (method, url, answer.text)
            else:
                assert answer.status_code in (404, 405), (method, url)
                assert set(answer.json()) == {"error", "code"}
    assert server.live()


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"experiment": "tiny"},
        {"experiment": 1, "method": "common", "specs": ["main"]},
        {"experiment": "tiny", "method": "common", "specs": "main"},
        {"experiment": "tiny", "method": "common", "specs": [1]},
        {"experiment": "tiny", "method": "common", "specs": ["main"], "recalibrate": "yes"},
        {"experiment": "tiny", "method": "common", "specs": ["main"], "max_images": 1.5},
        {"experiment": "tiny", "method": "common", "specs": ["main"], "unknown": 1},
        {"experiment": "tiny", "method": "common", "specs": ["9" * 20_000]},
    ],
)
def test_job_requests(server: Running, value: Any) -> None:
    refused(server, 400, url="/v1/jobs", content=json.dumps(value))


@pytest.mark.parametrize(
    ("what", "value", "match"),
    [
        ("load", {"parameters": {"config": '{"backend": "python"}'}}, "never uploaded"),
        ("load", {"parameters": {"config": {}}}, "never uploaded"),
        ("load", {"parameters": {"file:1/model.onnx": "AAAA"}}, "never uploaded"),
        ("load", {"parameters": {"file:../../escaped": "AAAA"}}, "never uploaded"),
        ("load", {"parameters": []}, "never uploaded"),
        ("load", {"parameters": 0}, "never uploaded"),
        ("load", {"config": {}}, "allowed: nothing, or an object with parameters"),
        ("load", [], "allowed: nothing, or an object"),
        ("unload", {"parameters": {"unload_dependents": "yes"}}, "unload_dependents, true or false"),
        ("unload", {"parameters": {"force": True}}, "unload_dependents"),
        ("unload", {"parameters": []}, "unload_dependents"),
        ("index", {"ready": "yes"}, "'ready' is no truth value"),
        ("index", {"ready": 1}, "'ready' is no truth value"),
        ("index", {"all": True}, "an object with ready"),
    ],
)
def test_repository_requests(server: Running, what: str, value: Any, match: str) -> None:
    url = "/v2/repository/index" if what == "index" else f"/v2/repository/models/tiny.common/{what}"
    refused(server, 400, match, url=url, content=json.dumps(value))
    assert server.http.get("/v2/models/tiny.common/ready").status_code == 200


def test_event_ids(server: Running) -> None:
    job = {"experiment": "tiny", "method": "stimulative", "specs": ["main"]}
    id_ = server.http.post("/v1/jobs", json=job).json()["id"]
    for bad in ("x", "-1", "1.5", "9" * 30):
        refused(server, 400, url=f"/v1/jobs/{id_}/events", method="GET", headers={"Last-Event-ID": bad})


def test_http_that_is_broken(server: Running) -> None:
    host = b"Host: localhost\r\n"
    assert b" 400 " in raw(server, b"NOT HTTP AT ALL\r\n\r\n")
    assert b" 400 " in raw(server, b"POST /v1/jobs HTTP/1.1\r\n" + host + b"Content-Length: abc\r\n\r\n")
    assert b" 400 " in raw(server, b"POST /v1/jobs HTTP/1.1\r\n" + host + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n")
    huge = b"GET / HTTP/1.1\r\n" + host + b"X: " + b"x" * 200_000 + b"\r\n\r\n"
    assert raw(server, huge)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")
    chunked = b"POST /v1/jobs HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n"
    assert b" 400 " in raw(server, chunked)
    assert server.live()


def test_a_request_that_is_not_http_is_logged_and_counted_as_any_other(start: Start) -> None:
    server = start()
    second = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\nNOT HTTP\r\n\r\n"
    broken_body = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"
    for text in (b"NOT HTTP AT ALL\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n", second, broken_body):
        assert b" 400 " in raw(server, text, until=b"usage")
    server.until(lambda: sum(line.get("status") == 400 for line in server.lines()) == 4)
    refused_lines = [line for line in server.lines() if line.get("status") == 400]
    assert {line["address"] for line in refused_lines} == {"127.0.0.1"}
    assert {line["code"] for line in refused_lines} == {"usage"}
    assert [line["route"] for line in refused_lines] == ["unknown"] * 3 + ["/v1/jobs"]
    head = raw(server, broken_body, until=b"usage").decode().lower().partition("\r\n\r\n")[0]
    id_ = head.partition("x-request-id: ")[2].partition("\r\n")[0]
    assert id_
    server.until(lambda: any(line.get("request") == id_ for line in server.lines()))
    answer = raw(server, b"NOT HTTP\r\n\r\n", until=b"usage").decode()
    id_ = answer.partition("x-request-id: ")[2].partition("\r\n")[0]
    server.until(lambda: any(line.get("request") == id_ for line in server.lines()))
    text_ = server.http.get("/metrics").text
    assert 'stim_requests_total{route="unknown",status="400"} 4.0' in text_
    assert 'stim_refused_total{code="usage"} 6.0' in text_
    assert not any("Invalid HTTP" in line["event"] for line in server.lines()), "one line for a request, not two"


def test_content_type_decides_nothing(server: Running) -> None:
    for kind in ("application/json", "text/plain", "application/octet-stream", "multipart/form-data; boundary=x", "nonsense"):
        answer = server.http.post(URL, content=json.dumps(body()), headers={"Content-Type": kind})
        assert answer.status_code == 200, answer.text
        job = {"experiment": "tiny", "method": "stimulative", "specs": ["main"]}
        assert server.http.post("/v1/jobs", content=json.dumps(job), headers={"Content-Type": kind}).status_code == 202


def test_pieces_are_counted(start: Start) -> None:
    server = start(limits=["chunks=50"])

    def pieces(count: int) -> Any:
        text = json.dumps(body()).encode()
        yield from (text[i : i + 1] for i in range(count - 1))
        yield text[count - 1 :]

    for _ in range(3):
        assert server.http.post(URL, content=pieces(50)).status_code == 200
        refused(server, 413, "more than 50 pieces", content=pieces(51))
