"""Errors that only a server raises, and the table from an error's code to an HTTP status and back."""

from stimcore.errors import BundleError, DataMissing, SpecError, StimcoreError, Unavailable, UsageError


class NotFound(UsageError):
    """A name that the server does not serve."""

    code = "not_found"


class NotStored(NotFound):
    """A sweep that is not stored in the bundle."""

    code = "not_stored"


class TooLarge(UsageError):
    """More bytes, images or specs than the limits allow."""

    code = "too_large"


class Denied(UsageError):
    """A request without a valid token, or one that a web page sent from a browser."""

    code = "denied"


class Forbidden(UsageError):
    """A request for which the read-only token is not enough."""

    code = "forbidden"


class TooSlow(UsageError):
    """A request whose body did not arrive in time."""

    code = "too_slow"


class TooMany(Unavailable):
    """More jobs, event streams, calls or bytes at once than the limits allow to one client or address."""

    code = "too_many"


class Busy(Unavailable):
    """A queue that is full, or a server that is starting or ending."""

    code = "busy"


class Late(Unavailable):
    """Work that was not done by its deadline."""

    code = "late"


class WorkerCrashed(Unavailable):
    """Work during which two worker processes ended."""

    code = "worker_crashed"


_TABLE: tuple[tuple[type[StimcoreError], int], ...] = (
    (StimcoreError, 500),
    (UsageError, 400),
    (SpecError, 400),
    (DataMissing, 400),
    (Denied, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (NotStored, 404),
    (TooSlow, 408),
    (TooLarge, 413),
    (TooMany, 429),
    (BundleError, 503),
    (Unavailable, 503),
    (Busy, 503),
    (WorkerCrashed, 503),
    (Late, 504),
)
STATUS = {kind.code: status for kind, status in _TABLE}
"""Code of an error -> HTTP status."""
ERROR_TYPES = {kind.code: kind for kind, _ in _TABLE}
"""Code of an error -> type of the error."""
RETRY_AFTER_S = 1
"""Value of `Retry-After` in responses with a status of 429 or 503."""


def http_status(error: StimcoreError) -> int:
    """Return the HTTP status of an error; 500 for a code that is not in the table.

    Example:
        >>> http_status(NotFound("there is no experiment 'x'"))
        404
    """
    return STATUS.get(error.code, 500)


def error_from_code(code: str, sentence: str) -> StimcoreError:
    """Return the error that a server sent, as an exception for the client.

    Example:
        >>> error_from_code("not_found", "there is no experiment 'x'.")
        NotFound("there is no experiment 'x'.")
    """
    return ERROR_TYPES.get(code, StimcoreError)(sentence)
