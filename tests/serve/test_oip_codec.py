"""The codec: any bytes are a request or a refusal, and what is well formed comes out as it went in."""

import json

import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import given, settings
from hypothesis import strategies as st

from stimcore.errors import UsageError
from stimcore.serve import oip_codec
from stimcore.serve.limits import Limits
from stimcore.serve.parsing import json_depth, parse_json

SHAPE = (1, 3, 2)
LIMITS = Limits(batch=8)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def well_formed(images: np.ndarray, *, binary: bool, **parameters: object) -> tuple[bytes, str | None]:
    tensor: dict[str, object] = {"name": "images", "datatype": "FP32", "shape": list(images.shape)}
    if binary:
        tensor["parameters"] = {"binary_data_size": images.nbytes}
    else:
        tensor["data"] = images.tolist()
    text = json.dumps({"id": "7", "inputs": [tensor], "parameters": parameters}).encode()
    return (text + images.tobytes(), str(len(text))) if binary else (text, None)


def request_or_refusal(body: bytes, header: str | None) -> oip_codec.InferenceRequest | UsageError:
    """Any other exception is a defect, and fails the test."""
    try:
        return oip_codec.decode_request(body, header, SHAPE, LIMITS)
    except UsageError as reason:
        return reason


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(finite, min_size=6, max_size=6), min_size=1, max_size=8), st.booleans())
def test_images_come_out_as_they_went_in(values: list[list[float]], binary: bool) -> None:
    images = np.array(values, np.float32).reshape(-1, *SHAPE)
    body, header = well_formed(images, binary=binary, spec="d1-1")
    request = oip_codec.decode_request(body, header, SHAPE, LIMITS)
    assert np.array_equal(request.images, images)
    assert request.images.dtype == np.float32
    assert (request.id, request.spec, request.recalibrate, request.binary) == ("7", "d1-1", True, False)


COLOUR = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)


def nested_like(data: np.ndarray) -> oip_codec.InferenceRequest:
    tensor = {"name": "images", "datatype": "FP32", "shape": list(COLOUR.shape), "data": data.tolist()}
    return oip_codec.decode_request(json.dumps({"inputs": [tensor]}).encode(), None, COLOUR.shape[1:], LIMITS)


@pytest.mark.parametrize("nesting", [(120,), (2, 60), (2, 3, 20), (6, 20), (2, 3, 4, 5), (1, 2, 3, 4, 5), (2, 3, 4, 5, 1)])
def test_lists_may_be_nested_as_far_as_the_shape(nesting: tuple[int, ...]) -> None:
    assert np.array_equal(nested_like(COLOUR.reshape(nesting)).images, COLOUR)


@pytest.mark.parametrize("nesting", [(2, 4, 5, 3), (4, 30), (3, 2, 4, 5), (2, 20, 3), (8, 15)])
def test_numbers_in_another_order_than_the_shape_are_refused(nesting: tuple[int, ...]) -> None:
    """Nested as [N, H, W, C] they are as many as [N, C, H, W], and were read as other images."""
    with pytest.raises(UsageError, match=r"does not match true shape.*\[2, 3, 4, 5\] and \[.*nested like it or flat"):
        nested_like(np.zeros(nesting, np.float32))


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200), st.none() | st.integers(-5, 300).map(str) | st.text(max_size=5))
def test_any_bytes_are_a_request_or_a_refusal(body: bytes, header: str | None) -> None:
    decoded = request_or_refusal(body, header)
    if isinstance(decoded, UsageError):
        assert str(decoded)
    else:
        assert decoded.images.shape[1:] == SHAPE


@settings(deadline=None, max_examples=300)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "id": json_values,
            "parameters": json_values,
            "outputs": json_values | st.lists(st.dictionaries(st.sampled_from(["name", "parameters"]), json_values)),
            "inputs": json_values
            | st.lists(
                st.fixed_dictionaries(
                    {"name": st.just("images")},
                    optional={
                        "datatype": st.just("FP32") | json_values,
                        "shape": json_values | st.lists(st.integers(-2, 2**63), max_size=5) | st.just([1, *SHAPE]),
                        "data": json_values | st.lists(json_values, min_size=6, max_size=6),
                        "parameters": json_values,
                    },
                ),
                max_size=2,
            ),
        },
    ),
)
def test_any_json_is_a_request_or_a_refusal(value: dict[str, object]) -> None:
    decoded = request_or_refusal(json.dumps(value).encode(), None)
    if isinstance(decoded, UsageError):
        assert len(str(decoded)) < 600
    else:
        assert np.isfinite(decoded.images).all()
        assert decoded.images.shape[1:] == SHAPE


