"""Inference request and response of the Open Inference Protocol, with binary tensors. Bytes in, bytes out; it knows no HTTP.

A body is JSON, then the bytes of the tensors that the JSON announces. The header `Inference-Header-Content-Length` holds the
length of the JSON; without it, the whole body is JSON and tensors are lists of numbers. A length of 0 makes the whole body the
input tensor:

    {"inputs": [{"name": "images", "datatype": "FP32", "shape": [2, 1, 28, 28],
                 "parameters": {"binary_data_size": 6272}}]}<6272 bytes, little-endian float32 in C order>

Every network here has one input and one output, which keeps the format simple: all bytes after the JSON belong to the one
input. Whatever the protocol allows beyond that is refused with a sentence and never ignored: a client that asks for a sequence,
a classification or shared memory must not take plain logits for the answer. Only keys that change no answer are ignored, each
by its name: `REPEATED_KEYS` and `DESCRIPTIVE_PARAMETERS`, which the clients of KServe and MLServer always send.

Source: Open Inference Protocol v2 (REST) and Triton's binary tensor data extension.
"""

import itertools
import json
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stimcore.errors import Unavailable, UsageError
from stimcore.serve.errors import TooLarge
from stimcore.serve.limits import Limits
from stimcore.serve.parsing import parse_json, parse_length

LENGTH_HEADER = "Inference-Header-Content-Length"
"""HTTP header with the length of the JSON part, in requests and responses."""
INPUT, OUTPUT, DATATYPE = "images", "logits", "FP32"
PARAMETERS = ("spec", "recalibrate", "binary_data_output", "timeout", "priority")
"""Parameters of a request: sub-network; whether it is re-calibrated; whether logits are sent as bytes; deadline in
microseconds; priority."""
REPEATED_KEYS = ("model_name", "model_version")
"""Keys of a request that KServe's client sends; they repeat the path, and are ignored."""
DESCRIPTIVE_PARAMETERS = ("content_type", "headers")
"""Parameters of a request, an input or an output that MLServer's client sends; they describe how a model of MLServer decodes a
tensor, and are ignored."""
MAX_PRIORITY = 2
"""Priority 1 goes before 2, which waits in a queue of its kind; 0 asks for the default as in Triton, which is 1 here."""
LITTLE_ENDIAN_FLOAT = "<f4"
FLOAT_BYTES = 4


@dataclass(frozen=True)
class InferenceRequest:
    """A request for logits.

    Attributes:
        images: Normalised images, float32 `[B, C, H, W]`, all values finite.
        spec: Text of the sub-network; None where the request names none.
        recalibrate: Whether the sub-network runs with re-calibrated batch norms.
        timeout_s: Deadline in seconds; None for the server's default.
        priority: 1 or 2; 1 goes first.
        id: Identifier that the response repeats; None where the request has none.
        binary: Whether the response holds the logits as bytes.
    """

    images: NDArray[np.float32]
    spec: str | None = None
    recalibrate: bool = True
    timeout_s: float | None = None
    priority: int = 1
    id: str | None = None
    binary: bool = False


