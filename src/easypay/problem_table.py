"""Every problem the API can answer, one row each: the errors, the docs and the tests read it here.

What a row says of keys and of repeating is what really happens: `tests/api/test_problem_table.py`
provokes each problem and does what the row says.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Repeat = Literal["no", "same_key", "new_key"]
"""May the request be sent again as it is? `no`: the answer would be the same. `same_key`: yes,
unchanged and with the same Idempotency-Key. `new_key`: the key goes on giving this answer, so
another attempt is a new request with a new key."""


class Row(NamedTuple):
    """What a client must know of one problem. `means` and `do` are a paragraph each."""

    status: int
    title: str
    kept: bool
    """Whether this answer is kept under the Idempotency-Key and given to every repeat."""
    repeat: Repeat
    retry_after_s: int | None
    """Seconds in the Retry-After that each such answer carries, unless it knows better."""
    means: str
    do: str


_NOTHING: Final = "Nothing was written and no money moved, so the same Idempotency-Key may be used."
_CORRECT: Final = f"Correct the request and send it again. {_NOTHING}"
_AGAIN: Final = "Wait for `Retry-After` seconds and repeat the request unchanged, with the same key"
_WHY: Final = (
    "`processor_code` and `processor_message` say why in the processor's words, `decline_code` in "
    "ours. No money moved. A payment that was to be made is `failed`, and `payment_id` names it."
)
_THEN_NEW: Final = "Then send a new request with a new key: the old key goes on giving this answer."

PROBLEMS: Final[Mapping[str, Row]] = {
    "malformed_request": Row(
        400, "The request cannot be read", False, "no", None,
        "The request is not HTTP/1.1 that can be read in one way only: its head or the framing of "
        "its body is broken, or a header that must be single, which `detail` names, came twice. "
        "Nothing was done.",
        f"Look at what your client or a proxy sends. {_CORRECT}",
    ),
    "request_timeout": Row(
        408, "The request took too long to arrive", False, "same_key", 1,
        "The head of a request must be whole within 10 seconds and its body within 20 more. The "
        "connection was closed, and nothing was done.",
        "Send the request again on a new connection.",
    ),
    "head_too_large": Row(
        431, "The request's headers are too large", False, "no", None,
        "The request line and the headers have more than 16 KiB together.",
        f"Send fewer or shorter headers, or a shorter path. {_CORRECT}",
    ),
    "too_many_connections": Row(
        503, "Too many connections", False, "same_key", 1,
        "Your address has as many connections open as one address may have.",
        "Keep connections open and use them again. An operator whose proxy this meets names its "
        "network in `EASYPAY_TRUSTED_PROXIES`.",
    ),
    "malformed_body": Row(
        400, "The body is not valid JSON", False, "no", None,
        "The body is missing or could not be read as JSON. `detail` says where it breaks off.",
        _CORRECT,
    ),
    "idempotency_key_missing": Row(
        400, "An Idempotency-Key is required", False, "no", None,
        "Every POST that moves money carries an `Idempotency-Key`, so that a repeated request "
        "cannot take the money twice.",
        "Make a value for each new request (a UUID will do), store it before you send, and send "
        "the same one whenever you repeat that request.",
    ),
    "idempotency_key_invalid": Row(
        400, "The Idempotency-Key is not usable", False, "no", None,
        "The key is empty, too long (`detail` gives the limit), not printable ASCII, or looks like "
        "a card number.",
        "Use a random value such as a UUID, without customer or card data in it.",
    ),
    "invalid_api_key": Row(
        401, "The API key is not valid", False, "no", None,
        "There is no key in the request, or it is mistyped, unknown, expired or revoked.",
        "Send `Authorization: Bearer` and the key. Under `/api/v1/admin` it is the gateway's admin "
        "key. If the key leaked or expired, make another and revoke this one.",
    ),
    "forbidden": Row(
        403, "This key may not do that", False, "no", None,
        "The key is good, and lacks the scope that this call needs. `detail` names both.",
        "Use a key with that scope.",
    ),
    "not_found": Row(
        404, "Not found", False, "no", None,
        "There is no such thing. What belongs to another merchant, or to the other mode (test or "
        "live), looks exactly the same.",
        "Check the id, and that the key is of the same merchant and mode.",
    ),
    "method_not_allowed": Row(
        405, "Method not allowed", False, "no", None,
        "The path exists, the method does not. The `Allow` header lists those that do.",
        "Correct the method.",
    ),
    "invalid_state": Row(
        409, "The payment does not allow this now", False, "no", None,
        "The payment is in a state in which this cannot be done: an authorized payment can be "
        "captured or voided, a captured one voided until it settles, and refunded, and one in "
        "review voided, approved or declined.",
        "Read the payment and decide by its `status`.",
    ),
    "amount_exceeds_authorized": Row(
        409, "The amount is more than was authorized", False, "no", None,
        "A capture can take what was authorized or less of it, never more.",
        "Capture at most `amount` of the payment. For more, take another payment.",
    ),
    "amount_exceeds_captured": Row(
        409, "The amount is more than is left to refund", False, "no", None,
        "All refunds of a payment together cannot be more than was captured. Refunds whose outcome "
        "is still open count too.",
        "Refund at most `captured_amount` less `refunded_amount`, and wait for refunds that are "
        "`processing`.",
    ),
    "not_settled": Row(
        409, "The payment has not settled yet", True, "new_key", None,
        "The payment was captured, and the processor has not settled it yet. Until it has, only a "
        "full refund is possible. No money moved.",
        "Refund the whole payment now (leave `amount` out), or this part after settlement, which "
        "is once a day. Either is a new request with a new key: the old key goes on giving this "
        "answer.",
    ),
    "processor_invalid_state": Row(
        409, "The processor does not allow this for the payment any more", True, "new_key", None,
        "At the processor the transaction is in a state in which this cannot be done: it was "
        f"voided, captured or refunded there, it settled, or it expired. {_WHY}",
        f"Read the payment and decide what is still wanted. {_THEN_NEW}",
    ),
    "processor_not_set_up": Row(
        409, "The processor account is not set up for this", True, "new_key", None,
        "The merchant's account at the processor is closed, not configured, or may not do this "
        f"kind of transaction. The request itself need not be wrong. {_WHY}",
        f"The operator or the processor's support must set the account up. {_THEN_NEW}",
    ),
    "processor_not_ready": Row(
        409, "The processor does not take transactions just now", True, "new_key", None,
        f"The processor answered that it cannot take this now, as during its maintenance. {_WHY}",
        f"Wait some minutes. {_THEN_NEW}",
    ),
    "not_executed": Row(
        409, "The request was not carried out", True, "new_key", None,
        "The request was never sent, or its answer was lost. Then it was proven that the processor "
        "had not done this, and the operation was closed. No money moved. It is 409 and no 5xx, "
        "because the same key can never give another answer.",
        "If it is still wanted, send a new request with a new key.",
    ),
    "request_in_progress": Row(
        409, "Still in progress", False, "same_key", 1,
        "The first request with this key is still running, or another operation on the same "
        "payment is.",
        f"{_AGAIN}.",
    ),
    "precondition_failed": Row(
        412, "The payment has changed since you read it", False, "no", None,
        "`If-Match` names a version of the payment that is no longer the current one: something "
        "happened to it since you read it.",
        "Read the payment, decide again, and send the new ETag.",
    ),
    "body_too_large": Row(
        413, "The body is too large", False, "no", None,
        "The body has more than 64 KiB.",
        f"Send less metadata. {_NOTHING}",
    ),
    "unsupported_media_type": Row(
        415, "The body must be application/json", False, "no", None,
        "The body was not sent as JSON.",
        f"Send `Content-Type: application/json`. {_NOTHING}",
    ),
    "validation_failed": Row(
        422, "The request has invalid fields", False, "no", None,
        "One or more fields are unknown, missing or wrong. `errors` points at each of them: "
        "`pointer` is a JSON pointer into the body, or `?name` for a query parameter.",
        _CORRECT,
    ),
    "idempotency_key_reused": Row(
        422, "The Idempotency-Key was used for another request", False, "new_key", None,
        "The key was used before, for a request with another body or path. Nothing was done.",
        "If this is a new request, give it a new key. If it was meant as a repetition, send "
        "exactly what was sent the first time.",
    ),
    "processor_rejected": Row(
        422, "The processor refused the request", True, "new_key", None,
        "The processor did not accept what was asked: the amount, the currency, the card or "
        f"another field. {_WHY}",
        f"Correct what `detail` names. {_THEN_NEW}",
    ),
    "internal": Row(
        500, "Something went wrong on our side", False, "same_key", 1,
        "The request met a bug in the gateway. It may or may not have been taken up before.",
        f"{_AGAIN}: it tells what became of the first. If the problem stays, give the operator "
        "the `request_id`.",
    ),
    "processor_account_refused": Row(
        502, "The processor refused the merchant's credentials", False, "same_key", 30,
        "The processor refused the login id, the transaction key or the account before it "
        "processed anything. The operator has been alerted. No money moved, and nothing is kept "
        "under the key.",
        f"{_AGAIN}, once the operator has corrected the account. An operation that is not repeated "
        "ends by itself after some minutes: the payment is then `failed`, or the answer "
        "`not_executed`.",
    ),
    "processor_unavailable": Row(
        503, "The processor cannot be reached", False, "same_key", 2,
        "The processor could not be reached. It is proven that the payment request never left: no "
        "money moved. Credentials that were to be checked were not saved.",
        f"{_AGAIN}. An operation that is not repeated ends by itself after some minutes: the "
        "payment is then `failed`, or the answer `not_executed`.",
    ),
    "overloaded": Row(
        503, "Too busy just now", False, "same_key", 1,
        "Too many requests are waiting. Nothing was written.",
        f"{_AGAIN}. Wait longer each time.",
    ),
    "database_unavailable": Row(
        503, "The database cannot be reached", False, "same_key", 2,
        "The database cannot be reached. The request may or may not have been taken up before.",
        f"{_AGAIN}: it finds out what became of the first. A new key could take the money twice.",
    ),
}  # fmt: skip
"""By code."""
