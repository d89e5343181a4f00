"""The questions about the processor's books, and what the replies say. Pure.

A list that cannot be read completely is `Unreadable`: half a list explains nothing.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from easypay.processors.authorize_net import reporting, statuses, wire
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.authorize_net.reporting import PAGE_SIZE, Unreadable
from easypay.processors.base import Account, NotSent, Unknown
from easypay.processors.books import (
    BookedTransaction,
    BookLine,
    BrandFigures,
    MoneyKind,
    ReturnedItem,
    SettledBatch,
)

Method = Literal["card", "bank_account"]
Heard = Reply | NotSent | Unknown

_METHODS: Final[Mapping[str, Method]] = {"creditCard": "card", "eCheck": "bank_account"}
_PAID_WITH: Final[Mapping[str, Method]] = {"creditCard": "card", "bankAccount": "bank_account"}
_REFUND: Final = "refundTransaction"
_ASKED: Final[Mapping[str, Literal["sale", "authorize", "refund"]]] = {
    "authCaptureTransaction": "sale",
    "authOnlyTransaction": "authorize",
    "priorAuthCaptureTransaction": "authorize",  # as a captured authorization is shown
    _REFUND: "refund",
}
_FIGURES: Final = {
    "charged_minor": "chargeAmount",
    "charges": "chargeCount",
    "refunded_minor": "refundAmount",
    "refunds": "refundCount",
    "voids": "voidCount",
    "declines": "declineCount",
    "errors": "errorCount",
    "returned_minor": "returnedItemAmount",
    "returns": "returnedItemCount",
    "charged_back_minor": "chargebackAmount",
    "chargebacks": "chargebackCount",
    "charges_returned_minor": "chargeReturnedItemsAmount",
    "charges_returned": "chargeReturnedItemsCount",
    "refunds_returned_minor": "refundReturnedItemsAmount",
    "refunds_returned": "refundReturnedItemsCount",
    "charges_charged_back_minor": "chargeChargeBackAmount",
    "charges_charged_back": "chargeChargeBackCount",
    "refunds_charged_back_minor": "refundChargeBackAmount",
    "refunds_charged_back": "refundChargeBackCount",
}


class LinesPage(NamedTuple):
    """A page of a list. `shown` counts its lines, those without a transaction too."""

    lines: list[BookLine]
    shown: int
    total: int | None


# questions


def merchant(account: Account, reference: str) -> bytes:
    return reporting.question("getMerchantDetailsRequest", account, reference, {})


def batches(account: Account, reference: str, since: datetime, until: datetime) -> bytes:
    fields: dict[str, object] = {
        "includeStatistics": True,
        "firstSettlementDate": reporting.utc_text(int(since.timestamp() * 1000)),
        "lastSettlementDate": reporting.utc_text(int(until.timestamp() * 1000)),
    }
    return reporting.question("getSettledBatchListRequest", account, reference, fields)


def batch(account: Account, reference: str, batch_id: str, page: int) -> bytes:
    fields = {"batchId": batch_id, **_by_id(page)}
    return reporting.question("getTransactionListRequest", account, reference, fields)


def unsettled(account: Account, reference: str, page: int, *, held: bool) -> bytes:
    fields = ({"status": "pendingApproval"} if held else {}) | _by_id(page)
    return reporting.question("getUnsettledTransactionListRequest", account, reference, fields)


def _by_id(page: int) -> dict[str, object]:
    """What is new comes at the end, so that it moves no page."""
    return {
        "sorting": {"orderBy": "id", "orderDescending": False},
        "paging": {"limit": PAGE_SIZE, "offset": page},
    }


# answers


def read_currencies(reply: Heard, reference: str) -> list[str] | Unreadable:
    answer = reporting.answered(reply, reference)
    if isinstance(answer, Unreadable):
        return answer
    listed = answer.get("currencies")
    if not isinstance(listed, list):
        return Unreadable("no currencies in the reply")
    return [each for each in listed if isinstance(each, str) and len(each) == 3]


def read_batches(reply: Heard, reference: str, currency: str) -> list[SettledBatch] | Unreadable:
    answer = reporting.answered(reply, reference)
    if isinstance(answer, Unreadable):
        return answer
    listed = reporting.list_named(answer, "batchList")
    if isinstance(listed, Unreadable):
        return listed
    found: list[SettledBatch] = []
    for item in wire.records(listed):
        batch_id = wire.identifier(item.get("batchId"))
        settled_at = _moment(item.get("settlementTimeUTC"))
        state = wire.short(item.get("settlementState"), 64)
        figures = [_figures(each, currency) for each in wire.records(item.get("statistics"))]
        if batch_id is None or settled_at is None or None in figures:
            return Unreadable("a line of the batch list cannot be read")
        found.append(
            SettledBatch(
                batch_id=batch_id,
                settled_at=settled_at,
                state=state or "",
                closed=state in ("settledSuccessfully", "settlementError"),
                method=_METHODS.get(str(item.get("paymentMethod"))),
                statistics=[each for each in figures if each is not None],
            )
        )
    if len(found) < len(listed):
        return Unreadable("a line of the batch list cannot be read")
    return found


def _figures(item: dict[str, Any], currency: str) -> BrandFigures | None:
    found: dict[str, Any] = {"brand": wire.short(item.get("accountType"), 64) or ""}
    for field, theirs in _FIGURES.items():
        value = item.get(theirs)
        value = 0 if value is None else value
        known = _minor(value, currency) if field.endswith("_minor") else value
        if not isinstance(known, int):
            return None
        found[field] = abs(known)
    return BrandFigures(**found)


def read_lines(reply: Heard, reference: str, currency: str) -> LinesPage | Unreadable:
    answer = reporting.answered(reply, reference)
    if isinstance(answer, Unreadable):
        return answer
    listed = reporting.list_named(answer, "transactions")
    if isinstance(listed, Unreadable):
        return listed
    lines: list[BookLine] = []
    for item in listed:
        if not isinstance(item, dict):
            return Unreadable("a line of the transaction list cannot be read")
        if item.get("transId") in ("0", 0):
            continue  # an error that never became a transaction
        read = _line(item, currency)
        if read is None:
            return Unreadable("a line of the transaction list cannot be read")
        lines.append(read)
    total = answer.get("totalNumInResultSet")
    return LinesPage(lines, len(listed), total if isinstance(total, int) else None)


def _line(item: dict[str, Any], currency: str) -> BookLine | None:
    transaction_id = wire.identifier(item.get("transId"))
    status = wire.short(item.get("transactionStatus"), 64)
    amount = _minor(item.get("settleAmount"), currency)
    if transaction_id is None or status is None or amount is None:
        return None
    meaning, kind = statuses.in_books(status)
    brand, last4 = wire.card(item.get("accountType"), item.get("accountNumber"))
    return BookLine(
        transaction_id,
        status,
        meaning,
        "refund" if amount < 0 else kind,
        wire.short(item.get("invoiceNumber"), 64),
        abs(amount),
        currency,
        brand,
        last4,
        _moment(item.get("submitTimeUTC")),
    )


def read_transaction(
    reply: Heard, reference: str, transaction_id: str, currency: str
) -> BookedTransaction | Unreadable:
    details = reporting.read_details(reply, reference, transaction_id)
    answer = reporting.answered(reply, reference)
    if isinstance(details, Unreadable) or isinstance(answer, Unreadable):
        return details if isinstance(details, Unreadable) else Unreadable("no answer")
    shown = answer["transaction"]
    meaning, _ = statuses.in_books(details.status)
    amount = _minor(details.settle_amount, currency)
    if amount is None:
        return Unreadable("the details name no amount")
    kind: MoneyKind = "refund" if details.type == _REFUND or amount < 0 else "charge"
    batch = _object(shown.get("batch"))
    line = BookLine(
        transaction_id,
        details.status,
        meaning,
        kind,
        wire.short(details.invoice_number, 64),
        abs(amount),
        currency,
        details.answer.card_brand,
        details.answer.card_last4,
        _moment(shown.get("submitTimeUTC")),
    )
    return BookedTransaction(
        line,
        details.type,
        _ASKED.get(details.type or ""),
        next(
            (_PAID_WITH[name] for name in _PAID_WITH if name in _object(shown.get("payment"))), None
        ),
        wire.short(_object(shown.get("order")).get("purchaseOrderNumber"), 64),
        _minor(details.auth_amount, currency),
        details.answer,
        details.parent_id,
        wire.identifier(batch.get("batchId")),
        _moment(batch.get("settlementTimeUTC")),
        [_returned(each) for each in wire.records(_items(shown.get("returnedItems")))],
    )


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: object) -> object:
    """XML's wrapper of a list, as some answers in JSON have it too."""
    return value.get("returnedItem") if isinstance(value, dict) and "id" not in value else value


def _returned(item: dict[str, Any]) -> ReturnedItem:
    return ReturnedItem(
        wire.printable(item.get("id"), 32),
        wire.short(item.get("code")),
        wire.clean(item.get("description")),
        _moment(item.get("dateUTC")),
    )


def _minor(value: object, currency: str) -> int | None:
    return wire.amount_minor(value, currency or "USD")


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
