"""Structured logs: one JSON object per line on standard error."""

import json
import logging
import sys
import threading
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType

log = logging.getLogger("stimcore.serve")
REPETITION_S = 1.0
"""Time for which asyncio does not say the same again."""

TRACEPARENT: ContextVar[str] = ContextVar("traceparent", default="")
"""`traceparent` of the request that is being answered (W3C Trace Context); empty where it has none."""


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object: time, level, event, the record's `fields`, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record.

        Example:
            >>> fields = {"msg": "request", "levelname": "INFO", "created": 0.0, "fields": {"status": 200}}
            >>> JsonFormatter().format(logging.makeLogRecord(fields))
            '{"time": "1970-01-01T00:00:00.000+00:00", "level": "info", "event": "request", "status": 200}'
        """
        value: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        value |= getattr(record, "fields", {})
        if record.exc_info:
            value["traceback"] = self.formatException(record.exc_info)
        return json.dumps(value, ensure_ascii=False, default=str)


class RepetitionFilter(logging.Filter):
    """Lets asyncio say the same once a second: without file descriptors it reports every connection of a queue of thousands.

    Attributes:
        last: Text of asyncio's last record that passed, and its time in seconds since 1970.
    """

    last = ("", 0.0)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged."""
        if record.name != "asyncio":
            return True
        text = record.getMessage()
        # the absolute value: a clock that was set back must not silence it for hours
        if text == self.last[0] and abs(record.created - self.last[1]) < REPETITION_S:
            return False
        self.last = text, record.created
        return True


def configure(level: str) -> None:
    """Send all records of this process to standard error, and with them warnings and exceptions that nobody catches.

    Args:
        level: Lowest level of the server's records: `debug`, `info`, `warning` or `error`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(RepetitionFilter())
    # uvicorn logs below the level of errors what the server logs as well: its start, its end, and what clients send.
    for name, lowest in (("", "WARNING"), ("stimcore.serve", level.upper()), ("uvicorn.error", "ERROR")):
        logger = logging.getLogger(name)
        logger.handlers = [] if name else [handler]
        logger.setLevel(lowest)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _log_uncaught(kind: type[BaseException], value: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, Exception):  # not Ctrl-C, and not a thread that ends itself
        log.error("uncaught", exc_info=(kind, value or Exception(kind.__name__), trace))
