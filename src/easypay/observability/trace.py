"""W3C trace context: whose request this is a part of, and what we hand on to the processor."""

import re
from contextvars import ContextVar
from typing import Final, NamedTuple

from easypay.card_numbers import hides_card_number

_TRACEPARENT: Final = re.compile(
    rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16


class Trace(NamedTuple):
    """A trace, and our span in it. `given`: the client began it, not we."""

    trace_id: bytes
    span_id: bytes
    flags: bytes
    given: bool

    @property
    def header(self) -> bytes:
        """The `traceparent` that whoever we call gets."""
        return b"00-%b-%b-%b" % (self.trace_id, self.span_id, self.flags)


current: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The trace of the request that is being answered; tasks made meanwhile inherit it."""


def accept(traceparent: bytes | None, request_id: str) -> Trace:
    """The client's trace, or a new one where the header is none, and in it a span of our own.

    Both are named after the request, `req_` and the digits of a UUID: a new trace is all of them,
    the span the last sixteen, which are random. A trace of theirs is logged and handed on: one in
    which a card number may hide is not taken over.
    https://www.w3.org/TR/trace-context/: versions above 00 are read as 00, ff is invalid.
    """
    found = None if traceparent is None else _TRACEPARENT.fullmatch(traceparent)
    own = request_id[-32:].encode()
    if found is not None:
        version, trace_id, parent, flags, more = found.groups()
        known = (version == b"00" and more is None) or version not in (b"00", b"ff")
        real = trace_id != _NO_TRACE and parent != _NO_SPAN
        if known and real and not hides_card_number(trace_id.decode()):
            return Trace(trace_id, own[16:], flags, True)
    return Trace(own, own[16:], b"00", False)


def outbound() -> bytes:
    """The header line for a call that the current request makes; empty outside of one."""
    trace = current.get()
    return b"" if trace is None else b"traceparent: %b\r\n" % trace.header
