"""W3C trace context: a request's trace, and the header for calls to the processor."""

import re
from contextvars import ContextVar
from typing import Final

import msgspec

from easypay.card_numbers import hides_card_number

_TRACEPARENT: Final = re.compile(
    rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_NO_TRACE: Final = b"0" * 32
NO_SPAN: Final = b"0" * 16


class Trace(msgspec.Struct, frozen=True, gc=False):
    """A trace, and our span in it. `given`: the client started it, not we."""

    trace_id: bytes
    span_id: bytes
    flags: bytes
    given: bool
    parent: bytes = NO_SPAN
    """The client's span, if it gave one."""

    @property
    def header(self) -> bytes:
        """The `traceparent` for those whom we call."""
        return b"00-%b-%b-%b" % (self.trace_id, self.span_id, self.flags)


current: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The trace of the current request. Tasks created by the request inherit it."""


def accept(traceparent: bytes | None, request_id: str) -> Trace:
    """Return the client's trace, or a new one if it is absent or invalid, with a span of our own.

    Both ids come from the request's id, `req_` and the digits of a UUID: a new trace takes all
    digits, the span the last sixteen, which are random. A client's trace is logged and passed on,
    so one that may hide a card number is not used.
    https://www.w3.org/TR/trace-context/: versions above 00 are read as 00, ff is invalid.
    """
    found = None if traceparent is None else _TRACEPARENT.fullmatch(traceparent)
    own = request_id[-32:].encode()
    if found is not None:
        version, trace_id, parent, flags, more = found.groups()
        known = (version == b"00" and more is None) or version not in (b"00", b"ff")
        real = trace_id != _NO_TRACE and parent != NO_SPAN
        if known and real and not hides_card_number(trace_id.decode()):
            return Trace(trace_id, own[16:], flags, True, parent)
    return Trace(own, own[16:], b"00", False)


def outbound() -> bytes:
    """Return the header line for a call by the current request; empty outside a request."""
    trace = current.get()
    return b"" if trace is None else b"traceparent: %b\r\n" % trace.header
