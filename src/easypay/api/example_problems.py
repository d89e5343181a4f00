"""An example of every refusal of every call, raised by the code that refuses where it can be."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec

from easypay import errors, ids
from easypay.api import (
    auth,
    exports,
    idempotency,
    notifications,
    paging,
    profiles,
    reconciliation,
    settlements,
)
from easypay.api.example_batches import BATCH_ID
from easypay.api.example_stories import stories
from easypay.api.examples import (
    AT,
    BREAK_ID,
    CUSTOMER_ID,
    ENDPOINT_ID,
    KEY_ID,
    MERCHANT_ID,
    METHOD_ID,
    PAYMENT_ID,
    REQUEST_ID,
    SALE,
    Example,
    Examples,
    example_id,
)
from easypay.api.http import BUG, UNREACHABLE, Request, decode, encode, sent_twice, too_large
from easypay.api.reading import NO_SUCH_KEY
from easypay.batches.model import why_not
from easypay.customers.model import Failure
from easypay.customers.refusals import NOT_STORED, why_failed
from easypay.errors import EasyPayError
from easypay.merchants.model import DUPLICATE_WINDOW_S
from easypay.mode import Mode
from easypay.payments.duplicates import duplicate_payment
from easypay.payments.refusals import archived, not_sent
from easypay.payments.requests import CardBody, CardMethod, CreatePayment, check_payment
from easypay.payments.restored import repeats_restored
from easypay.problems import problem
from easypay.processors.base import AccountRefusal, NotSent

_OTHER: Final = ids.typed(ids.PAYMENT, example_id(ids.PAYMENT, "another"))

# What is said where a refusal needs a database or a busy gateway to happen.
_DETAILS: Final[Mapping[type[EasyPayError], str]] = {
    errors.InvalidApiKey: "The key is unknown or was revoked.",
    errors.InvalidSignature: notifications.REFUSED,
    errors.AmountExceedsAuthorized: f"15000 is more than the 12500 authorized on {PAYMENT_ID}.",
    errors.AmountExceedsCaptured: (
        f"{PAYMENT_ID} has 1500 left to refund (2500 captured, 1000 refunded, 0 being refunded)."
    ),
    errors.PreconditionFailed: f"{PAYMENT_ID} is at version 3, not 2. Read it again.",
    errors.AlreadySettled: (
        f"{PAYMENT_ID} settled at 2026-11-24T00:00:12.000Z: refund it instead."
    ),
    errors.BodyTooLarge: too_large().detail,
    errors.IdempotencyKeyReused: (
        "This key belongs to another request, with another body or path. "
        "Use a new key for a new request."
    ),
    errors.ProcessorUnavailable: not_sent(Mode.TEST, NotSent(reason="connection refused")).detail,
    errors.ProcessorAccountRefused: not_sent(
        Mode.TEST, NotSent(reason="", account_refusal=AccountRefusal(code="E00007", message=""))
    ).detail,
    errors.Overloaded: (
        "2048 requests are waiting for the database; nothing was written. "
        "Repeat the request with the same Idempotency-Key."
    ),
    errors.DatabaseUnavailable: UNREACHABLE,
    errors.Internal: BUG,
    errors.MethodNotAllowed: "/api/v1/payments takes GET, POST, not DELETE.",
    errors.MalformedRequest: sent_twice("idempotency-key").detail,
    errors.RequestTimeout: errors.RequestTimeout.of("body", 20).detail,
    errors.HeadTooLarge: "The request's head has more than 16384 bytes. Send fewer headers.",
    errors.StatisticsNotReady: errors.StatisticsNotReady.now().detail,
    errors.TooManyConnections: errors.TooManyConnections.of_address().detail,
    errors.TooManyQueued: errors.TooManyQueued.of(20_000).detail,
    errors.TooManyUploads: (
        "2 uploads of this merchant are running, as many as may. Nothing was kept. Wait until one "
        "has ended and repeat the upload."
    ),
    errors.TooManyExports: (
        "2 exports of this merchant are running, and no more may. Nothing was read. Repeat the "
        "request when one of them has ended."
    ),
}

_NOT_FOUND: Final = {
    "payments": f"there is no payment {_OTHER}",
    "payments_get_refund": "there is no such refund",
    "payments_get_operation": "there is no such operation",
    "payments_key": NO_SUCH_KEY,
    "admin": f"there is no merchant {MERCHANT_ID}",
    "admin_rotate_key": f"there is no key {KEY_ID}",
    "admin_revoke_key": f"there is no key {KEY_ID}",
    "customers": f"there is no customer {CUSTOMER_ID}",
    **dict.fromkeys(
        (
            "customers_get_method",
            "customers_update_method",
            "customers_delete_method",
            "customers_validate_method",
        ),
        f"there is no payment method {METHOD_ID}",
    ),
    "webhooks_delivery": "there is no such delivery",
    "batches": f"there is no batch {BATCH_ID}",
    "settlements": settlements.NO_SUCH_BATCH,
    "settlements_of_payment": settlements.NO_SUCH_PAYMENT,
    "reconciliation": reconciliation.NO_SUCH_BREAK,
    "webhooks": f"there is no webhook endpoint {ENDPOINT_ID}",
    "system": "there is no such page; see /docs",
}
_STORED: Final[Mapping[type[EasyPayError], str]] = {
    errors.ProcessorRejected: "rejected",
    errors.ProcessorInvalidState: "invalid_state",
    errors.ProcessorNotSetUp: "not_set_up",
    errors.ProcessorNotReady: "not_ready",
    errors.NotExecuted: "absent",
    errors.NotSettled: "not_settled",
}
"""Refusals that a money flow keeps: the end of the story's name."""
_OF_CUSTOMERS: Final[Mapping[type[EasyPayError], str]] = {
    errors.ProcessorRejected: why_failed(Failure("expired_payment_token")),
    errors.NotExecuted: why_failed(Failure(NOT_STORED)),
    errors.ProcessorNotSetUp: "The processor example stores no payment methods.",
    errors.PreconditionFailed: (
        "The customer has changed since you read it: it has version 3 now. Read it, decide again, "
        "and send the new ETag."
    ),
    errors.RequestInProgress: (
        "The payment method is still being stored. Wait until the processor has answered."
    ),
    errors.ProcessorUnavailable: (
        "The processor cannot be reached: connection refused. Nothing was sent. Repeat the "
        "request, with the same Idempotency-Key if it has one."
    ),
}
_WRONG_STATE: Final = {
    "customers_validate_method": (
        "The payment method is making: only an active one can be validated."
    ),
    "payments_capture": f"{PAYMENT_ID} is captured; only an authorized payment can be captured.",
    "payments_void": f"{PAYMENT_ID} is declined and cannot be voided.",
    "payments_approve": f"{PAYMENT_ID} is captured; only a payment in review can be approved.",
    "payments_decline": f"{PAYMENT_ID} is captured; only a payment in review can be declined.",
    **{
        f"batches_{move}": why_not("done", move).detail
        for move in ("start", "pause", "resume", "cancel")
    },
    "payments_refund": f"{PAYMENT_ID} is authorized; only a captured payment can be refunded.",
    "reconciliation_match": f"{BREAK_ID} is cleared; only an open one can be matched.",
}
_BAD_BODIES: Final[Mapping[str, tuple[tuple[str, str, bytes], ...]]] = {
    "payments_create": (
        ("amount", "An amount of zero", encode({**SALE, "amount": 0})),
        ("unknown_field", "An unknown field", encode({**SALE, "colour": "red"})),
        ("missing_field", "A missing field", b'{"amount": 2500, "currency": "USD"}'),
    ),
    "payments_capture": (("amount", "An amount of zero", b'{"amount": 0}'),),
    "payments_void": (("unknown_field", "An unknown field", b'{"amount": 100}'),),
    "payments_approve": (("unknown_field", "An unknown field", b'{"amount": 100}'),),
    "payments_decline": (("unknown_field", "An unknown field", b'{"amount": 100}'),),
    "payments_refund": (("amount", "A fraction", b'{"amount": 10.5}'),),
    "customers_create": (("email", "No address", b'{"email": "ada"}'),),
    "customers_update": (("unknown_field", "An unknown field", b'{"mail": "ada@example.com"}'),),
    "customers_erase": (("references", "Not a boolean", b'{"references": "yes"}'),),
    "customers_store_method": (("missing_field", "No payment method", b"{}"),),
    "customers_update_method": (("month", "No month", b'{"exp_month": 13, "exp_year": 2031}'),),
    "customers_validate_method": (("cvc", "Too long", b'{"cvc": "12345"}'),),
    "batches_start": (("unknown_field", "An unknown field", b'{"line": 100}'),),
    "batches_pause": (("unknown_field", "An unknown field", b'{"line": 100}'),),
    "batches_resume": (("unknown_field", "An unknown field", b'{"line": 100}'),),
    "batches_cancel": (("unknown_field", "An unknown field", b'{"line": 100}'),),
    "reconciliation_match": (("reason", "No reason", b'{"reason": ""}'),),
    "webhooks_create": (("url", "No address", b'{"description": "shop"}'),),
    "webhooks_update": (("types", "Not a list", b'{"types": "payment.captured"}'),),
    "webhooks_rotate_secret": (("overlap", "A negative time", b'{"overlap_seconds": -1}'),),
    "webhooks_send_test": (("unknown_field", "An unknown field", b'{"type": "refund"}'),),
    "webhooks_redeliver": (("unknown_field", "An unknown field", b'{"event": "evt_1"}'),),
    "admin_create_merchant": (("name", "An empty name", b'{"name": ""}'),),
    "admin_update_merchant": (("name", "An empty name", b'{"name": ""}'),),
    "admin_set_account": (("unknown_field", "An unknown field", b'{"login": "5KP3u95bQpv"}'),),
    "admin_create_key": (("mode", "A mode that is not one", b'{"mode": "sandbox"}'),),
    "admin_rotate_key": (("overlap", "A negative time", b'{"overlap_seconds": -1}'),),
    "profiles_take": (("seconds", "Too long", b'{"seconds": 3600}'),),
}


