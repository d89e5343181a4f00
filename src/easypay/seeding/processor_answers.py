"""What the processor said about seeded operations: its codes, texts and checks. Pure.

The codes go through the same tables as those of real replies.
"""

from itertools import accumulate
from typing import Final, NamedTuple

from easypay.payments.outcome_changes import Evidence
from easypay.processors.authorize_net.reason_meanings import (
    NOT_REFUNDABLE,
    REVIEW_DECLINED,
    decline_code,
    retry,
)
from easypay.processors.authorize_net.reason_texts import REASONS
from easypay.processors.authorize_net.replies import checks_of
from easypay.processors.base import (
    Absent,
    Approved,
    AvsMatch,
    CvvMatch,
    Declined,
    HeldForReview,
    Rejected,
)

APPROVED: Final = Approved(transaction_id="", code="1", message=REASONS["1"])
VOIDED: Final = Approved(transaction_id="", code="1", message=REASONS["1"], voided=True)
HELD: Final = HeldForReview(transaction_id="", code="252", message=REASONS["252"])
SEARCHED: Final = "the account's lists of unsettled and settled transactions"
ABSENT: Final = Absent(searched=SEARCHED)
NO_ANSWER: Final = "no answer before the deadline"


def _declined(code: str) -> Declined:
    word = decline_code(code)
    return Declined(decline_code=word, code=code, message=REASONS[code], retry=retry(word))


def _rejected(code: str) -> Rejected:
    word = decline_code(code, "3")
    return Rejected(decline_code=word, code=code, message=REASONS[code], retry=retry(word))


_DECLINES: Final = {
    "2": 620, "3": 40, "4": 12, "8": 70, "27": 80, "41": 15, "44": 70, "45": 15, "65": 45,
    "200": 8, "250": 15, "251": 10,
}  # fmt: skip
"""How often each reason comes, in a thousand declines: mostly without a reason."""
DECLINES: Final = [_declined(code) for code in _DECLINES]
DECLINES_SUMS: Final = list(accumulate(_DECLINES.values()))
REJECTIONS: Final = [_rejected(code) for code in ("6", "17", "37", "49", "78")]
REFUND_REJECTED: Final = _rejected(NOT_REFUNDABLE)
REVIEW_ENDED: Final = _declined(REVIEW_DECLINED)


class Checks(NamedTuple):
    """The issuer's checks of address and card code: letters and our words."""

    avs_result: str | None
    cvv_result: str | None
    avs: AvsMatch | None
    cvv: CvvMatch | None


def _checks(avs: str | None, cvv: str | None) -> Checks:
    read = checks_of(avs, cvv)
    return Checks(read["avs_result"], read["cvv_result"], read["avs"], read["cvv"])


_AVS: Final = {"Y": 70, "Z": 8, "A": 6, "U": 6, "N": 4, "S": 2, "G": 4}
_CVV: Final = {"M": 88, "P": 9, "U": 2, "N": 1}
CHECKS: Final = [_checks(avs, cvv) for avs in _AVS for cvv in _CVV]
CHECKS_SUMS: Final = list(accumulate(a * c for a in _AVS.values() for c in _CVV.values()))
BANK_CHECKS: Final = _checks("P", None)
_FAILED_CHECKS: Final = {"27": ("N", "M"), "44": ("Y", "N"), "65": ("Y", "N"), "45": ("N", "N")}
FAILED_CHECKS: Final = {code: _checks(*letters) for code, letters in _FAILED_CHECKS.items()}
"""The checks that belong to a decline because of them, by its code."""


def evidence(finding: str, at: str, *, inquiries: int = 0) -> Evidence:
    """Return why an outcome is believed: by the resolver, or by a reply that says nothing."""
    source = "inquiry" if inquiries else "reply"
    return Evidence(source=source, finding=finding, inquiries=inquiries, at=at)