@settings(deadline=None, max_examples=100)
@given(st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=4), st.booleans())
def test_responses_are_json_whatever_the_logits(values: list[list[float]], binary: bool) -> None:
    logits = np.array(values, np.float32)
    request = oip_codec.InferenceRequest(np.zeros((len(logits), *SHAPE), np.float32), id="a", binary=binary)
    body, header = oip_codec.encode_response(request, "m", "1", logits)
    value = json.loads(body if header is None else body[:header], parse_constant=lambda name: pytest.fail(name))
    (output,) = value["outputs"]
    assert output["shape"] == list(logits.shape)
    if binary:
        assert header is not None
        assert np.array_equal(np.frombuffer(body[header:], "<f4").reshape(logits.shape), logits, equal_nan=True)
    else:
        expected = [float(x) if np.isfinite(x) else None for x in logits.ravel()]
        assert output["data"] == expected
        assert output.get("parameters", {}) == ({} if None not in expected else {"non_finite": True})


@given(json_values)
@settings(deadline=None, max_examples=200)
def test_depth_counts_brackets_outside_strings(value: object) -> None:
    def deep(item: object) -> int:
        if isinstance(item, dict):
            return 1 + max(map(deep, item.values()), default=0)
        return 1 + max(map(deep, item), default=0) if isinstance(item, list) else 0

    assert json_depth(json.dumps(value).encode()) == deep(value)
    assert json_depth(json.dumps({"]][[{": value, 'a"[': "[[[["}).encode()) == max(1, 1 + deep(value))


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.lists(finite, min_size=6, max_size=6), min_size=1, max_size=8),
    st.booleans(),
    st.none() | st.booleans(),
    st.text(max_size=8),
    st.integers(0, 2),
    st.none() | st.integers(1, 30_000_000),
    st.fixed_dictionaries({}, optional={"spec": st.text(max_size=8), "recalibrate": st.booleans()}),
)
def test_we_read_what_tritonclient_writes_and_the_other_way_round(
    values: list[list[float]],
    binary: bool,
    binary_out: bool | None,
    id_: str,
    priority: int,
    timeout: int | None,
    parameters: dict[str, object],
) -> None:
    images = np.array(values, np.float32).reshape(-1, *SHAPE)
    tensor = triton.InferInput("images", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images, binary_data=binary)
    outputs = None if binary_out is None else [triton.InferRequestedOutput("logits", binary_data=binary_out)]
    body, length = triton.InferenceServerClient.generate_request_body(
        [tensor], outputs, id_, priority=priority, timeout=timeout, parameters=parameters
    )
    request = oip_codec.decode_request(bytes(body), None if length is None else str(length), SHAPE, LIMITS)
    assert np.array_equal(request.images, images)
    assert (request.id or "", request.priority) == (id_, priority or 1)
    assert request.timeout_s == (None if timeout is None else timeout / 1e6)
    assert (request.spec, request.recalibrate) == (parameters.get("spec"), parameters.get("recalibrate", True))
    assert request.binary is (binary_out is not False), "tritonclient asks for binary outputs by default"
    logits = images.reshape(len(images), -1)[:, :4]
    content, header = oip_codec.encode_response(request, "tiny.common", "1.4.7", logits)
    answer = triton.InferenceServerClient.parse_response_body(content, header_length=header)
    assert np.array_equal(answer.as_numpy("logits"), logits)
    assert (answer.get_response()["model_name"], answer.get_response().get("id", "")) == ("tiny.common", id_)
    ours, length = oip_codec.encode_request(images)
    assert np.array_equal(oip_codec.decode_request(ours, str(length), SHAPE, LIMITS).images, images)
    header = header if request.binary else None
    if header is not None:
        assert np.array_equal(oip_codec.decode_response(content, str(header), len(images)), logits)


def test_raw_bodies_are_images_too() -> None:
    images = np.arange(12, dtype=np.float32).reshape(2, *SHAPE)
    request = oip_codec.decode_request(images.tobytes(), "0", SHAPE, LIMITS)
    assert np.array_equal(request.images, images)
    assert request.binary
    with pytest.raises(UsageError, match="multiple of 24"):
        oip_codec.decode_request(images.tobytes()[:-1], "0", SHAPE, LIMITS)


def test_binary_data_of_the_output_goes_before_the_requests() -> None:
    body, _ = well_formed(np.zeros((1, *SHAPE), np.float32), binary=False, binary_data_output=True)
    assert oip_codec.decode_request(body, None, SHAPE, LIMITS).binary
    value = json.loads(body) | {"outputs": [{"name": "logits", "parameters": {"binary_data": False}}]}
    assert not oip_codec.decode_request(json.dumps(value).encode(), None, SHAPE, LIMITS).binary