def problem_examples(
    operation_id: str, scope: str | None, body: type | None, error: type[EasyPayError]
) -> Examples:
    """What the call (its id, its key's scope, its body) answers when it refuses in this way.

    Empty where it never does: a refund given up is a failed refund, not a problem.
    """
    if error is errors.ValidationFailed and body is not None:
        return _validation(operation_id, body)
    raised = _raised_for(operation_id, scope, error)
    value = _told(raised) if isinstance(raised, EasyPayError) else raised
    return {} if value is None else {error.code: Example(error.title, value)}


def _raised_for(operation_id: str, scope: str | None, error: type[EasyPayError]) -> Any:
    """The error, or the finished problem where a money flow stored one."""
    ending = _STORED.get(error)
    if operation_id.startswith("customers_") and (ending is not None or error in _OF_CUSTOMERS):
        return error(_OF_CUSTOMERS[error])
    if ending is not None:
        kind = operation_id.removeprefix("payments_")
        told = stories()[f"{kind}_{ending}"]
        return told.value if told.status == error.http_status else None
    if error is errors.NotFound:
        api = operation_id.partition("_")[0]
        return error(_NOT_FOUND.get(operation_id, _NOT_FOUND[api]))
    if error is errors.Archived:
        return archived(example_id(ids.PAYMENT, "another"), "2026_01", "cold-storage")
    if error is errors.ProcessorUnavailable and operation_id == "admin_set_account":
        return error(
            "The processor could not be asked whether the credentials are right (connection "
            "refused). Nothing was saved. Try again, or save them unchecked."
        )
    if error is errors.Overloaded and operation_id == "profiles_take":
        return error(profiles.ANOTHER)
    if error is errors.InvalidState:
        return error(_WRONG_STATE[operation_id])
    if error is errors.Forbidden:
        has = "payments:write" if scope == "payments:read" else "payments:read"
        return error(f"The key has the scopes {has}; this needs {scope}.")
    if error is errors.InvalidApiKey and scope == "admin":
        return _raised(lambda: auth.require_admin(_request(), None))
    if error is errors.DuplicatePayment:
        return duplicate_payment(example_id(ids.PAYMENT, "another"), DUPLICATE_WINDOW_S)
    if error is errors.RepeatsRestoredPayment:
        return repeats_restored(example_id(ids.PAYMENT, "another"), "60198432157", "charge")
    if error is errors.RequestInProgress:
        return error("The first request with this key is still running.")
    if error in _RAISERS:
        return _raised(_RAISERS[error])
    return error(_DETAILS[error])


