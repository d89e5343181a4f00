"""Logs: one JSON object a line on standard error, with card numbers masked at the last gate."""

import json
import logging
import sys
from datetime import UTC, datetime

from easypay.payments.cards import scrub


class JsonLines(logging.Formatter):
    """time, level, logger, message, and the traceback where there is one.

    They are masked before they become JSON, in which a line's end is two characters.
    """

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": scrub(record.getMessage()),
        }
        if record.exc_info:
            said["traceback"] = scrub(self.formatException(record.exc_info))
        return json.dumps(said, ensure_ascii=False)


def configure(level: str = "INFO") -> None:
    """Send every logger of this process through JsonLines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
