"""The other side of the wire, played from recorded bodies in the order that a test says.

What a request decides is filled in: its `refId`, the invoice number of the last transaction asked
for, and its amount. The ids stay as they were recorded.
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
"""In place of a body's name: the request is read, and the connection closed without a word."""


class Player:
    """Answers each request with the next body; what it was asked is kept, in order."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.asked: list[str] = []
        """Each request's transactionType, or its method where it has none."""
        self.requests: list[dict[str, Any]] = []
        self.unexpected: list[str] = []
        """What was asked when there was nothing left to play."""
        self.invoice, self.amount = "", "0.00"

    def answer(self, method: str, fields: dict[str, Any]) -> object:
        """The next body; GONE for a connection to close."""
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
    """An account whose processor is the player. Nothing may be asked beyond what it plays, and all
    of that must be, unless it need not be played to its end (`whole=False`)."""
    async with reporting(player.answer) as account:
        yield account
    assert not player.unexpected, f"nobody expected {player.unexpected}"
    assert not whole or not player.names, f"never asked for: {player.names}; asked: {player.asked}"
