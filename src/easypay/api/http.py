"""The HTTP side of every route: read the request, run the handler, send the response.

Pure ASGI. A handler takes a `Request` and returns a `Response`, or raises an EasyPayError, which
only this module turns into a problem.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope, Send

from easypay import ids
from easypay.api.repeated_fields import ambiguous, refuse_repeated_keys, single_valued
from easypay.api.send_response import send_response
from easypay.api.validation import not_json, refusal
from easypay.card_numbers import quoted, scrub
from easypay.clock import stopwatch
from easypay.db.failures import is_passing
from easypay.errors import (
    BodyTooLarge,
    DatabaseUnavailable,
    EasyPayError,
    FieldError,
    Internal,
    MalformedBody,
    MalformedRequest,
    UnsupportedMediaType,
    ValidationFailed,
)
from easypay.merchants.model import Caller
from easypay.observability.trace import Trace, current
from easypay.payments.model import Spent
from easypay.problems import MEDIA_TYPE, render

log = logging.getLogger(__name__)

MAX_BODY: Final = 64 * 1024
JSON: Final = b"application/json"
_PROBLEM: Final = MEDIA_TYPE.encode()
_LONGEST_LENGTH: Final = 20
_WITHOUT_BODY: Final = frozenset({204, 304})
"""These have no body and no Content-Length (RFC 9110, 8.6)."""

T = TypeVar("T")
Headers = list[tuple[bytes, bytes]]


class Request(msgspec.Struct, gc=False):
    """The parts of a request that handlers need. Header names are lower case."""

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    query_string: bytes
    body: bytes
    id: str
    caller: Caller | None = None
    """The caller of the request's key, once it is known."""
    auth_s: float = 0.0
    receive: Receive | None = None

    async def left(self) -> None:
        """Return when the client has left. For requests without a body."""
        assert self.receive is not None, "the request came from a client"
        while (await self.receive())["type"] != "http.disconnect":
            pass

    def query(self, *allowed: str) -> dict[str, str]:
        """Return the query parameters. Raises ValidationFailed for an unknown or repeated one."""
        found: dict[str, str] = {}
        for name, value in pairs_in(self.query_string.decode("latin-1")):
            if name not in allowed or name in found:
                problem = "given twice" if name in found else "not a parameter of this call"
                takes = f"it takes {', '.join(allowed)}" if allowed else "it takes none"
                raise invalid_query(quoted(name), f"It is {problem}; {takes}.")
            found[name] = value
        return found


def pairs_in(query: str) -> Iterable[tuple[str, str]]:
    """Return the parameters of a query string. Most have nothing that is quoted."""
    if "%" in query or "+" in query:
        return parse_qsl(query, keep_blank_values=True)
    split = [part.partition("=") for part in query.split("&") if part]
    return [(name, value) for name, _, value in split]


class Response(msgspec.Struct, gc=False):
    """A handler's response. `headers` are added to those that every response has."""

    status: int
    body: bytes = b""
    content_type: bytes = JSON
    headers: Headers = []
    cache_control: bytes = b"no-store"
    # For the log and the metrics:
    spent: Spent | None = None
    payment_id: str | None = None
    problem: str | None = None
    replayed: bool = False
    coding: str | None = None
    """The content coding of the body, if it is compressed."""
    forms: dict[bytes, bytes] | None = None
    """What was made of the body already: its tag, its compressed forms. Answers that share a body
    share them."""
    still: Callable[[], float | None] | None = None
    """For an answer from the caches: returns how old it is now, in seconds; None if the same
    request must not get it any more."""
    sent: int | None = None
    """Bytes of a body that left in pieces. None: `body` is all of it."""


Handler = Callable[[Request], Awaitable[Response]]


Keep = Callable[[Scope, str, Request, Response], None]
"""Keeps an answer for when the same request comes again. Called with the scope and the route."""


class Observer(Protocol):
    """Gives each request its trace, and is told of it afterwards. `response` is None if the client
    left first."""

    def accept(self, traceparent: bytes | None, request_id: str, /) -> Trace: ...

    def answered(
        self, route: str, request: Request, response: Response | None, took_s: float, trace: Trace
    ) -> None: ...


def invalid_query(name: str, detail: str, *, code: str = "invalid") -> ValidationFailed:
    """Return the error for a bad query parameter."""
    return ValidationFailed(
        f"query parameter {name}: {detail}", fields=(FieldError(f"?{name}", code, detail),)
    )


