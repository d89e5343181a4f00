"""Settles transactions in one daily batch for each account and payment method."""

from authorizenet_simulator.state import statuses
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.books import Books
from authorizenet_simulator.state.transactions import Batch, Txn


def settle(books: Books, account: Account, at: int) -> None:
    """Settle everything that awaits settlement; leave what is only authorized."""
    made: dict[str, Batch] = {}
    remaining: dict[int, Txn] = {}
    for trans_id, txn in account.unsettled.items():
        if txn.status not in statuses.SETTLING:
            remaining[trans_id] = txn
            continue
        refunds = txn.type == "refundTransaction"
        txn.status = statuses.REFUND_SETTLED if refunds else statuses.SETTLED
        method = method_of(txn)
        batch = made.get(method)
        if batch is None:
            batch = made[method] = begin(books, account, method, at)
        put(batch, txn)
    if made:
        account.unsettled = remaining


def begin(books: Books, account: Account, method: str, at: int) -> Batch:
    """Begin an empty batch, which takes over the counts of its payment method."""
    counted = {
        brand: account.tallies.pop(brand)
        for brand in list(account.tallies)
        if (brand == "eCheck") is (method == "eCheck")
    }
    batch = Batch(books.next_batch, account.login, method, at, [], counted)
    books.next_batch += 1
    books.batches[batch.batch_id] = batch
    account.batches.append(batch)
    return batch


def put(batch: Batch, txn: Txn) -> None:
    txn.batch = batch.batch_id
    batch.txns.append(txn)


def leave(books: Books, account: Account, txn: Txn) -> None:
    """Remove a transaction from its batch; delete the batch if it is empty then."""
    batch = books.batches[txn.batch]
    batch.txns.remove(txn)
    txn.batch = 0
    if not batch.txns:
        del books.batches[batch.batch_id]
        account.batches.remove(batch)


def method_of(txn: Txn) -> str:
    """Return the payment method of the batch that the transaction belongs to."""
    return "eCheck" if txn.brand == "eCheck" else "creditCard"
