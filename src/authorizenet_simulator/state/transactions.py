"""Transactions, captures and voids of them, and the batches they settle in.

Amounts are hundredths, times Unix milliseconds. No card number or card code is stored.
"""

import msgspec


class Txn(msgspec.Struct, gc=False, array_like=True):
    """One transaction with an id of its own: a sale, an authorization, a refund."""

    trans_id: int
    login: str
    type: str
    """The requested transactionType."""
    amount: int
    response_code: int
    reason: int
    status: str
    at: int
    currency: str
    ref: int
    """The transaction that a refund, or a bank's return with an id of its own, refers to; or 0."""
    invoice: str
    last4: str
    brand: str
    avs: str
    cvv: str
    details: str
    """JSON of the other request fields, which reports show."""
    captured: int = 0
    """The amount captured: less than `amount` after a partial capture."""
    refunded: int = 0
    batch: int = 0
    customer: int | None = None
    """The charged customer profile, or 0; None in older state files."""

    @property
    def masked(self) -> str:
        return f"XXXX{self.last4}" if self.last4 else ""


class Action(msgspec.Struct, gc=False):
    """A capture or void, which changes a transaction and has no id of its own."""

    txn: Txn
    type: str
    amount: int
    invoice: str
    at: int

    @property
    def login(self) -> str:
        return self.txn.login


class Batch(msgspec.Struct, gc=False):
    """The transactions settled together, of one account and payment method."""

    batch_id: int
    login: str
    method: str
    at: int
    txns: list[Txn]
    tallies: dict[str, list[int]] = {}
    """By brand: voids, declines and errors since the previous batch."""


def parse_id(text: str) -> int | None:
    """Parse a transaction or batch id; None if it is invalid."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
