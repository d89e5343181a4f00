"""A processor that answers with recorded bodies, in the order that a test gives.

It fills in each request's `refId`, and the last transaction's invoice number and amount. The ids
stay as recorded.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from easypay.processors.base import Account
from json_server import GONE
from recorded import bodies
from recorded.scenarios import LOST

from .reports import reporting


class Script:
    """Answers each request with the next body, given by its name or as JSON."""

    def __init__(self, *answers: str | dict[str, Any]) -> None:
        self.left = list(answers)
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
        if not self.left:
            self.unexpected.append(self.asked[-1])
            return GONE
        body = self.left.pop(0)
        if body == LOST:
            return GONE
        marks = {
            '"$number"': self.amount,
            '"$settled"': self.amount,
            "$refId": fields["refId"],
            "$invoice": self.invoice,
            "$amount": self.amount,
        }
        text = bodies.TEXT[body] if isinstance(body, str) else json.dumps(body)
        return bodies.filled(text, marks)


@asynccontextmanager
async def playing(script: Script, *, whole: bool = True) -> AsyncIterator[Account]:
    """Yield an account whose processor follows the script. Every body must be used, unless `whole`
    is false, and no further request may come."""
    async with reporting(script.answer) as account:
        yield account
    assert not script.unexpected, f"unexpected: {script.unexpected}"
    assert not whole or not script.left, f"not used: {script.left}; requests: {script.asked}"
