"""Changes a transaction's status together with indexes, batches and refunded amounts."""

from typing import Final

from authorizenet_simulator.state import batches, clock, events, statuses
from authorizenet_simulator.state.books import Books
from authorizenet_simulator.state.statuses import CLOSED, PLACES, TALLIED, Place
from authorizenet_simulator.state.transactions import Action, Txn

AUTHORIZATION_MS: Final = 30 * clock.DAY_MS
REVIEW_MS: Final = 5 * clock.DAY_MS


def capture(books: Books, done: events.Captured) -> None:
    txn = books.txns[done.trans_id]
    txn.status = statuses.CAPTURED
    txn.captured = done.amount
    kind = "priorAuthCaptureTransaction"
    books.rows.append(Action(txn, kind, done.amount, done.invoice, done.at))


def void(books: Books, done: events.Voided) -> None:
    txn = books.txns[done.trans_id]
    amount = txn.captured or txn.amount
    books.rows.append(Action(txn, "voidTransaction", amount, done.invoice, done.at))
    _close(books, txn, statuses.VOIDED)


def review(books: Books, done: events.Reviewed) -> None:
    txn = books.txns[done.trans_id]
    if not done.approved:
        authorized = txn.status == statuses.HELD_AUTHORIZED
        _close(books, txn, statuses.VOIDED if authorized else statuses.DECLINED)
        txn.response_code, txn.reason = 2, 254
        return
    books.accounts[txn.login].held.pop(txn.trans_id, None)
    txn.response_code, txn.reason = 1, 1
    if txn.type == "authOnlyTransaction":
        txn.status = statuses.AUTHORIZED
        books.aging.append(txn)
    elif txn.type == "refundTransaction":
        txn.status = statuses.REFUND_PENDING
    else:
        txn.status = statuses.CAPTURED
        txn.captured = txn.amount


def expire(books: Books, at: int) -> None:
    """Expire the authorizations and held transactions that are too old at `at`."""
    while books.aging and books.aging[0].at + AUTHORIZATION_MS <= at:
        txn = books.aging.popleft()
        if txn.status in statuses.AGING:
            _close(books, txn, statuses.EXPIRED)
    while books.reviewing and books.reviewing[0].at + REVIEW_MS <= at:
        txn = books.reviewing.popleft()
        if txn.status in statuses.IN_REVIEW:
            authorized = txn.status == statuses.HELD_AUTHORIZED
            _close(books, txn, statuses.VOIDED if authorized else statuses.EXPIRED)


def _close(books: Books, txn: Txn, status: str) -> None:
    """Set a final status: remove from the indexes; a refund frees its amount."""
    account = books.accounts[txn.login]
    account.unsettled.pop(txn.trans_id, None)
    account.held.pop(txn.trans_id, None)
    if txn.ref and (original := books.txns.get(txn.ref)) is not None:
        original.refunded -= txn.amount
    txn.status = status
    txn.captured = 0
    if status in TALLIED:
        account.count(txn.brand, TALLIED[status])


def move(books: Books, moved: events.Moved) -> None:
    """Set another status with all its consequences, for changes without an event of their own:
    a released or returned payment, a payer's consent, and a status set by a test."""
    txn = books.txns[moved.trans_id]
    account = books.accounts[txn.login]
    place = PLACES[moved.status].place
    if txn.ref and (original := books.txns.get(txn.ref)) is not None:
        original.refunded += txn.amount * ((txn.status in CLOSED) - (place is Place.CLOSED))
    if txn.batch and place is not Place.BATCHED:
        batches.leave(books, account, txn)
    txn.status = moved.status
    txn.response_code, txn.reason = moved.response_code, moved.reason
    if txn.type != "refundTransaction":
        settles = place in (Place.SETTLING, Place.BATCHED)
        txn.captured = (txn.captured or txn.amount) if settles else 0
    _index(account.unsettled, txn, listed=moved.status in statuses.PENDING)
    _index(account.held, txn, listed=place is Place.REVIEW)
    match place:
        case Place.AUTHORIZED:
            books.aging.append(txn)
        case Place.REVIEW:
            books.reviewing.append(txn)
        case Place.BATCHED if not txn.batch:
            batches.put(batches.begin(books, account, batches.method_of(txn), moved.at), txn)
        case Place.CLOSED if moved.status in TALLIED:
            account.count(txn.brand, TALLIED[moved.status])


def _index(index: dict[int, Txn], txn: Txn, *, listed: bool) -> None:
    """Add to or remove from an index, which must stay in the order of ids."""
    if not listed:
        index.pop(txn.trans_id, None)
    elif txn.trans_id not in index:
        late = bool(index) and next(reversed(index)) > txn.trans_id
        index[txn.trans_id] = txn
        if late:
            ordered = sorted(index.items())
            index.clear()
            index.update(ordered)
