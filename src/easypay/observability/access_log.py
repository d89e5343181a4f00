"""The canonical log line: one JSON object per request, with all that is known about it.

Its fields are a fixed list. None holds text from the client except the trace id, which `trace`
accepts only if no card number can be in it. Lines are gathered over one turn of the event loop and
written together, but those of level error are written at once.
"""

from datetime import datetime

import msgspec

from easypay.observability.log_output import LogOutput
from easypay.observability.logs import standard_error

_encode = msgspec.json.Encoder().encode


class Line(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One request. `route` is the template, never the path. Times are milliseconds."""

    time: datetime
    level: str
    logger: str
    message: str
    request_id: str
    trace_id: str
    method: str
    route: str
    status: int
    duration_ms: float
    merchant_id: str | None = None
    key_id: str | None = None
    mode: str | None = None
    payment_id: str | None = None
    problem: str | None = None
    replayed: bool = False
    begin_ms: float | None = None
    processor_ms: float | None = None
    record_ms: float | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    coding: str | None = None


class AccessLog:
    """Writes lines to standard error, or to `out`."""

    def __init__(self, out: LogOutput | None = None, *, silent: bool = False) -> None:
        self._out = None if silent else out or standard_error()

    def write(self, line: Line) -> None:
        """Write a line at the end of this turn of the loop, or now if it is an error."""
        if self._out is None:
            return
        text = _encode(line) + b"\n"
        if line.level == "error":
            self._out.write(text)
        else:
            self._out.gather(text)
