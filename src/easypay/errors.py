"""Requests that we refuse or cannot serve. A decline is an outcome, not an error.

Each class knows its code; `problem_table` has the rest, and `problems.py` renders it.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

from easypay.problem_table import PROBLEMS

MAX_FIELDS: Final = 20
"""Most bad fields that one refusal names."""


class FieldError:
    """One bad field: a JSON pointer into the body (`#/amount`), `?name` of the query or a header's
    name; a code, and what to do."""

    __slots__ = ("code", "detail", "pointer")

    def __init__(self, pointer: str, code: str, detail: str) -> None:
        self.pointer = pointer
        self.code = code
        self.detail = detail


def field_name(pointer: str) -> str:
    """Return a field's name for a sentence, from its pointer: `payment_method.card.number`."""
    return pointer[2:].replace("/", ".").replace("~1", "/").replace("~0", "~") or "The body"


class EasyPayError(Exception):
    """Base of every refusal. `detail` says what happened, why, and what to do."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = PROBLEMS["internal"].status
    title: ClassVar[str] = PROBLEMS["internal"].title

    def __init_subclass__(cls) -> None:
        cls.http_status, cls.title = PROBLEMS[cls.code][:2]

    def __init__(
        self,
        detail: str,
        *,
        fields: tuple[FieldError, ...] = (),
        retry_after_s: int | None = None,
        payment_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields
        self.payment_id = payment_id
        """The payment that the refusal is about, as the API shows it."""
        self.retry_after_s = retry_after_s or PROBLEMS[self.code].retry_after_s


class MalformedRequest(EasyPayError):
    """The request is not unambiguous HTTP/1.1: it is broken, or a header came twice."""

    code = "malformed_request"


class RequestTimeout(EasyPayError):
    """The request did not arrive completely in time. Nothing was done."""

    code = "request_timeout"

    @classmethod
    def of(cls, part: str, limit_s: float) -> "RequestTimeout":
        return cls(f"The request's {part} did not arrive completely within {limit_s:g} s.")


class HeadTooLarge(EasyPayError):
    """The request line and headers are too large. Nothing was done."""

    code = "head_too_large"


class TooManyConnections(EasyPayError):
    """The client's address has too many connections open."""

    code = "too_many_connections"

    @classmethod
    def of_address(cls) -> "TooManyConnections":
        return cls("Too many connections are open from your address. Close some of them.")


class MalformedBody(EasyPayError):
    """The body is not JSON."""

    code = "malformed_body"


class IdempotencyKeyMissing(EasyPayError):
    """A POST that moves money has no Idempotency-Key."""

    code = "idempotency_key_missing"


class IdempotencyKeyInvalid(EasyPayError):
    """The Idempotency-Key is empty, too long or not printable."""

    code = "idempotency_key_invalid"


class InvalidApiKey(EasyPayError):
    """The API key is missing, unknown, expired or revoked."""

    code = "invalid_api_key"


class InvalidSignature(EasyPayError):
    """A processor's notification is not signed with the key of the account."""

    code = "invalid_signature"


class Forbidden(EasyPayError):
    """The key lacks the scope."""

    code = "forbidden"


class NotFound(EasyPayError):
    """There is no such object, or it is another merchant's: the two look the same."""

    code = "not_found"


class Archived(EasyPayError):
    """The payment's month was archived. `archive` is where, in the operator's words."""

    code = "archived"

    def __init__(self, detail: str, *, archive: str | None = None) -> None:
        super().__init__(detail)
        self.archive = archive


class MethodNotAllowed(EasyPayError):
    """The path exists, but does not allow the method."""

    code = "method_not_allowed"


class NotAcceptable(EasyPayError):
    """The answer has none of the media types that Accept names."""

    code = "not_acceptable"


class InvalidState(EasyPayError):
    """The payment is not in a state that allows this."""

    code = "invalid_state"


class AmountExceedsAuthorized(EasyPayError):
    """The amount is more than was authorized."""

    code = "amount_exceeds_authorized"


class AmountExceedsCaptured(EasyPayError):
    """The amount is more than is left to refund."""

    code = "amount_exceeds_captured"


