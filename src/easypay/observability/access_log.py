"""The canonical log line: one JSON object per request, with all that is known about it.

Its fields are a fixed list. None holds text from the client except the trace id, which `trace`
accepts only if no card number can be in it. Lines are gathered over one turn of the event loop and
written together, but those of level error are written at once.
"""

from datetime import datetime
from typing import Any, Final

import msgspec

from easypay import clock
from easypay.observability.log_output import LogOutput
from easypay.observability.logs import standard_error

_encode = msgspec.json.Encoder().encode
_BLANKS: Final = {
    "time": b"%b",
    "request_id": b'"%b"',
    "trace_id": b'"%b"',
    "duration_ms": b"%.3f",
}
"""What differs from one request to the next that is the same, in the order of a line's fields."""


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


class LineAgain:
    """A line that is written for many requests: only the time, the ids and the duration differ.
    It is encoded once."""

    def __init__(self, line: Line) -> None:
        blanks: dict[str, Any] = {name: msgspec.Raw(form) for name, form in _BLANKS.items()}
        text = _encode(msgspec.structs.replace(line, **blanks))
        assert text.count(b"%") == len(_BLANKS), "nothing in it looks like a blank"
        self._form = text + b"\n"

    def filled(self, request_id: bytes, duration_ms: float) -> bytes:
        """Return the line of one request, now. Its trace is a new one, named by its id's digits."""
        return self._form % (_encode(clock.now()), request_id, request_id[-32:], duration_ms)


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

    def write_again(self, line: LineAgain, request_id: bytes, duration_ms: float) -> None:
        """Write the same line for another request, at the end of this turn of the loop."""
        if self._out is not None:
            self._out.gather(line.filled(request_id, duration_ms))
