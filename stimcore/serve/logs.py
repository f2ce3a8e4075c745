"""Structured logs: one JSON object per line on standard error."""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

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


def configure(level: str) -> None:
    """Send the records of the server and of uvicorn to standard error.

    Args:
        level: Lowest level of the server's records: `debug`, `info`, `warning` or `error`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    # uvicorn logs at level info what the server logs as well: start, end, every request.
    for name, lowest in (("stimcore.serve", level.upper()), ("uvicorn.error", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(lowest)
