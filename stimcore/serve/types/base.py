"""What the types of all routes share: their base, results and specs as fields, and the answers that any client may meet."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, PlainValidator, WithJsonSchema

from stimcore.analysis.result import Result
from stimcore.errors import SpecError
from stimcore.serve.limits import Limits

MAX_CLIENT_CHARS = 64
"""Characters of the name under which a client watches jobs."""
RESULT_SCHEMA: dict[str, Any] = {
    "title": "Result",
    "description": "Counts of one sub-network, compared with its main network on the same images.",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "spec": {"title": "Spec", "type": "string"},
        "correct": {"title": "Correct", "type": "integer"},
        "images": {"title": "Images", "type": "integer"},
        "accuracy_pct": {"title": "Accuracy Pct", "type": "number"},
        **{
            name: {
                "title": title,
                "type": "array",
                "prefixItems": [{"type": "number"}, {"type": "number"}],
                "minItems": 2,
                "maxItems": 2,
            }
            for name, title in (("interval_pct", "Interval Pct"), ("drop_interval_pct", "Drop Interval Pct"))
        },
        "drop_pct": {"title": "Drop Pct", "type": "number"},
        **{
            name: {"title": title, "anyOf": [{"type": "number"}, {"type": "null"}]}
            for name, title in (("ce_nats", "Ce Nats"), ("kl_nats", "Kl Nats"), ("max_ce_nats", "Max Ce Nats"))
        },
    },
    "required": ["spec", "correct", "images", "accuracy_pct", "interval_pct", "drop_pct", "drop_interval_pct"],
}
"""JSON schema of `Result.to_dict`, for the OpenAPI document."""


def _parse_result(value: object) -> Result:
    """Return a result from its JSON form; pydantic reports only a ValueError as an invalid value."""
    if isinstance(value, Result):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"a result is an object, not {type(value).__name__}")
    try:
        return Result.from_dict(value)
    except SpecError as reason:
        raise ValueError(str(reason)) from reason


ResultField = Annotated[Result, PlainValidator(_parse_result), PlainSerializer(Result.to_dict), WithJsonSchema(RESULT_SCHEMA)]
"""A `Result` as a field of a model: read by `Result.from_dict`, written by `Result.to_dict`."""


def _check_texts(value: object) -> object:
    """Refuse a list at its first item that is not a text: pydantic's errors of a megabyte of them take 350 MB."""
    if isinstance(value, list | tuple):
        for position, item in enumerate(value):
            if not isinstance(item, str):
                raise ValueError(f"item {position} is no text")
    return value


SpecTexts = Annotated[Sequence[str], BeforeValidator(_check_texts)]
"""Specs as a client wrote them, in any form of the spec grammar."""


class ApiModel(BaseModel):
    """Base of all types of the API: immutable, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Refusal(ApiModel):
    """Body of every response with a status of 400 or more.

    Attributes:
        error: Why the request was refused, in one sentence.
        code: Stable code; `stimcore.serve.errors.STATUS` lists all.
    """

    error: str
    code: str


class Status(ApiModel):
    """State of the server, and the limits that a client needs to know before it sends an image.

    Attributes:
        ready: Whether the server accepts work.
        provider: onnxruntime's name of the execution provider that runs the networks; empty while no worker runs.
        provider_note: Why the provider is not a GPU, in one sentence; empty on a GPU.
        versions: Library -> version.
        image_bytes: Largest file, in bytes, that `classify` accepts as an image (limit `image_bytes`).
        image_pixels: Most pixels, width times height, of an image that `classify` accepts (limit `image_pixels`).
    """

    ready: bool
    provider: str
    provider_note: str
    versions: Mapping[str, str]
    image_bytes: int = Limits.image_bytes
    image_pixels: int = Limits.image_pixels