def sent_twice(header: str) -> MalformedRequest:
    """Return the error for a header that must be single."""
    return MalformedRequest(
        f"The header {header} was sent twice, and it is not clear which one counts. Send it once. "
        "Nothing was done."
    )


UNREACHABLE: Final = (
    "The database cannot be reached. Repeat the request, with the same Idempotency-Key if it has "
    "one: it finds out what became of this one."
)
BUG: Final = (
    "A bug in the gateway stopped the request. Repeat it, with the same Idempotency-Key if it has "
    "one, to learn what became of it."
)


class Endpoint:
    """The ASGI application of one route. `route` is its path template, a label of the metrics."""

    finish: Callable[[Request, Response], Response] | None = None
    """Returns what is sent instead of the handler's response; None: that is sent as it is."""

    def __init__(
        self,
        handler: Handler,
        *,
        route: str,
        takes_body: bool,
        is_draining: Callable[[], bool],
        observer: Observer,
        keep: Keep | None = None,
    ) -> None:
        self._handler = handler
        self._route = route
        self._takes_body = takes_body
        self._is_draining = is_draining
        self._observer = observer
        self._keep = keep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = stopwatch()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        repeated = None
        if len(headers) != len(scope["headers"]):
            headers = single_valued(scope["headers"])
            repeated = ambiguous(scope["headers"])
        request_id = ids.new_request_id()
        trace = self._observer.accept(headers.get(b"traceparent"), request_id)
        current.set(trace)
        request = Request(
            method=scope["method"],
            path=scope["path"],
            params=scope.get("path_params", {}),
            headers=headers,
            query_string=scope["query_string"],
            body=b"",
            id=request_id,
            receive=receive,
        )
        response: Response | None = None
        try:
            response = await self._answer(request, receive, repeated)
            if response is not None:
                total_s = stopwatch() - started
                lines = header_lines(response, request.id)
                if request.caller is not None:
                    lines += server_timing(request.auth_s, response.spent, total_s)
                if trace.given:
                    lines += b"traceparent: %b\r\n" % trace.header
                # If this request can be read in two ways, so can the bytes after it.
                closes = self._is_draining() or response.problem == MalformedRequest.code
                await send_response(scope, response.status, lines, response.body, closes)
                if response.still is not None and self._keep is not None:
                    self._keep(scope, self._route, request, response)
        finally:  # also if the client left or the task was cancelled
            self._observer.answered(self._route, request, response, stopwatch() - started, trace)

    async def _answer(
        self, request: Request, receive: Receive, repeated: bytes | None
    ) -> Response | None:
        """Return the handler's response or its problem; None if the client has left."""
        response: Response
        try:
            if repeated is not None:
                raise sent_twice(repeated.decode("latin-1"))
            if b"transfer-encoding" in request.headers:
                _check_coding(request.headers[b"transfer-encoding"])
            if self._takes_body:
                request.body = await _read_body(request.headers, receive)
            response = await self._handler(request)
            if self.finish is not None:
                response = self.finish(request, response)
        except EasyPayError as error:
            response = problem_response(error, request.id)
        except ClientLeft:
            return None
        except Exception as error:  # noqa: BLE001 - the request is answered, and it is logged
            response = problem_response(_problem_of(error, request.id), request.id)
        return response


def _problem_of(error: Exception, request_id: str) -> EasyPayError:
    """Log an unexpected exception; return DatabaseUnavailable, or Internal if it is a bug."""
    if is_passing(error):
        log.warning("request %s: database error: %s: %s", request_id, type(error).__name__, error)
        return DatabaseUnavailable(UNREACHABLE)
    log.error("request %s failed", request_id, exc_info=error)
    return Internal(BUG)


def server_timing(auth_s: float, spent: Spent | None, total_s: float) -> bytes:
    """Return the Server-Timing line, in milliseconds (https://www.w3.org/TR/server-timing/)."""
    if spent is None:
        return b"server-timing: auth;dur=%.3f, total;dur=%.3f\r\n" % (
            auth_s * 1000,
            total_s * 1000,
        )
    return (
        b"server-timing: auth;dur=%.3f, begin;dur=%.3f, processor;dur=%.3f, "
        b"record;dur=%.3f, total;dur=%.3f\r\n"
    ) % (
        auth_s * 1000,
        spent.begin_s * 1000,
        spent.processor_s * 1000,
        spent.record_s * 1000,
        total_s * 1000,
    )


