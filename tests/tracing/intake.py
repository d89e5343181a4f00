"""A collector in a test: takes OTLP over HTTP, checks each request as the specification says, and
answers what the test orders.

https://opentelemetry.io/docs/specs/otlp/ and the comments of its trace.proto.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

Answer = tuple[int, dict[str, str], bytes]
TAKEN: Answer = (200, {"Content-Type": "application/x-protobuf"}, b"")


def partial_success(refused: int, why: str) -> Answer:
    """Return the answer that takes all but some spans."""
    body = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=refused, error_message=why)
    )
    return 200, {"Content-Type": "application/x-protobuf"}, body.SerializeToString()


class Intake:
    """What has arrived. `answers` are given in their order, then TAKEN; None: no answer at all."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.raw = b""
        self.heads: list[dict[str, str]] = []
        self.answers: list[Answer | None] = []
        self.wrong: list[str] = []

    def take(self, head: str, body: bytes) -> Answer | None:
        first, *lines = head.split("\r\n")
        headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines)}
        self.heads.append(headers)
        self.raw += body
        answer = self.answers.pop(0) if self.answers else TAKEN
        wrong = self.wrong
        if first != "POST /v1/traces HTTP/1.1":
            wrong.append(first)
        if headers.get("content-type") != "application/x-protobuf":
            wrong.append(f"content type {headers.get('content-type')}")
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        known = ExportTraceServiceRequest()
        known.CopyFrom(request)
        known.DiscardUnknownFields()
        if known.ByteSize() != request.ByteSize():
            wrong.append("unknown fields")
        for of_process in request.resource_spans:
            resource = {a.key: a.value.string_value for a in of_process.resource.attributes}
            self.resources.append(resource)
            if not resource.get("service.name"):
                wrong.append("no service.name")
            for of_scope in of_process.scope_spans:
                if of_scope.scope.name != "easypay":
                    wrong.append("no scope")
                for span in of_scope.spans:
                    wrong.extend(f"{span.name}: {each}" for each in faults_of(span))
                    if answer == TAKEN:
                        self.spans.append(span)
        return answer

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def of_trace(self, trace_id: str) -> list[Any]:
        """Return a trace's spans in the order of their beginnings."""
        found = [span for span in self.spans if span.trace_id.hex() == trace_id]
        return sorted(found, key=lambda span: (span.start_time_unix_nano, span.parent_span_id))


def spans_in(body: bytes) -> list[Any]:
    """Return the spans of a request."""
    return [
        span
        for of_process in ExportTraceServiceRequest.FromString(body).resource_spans
        for of_scope in of_process.scope_spans
        for span in of_scope.spans
    ]


def faults_of(span: Any) -> list[str]:
    """Return what of a span is not as the specification wants it."""
    wrong = []
    for what, value, length in (("trace", span.trace_id, 16), ("span", span.span_id, 8)):
        if len(value) != length or not any(value):
            wrong.append(f"{what} id {value.hex()}")
    if len(span.parent_span_id) not in (0, 8) or span.parent_span_id == span.span_id:
        wrong.append(f"parent {span.parent_span_id.hex()}")
    if not span.name or span.kind == 0:
        wrong.append("no name or kind")
    if not 1_500_000_000 * 10**9 < span.start_time_unix_nano <= span.end_time_unix_nano:
        wrong.append(f"times {span.start_time_unix_nano} {span.end_time_unix_nano}")
    keys = [attribute.key for attribute in span.attributes]
    if len(set(keys)) != len(keys):
        wrong.append(f"attributes twice: {keys}")
    for attribute in span.attributes:
        if not attribute.key or attribute.value.WhichOneof("value") is None:
            wrong.append(f"attribute {attribute.key!r} without a value")
    for link in span.links:
        if len(link.trace_id) != 16 or len(link.span_id) != 8 or not any(link.trace_id):
            wrong.append("a link to nothing")
    return wrong


def attributes(span: Any) -> dict[str, Any]:
    """Return a span's attributes as a dictionary."""
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


@asynccontextmanager
async def taking() -> AsyncIterator[Intake]:
    """Run an intake. At the end nothing that arrived may have been wrong."""
    intake = Intake()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                answer = intake.take(head.decode().strip(), await reader.readexactly(length))
                if answer is None:
                    await reader.read()  # until the client gives up
                    return
                status, headers, body = answer
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                start = f"HTTP/1.1 {status} Answer\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
                writer.write(start.encode() + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    intake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield intake
    finally:
        server.close()
    assert intake.wrong == []