def decode_request(body: bytes, header_length: str | None, image_shape: tuple[int, ...], limits: Limits) -> InferenceRequest:
    """Return the request that a body holds.

    Args:
        body: JSON, or JSON and then bytes of the input, or these bytes alone.
        header_length: Value of `LENGTH_HEADER`; None where the request has no such header.
        image_shape: `[C, H, W]` of the model.
        limits: Limits of the server.

    Raises:
        UsageError: The body is no such request, or asks for something that this server does not do.
        TooLarge: There are too many images, or too much JSON.

    Example:
        >>> body, length = encode_request(np.zeros((2, 1, 4, 4), np.float32))
        >>> request = decode_request(body, str(length), (1, 4, 4), Limits())
        >>> request.images.shape, request.binary
        ((2, 1, 4, 4), True)
    """
    text, tensor_bytes = _split(body, header_length)
    if not text and header_length is not None:
        return InferenceRequest(_raw_images(tensor_bytes, image_shape, limits), binary=True)
    value = parse_json(text, limits)
    if not isinstance(value, dict):
        raise UsageError("the request is no JSON object", allowed="an object with 'inputs'")
    _refuse_unknown(value, ("id", "parameters", "inputs", "outputs"), "request", ignored=REPEATED_KEYS)
    id_ = value.get("id")
    if not (id_ is None or isinstance(id_, str)):
        raise UsageError(f"the request's id is {_shown(id_)}", allowed="a text")
    parameters = _object(value, "parameters")
    _refuse_unknown(parameters, PARAMETERS, "parameters", ignored=DESCRIPTIVE_PARAMETERS)
    spec = _typed(parameters, "spec", str, None)
    timeout = _typed(parameters, "timeout", int, None)
    if timeout is not None and not 1 <= timeout <= 1e6 * limits.call_s:
        raise UsageError(f"timeout is {_shown(timeout)}", allowed=f"1 to {1e6 * limits.call_s:.0f} microseconds")
    priority = _typed(parameters, "priority", int, 0)
    if not 0 <= priority <= MAX_PRIORITY:
        raise UsageError(f"priority is {_shown(priority)}", allowed="1, 2 to go after those of 1, or 0 for the usual one")
    return InferenceRequest(
        images=_images(value.get("inputs"), tensor_bytes, image_shape, limits),
        spec=spec,
        recalibrate=_typed(parameters, "recalibrate", bool, True),
        timeout_s=None if timeout is None else timeout / 1e6,
        priority=priority or 1,
        id=id_,
        binary=_wants_binary(value.get("outputs"), _typed(parameters, "binary_data_output", bool, False)),
    )


def encode_response(request: InferenceRequest, model: str, spec: str, logits: NDArray[np.float32]) -> tuple[bytes, int | None]:
    """Return the body of a response, and the length of its JSON; None where the whole body is JSON.

    JSON has no form for numbers that are not finite: such a logit becomes null, and the output has the parameter
    `non_finite`. As bytes, logits are sent as they are.

    Args:
        request: The request.
        model: Name of the model, as the request has it.
        spec: Long form of the sub-network that ran.
        logits: float32 `[B, K]`.
    """
    output: dict[str, Any] = {"name": OUTPUT, "datatype": DATATYPE, "shape": list(logits.shape)}
    tensor_bytes = b""
    if request.binary:
        tensor_bytes = np.ascontiguousarray(logits).tobytes()
        output["parameters"] = {"binary_data_size": len(tensor_bytes)}
    else:
        numbers: list[float | None] = list(logits.ravel().tolist())
        if not np.isfinite(logits).all():
            numbers = [n if n is not None and math.isfinite(n) else None for n in numbers]
            output["parameters"] = {"non_finite": True}
        output["data"] = numbers
    value: dict[str, Any] = {"model_name": model, "model_version": "1", "parameters": {"spec": spec}, "outputs": [output]}
    if request.id is not None:
        value["id"] = request.id
    text = json.dumps(value, allow_nan=False).encode()
    return text + tensor_bytes, len(text) if request.binary else None


def encode_request(images: NDArray[np.float32]) -> tuple[bytes, int]:
    """Return the body of a request for the logits of normalised images `[B, C, H, W]`, and the length of its JSON."""
    size = images.nbytes
    tensor = {"name": INPUT, "datatype": DATATYPE, "shape": list(images.shape), "parameters": {"binary_data_size": size}}
    output = {"name": OUTPUT, "parameters": {"binary_data": True}}
    text = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
    return text + np.ascontiguousarray(images, LITTLE_ENDIAN_FLOAT).tobytes(), len(text)


def decode_response(body: bytes, header_length: str | None, num_images: int) -> NDArray[np.float32]:
    """Return the logits, float32 `[B, K]`, of the response to `encode_request`.

    Args:
        body: The response's body.
        header_length: Value of `LENGTH_HEADER` of the response.
        num_images: Number of images in the request.

    Raises:
        Unavailable: The body is no such response.
    """
    try:
        text, tensor_bytes = _split(body, header_length)
        (output,) = json.loads(text)["outputs"]
        if (output["name"], output["datatype"]) != (OUTPUT, DATATYPE) or output["shape"][0] != num_images:
            raise ValueError(f"it holds {output['name']} {output['datatype']} {output['shape']}")
        return np.frombuffer(tensor_bytes, LITTLE_ENDIAN_FLOAT).reshape(output["shape"])
    except (UsageError, ValueError, KeyError, TypeError, IndexError) as reason:
        raise Unavailable(f"the inference server's answer can't be read: {str(reason)[:120]}") from reason


