"""Judge what a reply proves: pure functions from what came over the wire to an outcome.

Nothing in a reply can raise: what cannot be read is unknown, because money may have moved.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypedDict, assert_never

from msgspec.structs import asdict

from easypay.money import Money
from easypay.processors.authorize_net import reason_meanings, wire
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.authorize_net.message_codes import API_REJECTED
from easypay.processors.base import (
    AccountAccepted,
    AccountCheck,
    AccountRefusal,
    AccountUnreachable,
    Approved,
    AvsMatch,
    CvvMatch,
    Declined,
    HeldForReview,
    NotSent,
    Outcome,
    Rejected,
    Unknown,
    answer_of,
)

Kind = Literal["authorize", "capture", "void", "refund", "approve", "end"]
"""What was requested; `approve` and `end` are a reviewer's decisions on a held transaction."""


def outcome(
    reply: Reply | NotSent | Unknown,
    reference: str,
    *,
    kind: Kind = "authorize",
    currency: str | None = None,
    parent: str | None = None,
) -> Outcome:
    """Return what a reply to createTransaction or updateHeldTransaction proves. Never raises.

    `parent`: the transaction that a capture, void or review names; an approval, and the end of a
    review, must name it too. An authorization may be approved for less than was asked: then the
    code is 295 or the amount is lower.
    """
    if not isinstance(reply, Reply):
        return reply
    answer = wire.decode(reply)
    if isinstance(answer, Unknown):
        return answer
    echoed = answer.get("refId")
    if echoed is not None and echoed != reference:
        return Unknown(reason="the reply carries another reference")
    response = answer.get("transactionResponse")
    if response is None:
        return _api_failure(answer, kind)
    if not isinstance(response, dict):
        return Unknown(reason="an unreadable transaction response")
    if response.get("responseCode") is None and response.get("transId") is None:
        return _api_failure(answer, kind)  # some schema errors carry an empty response
    response_code = wire.scalar(response.get("responseCode"))
    if response_code is None:
        return Unknown(reason="a transaction response without a readable code")
    return _judged(response, response_code, kind, currency, parent)


def _judged(
    response: dict[str, Any],
    response_code: str,
    kind: Kind,
    currency: str | None,
    parent: str | None,
) -> Outcome:
    reason, message = _reason(response)
    judge = reason_meanings.end_of_review_verdict if kind == "end" else reason_meanings.verdict
    match verdict := judge(response_code, reason):
        case "approved":
            return _approved(response, reason, message, currency, parent)
        case "approved_in_part" if kind == "authorize":
            return _approved(response, reason, message, currency, parent)
        case "done_before" if kind == "void" and reason == reason_meanings.ALREADY_VOIDED:
            return _voided_before(response, message, parent)
        case "declined":
            return _declined(response, response_code, reason, message, kind, parent)
        case "rejected" if _refuses_account(response, response_code, reason):
            return _account_refused(reason or "", message or "")
        case "rejected":
            word = reason_meanings.decline_code(reason, response_code)
            return Rejected(
                code=reason or response_code,
                message=message or "",
                decline_code=word,
                retry=reason_meanings.retry(word),
            )
        case "held_for_review":
            return _held(response, reason, message)
        case "approved_in_part" | "done_before" | "unknown":
            return _unclear(response, response_code, reason, message)
        case _:
            assert_never(verdict)


def _refuses_account(response: dict[str, Any], response_code: str, reason: str | None) -> bool:
    """Return whether our account was refused before a transaction was made."""
    return (
        response_code == "3"
        and reason == reason_meanings.ACCOUNT_REFUSED_REASON
        and wire.identifier(response.get("transId")) is None
    )


def _account_refused(code: str, message: str) -> NotSent:
    return NotSent(
        reason=f"the processor refused our account: {code} {message}"[:255],
        account_refusal=AccountRefusal(code=code, message=message),
    )


def _approved(
    response: dict[str, Any],
    reason: str | None,
    message: str | None,
    currency: str | None,
    parent: str | None,
) -> Approved | Unknown:
    fields = _answer_fields(response, reason, message)
    transaction_id = fields["transaction_id"]
    if transaction_id is None:
        return Unknown(reason="approved, but without a transaction id")
    if parent is not None and parent not in (
        transaction_id,
        wire.identifier(response.get("refTransID")),
    ):
        return Unknown(reason=f"approved, but for transaction {transaction_id}")
    amount = _prepaid_amount(response, currency)
    if isinstance(amount, Unknown):
        return amount
    return Approved(amount_minor=amount, **fields)


