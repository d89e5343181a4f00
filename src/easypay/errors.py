"""Requests we refuse or cannot serve. A decline is an outcome, not an error.

Each class knows its own code and HTTP status; `api/problems.py` renders them, once.
"""

from typing import ClassVar


class FieldError:
    """One bad field: a JSON pointer into the body (`#/amount`), a code, and what to do."""

    __slots__ = ("code", "detail", "pointer")

    def __init__(self, pointer: str, code: str, detail: str) -> None:
        self.pointer = pointer
        self.code = code
        self.detail = detail


class EasyPayError(Exception):
    """Base of every refusal. `detail` says what happened, why, and what to do."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong on our side"

    def __init__(
        self,
        detail: str,
        *,
        fields: tuple[FieldError, ...] = (),
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields
        self.retry_after_s = retry_after_s


class MalformedRequest(EasyPayError):
    """Not HTTP/1.1 that can be read in one way only: broken, or a header given twice."""

    code, http_status, title = "malformed_request", 400, "The request cannot be read"


class RequestTimeout(EasyPayError):
    """The request did not come whole in time. Nothing was done."""

    code, http_status, title = "request_timeout", 408, "The request took too long to arrive"


class HeadTooLarge(EasyPayError):
    """The request line and headers are too large. Nothing was done."""

    code, http_status, title = "head_too_large", 431, "The request's headers are too large"


class TooManyConnections(EasyPayError):
    """The client's address has too many connections open."""

    code, http_status, title = "too_many_connections", 503, "Too many connections"


class MalformedBody(EasyPayError):
    """The body is not JSON."""

    code, http_status, title = "malformed_body", 400, "The body is not valid JSON"


class IdempotencyKeyMissing(EasyPayError):
    """A money POST without an Idempotency-Key."""

    code, http_status, title = "idempotency_key_missing", 400, "An Idempotency-Key is required"


class IdempotencyKeyInvalid(EasyPayError):
    """An Idempotency-Key that is empty, too long or not printable."""

    code, http_status, title = "idempotency_key_invalid", 400, "The Idempotency-Key is not usable"


class InvalidApiKey(EasyPayError):
    """No key, or one that is unknown, expired or revoked."""

    code, http_status, title = "invalid_api_key", 401, "The API key is not valid"


class Forbidden(EasyPayError):
    """The key lacks the scope."""

    code, http_status, title = "forbidden", 403, "This key may not do that"


class NotFound(EasyPayError):
    """No such thing, or another merchant's: the two look the same."""

    code, http_status, title = "not_found", 404, "Not found"


class MethodNotAllowed(EasyPayError):
    """The path exists, the method does not."""

    code, http_status, title = "method_not_allowed", 405, "Method not allowed"


class InvalidState(EasyPayError):
    """The payment is not in a state that allows this."""

    code, http_status, title = "invalid_state", 409, "The payment does not allow this now"


class AmountExceedsAuthorized(EasyPayError):
    """More than was authorized."""

    code, http_status = "amount_exceeds_authorized", 409
    title = "The amount is more than was authorized"


class AmountExceedsCaptured(EasyPayError):
    """More than is left to refund."""

    code, http_status = "amount_exceeds_captured", 409
    title = "The amount is more than is left to refund"


class NotSettled(EasyPayError):
    """A part of a payment that has not settled cannot be refunded yet; all of it can."""

    code, http_status, title = "not_settled", 409, "The payment has not settled yet"


class RequestInProgress(EasyPayError):
    """The same key, or an operation on the same payment, is still running."""

    code, http_status, title = "request_in_progress", 409, "Still in progress"


class PreconditionFailed(EasyPayError):
    """If-Match names a version that is no longer current."""

    code, http_status, title = (
        "precondition_failed",
        412,
        "The payment has changed since you read it",
    )


class BodyTooLarge(EasyPayError):
    """More than 64 KiB."""

    code, http_status, title = "body_too_large", 413, "The body is too large"


class UnsupportedMediaType(EasyPayError):
    """Not application/json."""

    code, http_status, title = "unsupported_media_type", 415, "The body must be application/json"


class ValidationFailed(EasyPayError):
    """Fields that are unknown, missing or wrong; `fields` points at each."""

    code, http_status, title = "validation_failed", 422, "The request has invalid fields"


class IdempotencyKeyReused(EasyPayError):
    """The key was used before, for another request."""

    code, http_status = "idempotency_key_reused", 422
    title = "The Idempotency-Key was used for another request"


class ProcessorRejected(EasyPayError):
    """The processor answered and would not take the request. No money moved."""

    code, http_status, title = "processor_rejected", 502, "The processor refused the request"


class NotExecuted(EasyPayError):
    """Proven never to have reached the processor, and closed. To try again takes a new key."""

    code, http_status, title = "not_executed", 502, "The processor never received the request"


class ProcessorUnavailable(EasyPayError):
    """Proven never sent. Safe to repeat with the same key."""

    code, http_status, title = "processor_unavailable", 503, "The processor cannot be reached"


class Overloaded(EasyPayError):
    """Too much is waiting; nothing was written."""

    code, http_status, title = "overloaded", 503, "Too busy just now"


class DatabaseUnavailable(EasyPayError):
    """The database cannot be reached. Safe to repeat with the same key."""

    code, http_status, title = "database_unavailable", 503, "The database cannot be reached"


class Internal(EasyPayError):
    """A bug. Safe to repeat with the same key."""
