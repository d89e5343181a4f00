"""What a transaction's status means for each kind of operation: one table.

The statuses are those of getTransactionDetails. A sale, an authorization, a refund and a held
transaction are judged by their own status, a capture and a void by that of the transaction they
change. The last column is for the payment that a refund returns.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, cast, get_args

from easypay.processors import books

Kind = Literal["authorize", "sale", "refund", "capture", "void", "review"]
Column = Kind | Literal["payment"]
Meaning = Literal[
    "done", "part", "held", "declined", "gone", "by_code", "absent", "impossible", "unclear"
]
PaymentMeaning = Literal["voided", "unsettled", "settling", "other", "unclear"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
COLUMNS: Final[tuple[Column, ...]] = (*KINDS, "payment")

MEANINGS: Final[Mapping[Meaning | PaymentMeaning, str]] = {
    "done": "done, if the amount agrees",
    "part": "approved in part, the rest not requested yet",
    "held": "held for review",
    "declined": "declined",
    "gone": "voided or expired: no money moves",
    "by_code": "decided by its response and reason codes",
    "absent": "not done (yet)",
    "impossible": "not done, and no longer possible",
    "unclear": "proves nothing: inquire again",
    "voided": "voided: the money was returned",
    "unsettled": "captured, and a void is still possible",
    "settling": "too late for a void, too early for a refund",
    "other": "not voided; a refusal to refund it stands",
}

_TABLE: Final = """
status                      authorize sale     refund   capture    void       review   payment
authorizedPendingCapture    done      unclear  unclear  absent     absent     done     other
capturedPendingSettlement   done      done     unclear  done       absent     done     unsettled
authorizedPendingRelease    part      part     unclear  absent     absent     unclear  other
pendingSettlement           done      done     done     done       absent     done     unsettled
approvedReview              done      done     done     unclear    absent     done     unsettled
updatingSettlement          unclear   unclear  unclear  unclear    unclear    unclear  settling
pendingFinalSettlement      done      done     done     done       impossible done     settling
settledSuccessfully         done      done     unclear  done       impossible done     other
settlementError             unclear   unclear  unclear  unclear    unclear    unclear  other
refundPendingSettlement     unclear   unclear  done     unclear    absent     done     unclear
refundSettledSuccessfully   unclear   unclear  done     unclear    impossible done     unclear
underReview                 held      held     held     unclear    absent     held     other
FDSPendingReview            held      held     held     unclear    absent     held     other
FDSAuthorizedPendingReview  held      held     held     unclear    absent     held     other
failedReview                declined  declined declined impossible impossible declined other
declined                    declined  declined declined impossible impossible declined other
expired                     gone      gone     gone     impossible impossible declined other
voided                      gone      gone     gone     impossible done       declined voided
couldNotVoid                unclear   unclear  unclear  unclear    unclear    unclear  other
generalError                by_code   by_code  by_code  unclear    unclear    unclear  other
communicationError          by_code   by_code  by_code  unclear    unclear    unclear  other
returnedItem                done      done     unclear  done       impossible done     other
chargeback                  done      done     unclear  done       impossible done     other
chargebackReversal          done      done     unclear  done       impossible done     other
"""


def _read() -> dict[str, dict[str, str]]:
    head, *rows = (line.split() for line in _TABLE.strip().splitlines())
    assert tuple(head[1:]) == COLUMNS
    return {status: dict(zip(COLUMNS, meanings, strict=True)) for status, *meanings in rows}


STATUSES: Final = _read()
"""Each status that Authorize.Net names, and its meaning by column."""


def meaning(status: str, kind: Kind) -> Meaning:
    """Return what a status means for one kind of operation; `unclear` for an unknown status."""
    found = STATUSES.get(status)
    return "unclear" if found is None else cast(Meaning, found[kind])


def payment_meaning(status: str) -> PaymentMeaning:
    """Return what a status means for the payment that a refund returns."""
    found = STATUSES.get(status)
    return "unclear" if found is None else cast(PaymentMeaning, found["payment"])


class InBooks(NamedTuple):
    """What a status means for the money, and whose it is if the status tells: a charge's or a
    refund's."""

    meaning: books.Meaning
    kind: books.MoneyKind | None


_IN_BOOKS: Final = """
authorizedPendingCapture    authorized          charge
authorizedPendingRelease    authorized          charge
capturedPendingSettlement   captured            charge
refundPendingSettlement     captured            refund
pendingSettlement           captured            -
approvedReview              captured            -
updatingSettlement          captured            -
pendingFinalSettlement      captured            -
couldNotVoid                captured            -
settledSuccessfully         settled             charge
refundSettledSuccessfully   settled             refund
settlementError             failed              -
returnedItem                returned            -
chargeback                  charged_back        charge
chargebackReversal          chargeback_reversed charge
underReview                 held                -
FDSPendingReview            held                -
FDSAuthorizedPendingReview  held                -
failedReview                declined            -
declined                    declined            -
generalError                declined            -
communicationError          declined            -
expired                     expired             -
voided                      voided              -
"""


def _read_books() -> dict[str, InBooks]:
    rows = (line.split() for line in _IN_BOOKS.strip().splitlines())
    return {
        status: InBooks(
            cast(books.Meaning, meaning),
            None if kind == "-" else cast(books.MoneyKind, kind),
        )
        for status, meaning, kind in rows
    }


IN_BOOKS: Final = _read_books()
"""What each status means in the processor's books."""
_UNCLEAR: Final = InBooks("unclear", None)


def in_books(status: str) -> InBooks:
    """Return what a status means in the books; `unclear` for an unknown status."""
    return IN_BOOKS.get(status, _UNCLEAR)
