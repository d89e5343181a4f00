"""Logs: one JSON object per line on standard error, with card numbers masked."""

import json
import logging
from datetime import UTC, datetime
from functools import cache

from easypay.card_numbers import scrub
from easypay.clock import log_time
from easypay.observability.log_output import LogOutput
from easypay.observability.trace import current


class JsonLines(logging.Formatter):
    """time, level, logger, message, the trace in which it happened, and the traceback if there is
    one.

    Masked before they become JSON, where a line break is two characters.
    """

    def format(self, record: logging.LogRecord) -> str:
        more = {}
        if (trace := current.get()) is not None:
            more["trace_id"] = trace.trace_id.decode()
        if record.exc_info:
            more["traceback"] = scrub(self.formatException(record.exc_info))
        return _json(record, scrub(record.getMessage()), **more)


def _json(record: logging.LogRecord, message: str, **more: str) -> str:
    fields = {
        "time": log_time(datetime.fromtimestamp(record.created, UTC)),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": message,
        **more,
    }
    return json.dumps(fields, ensure_ascii=False)


@cache
def standard_error() -> LogOutput:
    """Return the output for all lines of this process. It never waits for a reader."""
    return LogOutput(2)


class _Lines(logging.Handler):
    """Writes a line for each record."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - logging must not fail whoever logs
            # logging's own `handleError` would print the arguments as they are.
            what = f"a line of {record.module}.{record.funcName} cannot be written: "
            line = _json(record, what + type(error).__name__)
        standard_error().write(line.encode(errors="backslashreplace") + b"\n")

    def flush(self) -> None:
        standard_error().flush()


def configure(level: str = "INFO") -> None:
    """Send every logger of this process through JsonLines."""
    handler = _Lines()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
