"""From spans to OTLP's messages, as bytes.

Spans are encoded where they are made, a few at a time, so that the thread that sends them only
puts bytes together and never keeps the event loop waiting for the interpreter's lock. A span is put
together by hand, from parts that are the same in many: as an object of OpenTelemetry's own messages
it takes about twice as long. Those messages check it when a request is made of it.
https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/trace/v1/trace.proto
"""

from binascii import unhexlify
from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from easypay import __version__
from easypay.observability.tracing.attributes import Value, fits
from easypay.observability.tracing.spans import Kind, Link, Span

_KINDS: Final = {"internal": 1, "server": 2, "client": 3, "consumer": 5}
_FIELDS: Final = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value"}
_OF_ONE_SPAN: Final = frozenset(
    {
        "easypay.request.id", "easypay.payment.id", "easypay.operation.id", "easypay.event.id",
        "easypay.group.wait",
    }
)  # fmt: skip
"""Attributes whose values differ in each span. Those of others are encoded once."""

# Fields of Span and Link in trace.proto, each with its wire type.
_TRACE_ID, _SPAN_ID = b"\x0a\x10", b"\x12\x08"
_PARENT: Final = b"\x22\x08"
_NAME, _KIND, _ATTRIBUTE, _LINK = b"\x2a", b"\x30", b"\x4a", b"\x6a"
_TIMES: Final = Struct("<BQBQ")
_START, _END = 0x39, 0x41
_IS_ERROR: Final = b"\x7a\x02\x18\x02"
_SPANS: Final = b"\x12"
"""The field of ScopeSpans."""


def encoded(spans: Iterable[Span]) -> bytes:
    """Return spans as a part of a ScopeSpans message. Parts that follow each other are one."""
    return b"".join([_delimited(_SPANS, _span(each)) for each in spans])


def request_of(parts: Sequence[bytes], resource: dict[str, str]) -> bytes:
    """Return the body of one request: all parts, as spans of one process."""
    request = ExportTraceServiceRequest()
    of_process = request.resource_spans.add()
    of_process.resource.attributes.extend(
        KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in resource.items()
    )
    of_scope = of_process.scope_spans.add()
    of_scope.scope.name = "easypay"
    of_scope.scope.version = __version__
    of_scope.MergeFromString(b"".join(parts))
    body: bytes = request.SerializeToString()
    return body


def refused_of(reply: bytes) -> tuple[int, str]:
    """Return how many spans a collector refused that took the others, and its reason.
    Raises ValueError if the reply cannot be read."""
    try:
        partial = ExportTraceServiceResponse.FromString(reply).partial_success
    except Exception as error:
        raise ValueError("the reply is not OTLP's") from error
    return partial.rejected_spans, partial.error_message


def _span(span: Span) -> bytes:
    parts = [_TRACE_ID, unhexlify(span.trace_id), _SPAN_ID, unhexlify(span.span_id)]
    if span.parent is not None:
        parts += (_PARENT, unhexlify(span.parent))
    parts.append(_named(span.name, span.kind))
    parts.append(_TIMES.pack(_START, span.start_ns, _END, max(span.start_ns, span.end_ns)))
    parts += [
        (_attribute if name in _OF_ONE_SPAN else _of_many_spans)(name, value)
        for name, value in span.attributes.items()
    ]
    parts += [_link(each) for each in span.links]
    if span.error:
        parts.append(_IS_ERROR)
    return b"".join(parts)


@lru_cache(256)
def _named(name: str, kind: Kind) -> bytes:
    return _delimited(_NAME, name.encode()) + _KIND + bytes([_KINDS[kind]])


def _attribute(name: str, value: Value) -> bytes:
    """Return an attribute; nothing for one that may not leave."""
    if not fits(name, value):
        return b""
    field: dict[str, Any] = {_FIELDS[type(value)]: value}
    made = KeyValue(key=name, value=AnyValue(**field))
    return _delimited(_ATTRIBUTE, made.SerializeToString())


_of_many_spans: Final = lru_cache(2048, typed=True)(_attribute)


def _link(link: Link) -> bytes:
    trace_id, span_id = link
    ids = _TRACE_ID + unhexlify(trace_id) + _SPAN_ID + unhexlify(span_id)
    return _delimited(_LINK, ids)


def _delimited(field: bytes, content: bytes) -> bytes:
    """Return a field that has its length before its content."""
    length = len(content)
    digits = b""
    while length > 127:
        digits += bytes([length & 127 | 128])
        length >>= 7
    return field + digits + bytes([length]) + content
