"""The Open Inference Protocol's inference request and response, with binary tensors. Bytes in, bytes out; knows no HTTP.

Source: Open Inference Protocol v2 (REST) and Triton's binary tensor data extension.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stimcore.errors import Unavailable, UsageError
from stimcore.serve.errors import TooLarge
from stimcore.serve.http import body as bodies
from stimcore.serve.limits import Limits

INPUT, OUTPUT, DATATYPE = "images", "logits", "FP32"
PARAMETERS = ("spec", "recalibrate", "binary_data_output", "timeout", "priority")
"""Of a request: which sub-network; whether re-calibrated; all outputs as binary; microseconds until it is given up; turn."""
PRIORITIES = 2
"""1 goes before 2, which waits in a queue of its own; 0 is the usual one, as for Triton: 1."""
ITEM = 4


@dataclass(frozen=True)
class Request:
    """An inference.

    Attributes:
        images: float32 `[B, C, H, W]`, normalised.
        spec: Of the sub-network; None where the request says none.
        recalibrate: Whether its batch norms are to be re-calibrated.
        timeout_s: Until it is given up; None for the server's own.
        priority: 1 or 2; 1 goes first.
        id: To be sent back; None where the request has none.
        binary: Whether logits go back as bytes.
    """

    images: NDArray[np.float32]
    spec: str | None = None
    recalibrate: bool = True
    timeout_s: float | None = None
    priority: int = 1
    id: str | None = None
    binary: bool = False


def parse(body: bytes, header_length: str | None, image_shape: tuple[int, ...], limits: Limits) -> Request:
    """Reads a request.

    Args:
        body: JSON, or JSON and then bytes of tensors, or bytes alone.
        header_length: `Inference-Header-Content-Length`: where the JSON ends; None where everything is JSON.
        image_shape: `[C, H, W]` of the model.
        limits: Bounds.

    Raises:
        UsageError: Says what does not fit.
        TooLarge: Too many images, too much JSON.
    """
    text, rest = _split(body, header_length)
    if not text and header_length is not None:
        return Request(_raw(rest, image_shape, limits), binary=True)
    value = bodies.parse(text, limits)
    if not isinstance(value, dict):
        raise UsageError("the request is no JSON object", allowed="an object with 'inputs'")
    _only(value, ("id", "parameters", "inputs", "outputs"), "request")
    id_ = value.get("id")
    if not (id_ is None or isinstance(id_, str)):
        raise UsageError(f"the request's id is {_shown(id_)}", allowed="a text")
    parameters = _object(value, "parameters")
    _only(parameters, PARAMETERS, "parameters")
    spec = _typed(parameters, "spec", str, None)
    timeout = _typed(parameters, "timeout", int, None)
    if timeout is not None and not 1 <= timeout <= 1e6 * limits.call_s:
        raise UsageError(f"timeout is {_shown(timeout)}", allowed=f"1 to {1e6 * limits.call_s:.0f} microseconds")
    priority = _typed(parameters, "priority", int, 0)
    if not 0 <= priority <= PRIORITIES:
        raise UsageError(f"priority is {_shown(priority)}", allowed="1, 2 to go after those of 1, or 0 for the usual one")
    return Request(
        images=_images(value.get("inputs"), rest, image_shape, limits),
        spec=spec,
        recalibrate=_typed(parameters, "recalibrate", bool, True),
        timeout_s=None if timeout is None else timeout / 1e6,
        priority=priority or 1,
        id=id_,
        binary=_binary(value.get("outputs"), _typed(parameters, "binary_data_output", bool, False)),
    )


def respond(request: Request, model: str, spec: str, logits: NDArray[np.float32]) -> tuple[bytes, int | None]:
    """The response's body, and where its JSON ends when bytes follow.

    JSON has no word for a logit that is not finite: it becomes null and the output's parameter `non_finite` is true.
    """
    output: dict[str, Any] = {"name": OUTPUT, "datatype": DATATYPE, "shape": list(logits.shape)}
    tail = b""
    if request.binary:
        tail = np.ascontiguousarray(logits).tobytes()
        output["parameters"] = {"binary_data_size": len(tail)}
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
    return text + tail, len(text) if request.binary else None


def ask(images: NDArray[np.float32]) -> tuple[bytes, int]:
    """The body of a request for the logits of `images`, and where its JSON ends."""
    size = images.nbytes
    tensor = {"name": INPUT, "datatype": DATATYPE, "shape": list(images.shape), "parameters": {"binary_data_size": size}}
    output = {"name": OUTPUT, "parameters": {"binary_data": True}}
    text = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
    return text + np.ascontiguousarray(images, "<f4").tobytes(), len(text)


def logits_of(body: bytes, header_length: str | None, num_images: int) -> NDArray[np.float32]:
    """Logits `[B, K]` of the answer to `ask`.

    Raises:
        Unavailable: It is none.
    """
    try:
        text, rest = _split(body, header_length)
        (output,) = json.loads(text)["outputs"]
        if (output["name"], output["datatype"]) != (OUTPUT, DATATYPE) or output["shape"][0] != num_images:
            raise ValueError(f"it holds {output['name']} {output['datatype']} {output['shape']}")
        return np.frombuffer(rest, "<f4").reshape(output["shape"])
    except (UsageError, ValueError, KeyError, TypeError, IndexError) as reason:
        raise Unavailable(f"the inference server's answer can't be read: {str(reason)[:120]}") from reason


def _split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    view = memoryview(body)
    if header_length is None:
        return body, view[len(body) :]
    if not (header_length.isascii() and header_length.isdigit()) or int(header_length) > len(body):
        raise UsageError(f"Inference-Header-Content-Length is '{header_length[:40]}'", allowed=f"0 to {len(body)}")
    length = int(header_length)
    return bytes(view[:length]), view[length:]


def _raw(data: memoryview, image_shape: tuple[int, ...], limits: Limits) -> NDArray[np.float32]:
    size = ITEM * math.prod(image_shape)
    if not len(data) or len(data) % size:
        raise UsageError(f"{len(data)} bytes of raw input", allowed=f"a multiple of {size}, one image of {list(image_shape)}")
    return _checked(np.frombuffer(data, "<f4").reshape(-1, *image_shape), limits)


def _images(inputs: Any, rest: memoryview, image_shape: tuple[int, ...], limits: Limits) -> NDArray[np.float32]:
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        given = len(inputs) if isinstance(inputs, list) else "no"
        raise UsageError(f"expected 1 inputs but got {given} inputs", allowed=f"one, named '{INPUT}'")
    tensor = inputs[0]
    _only(tensor, ("name", "datatype", "shape", "data", "parameters"), "input")
    if tensor.get("name") != INPUT:
        raise UsageError(f"unexpected inference input {_shown(tensor.get('name'))}", allowed=f"'{INPUT}'")
    if tensor.get("datatype") != DATATYPE:
        raise UsageError(
            f"inference input '{INPUT}' data-type is {_shown(tensor.get('datatype'))}, but model expects '{DATATYPE}'"
        )
    shape = tensor.get("shape")
    plain = isinstance(shape, list) and all(type(d) is int for d in shape)
    if not isinstance(shape, list) or not plain or tuple(shape[1:]) != image_shape or shape[0] < 1:
        raise UsageError(
            f"unexpected shape for input '{INPUT}'", allowed=f"[-1, {', '.join(map(str, image_shape))}]; got {_shown(shape)}"
        )
    if shape[0] > limits.batch:
        raise TooLarge(f"inference request batch-size must be <= {limits.batch}, got {_shown(shape[0])}")
    parameters = _object(tensor, "parameters")
    _only(parameters, ("binary_data_size",), "input's parameters")
    size = _typed(parameters, "binary_data_size", int, None)
    count = math.prod(shape)
    if size is None:
        if len(rest):
            raise UsageError(f"unexpected additional input data, {len(rest)} bytes")
        return _checked(_listed(tensor.get("data"), count).reshape(shape), limits)
    if "data" in tensor:
        raise UsageError(f"input '{INPUT}' has both 'data' and 'binary_data_size'", allowed="one of them")
    if size != ITEM * count or size != len(rest):
        raise UsageError(
            f"input byte size mismatch for input '{INPUT}': expected {ITEM * count}, got {size} and {len(rest)} sent"
        )
    return _checked(np.frombuffer(rest, "<f4").reshape(shape), limits)


def _listed(data: Any, count: int) -> NDArray[np.float32]:
    """Numbers of a list, flat or nested."""
    if not isinstance(data, list):
        raise UsageError("Unable to parse 'data'", allowed="a list of numbers")
    try:
        array = np.asarray(data)
    except (ValueError, OverflowError, RecursionError) as reason:
        raise UsageError("Unable to parse 'data': it is ragged", allowed="a list of numbers") from reason
    if array.dtype.kind not in "iuf":
        raise UsageError("Unable to parse 'data'", allowed="a list of numbers")
    if array.size != count:
        raise UsageError(
            f"Unable to parse 'data': Shape does not match true shape of 'data' field: {count} and {array.size} values"
        )
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _checked(images: NDArray[np.float32], limits: Limits) -> NDArray[np.float32]:
    if len(images) > limits.batch:
        raise TooLarge(f"inference request batch-size must be <= {limits.batch}, got {len(images)}")
    if not np.isfinite(images).all():
        raise UsageError(f"input '{INPUT}' has values that are not finite", allowed="finite float32")
    return images


def _binary(outputs: Any, otherwise: bool) -> bool:
    """Whether logits go back as bytes: what the output says goes before what the request says."""
    if outputs is None or outputs == []:
        return otherwise
    if not isinstance(outputs, list) or len(outputs) != 1 or not isinstance(outputs[0], dict):
        raise UsageError(
            f"unexpected outputs: {len(outputs) if isinstance(outputs, list) else 'no list'}", allowed=f"'{OUTPUT}', once"
        )
    output = outputs[0]
    _only(output, ("name", "parameters"), "output")
    if output.get("name") != OUTPUT:
        raise UsageError(f"unexpected inference output {_shown(output.get('name'))}", allowed=f"'{OUTPUT}'")
    parameters = _object(output, "parameters")
    _only(parameters, ("binary_data",), "output's parameters")
    return bool(_typed(parameters, "binary_data", bool, otherwise))


def _object(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"'{key}' is {_shown(found)}", allowed="an object")
    return found


def _typed(value: Mapping[str, Any], key: str, kind: type, otherwise: Any) -> Any:
    if key not in value:
        return otherwise
    if type(value[key]) is not kind:
        raise UsageError(
            f"'{key}' is {_shown(value[key])}", allowed={str: "a text", bool: "true or false", int: "a whole number"}[kind]
        )
    return value[key]


def _only(value: Mapping[str, Any], keys: tuple[str, ...], what: str) -> None:
    """Nothing is silently ignored."""
    if unknown := sorted(set(value) - set(keys)):
        raise UsageError(f"the {what} has {', '.join(map(_shown, unknown[:3]))}", allowed=", ".join(keys))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
