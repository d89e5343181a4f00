"""Prepaid cards: how much of an order one pays, and the payments that pay the rest."""

from typing import Any, Final, NamedTuple

from authorizenet_simulator.state import split_tenders, statuses, transactions
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import Instrument
from authorizenet_simulator.state.split_tenders import Group, Joined
from authorizenet_simulator.state.transactions import Txn
from authorizenet_simulator.transactions import transaction_notifications
from authorizenet_simulator.transactions.transaction_request import AUTH, YES, Ask, Refused
from authorizenet_simulator.wire import amounts, replies
from authorizenet_simulator.wire.codes import REASONS
from authorizenet_simulator.wire.replies import ApiError, Reply

Verdict = tuple[int, int, str]


class _Card(NamedTuple):
    pays: int | None
    """At most this; None: everything."""
    balance: int | None


CARDS: Final = {
    "46225": _Card(1_23, None),
    "46226": _Card(None, 1_23),
    "46227": _Card(None, -1_23),
    "46228": _Card(None, 0),
}
"""By billing ZIP."""
_NO_CARD: Final = _Card(None, None)


class Part(NamedTuple):
    """What a charge on a prepaid card, or one of several for an order, comes to."""

    requested: int
    approved: int
    balance: int | None
    verdict: Verdict
    split_id: int
    """0: this charge pays its order alone."""
    opens: bool
    prepaid: bool

    @property
    def kept(self) -> dict[str, Any]:
        told: dict[str, Any] = {"requestedAmount": amounts.text(self.requested)}
        if self.balance is not None:
            told["prepaidBalanceRemaining"] = amounts.text(self.balance)
        if self.split_id:
            told["splitTenderId"] = str(self.split_id)
        return told


def group_of(ask: Ask, amount: int) -> Group:
    """The open order that a charge says it belongs to. Raises Refused: 296 for none, 297 beside
    a transaction id, 298 for one that is closed, 5 for more than is still to pay."""
    if ask.tree.get("refTransId"):
        raise Refused(297)
    group = ask.ledger.splits.groups.get(transactions.parse_id(ask.tree["splitTenderId"]) or 0)
    if group is None or group.login != ask.account.login:
        raise Refused(296)
    if group.status != "held":
        raise Refused(298)
    if amount > group.requested - _paid(ask.ledger, group):
        raise Refused(5)
    return group


def part(
    ask: Ask,
    amount: int,
    instrument: Instrument,
    zip_code: str,
    group: Group | None,
    verdict: Verdict,
) -> Part | None:
    """How much of `amount` is paid; None where this is a charge like any other."""
    card = CARDS.get(zip_code, _NO_CARD) if instrument.brand != "eCheck" else _NO_CARD
    if verdict[0] != 1 or (group is None and card is _NO_CARD):
        return None
    approved = amount if card.pays is None else min(amount, card.pays)
    short = approved < amount
    if short and ask.options.get("allowPartialAuth") not in YES:
        if group is None:
            declined = (2, 2, statuses.DECLINED)
            return Part(amount, amount, None, declined, 0, opens=False, prepaid=False)
        approved, short = amount, False  # what makes up the rest of an order is paid in full
    if group is None and not short:
        return Part(
            amount, amount, card.balance, verdict, 0, opens=False, prepaid=card is not _NO_CARD
        )
    split_id = ask.ledger.new_id() if group is None else group.split_id
    return Part(
        amount,
        approved,
        card.balance,
        (4, 295, statuses.PENDING_RELEASE),
        split_id,
        opens=group is None,
        prepaid=card is not _NO_CARD,
    )


def join(ask: Ask, part: Part, txn: Txn) -> dict[str, Any]:
    """What the answer tells of a part; the payment that completes an order releases them all."""
    told: dict[str, Any] = {}
    if part.prepaid:
        told["prePaidCard"] = {
            "requestedAmount": amounts.text(part.requested),
            "approvedAmount": amounts.text(part.approved),
            "balanceOnCard": "" if part.balance is None else amounts.text(part.balance),
        }
    if not part.split_id:
        return told
    ledger = ask.ledger
    if part.opens:
        ledger.do(split_tenders.Opened(part.split_id, ask.account.login, part.requested))
    ledger.do(split_tenders.Joined(part.split_id, txn.trans_id, part.requested, part.balance))
    group = ledger.splits.groups[part.split_id]
    if _paid(ledger, group) >= group.requested:
        _complete(ledger, group, ask.now)
    told["splitTenderId"] = str(group.split_id)
    told["splitTenderPayments"] = [_payment(ledger, member) for member in group.members]
    return told


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
    """updateSplitTenderGroupRequest: be content with what is paid, or give it all back, also once
    it is paid in full. An order that is closed that way already stays so, and that is no error.

    Raises ApiError: E00040 for an unknown order, E00027 for one that is voided, or settled.
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
