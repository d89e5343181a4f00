"""Transactions, what was done to them, and the batches they settle in.

Amounts are hundredths, moments Unix milliseconds. Nothing here holds a card number or card code.
"""

import msgspec


class Txn(msgspec.Struct, gc=False, array_like=True):
    """One transaction with an id of its own: a sale, an authorization, a refund."""

    trans_id: int
    login: str
    type: str
    """The wire's transactionType, as it was asked for."""
    amount: int
    response_code: int
    reason: int
    status: str
    at: int
    currency: str
    ref: int
    """The transaction a refund returns, or 0."""
    invoice: str
    last4: str
    brand: str
    avs: str
    cvv: str
    details: str
    """JSON of what else was sent and reporting gives back."""
    captured: int = 0
    """What settles or has settled: less than `amount` after a partial capture."""
    refunded: int = 0
    batch: int = 0
    customer: int | None = None
    """The customer profile charged, or 0; None in state files that do not say."""

    @property
    def masked(self) -> str:
        return f"XXXX{self.last4}" if self.last4 else ""


class Action(msgspec.Struct, gc=False):
    """A capture or void: it changes a transaction and has no id of its own."""

    txn: Txn
    type: str
    amount: int
    invoice: str
    at: int

    @property
    def login(self) -> str:
        return self.txn.login


class Batch(msgspec.Struct, gc=False):
    """What was settled together, for one account and payment method."""

    batch_id: int
    login: str
    method: str
    at: int
    txns: list[Txn]
    tallies: dict[str, list[int]] = {}
    """Voids, declines and errors since the batch before, by brand."""


def parse_id(text: str) -> int | None:
    """A transaction or batch id of the wire; None for what cannot be one."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