KSERVE = {
    "id": "3c0c2f6e-8ad0-4b7e-9f6e-1f6f0d9a8a11",
    "model_name": "tiny.common",
    "inputs": [{"name": "images", "shape": [1, 1, 3, 2], "datatype": "FP32", "data": [0.5, 1, 2, 3, 4, 5]}],
}
KSERVE_BINARY = {
    "id": "3c0c2f6e-8ad0-4b7e-9f6e-1f6f0d9a8a12",
    "model_name": "tiny.common",
    "inputs": [{"name": "images", "shape": [1, 1, 3, 2], "datatype": "FP32", "parameters": {"binary_data_size": 24}}],
    "outputs": [{"name": "logits", "parameters": {"binary_data": True}}],
}
MLSERVER = {
    "id": None,
    "parameters": {"content_type": "np", "headers": {"X-Forwarded-Host": "inference.example"}},
    "inputs": [
        {
            "name": "images",
            "shape": [1, 1, 3, 2],
            "datatype": "FP32",
            "parameters": {"content_type": "np", "headers": None},
            "data": [0.5, 1.0, 2.0, 3.0, 4.0, 5.0],
        }
    ],
    "outputs": None,
}


def test_requests_of_kserve_and_mlserver_are_read() -> None:
    """Written by hand after `InferRequest.to_rest` of KServe and `InferenceRequest` of MLServer."""
    images = np.array([0.5, 1, 2, 3, 4, 5], np.float32).reshape(1, *SHAPE)
    text = json.dumps(KSERVE_BINARY).encode()
    for body, header in (
        (json.dumps(KSERVE).encode(), None),
        (json.dumps(MLSERVER).encode(), None),
        (text + images.tobytes(), str(len(text))),
    ):
        assert np.array_equal(oip_codec.decode_request(body, header, SHAPE, LIMITS).images, images)
    versioned = KSERVE | {"model_version": "1", "outputs": [{"name": "logits", "parameters": {"content_type": "np"}}]}
    assert not oip_codec.decode_request(json.dumps(versioned).encode(), None, SHAPE, LIMITS).binary


@pytest.mark.parametrize(
    ("where", "key"), [("request", "model"), ("parameters", "content-type"), ("parameters", "model_name"), ("input", "headers")]
)
def test_other_unknown_keys_are_refused_as_before(where: str, key: str) -> None:
    value = json.loads(json.dumps(MLSERVER))
    {"request": value, "parameters": value["parameters"], "input": value["inputs"][0]}[where][key] = "x"
    with pytest.raises(UsageError, match=f"has '{key}'"):
        oip_codec.decode_request(json.dumps(value).encode(), None, SHAPE, LIMITS)


def whole_or_float(text: str) -> int | float:
    """Whole numbers beyond 64 bits are read as floats, which nothing here takes for a whole number."""
    return int(text) if -(2**63) <= int(text) < 2**64 else float(text)


def refuse(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


@settings(deadline=None, max_examples=200)
@given(json_values, st.booleans())
def test_a_text_is_read_as_the_standard_library_reads_it(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    try:
        encoded = text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair has no UTF-8
        return
    try:
        expected = json.loads(text, parse_int=whole_or_float, parse_constant=refuse)
    except ValueError:
        with pytest.raises(UsageError):
            parse_json(encoded, LIMITS)
        return
    assert parse_json(encoded, LIMITS) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"[1e400]", [float("inf")]),
        (rb'["\ud800"]', ["\ud800"]),
        (b"[123456789012345678901234567890]", [1.2345678901234568e29]),
    ],
)
def test_what_the_fast_parser_does_not_know_is_read_all_the_same(text: bytes, expected: object) -> None:
    assert parse_json(text, LIMITS) == expected


@pytest.mark.parametrize(
    "text", [b"[NaN]", b"[-Infinity]", b"[1", b"\xff", b"", b"[01]", "[1]".encode("utf-16"), b"[" * 101 + b"]" * 101]
)
def test_what_is_no_json_is_refused_in_one_sentence(text: bytes) -> None:
    with pytest.raises(UsageError, match=r"failed to parse the request JSON buffer|JSON is nested too deeply"):
        parse_json(text, LIMITS)


def test_depth_counts_also_where_there_are_many_brackets() -> None:
    """Few brackets need no count of their depth; many that close at once are not deep either."""
    assert parse_json(b"[" + b"[]," * 5000 + b"[]]", LIMITS) == [[] for _ in range(5001)]
    assert parse_json(b'["' + b"[" * 5000 + b'"]', LIMITS) == ["[" * 5000]
