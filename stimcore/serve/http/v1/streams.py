"""Event streams: how many may be open, and from which event on one continues."""

from stimcore.errors import UsageError
from stimcore.serve.errors import TooMany
from stimcore.serve.http.addresses import AddressCounter
from stimcore.serve.service import Service

# Without these headers, proxies (nginx reads the second one) would collect events before they pass them on.
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def event_number(text: str) -> int:
    """Return the value of `Last-Event-ID`.

    Raises:
        UsageError: It is no number.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise UsageError(f"Last-Event-ID is '{text[:40]}'", allowed="a number that this stream sent")
    return int(text)


def check_streams(service: Service, streams: AddressCounter) -> None:
    """Refuse a further event stream when as many are open as the server allows.

    Raises:
        TooMany: As many are open.
    """
    if streams.total >= service.limits.streams:
        raise TooMany(f"{service.limits.streams} event streams are open", todo="Poll, or try again in a moment.")
