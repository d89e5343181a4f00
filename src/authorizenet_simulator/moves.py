"""What follows from a new status: indexes, batches, and the share that a refund takes.

Called for the changes that are not one of the ledger's own: a released or returned payment, a
payer's consent, and the lever that sets any status.
"""

from typing import TYPE_CHECKING

from authorizenet_simulator import batches, records
from authorizenet_simulator.records import Txn
from authorizenet_simulator.statuses import CLOSED, PLACES, TALLIED, Place

if TYPE_CHECKING:
    from authorizenet_simulator.ledger import Ledger


def apply(ledger: "Ledger", moved: records.Moved) -> None:
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
    _index(account.unsettled, txn, listed=moved.status in records.PENDING)
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
