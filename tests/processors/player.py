"""A processor that answers with recorded bodies, in the order that a test gives.

It fills in each request's `refId`, and the last transaction's invoice number and amount. The ids
stay as recorded.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from easypay.processors.base import Account
from recorded import bodies

from .reports import GONE, reporting

RECORDED: Final[dict[str, Any]] = bodies.JSON
LOST: Final = "lost"
"""In place of a body's name: read the request, then close without an answer."""


class Player:
    """Answers each request with the next body, and keeps the requests in order."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.asked: list[str] = []
        """Each request's transactionType, or its method if it has none."""
        self.requests: list[dict[str, Any]] = []
        self.unexpected: list[str] = []
        """Requests that came when no body was left."""
        self.invoice, self.amount = "", "0.00"

    def answer(self, method: str, fields: dict[str, Any]) -> object:
        """Return the next body, or GONE to close the connection."""
        transaction = fields.get("transactionRequest", {})
        self.asked.append(transaction.get("transactionType", method))
        self.requests.append(fields)
        self.invoice = transaction.get("order", {}).get("invoiceNumber", self.invoice)
        self.amount = transaction.get("amount", self.amount)
        if not self.names:
            self.unexpected.append(self.asked[-1])
            return GONE
        name = self.names.pop(0)
        if name == LOST:
            return GONE
        marks = {
            '"$number"': self.amount,
            '"$settled"': self.amount,
            "$refId": fields["refId"],
            "$invoice": self.invoice,
            "$amount": self.amount,
        }
        return bodies.filled(json.dumps(RECORDED[name]), marks)


@asynccontextmanager
async def playing(player: Player, *, whole: bool = True) -> AsyncIterator[Account]:
    """Yield an account whose processor is the player. Every body must be used, unless `whole` is
    false, and no further request may come."""
    async with reporting(player.answer) as account:
        yield account
    assert not player.unexpected, f"unexpected: {player.unexpected}"
    assert not whole or not player.names, f"not used: {player.names}; requests: {player.asked}"