def example_of(error: type[EasyPayError]) -> Any:
    """One example of it, from the first call that can give it."""
    for operation_id in (
        "payments_create",
        "payments_capture",
        "payments_refund",
        "system",
        "batches_upload",
    ):
        with suppress(KeyError):
            examples = problem_examples(operation_id, "payments:write", CreatePayment, error)
            for example in examples.values():
                return example.value
    raise AssertionError(f"no example of {error.code}")


def _validation(operation_id: str, body: type) -> Examples:
    code = errors.ValidationFailed.code
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(body)
    found = {
        f"{code}_{name}": Example(summary, _told(_raised(partial(decode, _request(sent), decoder))))
        for name, summary, sent in _BAD_BODIES[operation_id]
    }
    if body is CreatePayment:
        found[f"{code}_card"] = Example(
            "A mistyped card number, and an expired card", _told(_bad_card())
        )
        found[f"{code}_raw_cards"] = Example(
            "A raw card where only tokens are allowed", _told(_refused(raw_cards=False))
        )
        found[f"{code}_currency"] = Example(
            "A currency the account does not take", _told(_refused(currencies=("CAD", "EUR")))
        )
    return found


def _bad_card() -> EasyPayError:
    typo = CardMethod(CardBody(number="4111111111111112", exp_month=1, exp_year=2024, cvc="123"))
    return _refused(payment_method=typo)