def _voided_before(
    response: dict[str, Any], message: str | None, parent: str | None
) -> Approved | Unknown:
    """Count an already voided transaction as success. The reply's own id may be 0."""
    named = {wire.identifier(response.get(name)) for name in ("transId", "refTransID")}
    if parent is None or not named <= {parent, None}:
        return Unknown(
            reason="voided before, but another transaction", code=reason_meanings.ALREADY_VOIDED
        )
    return Approved(transaction_id=parent, code=reason_meanings.ALREADY_VOIDED, message=message)


def _declined(
    response: dict[str, Any],
    response_code: str,
    reason: str | None,
    message: str | None,
    kind: Kind,
    parent: str | None,
) -> Declined | Unknown:
    transaction_id = wire.identifier(response.get("transId"))
    word = reason_meanings.decline_code(reason)
    if kind == "end" and response_code == "1":
        if parent not in (transaction_id, wire.identifier(response.get("refTransID"))):
            return Unknown(reason=f"ended, but transaction {transaction_id}")
        reason, transaction_id = reason_meanings.REVIEW_DECLINED, parent
        word = reason_meanings.decline_code(reason)
    fields = _answer_fields(response, reason or response_code, message or "")
    fields["transaction_id"] = transaction_id
    fields["auth_code"] = None
    return Declined(decline_code=word, retry=reason_meanings.retry(word), **fields)


def _held(
    response: dict[str, Any], reason: str | None, message: str | None
) -> HeldForReview | Unknown:
    fields = _answer_fields(response, reason, message)
    if fields["transaction_id"] is None:
        return Unknown(reason="held for review, but without a transaction id")
    return HeldForReview(**fields)


def _unclear(
    response: dict[str, Any], response_code: str, reason: str | None, message: str | None
) -> Unknown:
    transaction_id = wire.identifier(response.get("transId"))
    kind = "duplicate: " if reason == reason_meanings.DUPLICATE else ""
    original = f"; names transaction {transaction_id}" if transaction_id else ""
    return Unknown(
        reason=f"{kind}response {response_code}, reason {reason}: {message or ''}{original}",
        code=reason or None,
    )


def _api_failure(answer: dict[str, Any], kind: Kind) -> Rejected | NotSent | Unknown:
    ok, found = wire.top_level(answer)
    verdict = "unknown" if ok else reason_meanings.api_verdict(code for code, _ in found)
    if verdict == "account_refused":
        return _account_refused(*found[0])
    if verdict == "rejected":
        code, message = next(each for each in found if each[0] in API_REJECTED)
        word, advice = API_REJECTED[code]
        if word == "transaction_not_found" and kind == "authorize":
            word, advice = "stored_method_not_found", "other_method"  # the only record it names
        return Rejected(
            code=code, message=message, decline_code=word, retry=reason_meanings.RETRY[advice]
        )
    text = "; ".join(f"{code} {message}" for code, message in found)
    return Unknown(
        reason=f"no transaction response: {text}"[:255], code=found[0][0] or None if found else None
    )


def account_check(reply: Reply | NotSent | Unknown, reference: str) -> AccountCheck:
    """Return what a reply to authenticateTest says about the credentials. Never raises."""
    if not isinstance(reply, Reply):
        return AccountUnreachable(reason=reply.reason)
    answer = wire.decode(reply)
    if isinstance(answer, Unknown):
        return AccountUnreachable(reason=answer.reason)
    if answer.get("refId") not in (None, reference):
        return AccountUnreachable(reason="the reply carries another reference")
    ok, found = wire.top_level(answer)
    if ok:
        return AccountAccepted()
    if reason_meanings.api_verdict(code for code, _ in found) != "unknown":
        return AccountRefusal(code=found[0][0], message=found[0][1])
    text = "; ".join(f"{code} {message}" for code, message in found) or "an answer without a code"
    return AccountUnreachable(reason=text[:255])


