"""What Authorize.Net's reason codes mean to us: pure tables.

`responseCode` (1 approved, 2 declined, 3 error, 4 held) and the reason code decide; the top-level
`resultCode` never does. If a code leaves open whether money moved, the verdict is "unknown" and an
inquiry decides: waiting is cheap, a second charge is not.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from easypay.processors.authorize_net.message_codes import ACCOUNT_REFUSED, API_REJECTED, Advice
from easypay.processors.authorize_net.reason_texts import REASONS, codes_in
from easypay.processors.base import Retry

Verdict = Literal[
    "approved",
    "approved_in_part",
    "done_before",
    "declined",
    "rejected",
    "held_for_review",
    "unknown",
]

DUPLICATE: Final = "11"
ALREADY_VOIDED: Final = "310"
ALREADY_CAPTURED: Final = "311"
PARTIAL: Final = "295"
NOT_REFUNDABLE: Final = "54"
NOT_VOIDABLE: Final = "327"
REVIEW_DECLINED: Final = "254"
ACCOUNT_REFUSED_REASON: Final = "13"
"""With responseCode 3 and no transaction: our credentials or account were refused."""


def _codes(spec: str) -> frozenset[str]:
    return frozenset(codes_in(spec))


NOTHING_HAPPENED: Final = _codes("310 311")
"""Sent with responseCode 1, although they only say: already voided, already captured."""

MONEY_MAY_HAVE_MOVED: Final = _codes("0 11 36 52 152 235 295 307 318 2103 2106")
"""Duplicates (an original exists), "approved but …", "done before" and the unnamed error."""

TRY_AGAIN: Final = _codes("19-23 25 26 57-63 120-122 180 181 192 261")
"""The link between Authorize.Net and the acquirer failed: the issuer may have approved."""

_DECLINE_CODES: Final[Mapping[str, tuple[frozenset[str], Advice]]] = {
    "generic_decline": (_codes("2 191 202-224"), "later"),
    "call_issuer": (_codes("3"), "other_method"),
    "pick_up_card": (_codes("4"), "never"),
    "invalid_card_number": (_codes("6 37 200 315"), "corrected"),
    "invalid_expiry": (_codes("7 201 316"), "corrected"),
    "expired_card": (_codes("8 317"), "other_method"),
    "invalid_cvc": (_codes("78"), "corrected"),
    "cvc_mismatch": (_codes("44 65 165"), "corrected"),
    "address_mismatch": (_codes("27 127"), "corrected"),
    "address_or_cvc_mismatch": (_codes("45"), "corrected"),
    "fraud_suspected": (_codes("41 141 145 250 251 254"), "never"),
    "transaction_not_allowed": (_codes("66 128"), "other_method"),
    "card_not_accepted": (_codes("17 28 56 155 289"), "other_method"),
    "invalid_payment_token": (_codes("153 156"), "other_method"),
    "invalid_bank_account": (_codes("9 10 71"), "corrected"),
    "bank_account_not_accepted": (_codes("18 243 244 246 247"), "other_method"),
    "invalid_amount": (_codes("5 49"), "corrected"),
    "currency_not_supported": (_codes("39"), "never"),
    "transaction_not_found": (_codes("15 16 308 319"), "never"),
    "amount_exceeds_authorization": (_codes("47"), "corrected"),
    "not_refundable": (_codes("50 54"), "later"),
    "amount_exceeds_captured": (_codes("51 55"), "never"),
    "not_approved": (_codes("64"), "never"),
    "not_voidable": (_codes("175 260 327 340"), "never"),
    "invalid_state": (_codes("298 304 306 334"), "never"),
    "duplicate": (_codes("11 318"), "never"),
    "processor_unavailable": (TRY_AGAIN | _codes("131 132 901"), "later"),
    "account_not_set_up": (
        _codes("13 24 29-32 34 35 38 43 67 87 90 114 115 123 130 154 170-174 2001"),
        "after_setup",
    ),
}

_DECLINE_CODE_OF: Final = {
    reason: word for word, (reasons, _) in _DECLINE_CODES.items() for reason in reasons
}

RETRY_ADVICE: Final[Mapping[str, Advice]] = {
    word: advice for word, (_, advice) in _DECLINE_CODES.items()
} | {
    "generic_error": "corrected",
    "insufficient_funds": "other_method",  # a prepaid card approved for less than was asked
    "stored_method_not_found": "other_method",
}
"""What a merchant may do next, by our decline code. `later`: the same request may work at another
time; `corrected`: with other data; `other_method`: with another card; `after_setup`: once the
merchant's account is corrected; `never`: not at all."""

RETRY: Final[Mapping[Advice, Retry]] = {
    "never": "never",
    "other_method": "fix_data",
    "corrected": "fix_data",
    "later": "later",
    "after_setup": "later",
}
"""The same, in the three words that an outcome carries."""


def verdict(response_code: str, reason: str | None) -> Verdict:
    """Return what the two codes of a transactionResponse prove."""
    if response_code == "1":
        if reason in NOTHING_HAPPENED:
            return "done_before"
        if reason == PARTIAL:
            return "approved_in_part"
        return "approved" if reason in (None, "1") else "unknown"
    if response_code == "2":
        return "unknown" if reason in MONEY_MAY_HAVE_MOVED else "declined"
    if response_code == "3":
        if reason not in REASONS or reason in MONEY_MAY_HAVE_MOVED or reason in TRY_AGAIN:
            return "unknown"
        return "unknown" if reason in ("1", *NOTHING_HAPPENED) else "rejected"
    if response_code == "4":
        if reason == PARTIAL:
            return "approved_in_part"
        return "unknown" if reason in MONEY_MAY_HAVE_MOVED else "held_for_review"
    return "unknown"


def end_of_review_verdict(response_code: str, reason: str | None) -> Verdict:
    """Return the same for a reviewer's end of a held transaction: a success or a decline."""
    if response_code == "1":
        return "declined" if reason in (None, "1", REVIEW_DECLINED) else "unknown"
    return verdict(response_code, reason)


def api_verdict(codes: Iterable[str]) -> Literal["account_refused", "rejected", "unknown"]:
    """Return what a reply without a transactionResponse proves, by all its message codes."""
    given = set(codes)
    if given and given <= ACCOUNT_REFUSED.keys():
        return "account_refused"
    known = given and given <= ACCOUNT_REFUSED.keys() | API_REJECTED.keys()
    return "rejected" if known else "unknown"


def decline_code(reason: str | None, response_code: str = "2") -> str:
    """Return our decline code for a reason code; a generic one if none fits better."""
    if reason is not None and reason in _DECLINE_CODE_OF:
        return _DECLINE_CODE_OF[reason]
    return "generic_decline" if response_code == "2" else "generic_error"


def retry(word: str) -> Retry:
    """Return what may be done after a refusal with this decline code."""
    return RETRY[RETRY_ADVICE[word]]
