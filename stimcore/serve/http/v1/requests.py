"""What the routes of several nouns read from a request: a body as a type of the API, and the bundle that a path names."""

from typing import Annotated, Any, TypeVar

from fastapi import Header, Request
from pydantic import BaseModel, ValidationError

from stimcore.bundle import Bundle
from stimcore.errors import UsageError
from stimcore.serve.http.body import read_body
from stimcore.serve.http.error_response import MAX_LISTED
from stimcore.serve.parsing import parse_json
from stimcore.serve.service import Service
from stimcore.serve.types.base import MAX_CLIENT_CHARS

T = TypeVar("T", bound=BaseModel)
ClientId = Annotated[
    str, Header(alias="X-Stimcore-Client", max_length=MAX_CLIENT_CHARS, description="name of the client that watches; any text")
]


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return how OpenAPI describes a body that the route parses itself; the model must be flat."""
    schema = model.model_json_schema()
    assert "$defs" not in schema  # FastAPI would not move them to where references look for them
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def read_model(model: type[T], request: Request, service: Service, max_bytes: int | None = None) -> T:
    """Return the body of a request as a type of the API.

    Raises:
        UsageError: The body does not fit the type; the sentence names the fields that do not.
        TooLarge: The body has more than `max_bytes`, by default the limit `json_bytes`.
        TooSlow: The body did not arrive in time.
    """
    limit = max_bytes or service.limits.json_bytes
    value = parse_json(await read_body(request, service.limits, limit), service.limits, limit)
    # Unknown keys are refused here, because pydantic would make an error of each of them.
    if isinstance(value, dict) and (unknown := [key for key in value if key not in model.model_fields]):
        raise UsageError(f"{unknown[0][:80]!r} is no key of the body", allowed=", ".join(model.model_fields))
    try:
        return model.model_validate(value, strict=True)
    except ValidationError as reason:
        errors = reason.errors()[:MAX_LISTED]
        fields = [f"{'.'.join(map(str, error['loc'])) or 'the body'}: {error['msg']}"[:200] for error in errors]
        # the names of all keys help where one is missing, and are not what is allowed in the place of a wrong value
        lacks_key = any(error["type"] == "missing" or not error["loc"] for error in errors)
        raise UsageError("; ".join(fields), allowed=", ".join(model.model_fields) if lacks_key else "") from reason


def named_bundle(service: Service, request: Request, experiment: str, method: str) -> Bundle:
    """Return a bundle by name, and note that the response is about it; errors are those of `ModelRepository.bundle`."""
    return note_bundle(request, service.repository.bundle(experiment, method))


def note_bundle(request: Request, bundle: Bundle) -> Bundle:
    """Note that the response is about a bundle, whose fingerprint goes into its head, and return the bundle."""
    request.scope["state"]["bundle"] = bundle.fingerprint
    return bundle
