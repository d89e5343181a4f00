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
        fields = {
            "time": log_time(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": scrub(record.getMessage()),
        }
        if (trace := current.get()) is not None:
            fields["trace_id"] = trace.trace_id.decode()
        if record.exc_info:
            fields["traceback"] = scrub(self.formatException(record.exc_info))
        return json.dumps(fields, ensure_ascii=False)


@cache
def standard_error() -> LogOutput:
    """Return the output for all lines of this process. It never waits for a reader."""
    return LogOutput(2)


class _Lines(logging.Handler):
    """Writes a line for each record."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode(errors="backslashreplace")
        except Exception:  # noqa: BLE001 - as logging's own handlers do
            self.handleError(record)
            return
        standard_error().write(line + b"\n")

    def flush(self) -> None:
        standard_error().flush()


def configure(level: str = "INFO") -> None:
    """Send every logger of this process through JsonLines."""
    handler = _Lines()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
