"""What the answers of a model server hold, or in one sentence why not: something else may listen at its address."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter

from stimcore.errors import StimcoreError, Unavailable
from stimcore.serve.errors import error_from_code
from stimcore.serve.types.base import Refusal

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
ONNX_TYPE = "application/onnx"
"""Content type of an ONNX file."""


def checked(answer: httpx.Response) -> httpx.Response:
    """Return the answer, unless it is a refusal or no answer of a model server.

    Raises:
        StimcoreError: The server refused the request; of the type that belongs to its code.
        Unavailable: The answer sends the client elsewhere, which a model server never does.
    """
    if answer.status_code < 300:
        return answer
    if answer.status_code < 400:
        raise strange_answer(_origin(answer))
    try:
        refusal = Refusal.model_validate_json(answer.content)
    except ValueError as reason:
        raise StimcoreError(f"the server answered {answer.status_code} without saying why") from reason
    raise error_from_code(refusal.code, refusal.error)


def parse(kind: type[M], answer: httpx.Response) -> M:
    """Return the body of an answer as a type of the API.

    Raises:
        Unavailable: The body is something else.
    """
    return parse_with(kind.model_validate_json, answer)


def parse_list(kind: type[M], answer: httpx.Response) -> list[M]:
    """Return the body of an answer as a list of a type of the API.

    Raises:
        Unavailable: The body is something else.
    """
    return parse_with(TypeAdapter(list[kind]).validate_json, answer)  # type: ignore[valid-type]


def parse_with(read: Callable[[bytes], T], answer: httpx.Response) -> T:
    """Return what `read` makes of the body of an answer.

    Raises:
        Unavailable: `read` makes nothing of it.
    """
    try:
        return read(answer.content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as reason:
        raise strange_answer(_origin(answer)) from reason


def parse_rows(answer: httpx.Response) -> list[dict[str, Any]]:
    """Return the body of an answer as a list of JSON objects.

    Raises:
        Unavailable: The body is something else.
    """
    return parse_with(lambda content: [dict(row) for row in json.loads(content)], answer)


def onnx_content(answer: httpx.Response) -> bytes:
    """Return the ONNX file that an answer holds.

    Raises:
        Unavailable: The body is something else.
    """
    if answer.headers.get("Content-Type", "").partition(";")[0].strip() != ONNX_TYPE or not answer.content:
        raise strange_answer(_origin(answer))
    return answer.content


def parse_stream(kind: type[M], answer: httpx.Response) -> Iterator[M]:
    """Yield the events of an answer that is a stream of them.

    Raises:
        Unavailable: An event is something else.
    """
    for text in event_texts(answer.iter_lines()):
        try:
            event = kind.model_validate_json(text)
        except ValueError as reason:
            raise strange_answer(_origin(answer)) from reason
        yield event


def event_texts(lines: Iterable[str]) -> Iterator[str]:
    """Yield the events of a server-sent event stream as JSON objects; a field that is missing is null in them.

    Args:
        lines: Lines of the stream, without their ends.
    """
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line and name in ("id", "event", "data"):
            fields[name] = value
        elif not line and fields:
            kind = json.dumps(fields.get("event"))
            yield f'{{"id": {fields.get("id", "null")}, "type": {kind}, "data": {fields.get("data", "null")}}}'
            fields = {}


def strange_answer(address: str) -> Unavailable:
    """Return the error for an address at which something else than a model server answers."""
    return Unavailable(
        f"{address} answers, but not as a model server does", todo="Is this the address of 'python -m stimcore.serve'?"
    )


def _origin(answer: httpx.Response) -> str:
    url = answer.request.url
    return f"{url.scheme}://{url.netloc.decode('ascii')}"