class NotSettled(EasyPayError):
    """The payment has not settled yet; until then only a full refund is possible."""

    code = "not_settled"


class AlreadySettled(EasyPayError):
    """The payment has settled, so it cannot be voided; it can be refunded."""

    code = "already_settled"


class DuplicatePayment(EasyPayError):
    """The payment looks like one made shortly before, and the merchant rejects duplicates."""

    code = "duplicate_payment"


class RepeatsRestoredPayment(EasyPayError):
    """The request asks for what a restore had lost and the processor has done already."""

    code = "repeats_restored_payment"


class RequestInProgress(EasyPayError):
    """The same key, or an operation on the same payment, is still running."""

    code = "request_in_progress"


class PreconditionFailed(EasyPayError):
    """If-Match names a version that is no longer current."""

    code = "precondition_failed"


class BodyTooLarge(EasyPayError):
    """The body is larger than 64 KiB."""

    code = "body_too_large"


class UnsupportedMediaType(EasyPayError):
    """The body is not application/json."""

    code = "unsupported_media_type"


class ValidationFailed(EasyPayError):
    """Some fields are unknown, missing or wrong; `fields` points at each."""

    code = "validation_failed"
    readable: object = None
    """The body as far as it could be read, for rules that types cannot express."""

    @classmethod
    def of(cls, fields: Sequence[FieldError], readable: object = None) -> "ValidationFailed":
        """Return one refusal of all these fields. It names at most MAX_FIELDS of them."""
        named = tuple(fields[:MAX_FIELDS])
        error = cls(" ".join(field.detail for field in named), fields=named)
        error.readable = readable
        return error


class IdempotencyKeyReused(EasyPayError):
    """The key was used before, for another request."""

    code = "idempotency_key_reused"


class ProcessorRejected(EasyPayError):
    """The processor did not accept the amount, the currency, the card or another field."""

    code = "processor_rejected"


class ProcessorInvalidState(EasyPayError):
    """The transaction's state at the processor no longer allows this."""

    code = "processor_invalid_state"


class ProcessorNotSetUp(EasyPayError):
    """The merchant's account at the processor is closed, or not configured for this."""

    code = "processor_not_set_up"


class ProcessorNotReady(EasyPayError):
    """The processor answered that it takes no transactions just now."""

    code = "processor_not_ready"


class NotExecuted(EasyPayError):
    """The operation is proven not carried out, and closed. Another attempt needs a new key."""

    code = "not_executed"


class ProcessorAccountRefused(EasyPayError):
    """The processor refused our credentials or account and processed nothing. Nothing is stored."""

    code = "processor_account_refused"


class ProcessorUnavailable(EasyPayError):
    """The request is proven never sent. Safe to repeat with the same key."""

    code = "processor_unavailable"


class TooManyExports(EasyPayError):
    """As many exports of the merchant are running as may."""

    code = "too_many_exports"


class TooManyUploads(EasyPayError):
    """As many uploads of the merchant are running as may. Nothing was kept."""

    code = "too_many_uploads"


class TooManyQueued(EasyPayError):
    """As many requests of the merchant are queued as may be. Nothing was written."""

    code = "too_many_queued"

    @classmethod
    def of(cls, most: int) -> "TooManyQueued":
        return cls(
            f"{most} of your requests are queued, as many as may be; nothing was written. Repeat "
            "the request with the same Idempotency-Key when some were sent, or send it without "
            "Prefer: respond-async."
        )


class Overloaded(EasyPayError):
    """Too many requests are waiting; nothing was written."""

    code = "overloaded"


class DatabaseUnavailable(EasyPayError):
    """The database cannot be reached. Safe to repeat with the same key."""

    code = "database_unavailable"


class StatisticsNotReady(EasyPayError):
    """The statistics are being counted for the first time, or again."""

    code = "statistics_not_ready"

    @classmethod
    def now(cls) -> "StatisticsNotReady":
        return cls("The statistics are being counted. Ask again in some seconds.")


class Internal(EasyPayError):
    """A bug. Safe to repeat with the same key."""
