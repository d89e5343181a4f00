"""What to do about each problem: the words behind /problems/{code}. One for every error class."""

from collections.abc import Mapping
from typing import Final

import msgspec

from easypay import errors
from easypay.errors import EasyPayError


class Advice(msgspec.Struct, frozen=True):
    """`retry` is the short answer; `means` and `do` are a paragraph each, `code` in backticks."""

    retry: str
    means: str
    do: str


NO: Final = "No"
SAME_KEY: Final = "Yes, with the same key"
NEW_KEY: Final = "Once corrected, with a new key"

_CORRECT: Final = "Correct the request and send it again. Nothing was written and no money moved"

_ADVICE: Final[Mapping[str, Advice]] = {
    "malformed_request": Advice(
        NO,
        "The request is not HTTP/1.1 that can be read in one way only: its head or the framing of "
        "its body is broken, or a header that must be single, which `detail` names, came twice. "
        "Nothing was done.",
        f"Look at what your client or a proxy sends. {_CORRECT}.",
    ),
    "request_timeout": Advice(
        SAME_KEY,
        "The head of a request must be whole within 10 seconds and its body within 20 more. The "
        "connection was closed, and nothing was done.",
        "Send the request again on a new connection.",
    ),
    "head_too_large": Advice(
        NO,
        "The request line and the headers have more than 16 KiB together.",
        f"Send fewer or shorter headers, or a shorter path. {_CORRECT}.",
    ),
    "too_many_connections": Advice(
        SAME_KEY,
        "Your address has as many connections open as one address may have.",
        "Keep connections open and use them again. An operator whose proxy this meets names its "
        "network in `EASYPAY_TRUSTED_PROXIES`.",
    ),
    "malformed_body": Advice(
        NO,
        "The body is missing or could not be read as JSON. `detail` says where it breaks off.",
        f"{_CORRECT}, so the same Idempotency-Key may be used.",
    ),
    "idempotency_key_missing": Advice(
        NO,
        "Every POST that moves money carries an `Idempotency-Key`, so that a repeated request "
        "cannot take the money twice.",
        "Make a value for each new request (a UUID will do), store it before you send, and send "
        "the same one whenever you repeat that request.",
    ),
    "idempotency_key_invalid": Advice(
        NO,
        "The key is empty, longer than 255 characters, not printable ASCII, or looks like a card "
        "number.",
        "Use a random value such as a UUID, without customer or card data in it.",
    ),
    "invalid_api_key": Advice(
        NO,
        "There is no key in the request, or it is mistyped, unknown, expired or revoked.",
        "Send `Authorization: Bearer` and the key. Under `/api/v1/admin` it is the gateway's admin "
        "key. If the key leaked or expired, make another and revoke this one.",
    ),
    "forbidden": Advice(
        NO,
        "The key is good, and lacks the scope that this call needs. `detail` names both.",
        "Use a key with that scope.",
    ),
    "not_found": Advice(
        NO,
        "There is no such thing. What belongs to another merchant, or to the other mode (test or "
        "live), looks exactly the same.",
        "Check the id, and that the key is of the same merchant and mode.",
    ),
    "method_not_allowed": Advice(
        NO,
        "The path exists, the method does not. The `Allow` header lists those that do.",
        "Correct the method.",
    ),
    "invalid_state": Advice(
        NO,
        "The payment is in a state in which this cannot be done: an authorized payment can be "
        "captured or voided, a captured one voided until it settles, and refunded, and one in "
        "review voided.",
        "Read the payment and decide by its `status`.",
    ),
    "amount_exceeds_authorized": Advice(
        NO,
        "A capture can take what was authorized or less of it, never more.",
        "Capture at most `amount` of the payment. For more, take another payment.",
    ),
    "amount_exceeds_captured": Advice(
        NO,
        "All refunds of a payment together cannot be more than was captured. Refunds whose outcome "
        "is still open count too.",
        "Refund at most `captured_amount` less `refunded_amount`, and wait for refunds that are "
        "`processing`.",
    ),
    "not_settled": Advice(
        "All of it now, or this part later; with a new key",
        "The payment was captured, and the processor has not settled it yet. Until it has, all of "
        "it can be given back and no part of it. No money moved.",
        "Refund all that was captured now (with the body `{}`), or this part after settlement, "
        "which is once a day.",
    ),
    "request_in_progress": Advice(
        SAME_KEY,
        "The first request with this key is still running, or another operation on the same "
        "payment is.",
        "Wait for `Retry-After` seconds and repeat the request unchanged.",
    ),
    "precondition_failed": Advice(
        NO,
        "`If-Match` names a version of the payment that is no longer the current one: something "
        "happened to it since you read it.",
        "Read the payment, decide again, and send the new ETag.",
    ),
    "body_too_large": Advice(
        NO,
        "The body has more than 64 KiB.",
        f"Send less metadata. {_CORRECT}.",
    ),
    "unsupported_media_type": Advice(
        NO,
        "The body was not sent as JSON.",
        "Send `Content-Type: application/json`.",
    ),
    "validation_failed": Advice(
        NO,
        "One or more fields are unknown, missing or wrong. `errors` points at each of them: "
        "`pointer` is a JSON pointer into the body, or `?name` for a query parameter.",
        f"{_CORRECT}, so the same Idempotency-Key may be used.",
    ),
    "idempotency_key_reused": Advice(
        NO,
        "The key was used before, for a request with another body or path. Nothing was done.",
        "If this is a new request, give it a new key. If it was meant as a repetition, send "
        "exactly what was sent the first time.",
    ),
    "processor_rejected": Advice(
        NEW_KEY,
        "The processor answered, and would not take the request. No money moved. "
        "`processor_code` and `processor_message` say why in its own words, `decline_code` in "
        "ours.",
        "Correct the cause: the card, the amount, or the processor account. Then send a new "
        "request with a new key; the old key goes on giving this answer.",
    ),
    "not_executed": Advice(
        "Yes, with a new key",
        "The outcome was unknown at first; then it was proven that the processor never received "
        "the request, and the operation was closed.",
        "If it is still wanted, send a new request with a new key.",
    ),
    "processor_unavailable": Advice(
        SAME_KEY,
        "The processor could not be reached, and it is proven that the request never left. No "
        "money moved.",
        "Wait for `Retry-After` seconds and repeat the request unchanged.",
    ),
    "overloaded": Advice(
        SAME_KEY,
        "Too many requests are waiting. Nothing was written.",
        "Wait for `Retry-After` seconds, longer each time, and repeat the request unchanged.",
    ),
    "database_unavailable": Advice(
        SAME_KEY,
        "The database cannot be reached. The request may or may not have been taken up before.",
        "Wait for `Retry-After` seconds and repeat the request unchanged: the key finds out what "
        "became of the first. A new key could take the money twice.",
    ),
    "internal": Advice(
        SAME_KEY,
        "The request met a bug in the gateway. It may or may not have been taken up before.",
        "Repeat the request unchanged: the key finds out what became of the first. If it stays, "
        "give the operator the `request_id`.",
    ),
}


def advice_on(error: type[EasyPayError]) -> Advice:
    """What to do about this error."""
    return _ADVICE[error.code]


def problems() -> list[type[EasyPayError]]:
    """Every error the API can answer, by status and code."""
    found = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, EasyPayError) and kind is not EasyPayError
    ]
    return sorted(found, key=lambda error: (error.http_status, error.code))