def _split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    """Return the JSON and the bytes of tensors; a view of the latter, which can be most of 64 MiB."""
    view = memoryview(body)
    if header_length is None:
        return body, view[len(body) :]
    length = parse_length(header_length)
    if length is None or length > len(body):
        raise UsageError(f"{LENGTH_HEADER} is '{header_length[:40]}'", allowed=f"0 to {len(body)}")
    return bytes(view[:length]), view[length:]


def _raw_images(data: memoryview, image_shape: tuple[int, ...], limits: Limits) -> NDArray[np.float32]:
    """Return the images of a body without JSON: as many as its length holds."""
    size = FLOAT_BYTES * math.prod(image_shape)
    if not len(data) or len(data) % size:
        raise UsageError(f"{len(data)} bytes of raw input", allowed=f"a multiple of {size}, one image of {list(image_shape)}")
    return _check_images(np.frombuffer(data, LITTLE_ENDIAN_FLOAT).reshape(-1, *image_shape), limits)


def _images(inputs: Any, tensor_bytes: memoryview, image_shape: tuple[int, ...], limits: Limits) -> NDArray[np.float32]:
    """Return the images of `inputs`, from the bytes after the JSON or from numbers in it."""
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        given = len(inputs) if isinstance(inputs, list) else "no"
        raise UsageError(f"expected 1 inputs but got {given} inputs", allowed=f"one, named '{INPUT}'")
    tensor = inputs[0]
    _refuse_unknown(tensor, ("name", "datatype", "shape", "data", "parameters"), "input")
    if tensor.get("name") != INPUT:
        raise UsageError(f"unexpected inference input {_shown(tensor.get('name'))}", allowed=f"'{INPUT}'")
    if tensor.get("datatype") != DATATYPE:
        raise UsageError(
            f"inference input '{INPUT}' data-type is {_shown(tensor.get('datatype'))}, but model expects '{DATATYPE}'"
        )
    shape = _shape(tensor.get("shape"), image_shape, limits)
    parameters = _object(tensor, "parameters")
    _refuse_unknown(parameters, ("binary_data_size",), "input's parameters", ignored=DESCRIPTIVE_PARAMETERS)
    size = _typed(parameters, "binary_data_size", int, None)
    count = math.prod(shape)
    if size is None:
        if len(tensor_bytes):
            raise UsageError(f"unexpected additional input data, {len(tensor_bytes)} bytes")
        return _check_images(_numbers(tensor.get("data"), shape).reshape(shape), limits)
    if "data" in tensor:
        raise UsageError(f"input '{INPUT}' has both 'data' and 'binary_data_size'", allowed="one of them")
    # The announced size, the shape's size and the bytes that arrived must all agree: `frombuffer` would read a part of them,
    # or bytes of something else, without an error.
    if size != FLOAT_BYTES * count or size != len(tensor_bytes):
        raise UsageError(
            f"input byte size mismatch for input '{INPUT}': expected {FLOAT_BYTES * count}, "
            f"got {size} and {len(tensor_bytes)} sent"
        )
    return _check_images(np.frombuffer(tensor_bytes, LITTLE_ENDIAN_FLOAT).reshape(shape), limits)


def _shape(shape: Any, image_shape: tuple[int, ...], limits: Limits) -> tuple[int, ...]:
    """Return the shape of an input, checked before anything is multiplied or allocated: 2^62 is a valid JSON number."""
    # `type` instead of isinstance: True is an int, but no dimension.
    integers = isinstance(shape, list) and all(type(d) is int for d in shape)
    if not integers or tuple(shape[1:]) != image_shape or shape[0] < 1:
        raise UsageError(
            f"unexpected shape for input '{INPUT}'", allowed=f"[-1, {', '.join(map(str, image_shape))}]; got {_shown(shape)}"
        )
    if shape[0] > limits.batch:
        raise TooLarge(f"inference request batch-size must be <= {limits.batch}, got {_shown(shape[0])}")
    return tuple(shape)


