"""Strategies for bad input: mutated files and texts, JSON values at odd places, HTTP heads, compressed bodies.

Mutations begin from the files in `corpus/`, one folder per kind. Whatever made the server fail once lies there, too, so that it
is tried in every run.
"""

import base64
import functools
import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.serve.inference import body, tensor

CORPUS = Path(__file__).parent / "corpus"
FEARED: tuple[Any, ...] = (
    0,
    -1,
    1,
    2**31,
    2**53 + 1,
    2**63,
    10**400,
    1e308,
    "",
    "x",
    "\ud800",
    "../../etc/passwd",
    None,
    True,
    [],
    {},
    [[]],
)
"""JSON values that parsers and programs often get wrong."""
Request = tuple[str, str, dict[str, str], bytes]
"""Method, path, headers, body."""


def corpus(kind: str) -> list[bytes]:
    """Return the committed files of a kind, in the order of their names."""
    files = [path.read_bytes() for path in sorted((CORPUS / kind).iterdir())]
    assert files
    return files


@st.composite
def mutated(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """A file of the corpus with bytes changed, pieces removed, repeated or moved, or with its end cut off."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 6))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        length = draw(st.integers(1, 32))
        match draw(st.integers(0, 6)):
            case 0:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                data[at] = draw(st.sampled_from((0, 1, 0x22, 0x5B, 0x5C, 0x7B, 0x7F, 0x80, 0xFF)))
            case 2:
                data[at : at + 4] = draw(st.sampled_from((0, 1, 2**31 - 1, 2**32 - 1))).to_bytes(4)
            case 3:
                del data[at : at + length]
            case 4:
                del data[at:]
            case 5:
                data[at:at] = data[at : at + length] * draw(st.sampled_from((1, 2, 100, 3000)))
            case _:
                data[at:at] = draw(st.binary(max_size=16))
    return bytes(data)


json_values = st.recursive(
    st.sampled_from(FEARED) | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def changed_json(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value in which up to three members, anywhere, are replaced, removed, added or repeated."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = value
        parent: Any = None
        key: Any = None
        while isinstance(place, dict | list) and place and draw(st.integers(0, 4)):
            parent, key = place, draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            place = parent[key]
        if parent is None:
            return draw(json_values)
        match draw(st.integers(0, 3)):
            case 0:
                del parent[key]
            case 1 if isinstance(parent, list):
                parent[:] = parent * draw(st.sampled_from((2, 50)))
            case 2 if isinstance(parent, dict):
                parent[draw(st.text(max_size=8))] = draw(json_values)
            case _:
                parent[key] = draw(json_values)
    return value


INFERENCE = body(
    inputs=[tensor(data=[0.5] * 144)], parameters={"spec": "d1-1-1", "timeout": 1000000}, outputs=[{"name": "logits"}]
)
JOB = {"experiment": "tiny", "method": "common", "specs": ["d1-1-1"], "fresh": True, "max_images": 20, "recalibrate": False}
CLASSIFY = {"method": "common", "specs": ["main"], "index": 3}
BODIES: tuple[tuple[str, Any], ...] = (
    ("/v2/models/tiny.common/infer", INFERENCE),
    ("/v1/jobs", JOB),
    ("/v1/experiments/tiny/classify", CLASSIFY),
    ("/v2/repository/index", {"ready": True}),
    ("/v2/repository/models/tiny.stimulative/load", {"parameters": {}}),
)


@st.composite
def json_requests(draw: st.DrawFn) -> Request:
    """A request whose JSON is odd: members changed, or bytes of its text."""
    path, value = draw(st.sampled_from(BODIES))
    changed = draw(changed_json(value))
    text = json.dumps(changed, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.booleans()):
        text = draw(mutated([text, *corpus("json")]))
    return "POST", path, {}, text


@functools.cache
def compressed() -> list[tuple[str, str, bytes]]:
    """Return path, Content-Encoding and bytes of compressed bodies: whole ones, bombs, pieces and several members."""
    inputs = []
    for path, value in BODIES:
        bombs = (b" " * 3_000_000, b"\0" * 80_000_000, b"[" * 100_000) if value is INFERENCE else ()
        for tail in (b"", *bombs):
            plain = json.dumps(value).encode() + tail
            for name, packed in (("gzip", gzip.compress(plain, 1)), ("deflate", zlib.compress(plain, 1))):
                inputs += [(path, name, data) for data in (packed, packed + packed, packed[:-9], packed + b"x")]
    return inputs


@st.composite
def gzip_requests(draw: st.DrawFn) -> Request:
    """A request whose compressed body is damaged, huge, empty, in several members, or something else."""
    path, name, packed = draw(st.sampled_from(compressed()))
    if draw(st.booleans()):
        packed = draw(mutated([packed[:4000], *corpus("gzip")]))
    encoding = draw(st.sampled_from((name, name, "gzip", "deflate", "br", "gzip, gzip", "identity", "")))
    return "POST", path, {"Content-Encoding": encoding}, packed


def classification(picture: bytes) -> Request:
    """Return the request to classify a picture."""
    value = {"method": "common", "specs": ["main"], "image_base64": base64.b64encode(picture).decode()}
    return "POST", "/v1/experiments/tiny/classify", {}, json.dumps(value).encode()


def picture_requests() -> st.SearchStrategy[Request]:
    """A classification of a damaged picture."""
    return mutated(corpus("pictures")).map(classification)


HEADERS = (
    *("Content-Length", "Transfer-Encoding", "Content-Encoding", "Content-Type", "Expect", "Upgrade", "Connection", "Host"),
    *("Origin", "Sec-Fetch-Site", "Authorization", "X-Request-Id", "traceparent", "Last-Event-ID", "X-Forwarded-For"),
    *("X-Stimcore-Client", "Inference-Header-Content-Length", "Range", "Accept", "Cookie", "If-None-Match"),
)
VALUES = (
    "",
    "0",
    "-1",
    "1e3",
    "9" * 400,
    "٣",
    "chunked",
    "gzip",
    "100-continue",
    "close",
    "null",
    "127.0.0.1",
    "[",
    "a\tb",
    "\xff",
)
PATHS = (
    *("/", "/v2", "/v1/jobs/x", "/v1/jobs/x/events", "/v1/experiments/tiny/spec?text=d1-1-1", "/v1/catalogue", "/v1/status"),
    *("/v1/experiments/tiny/samples?count=3", "/v1/experiments/tiny/methods/common/sweeps/ordered", "/v2/models/tiny.common"),
    *("/v2/models/tiny.common/infer", "/v1/experiments/tiny/methods/common/wall?spec=main", "/metrics", "/openapi.json"),
)


@st.composite
def raw_requests(draw: st.DrawFn) -> bytes:
    """The bytes of a request as they come over a connection, with an odd head, and perhaps not HTTP at all."""
    method = draw(st.sampled_from(("GET", "POST", "HEAD", "DELETE", "OPTIONS", "PRI", "get", "G" * 300)))
    path = draw(st.sampled_from(PATHS)) + draw(st.sampled_from(("", "%00", "%ff", "/../..", "?" + "a=1&" * 500, "//", "#x")))
    names = draw(st.lists(st.sampled_from(HEADERS) | st.text("abcXYZ-_: \t\0", min_size=1, max_size=9), max_size=5))
    values = st.sampled_from(VALUES) | st.text(st.characters(max_codepoint=255), max_size=20)
    lines = [f"{method} {path} HTTP/{draw(st.sampled_from(('1.1', '1.1', '1.0', '2', '9')))}", "Host: localhost"]
    lines += [f"{name}: {draw(values)}" for name in names]
    head = "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + draw(st.binary(max_size=40))
    return draw(st.just(head) | mutated([head, *corpus("http")]))