def _reason(response: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the code and text of the first error, else of the first message."""
    if errors := response.get("errors"):
        for item in wire.records(errors):
            return wire.scalar(item.get("errorCode")) or "", wire.clean(item.get("errorText"))
    for item in wire.records(response.get("messages")):
        return wire.scalar(item.get("code")) or "", wire.clean(item.get("description"))
    return None, None


def _answer_fields(
    response: dict[str, Any], reason: str | None, message: str | None
) -> dict[str, Any]:
    """Return the `ProcessorAnswer` fields that every transaction response has."""
    brand, last4 = wire.card(response.get("accountType"), response.get("accountNumber"))
    return {
        "transaction_id": wire.identifier(response.get("transId")),
        "auth_code": wire.auth_code(response.get("authCode")),
        "code": reason,
        "message": message,
        "network_transaction_id": wire.network_id(response.get("networkTransId")),
        "card_brand": brand,
        "card_last4": last4,
        **checks_of(response.get("avsResultCode"), response.get("cvvResultCode")),
    }


def _prepaid_amount(response: dict[str, Any], currency: str | None) -> int | Unknown | None:
    """Return the amount approved on a prepaid card, which may be less than was asked."""
    prepaid = response.get("prePaidCard") or {}
    approved = prepaid.get("approvedAmount") if isinstance(prepaid, dict) else prepaid
    if approved in (None, "") or currency is None:
        return None
    amount = wire.amount_minor(approved, currency)
    if amount is None or amount <= 0:
        return Unknown(reason="approved for an unreadable amount")
    return amount


# the issuer's checks ----------------------------------------------------------------------------

# A letter that we do not know has no word; the letter itself is kept.
AVS: Final[Mapping[str, AvsMatch]] = {
    "A": AvsMatch.ADDRESS_ONLY,
    "B": AvsMatch.NOT_PROVIDED,
    "E": AvsMatch.ERROR,
    "G": AvsMatch.INTERNATIONAL,
    "N": AvsMatch.NO_MATCH,
    "P": AvsMatch.NOT_APPLICABLE,
    "R": AvsMatch.RETRY,
    "S": AvsMatch.NOT_SUPPORTED,
    "U": AvsMatch.UNAVAILABLE,
    "W": AvsMatch.POSTAL_CODE_ONLY,
    "X": AvsMatch.FULL_MATCH,
    "Y": AvsMatch.FULL_MATCH,
    "Z": AvsMatch.POSTAL_CODE_ONLY,
}

CVV: Final[Mapping[str, CvvMatch]] = {
    "M": CvvMatch.MATCH,
    "N": CvvMatch.NO_MATCH,
    "P": CvvMatch.NOT_PROCESSED,
    "S": CvvMatch.SHOULD_HAVE_BEEN_PRESENT,
    "U": CvvMatch.UNAVAILABLE,
}


class Checks(TypedDict):
    """The fields of a `ProcessorAnswer` about the checks."""

    avs_result: str | None
    cvv_result: str | None
    avs: AvsMatch | None
    cvv: CvvMatch | None


def checks_of(avs: object, cvv: object) -> Checks:
    """Return the two results, as received and in our words. They may be anything."""
    avs_result, cvv_result = wire.letter(avs), wire.letter(cvv)
    return {
        "avs_result": avs_result,
        "cvv_result": cvv_result,
        "avs": AVS.get(avs_result) if avs_result else None,
        "cvv": CVV.get(cvv_result) if cvv_result else None,
    }


# less than was asked ----------------------------------------------------------------------------

# A prepaid card may be approved for its balance only. A payment is all or nothing, so that part is
# voided, and the payment is declined only once the void is certain.


def falls_short(outcome: Outcome, amount_minor: int) -> bool:
    """Return whether an authorization or sale of `amount_minor` was approved for less. A reply
    that says "partially" without an amount counts."""
    if not isinstance(outcome, Approved):
        return False
    if outcome.amount_minor is None:
        return outcome.code == reason_meanings.PARTIAL
    return outcome.amount_minor < amount_minor


def after_partial_void(approved: Approved, voided: Outcome, currency: str) -> Declined | Unknown:
    """Return the outcome of a partial approval, given the outcome of its void."""
    if not isinstance(voided, Approved):
        why = getattr(voided, "reason", None) or getattr(voided, "message", "")
        return Unknown(
            reason=f"approved in part as {approved.transaction_id}; its void: "
            f"{type(voided).__name__} {why}"[:255],
            code=approved.code,
        )
    return partial_decline(approved, currency)


def partial_decline(approved: Approved, currency: str) -> Declined:
    """Return the decline, once no money is held any more."""
    part = "a part of the amount"
    if approved.amount_minor is not None:
        part = f"only {Money(approved.amount_minor, currency).decimal_string()} {currency}"
    fields = asdict(answer_of(approved)) | {
        "auth_code": None,
        "decline_code": "insufficient_funds",
        "code": approved.code or reason_meanings.PARTIAL,
        "message": f"The card was approved for {part}, which was released.",
        "retry": reason_meanings.retry("insufficient_funds"),
    }
    return Declined(**fields)
