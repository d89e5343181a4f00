"""Prepaid cards: how much of an order a card pays, and further payments of the order."""

from typing import Any, Final, NamedTuple

from authorizenet_simulator.state import split_tenders, statuses, transactions
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import PaymentMethod
from authorizenet_simulator.state.split_tenders import Group, Joined
from authorizenet_simulator.state.transactions import Txn
from authorizenet_simulator.transactions import transaction_notifications
from authorizenet_simulator.transactions.transaction_request import (
    AUTH,
    YES,
    Refused,
    TransactionRequest,
)
from authorizenet_simulator.wire import amounts, replies
from authorizenet_simulator.wire.codes import REASONS
from authorizenet_simulator.wire.replies import ApiError, Reply

Verdict = tuple[int, int, str]


class _Card(NamedTuple):
    pays: int | None
    """Maximum that the card pays; None: everything."""
    balance: int | None


CARDS: Final = {
    "46225": _Card(1_23, None),
    "46226": _Card(None, 1_23),
    "46227": _Card(None, -1_23),
    "46228": _Card(None, 0),
}
"""Test triggers by billing ZIP."""
_NO_CARD: Final = _Card(None, None)


class Part(NamedTuple):
    """The result of a charge on a prepaid card, or of one of an order's several charges."""

    requested: int
    approved: int
    balance: int | None
    verdict: Verdict
    split_id: int
    """0: the order has only this charge."""
    opens: bool
    prepaid: bool

    @property
    def kept(self) -> dict[str, Any]:
        kept: dict[str, Any] = {"requestedAmount": amounts.text(self.requested)}
        if self.balance is not None:
            kept["prepaidBalanceRemaining"] = amounts.text(self.balance)
        if self.split_id:
            kept["splitTenderId"] = str(self.split_id)
        return kept


def group_of(request: TransactionRequest, amount: int) -> Group:
    """Return the open order of a charge's splitTenderId. Raises Refused: 296 if unknown, 297 with
    a transaction id, 298 if closed, 5 if the amount exceeds what is unpaid."""
    if request.tree.get("refTransId"):
        raise Refused(297)
    split_id = transactions.parse_id(request.tree["splitTenderId"]) or 0
    group = request.ledger.splits.groups.get(split_id)
    if group is None or group.login != request.account.login:
        raise Refused(296)
    if group.status != "held":
        raise Refused(298)
    if amount > group.requested - _paid(request.ledger, group):
        raise Refused(5)
    return group


def part(
    request: TransactionRequest,
    amount: int,
    method: PaymentMethod,
    zip_code: str,
    group: Group | None,
    verdict: Verdict,
) -> Part | None:
    """Decide how much of `amount` is paid; return None for an ordinary charge."""
    card = CARDS.get(zip_code, _NO_CARD) if method.brand != "eCheck" else _NO_CARD
    if verdict[0] != 1 or (group is None and card is _NO_CARD):
        return None
    approved = amount if card.pays is None else min(amount, card.pays)
    short = approved < amount
    if short and request.options.get("allowPartialAuth") not in YES:
        if group is None:
            declined = (2, 2, statuses.DECLINED)
            return Part(amount, amount, None, declined, 0, opens=False, prepaid=False)
        approved, short = amount, False  # a payment of the rest is paid in full
    if group is None and not short:
        return Part(
            amount, amount, card.balance, verdict, 0, opens=False, prepaid=card is not _NO_CARD
        )
    split_id = request.ledger.new_id() if group is None else group.split_id
    return Part(
        amount,
        approved,
        card.balance,
        (4, 295, statuses.PENDING_RELEASE),
        split_id,
        opens=group is None,
        prepaid=card is not _NO_CARD,
    )


def join(request: TransactionRequest, part: Part, txn: Txn) -> dict[str, Any]:
    """Add the charge to its order, complete a paid order, return the reply's extra fields."""
    fields: dict[str, Any] = {}
    if part.prepaid:
        fields["prePaidCard"] = {
            "requestedAmount": amounts.text(part.requested),
            "approvedAmount": amounts.text(part.approved),
            "balanceOnCard": "" if part.balance is None else amounts.text(part.balance),
        }
    if not part.split_id:
        return fields
    ledger = request.ledger
    if part.opens:
        ledger.do(split_tenders.Opened(part.split_id, request.account.login, part.requested))
    ledger.do(split_tenders.Joined(part.split_id, txn.trans_id, part.requested, part.balance))
    group = ledger.splits.groups[part.split_id]
    if _paid(ledger, group) >= group.requested:
        _complete(ledger, group, request.now)
    fields["splitTenderId"] = str(group.split_id)
    fields["splitTenderPayments"] = [_payment(ledger, member) for member in group.members]
    return fields


def _paid(ledger: Ledger, group: Group) -> int:
    return sum(txn.amount for txn in _open(ledger, group))


def _complete(ledger: Ledger, group: Group, at: int) -> None:
    ledger.do(split_tenders.Closed(group.split_id, "completed"))
    for txn in _open(ledger, group):
        ledger.move(txn, statuses.AUTHORIZED if txn.type == AUTH else statuses.CAPTURED, at)


def _open(ledger: Ledger, group: Group) -> list[Txn]:
    txns = [ledger.txns[member.trans_id] for member in group.members]
    return [txn for txn in txns if txn.status == statuses.PENDING_RELEASE]


def _payment(ledger: Ledger, member: Joined) -> dict[str, str]:
    txn = ledger.txns[member.trans_id]
    return {
        "transId": str(txn.trans_id),
        "responseCode": str(txn.response_code),
        "responseToCustomer": str(txn.reason),
        "authCode": replies.auth_code(txn),
        "accountNumber": txn.masked,
        "accountType": txn.brand,
        "requestedAmount": amounts.text(member.requested),
        "approvedAmount": amounts.text(txn.amount),
        "balanceOnCard": "" if member.balance is None else amounts.text(member.balance),
    }


def update_group(ledger: Ledger, account: Account, body: dict[str, Any], now: int) -> Reply:
    """updateSplitTenderGroupRequest: accept what is paid, or void all payments, even of an order
    paid in full. Setting the same status again is no error.

    Raises ApiError: E00040 for an unknown order, E00027 for a voided or settled one.
    """
    group = ledger.splits.groups.get(transactions.parse_id(body["splitTenderId"]) or 0)
    if group is None or group.login != account.login:
        raise ApiError("E00040")
    wanted = body["splitTenderStatus"]
    txns = [ledger.txns[member.trans_id] for member in group.members]
    unsettled = [txn for txn in txns if txn.status in statuses.PENDING - statuses.TOO_LATE_TO_VOID]
    if wanted == group.status:
        return Reply({})
    if wanted == "voided" and (group.status == "held" or unsettled):
        ledger.do(split_tenders.Closed(group.split_id, "voided"))
        for txn in unsettled:
            amount = txn.captured or txn.amount
            ledger.void(txn, txn.invoice, now)
            transaction_notifications.voided(ledger, txn, amount)
    elif wanted == "completed" and group.status == "held":
        _complete(ledger, group, now)
    else:
        raise ApiError("E00027", REASONS[298][1])
    return Reply({})
