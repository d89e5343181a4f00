"""The reporting calls of an inquiry: pure functions from a question to bytes and from a reply to
facts.

A reply that cannot be read completely is `Unreadable`: half a list proves nothing absent.
"""

from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import msgspec

from easypay.processors.authorize_net import wire
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.authorize_net.messages import authentication
from easypay.processors.authorize_net.replies import checks_of
from easypay.processors.base import Account, NotSent, ProcessorAnswer, Unknown

PAGE_SIZE: Final = 1000
"""The most transactions that Authorize.Net puts on one page."""

NO_RECORDS: Final = "I00004"
NOT_FOUND: Final = "E00040"
NO_SUCH_PAGE: Final = "E00094"


class Unreadable(NamedTuple):
    """A question without a usable answer, and the reason."""

    reason: str
    code: str | None = None


class Summary(NamedTuple):
    """One line of a transaction list."""

    transaction_id: str
    invoice_number: str | None


class Page(NamedTuple):
    """A page of a transaction list. Times are Unix milliseconds, None if unreadable."""

    items: list[Summary]
    lines: int
    first_ms: int | None
    last_ms: int | None
    total: int | None


class Batch(NamedTuple):
    """A settled batch. `settled_ms` (Unix milliseconds) and `state` are None if unreadable."""

    batch_id: str
    settled_ms: int | None
    state: str | None

    @property
    def closed(self) -> bool:
        """Whether no transaction enters or leaves it any more."""
        return self.state == "settledSuccessfully"

    @property
    def settling(self) -> bool:
        """Whether, as far as we know, transactions may still enter it."""
        return self.state not in ("settledSuccessfully", "settlementError")


class Details(NamedTuple):
    """A transaction as Authorize.Net sees it now. Amounts are as received, not yet converted."""

    transaction_id: str
    answer: ProcessorAnswer
    """What the processor reports; `code` and `message` are those of the response reason."""
    parent_id: str | None
    status: str
    type: str | None
    response_code: str | None
    invoice_number: str | None
    requested_amount: object
    auth_amount: object
    settle_amount: object
    filter_action: str | None
    """What a fraud filter did, such as `authAndHold`."""

    @property
    def reason_code(self) -> str | None:
        """The response reason code."""
        return self.answer.code


def unsettled_list(
    account: Account, reference: str, page: int, status: Literal["pendingApproval"] | None = None
) -> bytes:
    """Request unsettled transactions, newest first; with a status, those held for review."""
    fields: dict[str, object] = {} if status is None else {"status": status}
    fields |= _newest_first(page)
    return question("getUnsettledTransactionListRequest", account, reference, fields)


def batch_list(account: Account, reference: str, span_ms: tuple[int, int] | None = None) -> bytes:
    """Request the batches settled in a span of at most 31 days, or in their last 24 hours."""
    fields: dict[str, object] = {}
    if span_ms is not None:
        fields = {
            "firstSettlementDate": utc_text(span_ms[0]),
            "lastSettlementDate": utc_text(span_ms[1]),
        }
    return question("getSettledBatchListRequest", account, reference, fields)


def batch_transactions(account: Account, reference: str, batch_id: str, page: int) -> bytes:
    """Request the transactions of one settled batch."""
    fields = {"batchId": batch_id, **_newest_first(page)}
    return question("getTransactionListRequest", account, reference, fields)


def transaction_details(account: Account, reference: str, transaction_id: str) -> bytes:
    """Request everything about one transaction."""
    fields: dict[str, object] = {"transId": transaction_id}
    return question("getTransactionDetailsRequest", account, reference, fields)


def read_page(reply: Reply | NotSent | Unknown, reference: str) -> Page | Unreadable:
    """Read a page of a transaction list; it is empty if there are no records."""
    answer = answered(reply, reference)
    if isinstance(answer, Unreadable):
        return answer
    listed = list_named(answer, "transactions")
    if isinstance(listed, Unreadable):
        return listed
    items: list[Summary] = []
    for item in listed:
        transaction_id = wire.identifier(item.get("transId")) if isinstance(item, dict) else None
        if transaction_id is None:
            if isinstance(item, dict) and item.get("transId") in ("0", 0):
                continue  # an error that never became a transaction
            return Unreadable("a line of the transaction list cannot be read")
        invoice = item.get("invoiceNumber")
        items.append(Summary(transaction_id, invoice if isinstance(invoice, str) else None))
    total = answer.get("totalNumInResultSet")
    return Page(
        items,
        len(listed),
        milliseconds(listed[0].get("submitTimeUTC")) if listed else None,
        milliseconds(listed[-1].get("submitTimeUTC")) if listed else None,
        total if isinstance(total, int) else None,
    )


