"""OTLP's messages, written by hand as bytes.

Spans are encoded where their trace ends, a few at a time, so that the thread that sends them only
puts bytes together and never keeps the event loop waiting for the interpreter's lock. As objects of
OpenTelemetry's own messages they take several times as long; the tests read every request with
those.
https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/trace/v1/trace.proto
https://protobuf.dev/programming-guides/encoding/
"""

import random
from binascii import unhexlify
from collections.abc import Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import Final, Literal

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from easypay import __version__
from easypay.observability.tracing.attributes import Value, fits

Kind = Literal["internal", "server", "client", "consumer"]
_KINDS: Final = {"internal": b"\x01", "server": b"\x02", "client": b"\x03", "consumer": b"\x05"}

# Fields of Span and Link, each with its wire type; before ids also their lengths.
_TRACE_ID, _SPAN_ID, _PARENT = b"\x0a\x10", b"\x12\x08", b"\x22\x08"
_NAME, _KIND, _ATTRIBUTE, _LINK = b"\x2a", b"\x30", b"\x4a", b"\x6a"
_TIMES: Final = Struct("<BQBQ")
_START, _END = 0x39, 0x41
_IS_ERROR: Final = b"\x7a\x02\x18\x02"

# Fields of KeyValue and AnyValue.
_KEY, _VALUE = b"\x0a", b"\x12"
_TEXT, _BOOL, _INT, _DOUBLE = b"\x0a", b"\x10", b"\x18", b"\x21"
_AS_DOUBLE: Final = Struct("<d")

# Fields of the messages around spans.
_RESOURCE_SPANS, _RESOURCE, _RESOURCE_ATTRIBUTE = b"\x0a", b"\x0a", b"\x0a"
_SCOPE_SPANS, _SCOPE, _SPAN = b"\x12", b"\x0a", b"\x12"
_SCOPE_NAME, _SCOPE_VERSION = b"\x0a", b"\x12"


def new_id(size: int) -> bytes:
    """Return the bytes of a new id, which is never zero."""
    return (random.getrandbits(8 * size) or 1).to_bytes(size, "big")


def of_trace(trace_id: bytes) -> bytes:
    """Return the field of a trace's digits."""
    return _TRACE_ID + unhexlify(trace_id)


def new_trace() -> bytes:
    """Return the fields of a new trace and of a span in it."""
    return _TRACE_ID + new_id(16) + _SPAN_ID + new_id(8)


def with_parent(span_id: bytes) -> bytes:
    """Return the fields of a new span below that of these digits."""
    return _SPAN_ID + new_id(8) + _PARENT + unhexlify(span_id)


def with_id(span_id: bytes, parent: bytes | None) -> bytes:
    """Return the fields of the digits of a span, and of its parent."""
    own = _SPAN_ID + unhexlify(span_id)
    return own if parent is None else own + _PARENT + unhexlify(parent)


def span(ids: bytes, what: bytes, start_ns: int, end_ns: int, links: bytes = b"") -> bytes:
    """Return a span. `ids` and `what` are fields of it: of its ids, and from `described`."""
    times = _TIMES.pack(_START, start_ns, _END, max(start_ns, end_ns))
    return _delimited(_SPAN, b"".join((ids, what, times, links)))


@lru_cache(1024)
def described(name: str, kind: Kind, *attributes: tuple[str, Value], error: bool = False) -> bytes:
    """Return the fields that are the same in many spans."""
    return b"".join(
        (
            _delimited(_NAME, name.encode()),
            _KIND,
            _KINDS[kind],
            *(attribute(*each) for each in attributes),
            _IS_ERROR if error else b"",
        )
    )


def attribute(name: str, value: Value) -> bytes:
    """Return the field of an attribute; nothing for one that may not leave."""
    return _key_value(_ATTRIBUTE, name, value) if fits(name, value) else b""


def link(ids: bytes) -> bytes:
    """Return the field of a link. `ids` are fields of a trace and of a span in it."""
    return _delimited(_LINK, ids)


def link_to(trace_id: bytes, span_id: bytes) -> bytes:
    """Return the field of a link to a span, from digits."""
    return link(_TRACE_ID + unhexlify(trace_id) + _SPAN_ID + unhexlify(span_id))


def of_process(resource: Mapping[str, str]) -> bytes:
    """Return the fields that say which process sends spans."""
    attributes = [_key_value(_RESOURCE_ATTRIBUTE, *each) for each in resource.items()]
    return _delimited(_RESOURCE, b"".join(attributes))


def request_of(parts: Sequence[bytes], process: bytes) -> bytes:
    """Return the body of one request: spans, one after the other, of the process."""
    scope = _delimited(_SCOPE_NAME, b"easypay") + _delimited(_SCOPE_VERSION, __version__.encode())
    spans = _delimited(_SCOPE_SPANS, b"".join((_delimited(_SCOPE, scope), *parts)))
    return _delimited(_RESOURCE_SPANS, process + spans)


def refused_of(reply: bytes) -> tuple[int, str]:
    """Return how many spans a collector refused that took the others, and its reason.
    Raises ValueError if the reply cannot be read."""
    try:
        partial = ExportTraceServiceResponse.FromString(reply).partial_success
    except Exception as error:
        raise ValueError("the reply is not OTLP's") from error
    return partial.rejected_spans, partial.error_message


def _key_value(field: bytes, name: str, value: Value) -> bytes:
    if isinstance(value, str):
        kind, content = _TEXT, value.encode()
    elif isinstance(value, float):
        kind, content = _DOUBLE, _AS_DOUBLE.pack(value)
    elif isinstance(value, bool):
        kind, content = _BOOL, _varint(value)
    else:
        kind, content = _INT, _varint(value & (1 << 64) - 1)
    return _before(field, name, kind, len(content)) + content


@lru_cache(1024)
def _before(field: bytes, name: str, kind: bytes, length: int) -> bytes:
    """Return all of an attribute but the content of its value. It is the same for all values that
    have the same length."""
    content = bytes(length)
    value = _delimited(kind, content) if kind == _TEXT else kind + content
    whole = _delimited(field, _delimited(_KEY, name.encode()) + _delimited(_VALUE, value))
    return whole[: len(whole) - length]


def _delimited(field: bytes, content: bytes) -> bytes:
    """Return a field that has its length before its content."""
    return field + _varint(len(content)) + content


@lru_cache(4096)
def _varint(number: int) -> bytes:
    digits = b""
    while number > 127:
        digits += bytes([number & 127 | 128])
        number >>= 7
    return digits + bytes([number])
