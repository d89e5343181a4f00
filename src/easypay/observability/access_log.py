"""The canonical log line: one JSON object per request, with all that is known about it.

Its fields are a fixed list. None holds text from the client except the trace id, which `trace`
accepts only if no card number can be in it. Lines are written together, once per turn of the event
loop.
"""

import asyncio
from datetime import datetime
from typing import IO

import msgspec

from easypay.observability.log_output import LogOutput
from easypay.observability.logs import standard_error

_encode = msgspec.json.Encoder().encode


class Line(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
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


class AccessLog:
    """Writes lines to standard error, or to `out`."""

    def __init__(self, out: IO[bytes] | LogOutput | None = None, *, silent: bool = False) -> None:
        self._out = None if silent else out or standard_error()
        self._waiting: list[bytes] = []

    def write(self, line: Line) -> None:
        """Write a line at the end of this turn of the loop."""
        if self._out is None:
            return
        text = _encode(line)
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append(text)

    def flush(self) -> None:
        """Write the waiting lines."""
        lines, self._waiting = self._waiting, []  # if writing fails they are lost, not kept
        if self._out is not None and lines:
            self._out.write(b"\n".join([*lines, b""]))
            self._out.flush()