def _refused(
    *, currencies: tuple[str, ...] = ("USD",), raw_cards: bool = True, **changed: Any
) -> EasyPayError:
    sale = msgspec.structs.replace(msgspec.convert(SALE, CreatePayment), **changed)
    return _raised(
        lambda: check_payment(sale, currencies=frozenset(currencies), raw_cards=raw_cards, at=AT)
    )


def _request(body: bytes = b"", headers: Mapping[bytes, bytes] | None = None) -> Request:
    sent = {b"content-type": b"application/json", b"authorization": b"Bearer no"}
    return Request("POST", "/", {}, sent if headers is None else headers, b"", body, REQUEST_ID)


_ANY: Final = msgspec.json.Decoder(dict[str, Any])
_RAISERS: Final[Mapping[type[EasyPayError], Callable[[], object]]] = {
    errors.NotAcceptable: lambda: exports.accepted("application/xml"),
    errors.MalformedBody: lambda: decode(_request(b'{"amount": 2500,}'), _ANY),
    errors.UnsupportedMediaType: lambda: decode(_request(b"amount=2500", {}), _ANY),
    errors.IdempotencyKeyMissing: lambda: idempotency.key_of(_request()),
    errors.IdempotencyKeyInvalid: lambda: idempotency.check_key(""),
    errors.ValidationFailed: lambda: paging.limit_of({"limit": "1000"}),
}


def _raised(call: Callable[[], object]) -> EasyPayError:
    try:
        call()
    except EasyPayError as error:
        return error
    raise AssertionError("an example of a refusal was not refused")


def _told(error: EasyPayError) -> Any:
    return msgspec.to_builtins(problem(error, request_id=REQUEST_ID))