def read_batches(reply: Reply | NotSent | Unknown, reference: str) -> list[Batch] | Unreadable:
    """Read the settled batches; there are none if there are no records."""
    answer = answered(reply, reference)
    if isinstance(answer, Unreadable):
        return answer
    listed = list_named(answer, "batchList")
    if isinstance(listed, Unreadable):
        return listed
    batches: list[Batch] = []
    for item in listed:
        batch_id = wire.identifier(item.get("batchId")) if isinstance(item, dict) else None
        if batch_id is None:
            return Unreadable("a line of the batch list cannot be read")
        batches.append(
            Batch(
                batch_id,
                milliseconds(item.get("settlementTimeUTC")),
                wire.short(item.get("settlementState"), 64),
            )
        )
    return batches


def read_details(
    reply: Reply | NotSent | Unknown, reference: str, transaction_id: str
) -> Details | Unreadable:
    """Read the requested transaction; `code` is E00040 if Authorize.Net does not know it."""
    answer = answered(reply, reference)
    if isinstance(answer, Unreadable):
        return answer
    found = answer.get("transaction")
    if not isinstance(found, dict) or wire.identifier(found.get("transId")) != transaction_id:
        return Unreadable("the details are not of the transaction asked for")
    status = wire.short(found.get("transactionStatus"), 64)
    if status is None:
        return Unreadable("the details name no status")
    order = found.get("order")
    invoice = order.get("invoiceNumber") if isinstance(order, dict) else None
    brand, last4 = _paid_with(found.get("payment"))
    return Details(
        transaction_id=transaction_id,
        answer=ProcessorAnswer(
            transaction_id=transaction_id,
            auth_code=wire.auth_code(found.get("authCode")),
            code=wire.scalar(found.get("responseReasonCode")),
            message=wire.clean(found.get("responseReasonDescription")),
            network_transaction_id=wire.network_id(found.get("networkTransId")),
            card_brand=brand,
            card_last4=last4,
            **checks_of(found.get("AVSResponse"), found.get("cardCodeResponse")),
        ),
        parent_id=wire.identifier(found.get("refTransId")),
        status=status,
        type=wire.short(found.get("transactionType"), 64),
        response_code=wire.scalar(found.get("responseCode")),
        invoice_number=invoice if isinstance(invoice, str) else None,
        requested_amount=found.get("requestedAmount"),
        auth_amount=found.get("authAmount"),
        settle_amount=found.get("settleAmount"),
        filter_action=wire.short(found.get("FDSFilterAction")),
    )


def _paid_with(payment: object) -> tuple[str | None, str | None]:
    """Return the brand, and the last four digits of the card or bank account."""
    if not isinstance(payment, dict):
        return None, None
    if isinstance(card := payment.get("creditCard"), dict):
        return wire.card(card.get("cardType"), card.get("cardNumber"))
    if isinstance(bank := payment.get("bankAccount"), dict):
        _, last4 = wire.card(None, bank.get("accountNumber"))
        return wire.ECHECK, last4
    return None, None


def question(name: str, account: Account, reference: str, fields: dict[str, object]) -> bytes:
    """Return a question about an account, as it is sent."""
    head = {"merchantAuthentication": authentication(account), "refId": reference}
    return msgspec.json.encode({name: {**head, **fields}})


def _newest_first(page: int) -> dict[str, object]:
    return {
        "sorting": {"orderBy": "submitTimeUTC", "orderDescending": True},
        "paging": {"limit": PAGE_SIZE, "offset": page},
    }


def answered(reply: Reply | NotSent | Unknown, reference: str) -> dict[str, Any] | Unreadable:
    """Return the reply's object if it says Ok and is the one to this question."""
    if not isinstance(reply, Reply):
        return Unreadable(reply.reason)
    answer = wire.decode(reply)
    if isinstance(answer, Unknown):
        return Unreadable(answer.reason)
    if answer.get("refId") not in (None, reference):
        return Unreadable("the reply carries another reference")
    ok, found = wire.top_level(answer)
    if not ok:
        text = "; ".join(f"{code} {message}" for code, message in found)
        return Unreadable(f"refused: {text}"[:255], found[0][0] if found else None)
    return answer


def list_named(answer: dict[str, Any], name: str) -> list[Any] | Unreadable:
    """Return the list of that name. A missing one is empty only if the reply says so."""
    listed = answer.get(name)
    if listed is None:
        _, found = wire.top_level(answer)
        empty = answer.get("totalNumInResultSet") == 0 or NO_RECORDS in dict(found)
        return [] if empty else Unreadable(f"no {name} in the reply")
    return listed if isinstance(listed, list) else Unreadable(f"{name} is not a list")


def utc_text(at_ms: int) -> str:
    """Return a time as Authorize.Net wants it, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def milliseconds(value: object) -> int | None:
    """Return a reported time in Unix milliseconds; None if it cannot be read."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