def _numbers(data: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the numbers of a list, flat or nested, in the order of a shape, as an array without dimensions.

    Their types, their count and their nesting are checked before numpy sees them: of a megabyte of texts, numpy would make an
    array whose elements are all as wide as the longest text. Images nested as [N, H, W, C] have as many numbers as
    [N, C, H, W]; read in that order they would be other images.
    """
    if not isinstance(data, list):
        raise UsageError("Unable to parse 'data'", allowed="a list of numbers")
    values = data
    nesting = [len(values)]
    while values and isinstance(values[0], list):
        if len({len(value) if isinstance(value, list) else None for value in values}) > 1:
            raise UsageError("Unable to parse 'data': it is ragged", allowed="a list of numbers")
        nesting.append(len(values[0]))
        values = list(itertools.chain.from_iterable(values))
    if not {type(value) for value in values} <= {int, float}:  # True is an int, but no number in JSON
        raise UsageError("Unable to parse 'data'", allowed="a list of numbers")
    count = math.prod(shape)
    if len(values) != count:
        raise UsageError(
            f"Unable to parse 'data': Shape does not match true shape of 'data' field: {count} and {len(values)} values"
        )
    # Every level of lists has to end where a dimension of the shape ends: one level may hold several dimensions, as a flat list
    # does, and dimensions of 1 may be left out or stand elsewhere, since neither changes the order.
    if not set(itertools.accumulate(nesting, operator.mul)) <= {1, *itertools.accumulate(shape, operator.mul)}:
        raise UsageError(
            f"Unable to parse 'data': Shape does not match true shape of 'data' field: {list(shape)} and {nesting}",
            allowed="numbers in the order of 'shape', nested like it or flat",
        )
    try:
        with np.errstate(over="ignore"):  # 1e39 becomes infinite, which `_check_images` refuses
            return np.array(values, np.float64).astype(np.float32)
    except OverflowError as reason:
        raise UsageError("Unable to parse 'data': a number is too large", allowed="finite float32") from reason


def _check_images(images: NDArray[np.float32], limits: Limits) -> NDArray[np.float32]:
    if len(images) > limits.batch:
        raise TooLarge(f"inference request batch-size must be <= {limits.batch}, got {len(images)}")
    if not np.isfinite(images).all():
        raise UsageError(f"input '{INPUT}' has values that are not finite", allowed="finite float32")
    return images


def _wants_binary(outputs: Any, default: bool) -> bool:
    """Return whether logits are sent as bytes: the parameter of the output goes before that of the request."""
    if outputs is None or outputs == []:
        return default
    if not isinstance(outputs, list) or len(outputs) != 1 or not isinstance(outputs[0], dict):
        raise UsageError(
            f"unexpected outputs: {len(outputs) if isinstance(outputs, list) else 'no list'}", allowed=f"'{OUTPUT}', once"
        )
    output = outputs[0]
    _refuse_unknown(output, ("name", "parameters"), "output")
    if output.get("name") != OUTPUT:
        raise UsageError(f"unexpected inference output {_shown(output.get('name'))}", allowed=f"'{OUTPUT}'")
    parameters = _object(output, "parameters")
    _refuse_unknown(parameters, ("binary_data",), "output's parameters", ignored=DESCRIPTIVE_PARAMETERS)
    return bool(_typed(parameters, "binary_data", bool, default))


def _object(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the object under a key; an empty one where the key is missing or null."""
    item = value.get(key)
    if item is None:
        return {}
    if not isinstance(item, dict):
        raise UsageError(f"'{key}' is {_shown(item)}", allowed="an object")
    return item


def _typed(value: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    """Return the value under a key, which must be exactly of a type: True is no whole number. Null counts as missing."""
    if value.get(key) is None:
        return default
    if type(value[key]) is not kind:
        raise UsageError(
            f"'{key}' is {_shown(value[key])}", allowed={str: "a text", bool: "true or false", int: "a whole number"}[kind]
        )
    return value[key]


def _refuse_unknown(value: Mapping[str, Any], keys: tuple[str, ...], what: str, ignored: tuple[str, ...] = ()) -> None:
    if unknown := sorted(set(value) - set(keys) - set(ignored)):
        raise UsageError(f"the {what} has {', '.join(map(_shown, unknown[:3]))}", allowed=", ".join(keys))


def _shown(value: Any) -> str:
    """Return a value as error sentences show it: whatever a client sent, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