def problem_response(error: EasyPayError, request_id: str) -> Response:
    """Return the problem response for an error."""
    headers: Headers = []
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(error.retry_after_s).encode()))
    if error.http_status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return Response(
        status=error.http_status,
        # A problem may quote the request: mask card numbers.
        body=scrub(render(error, request_id=request_id).decode()).encode(),
        content_type=_PROBLEM,
        headers=headers,
        payment_id=error.payment_id,
        problem=error.code,
    )


def header_lines(response: Response, request_id: str) -> bytes:
    """Return the header lines that every response has, then the response's own."""
    if response.status in _WITHOUT_BODY:
        lines = b"cache-control: %b\r\nrequest-id: %b\r\n" % (
            response.cache_control,
            request_id.encode(),
        )
    else:
        lines = (
            b"content-type: %b\r\ncontent-length: %d\r\ncache-control: %b\r\n"
            b"x-content-type-options: nosniff\r\nrequest-id: %b\r\n"
        ) % (
            response.content_type,
            len(response.body),
            response.cache_control,
            request_id.encode(),
        )
    for name, value in response.headers:
        if b"\n" in value or b"\r" in value:
            raise ValueError(f"the header {name!r} would end early")
        lines += b"%b: %b\r\n" % (name, value)
    return lines


class ClientLeft(Exception):
    """The client left before its request was complete: nothing was done."""


def _check_coding(coding: bytes) -> None:
    if coding.strip().lower() != b"chunked":
        raise MalformedRequest("Transfer-Encoding must be chunked.")


async def _read_body(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    """Read the whole body. Raises MalformedRequest if its size is not as declared."""
    declared = headers.get(b"content-length")
    length = None if declared is None else _length(declared)
    if length is not None and length > MAX_BODY:
        raise too_large()
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientLeft
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        body = await _rest(receive, body)
    if len(body) > MAX_BODY:
        raise too_large()
    if len(body) != length and (length is not None or _is_undeclared(headers, body)):
        raise MalformedRequest(
            f"The headers declare a body of {length or 0} bytes, but {len(body)} arrived. Nothing "
            "was done."
        )
    return body


def _length(declared: bytes) -> int:
    if not declared.isdigit():
        declared = declared.strip(b" \t")  # blanks around a value are not part of it
        if not declared.isdigit():
            raise MalformedRequest("Content-Length must be a number of bytes.")
    if len(declared) > _LONGEST_LENGTH:
        # Leading zeros are allowed, but Python reads at most 4,300 digits.
        declared = declared.lstrip(b"0")[:_LONGEST_LENGTH] or b"0"
    return int(declared)


def _is_undeclared(headers: Mapping[bytes, bytes], body: bytes) -> bool:
    return bool(body) and b"transfer-encoding" not in headers


async def _rest(receive: Receive, first: bytes) -> bytes:
    """Read the rest of a body and return it all. Raises BodyTooLarge as soon as it is too long."""
    parts = [first]
    size = len(first)
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY:
            raise too_large()
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def too_large() -> BodyTooLarge:
    return BodyTooLarge(f"The body has more than {MAX_BODY} bytes. Send less metadata.")


# Bodies --------------------------------------------------------------------------------------


def decode(
    request: Request,
    decoder: msgspec.json.Decoder[T],
    *,
    may_be_empty: bool = False,
    check_repeated_keys: bool = True,
) -> T:
    """Decode the body. Without `check_repeated_keys`, the caller checks for repeated keys.

    Raises UnsupportedMediaType, MalformedBody, or ValidationFailed, which names each bad field.
    """
    body = request.body
    if not body:
        if not may_be_empty:
            raise MalformedBody(
                "The request has no body. Send a JSON object, with Content-Type: application/json."
            )
        body = b"{}"
    elif not _is_json(request.headers.get(b"content-type", b"")):
        raise UnsupportedMediaType("Send the body as JSON with Content-Type: application/json.")
    try:
        value = decoder.decode(body)
    except msgspec.ValidationError:
        refused = refusal(body, decoder.type)
        if isinstance(refused, ValidationFailed):
            refuse_repeated_keys(body)  # the bad field may be one of two with the same key
        raise refused from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_json(error) from None
    if check_repeated_keys:
        refuse_repeated_keys(body)
    return value


def _is_json(content_type: bytes) -> bool:
    return content_type == JSON or content_type.partition(b";")[0].strip().lower() == JSON


def encode(value: Any) -> bytes:
    """Encode a body as JSON."""
    return _json.encode(value)


_json = msgspec.json.Encoder()
