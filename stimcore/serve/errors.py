"""How a server says no: what only a server refuses, and the one table from an error's code to an HTTP status and back."""

from stimcore.errors import BundleError, DataMissing, SpecError, StimcoreError, Unavailable, UsageError


class NotFound(UsageError):
    """A name that is not served."""

    code = "not_found"


class NotStored(NotFound):
    """A sweep that was not made yet."""

    code = "not_stored"


class TooLarge(UsageError):
    """More bytes, images or specs than the limits allow."""

    code = "too_large"


class Denied(UsageError):
    """No token, a wrong one, or a request that a browser sent from a foreign page."""

    code = "denied"


class TooSlow(UsageError):
    """A request whose body did not arrive in time."""

    code = "too_slow"


class TooMany(Unavailable):
    """A client, or all of them, asked for more at once than the limits allow."""

    code = "too_many"


class Busy(Unavailable):
    """A queue that is full, a server that is starting or ending."""

    code = "busy"


class Late(Unavailable):
    """Work that was not done by its deadline."""

    code = "late"


class WorkerCrashed(Unavailable):
    """Work that ended its worker process twice."""

    code = "worker_crashed"


_ALL: tuple[tuple[type[StimcoreError], int], ...] = (
    (StimcoreError, 500),
    (UsageError, 400),
    (SpecError, 400),
    (DataMissing, 400),
    (Denied, 401),
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
STATUS = {kind.code: status for kind, status in _ALL}
"""Code of an error -> HTTP status."""
KINDS = {kind.code: kind for kind, _ in _ALL}
"""Code of an error -> its type."""
RETRY_AFTER_S = 1
"""What a refusal that will pass says in `Retry-After`."""


def status_of(error: StimcoreError) -> int:
    """The HTTP status of an error; 500 for a code without one."""
    return STATUS.get(error.code, 500)


def rebuilt(code: str, sentence: str) -> StimcoreError:
    """The error that a server sent, on the client's side."""
    return KINDS.get(code, StimcoreError)(sentence)
