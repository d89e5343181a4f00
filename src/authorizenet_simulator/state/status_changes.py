"""What becomes of a transaction after it was made: its status, and what follows from that: the
indexes, the batches, and the share that a refund takes.
"""

from typing import TYPE_CHECKING, Final

from authorizenet_simulator.state import batches, clock, events, statuses
from authorizenet_simulator.state.statuses import CLOSED, PLACES, TALLIED, Place
from authorizenet_simulator.state.transactions import Action, Txn

if TYPE_CHECKING:
    from authorizenet_simulator.state.ledger import Ledger

AUTHORIZATION_MS: Final = 30 * clock.DAY_MS
REVIEW_MS: Final = 5 * clock.DAY_MS


def capture(ledger: "Ledger", done: events.Captured) -> None:
    txn = ledger.txns[done.trans_id]
    txn.status = statuses.CAPTURED
    txn.captured = done.amount
    kind = "priorAuthCaptureTransaction"
    ledger.rows.append(Action(txn, kind, done.amount, done.invoice, done.at))


def void(ledger: "Ledger", done: events.Voided) -> None:
    txn = ledger.txns[done.trans_id]
    amount = txn.captured or txn.amount
    ledger.rows.append(Action(txn, "voidTransaction", amount, done.invoice, done.at))
    _close(ledger, txn, statuses.VOIDED)


def review(ledger: "Ledger", done: events.Reviewed) -> None:
    txn = ledger.txns[done.trans_id]
    if not done.approved:
        authorized = txn.status == statuses.HELD_AUTHORIZED
        _close(ledger, txn, statuses.VOIDED if authorized else statuses.DECLINED)
        txn.response_code, txn.reason = 2, 254
        return
    ledger.accounts[txn.login].held.pop(txn.trans_id, None)
    txn.response_code, txn.reason = 1, 1
    if txn.type == "authOnlyTransaction":
        txn.status = statuses.AUTHORIZED
        ledger.aging.append(txn)
    elif txn.type == "refundTransaction":
        txn.status = statuses.REFUND_PENDING
    else:
        txn.status = statuses.CAPTURED
        txn.captured = txn.amount


def expire(ledger: "Ledger", at: int) -> None:
    """Ends the authorizations, and what is held, that are too old at `at`."""
    while ledger.aging and ledger.aging[0].at + AUTHORIZATION_MS <= at:
        txn = ledger.aging.popleft()
        if txn.status in statuses.AGING:
            _close(ledger, txn, statuses.EXPIRED)
    while ledger.reviewing and ledger.reviewing[0].at + REVIEW_MS <= at:
        txn = ledger.reviewing.popleft()
        if txn.status in statuses.IN_REVIEW:
            authorized = txn.status == statuses.HELD_AUTHORIZED
            _close(ledger, txn, statuses.VOIDED if authorized else statuses.EXPIRED)


def _close(ledger: "Ledger", txn: Txn, status: str) -> None:
    """No money moves any more: it leaves the indexes, and a refund gives its share back."""
    account = ledger.accounts[txn.login]
    account.unsettled.pop(txn.trans_id, None)
    account.held.pop(txn.trans_id, None)
    if txn.ref and (original := ledger.txns.get(txn.ref)) is not None:
        original.refunded -= txn.amount
    txn.status = status
    txn.captured = 0
    if status in TALLIED:
        account.count(txn.brand, TALLIED[status])


def move(ledger: "Ledger", moved: events.Moved) -> None:
    """Another status, and all that follows from it: for the changes that no request asks for by
    name, a released or returned payment, a payer's consent, and the lever that sets any."""
    txn = ledger.txns[moved.trans_id]
    account = ledger.accounts[txn.login]
    place = PLACES[moved.status].place
    if txn.ref and (original := ledger.txns.get(txn.ref)) is not None:
        original.refunded += txn.amount * ((txn.status in CLOSED) - (place is Place.CLOSED))
    if txn.batch and place is not Place.BATCHED:
        batches.leave(ledger, account, txn)
    txn.status = moved.status
    txn.response_code, txn.reason = moved.response_code, moved.reason
    if txn.type != "refundTransaction":
        settles = place in (Place.SETTLING, Place.BATCHED)
        txn.captured = (txn.captured or txn.amount) if settles else 0
    _index(account.unsettled, txn, listed=moved.status in statuses.PENDING)
    _index(account.held, txn, listed=place is Place.REVIEW)
    match place:
        case Place.AUTHORIZED:
            ledger.aging.append(txn)
        case Place.REVIEW:
            ledger.reviewing.append(txn)
        case Place.BATCHED if not txn.batch:
            batches.put(batches.begin(ledger, account, batches.method_of(txn), moved.at), txn)
        case Place.CLOSED if moved.status in TALLIED:
            account.count(txn.brand, TALLIED[moved.status])


def _index(index: dict[int, Txn], txn: Txn, *, listed: bool) -> None:
    """In or out; an index lies in the order of its ids, which a latecomer must not break."""
    if not listed:
        index.pop(txn.trans_id, None)
    elif txn.trans_id not in index:
        late = bool(index) and next(reversed(index)) > txn.trans_id
        index[txn.trans_id] = txn
        if late:
            ordered = sorted(index.items())
            index.clear()
            index.update(ordered)
