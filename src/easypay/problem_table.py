"""Every problem that the API can answer, one row each, for the errors, the docs and the tests.

What a row says about keys and repeats is tested: `tests/api/test_problem_table.py` provokes each
problem and does what the row says.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Repeat = Literal["no", "same_key", "new_key"]
"""May the request be sent again as it is? `no`: the answer would be the same. `same_key`: yes,
unchanged and with the same Idempotency-Key. `new_key`: the key keeps giving this answer, so
another attempt is a new request with a new key."""


class Row(NamedTuple):
    """What a client must know about one problem. `means` and `do` are a paragraph each."""

    status: int
    title: str
    kept: bool
    """Whether this answer is stored under the Idempotency-Key and given to every repeat."""
    repeat: Repeat
    retry_after_s: int | None
    """Seconds in the Retry-After header of each such answer, unless the error sets its own."""
    means: str
    do: str


_NOTHING: Final = "Nothing was written and no money moved, so the same Idempotency-Key may be used."
_CORRECT: Final = f"Correct the request and send it again. {_NOTHING}"
_AGAIN: Final = "Wait for `Retry-After` seconds and repeat the request unchanged, with the same key"
_WHY: Final = (
    "`processor_code` and `processor_message` give the processor's reason, `decline_code` gives "
    "EasyPay's. No money moved. If this was a new payment, it is `failed`: `payment_id` names it."
)
_THEN_NEW: Final = "Then send a new request with a new key: the old key keeps giving this answer."

PROBLEMS: Final[Mapping[str, Row]] = {
    "malformed_request": Row(
        400, "The request cannot be read", False, "no", None,
        "The request is not unambiguous HTTP/1.1: its head or the framing of its body is broken, "
        "or a header that must be single came twice (`detail` names it). Nothing was done.",
        f"Check what your client or a proxy sends. {_CORRECT}",
    ),
    "request_timeout": Row(
        408, "The request took too long to arrive", False, "same_key", 1,
        "The head of a request must arrive within 10 seconds and its body within 20 more. The "
        "connection was closed, and nothing was done.",
        "Send the request again on a new connection.",
    ),
    "head_too_large": Row(
        431, "The request's headers are too large", False, "no", None,
        "The request line and the headers together are larger than 16 KiB.",
        f"Send fewer or shorter headers, or a shorter path. {_CORRECT}",
    ),
    "too_many_connections": Row(
        503, "Too many connections", False, "same_key", 1,
        "Your IP address has the most connections open that one address may have.",
        "Keep connections open and reuse them. If your requests come through a proxy, the operator "
        "must add the proxy's network to `EASYPAY_TRUSTED_PROXIES`.",
    ),
    "malformed_body": Row(
        400, "The body is not valid JSON", False, "no", None,
        "The body is missing or is not valid JSON. `detail` says where the error is.",
        _CORRECT,
    ),
    "idempotency_key_missing": Row(
        400, "An Idempotency-Key is required", False, "no", None,
        "Every POST that moves money needs an `Idempotency-Key`, so that a repeated request "
        "cannot take the money twice.",
        "Create a value for each new request (a UUID will do), store it before you send, and send "
        "the same value whenever you repeat that request.",
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
        "Send `Authorization: Bearer` and the key. Under `/api/v1/admin` send the gateway's admin "
        "key. If the key leaked or expired, create a new one and revoke this one.",
    ),
    "invalid_signature": Row(
        401, "The signature is not valid", False, "no", None,
        "A notification came whose body is not signed with the signature key of the account in the "
        "path, or there is no such account. Only the processor's servers send notifications.",
        "Set the account again with its signature key, as the processor's merchant interface shows "
        "it, and let the processor send the notification again.",
    ),
    "forbidden": Row(
        403, "This key may not do that", False, "no", None,
        "The key is valid, but lacks the scope that this call needs. `detail` names both.",
        "Use a key with that scope.",
    ),
    "not_found": Row(
        404, "Not found", False, "no", None,
        "There is no such object. An object of another merchant, or of the other mode (test or "
        "live), gets the same answer.",
        "Check the id, and that the key belongs to the same merchant and mode.",
    ),
    "archived": Row(
        410, "The payment is archived", False, "no", None,
        "The payments of that month were moved out of the database. They are in the archive that "
        "`archive` names. Archived payments are in no list and cannot change. Every id of such a "
        "month gets this answer, whether or not there was a payment with it. Nothing was sent.",
        "Ask the operator of the gateway for the archive, or to restore the month. After a restore "
        "the same request works.",
    ),
    "method_not_allowed": Row(
        405, "Method not allowed", False, "no", None,
        "The path does not allow this method. The `Allow` header lists those that it allows.",
        "Correct the method.",
    ),
    "not_acceptable": Row(
        406, "No such format", False, "no", None,
        "The `Accept` header names no format that this call can give. `detail` lists those that it "
        "can.",
        "Send one of them as `Accept`, or no such header.",
    ),
    "invalid_state": Row(
        409, "The payment does not allow this now", False, "no", None,
        "The payment's status, or the batch's state, does not allow this. An authorized payment "
        "can be captured or voided; a captured one can be refunded, or voided until it settles; "
        "one in review can be voided, approved or declined.",
        "Read the payment and decide by its `status`, or the batch and decide by its `state`.",
    ),
    "amount_exceeds_authorized": Row(
        409, "The amount is more than was authorized", False, "no", None,
        "A capture can take the authorized amount or less, never more.",
        "Capture at most `amount` of the payment. For more, create another payment.",
    ),
    "amount_exceeds_captured": Row(
        409, "The amount is more than is left to refund", False, "no", None,
        "All refunds of a payment together cannot be more than was captured. Refunds whose outcome "
        "is still open count too.",
        "Refund at most `captured_amount` minus `refunded_amount`, and wait for refunds that are "
        "`processing`.",
    ),
    "not_settled": Row(
        409, "The payment has not settled yet", True, "new_key", None,
        "The payment was captured, and the processor has not settled it yet. Until it has, only a "
        "full refund is possible. No money moved.",
        "Refund the whole payment now (leave `amount` out), or this part after settlement, which "
        "happens once a day. Either is a new request with a new key: the old key keeps giving this "
        "answer.",
    ),
    "already_settled": Row(
        409, "The payment has settled", False, "no", None,
        "The payment was paid out with its batch, so it cannot be voided any more. The processor "
        f"was not asked. {_NOTHING}",
        "Refund it instead: all of it or a part.",
    ),
    "processor_invalid_state": Row(
        409, "The processor does not allow this for the payment any more", True, "new_key", None,
        "The transaction's state at the processor does not allow this: it was voided, captured or "
        f"refunded there, it settled, or it expired. {_WHY}",
        f"Read the payment and decide what is still wanted. {_THEN_NEW}",
    ),
    "processor_not_set_up": Row(
        409, "The processor account is not set up for this", True, "new_key", None,
        "The merchant's account at the processor is closed, not configured, or may not do this "
        f"kind of transaction. The request itself may be correct. {_WHY}",
        f"The operator or the processor's support must set the account up. {_THEN_NEW}",
    ),
    "processor_not_ready": Row(
        409, "The processor does not take transactions just now", True, "new_key", None,
        f"The processor answered that it cannot take this now, such as during maintenance. {_WHY}",
        f"Wait some minutes. {_THEN_NEW}",
    ),
    "not_executed": Row(
        409, "The request was not carried out", True, "new_key", None,
        "The request was never sent, or its answer was lost. Then it was proven that the processor "
        "had not done this, and the operation was closed. No money moved. The status is 409 and "
        "not 5xx, because the same key can never give another answer.",
        "If you still want it, send a new request with a new key.",
    ),
    "duplicate_payment": Row(
        409, "The payment looks like another one", False, "no", None,
        "A payment with the same card or bank account, amount, currency and order reference began "
        "shortly before, under another key. `payment_id` names it. The merchant's setting "
        "`duplicates: reject` refuses the second one. Nothing was sent, and the key is unused.",
        "If the customer wants both, send the request again with the header `Allow-Duplicate: "
        "true`, with the same key. If the first payment is declined, fails or is voided, or when "
        "the merchant's window has passed, the same request goes through without the header.",
    ),
    "repeats_restored_payment": Row(
        409, "The request repeats a restored payment", False, "no", None,
        "The gateway's database was restored from a copy, and the keys of the requests since then "
        "are lost. This one asks for the same as a charge or refund that the processor has done: "
        "the same order reference, amount, currency and last four digits, as far as they are "
        "known. `payment_id` names the payment, if it could be told. Nothing was sent, and the "
        "key is unused.",
        "If it is the same purchase, go on with the payment that `payment_id` names: its id may be "
        "another one than you were told before. If you want both, send the request again with the "
        "header `Allow-Duplicate: true`.",
    ),
    "request_in_progress": Row(
        409, "Still in progress", False, "same_key", 1,
        "The first request with this key is still running, or another operation on the same "
        "payment is.",
        f"{_AGAIN}.",
    ),
    "precondition_failed": Row(
        412, "The payment has changed since you read it", False, "no", None,
        "`If-Match` names a version of the payment that is no longer current: the payment has "
        "changed since you read it.",
        "Read the payment, decide again, and send the new ETag.",
    ),
    "body_too_large": Row(
        413, "The body is too large", False, "no", None,
        "The body is larger than 64 KiB, or the file of a batch is larger than `detail` says.",
        f"Send less metadata, or split the file. {_NOTHING}",
    ),
    "unsupported_media_type": Row(
        415, "The body has the wrong media type", False, "no", None,
        "The body was not sent as JSON, or the file of a batch as neither JSON lines nor CSV.",
        f"Send the `Content-Type` that `detail` names. {_NOTHING}",
    ),
    "validation_failed": Row(
        422, "The request has invalid fields", False, "no", None,
        "One or more fields are unknown, missing or wrong. `errors` points at each of them: "
        "`pointer` is a JSON pointer into the body, `?name` for a query parameter, or the name of "
        "a header.",
        _CORRECT,
    ),
    "idempotency_key_reused": Row(
        422, "The Idempotency-Key was used for another request", False, "new_key", None,
        "The key was used before, for a request with another body or path. Nothing was done.",
        "If this is a new request, give it a new key. If it repeats the first request, send that "
        "request exactly as it was.",
    ),
    "processor_rejected": Row(
        422, "The processor refused the request", True, "new_key", None,
        f"The processor did not accept the amount, the currency, the card or another field. {_WHY}",
        f"Correct what `detail` names. {_THEN_NEW}",
    ),
    "internal": Row(
        500, "Something went wrong on our side", False, "same_key", 1,
        "A bug in the gateway stopped the request. It may or may not have been carried out.",
        f"{_AGAIN}: the answer tells what became of it. If the problem stays, give the operator "
        "the `request_id`.",
    ),
    "processor_account_refused": Row(
        502, "The processor refused the merchant's credentials", False, "same_key", 30,
        "The processor refused the login id, the transaction key or the account before it "
        "processed anything. The operator has been alerted. No money moved, and nothing is stored "
        "under the key.",
        f"{_AGAIN}, once the operator has corrected the account. An operation that is not repeated "
        "ends by itself after some minutes: the payment is then `failed`, or the answer "
        "`not_executed`.",
    ),
    "processor_unavailable": Row(
        503, "The processor cannot be reached", False, "same_key", 2,
        "The processor could not be reached. The payment request was never sent, which is proven: "
        "no money moved. If credentials were to be checked, they were not saved.",
        f"{_AGAIN}. An operation that is not repeated ends by itself after some minutes: the "
        "payment is then `failed`, or the answer `not_executed`.",
    ),
    "overloaded": Row(
        503, "Too busy just now", False, "same_key", 1,
        "Too many requests are waiting. Nothing was written.",
        f"{_AGAIN}. Wait longer each time.",
    ),
    "too_many_exports": Row(
        429, "Too many exports at once", False, "same_key", 10,
        "As many exports of the merchant are running as may, in all gateway processes together.",
        "Wait until one has ended, and repeat the request. Export a month at a time, one after "
        "another.",
    ),
    "too_many_uploads": Row(
        429, "Too many uploads at once", False, "same_key", 10,
        "As many uploads of batches of the merchant are running as may, in all gateway processes "
        "together. Nothing was kept.",
        f"{_AGAIN}, when one of them has ended.",
    ),
    "too_many_queued": Row(
        429, "Too many requests are queued", False, "same_key", 5,
        "As many requests of the merchant wait to be sent as may (`Prefer: respond-async`). "
        "Nothing was written.",
        f"{_AGAIN}, or without `Prefer: respond-async`. A repeat of a request that was accepted "
        "before is answered all the same.",
    ),
    "database_unavailable": Row(
        503, "The database cannot be reached", False, "same_key", 2,
        "The database cannot be reached. The request may or may not have been carried out.",
        f"{_AGAIN}: the answer tells what became of it. A new key could take the money twice.",
    ),
    "statistics_not_ready": Row(
        503, "The statistics are being counted", False, "same_key", 10,
        "The statistics are counted for the first time, or again, from all that has happened. That "
        "takes about a minute for a million payments. Payments are not affected.",
        "Ask again after `Retry-After` seconds.",
    ),
}  # fmt: skip
"""By code."""
