"""The bank: an HTTP server that records each operation by reference, and can lose a reply."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from json_server import GONE, serving

SECRET = "second-secret"


class Bank:
    """Operations by shop and reference, and the remaining amount of each charge."""

    def __init__(self) -> None:
        self.done: dict[tuple[str, str], dict[str, Any]] = {}
        self.charges: dict[str, dict[str, Any]] = {}
        self.lose_next = False
        self.url = ""

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Execute one request, once for each reference, and return the answer."""
        if asked["secret"] != SECRET:
            return {"result": "stranger", "code": "S1", "words": "The secret is wrong."}
        shop, call = asked["shop"], asked["call"]
        if call == "hello":
            return {"result": "welcome"}
        if call == "find":
            return self.done.get((shop, asked["reference"]), {"result": "absent"})
        if call == "newest":
            return {"references": [name for owner, name in reversed(self.done) if owner == shop]}
        if call == "pay":
            reply = self._pay(asked)
        else:
            reply = self._change(call, self.charges.get(asked["transaction"]), asked)
        self.done[shop, asked["reference"]] = reply
        return reply

    def _pay(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["number"] == "4000000000000002":
            return {"result": "declined", "code": "D1", "words": "The card was declined."}
        if asked["expires"] < "2026-01":
            return {"result": "refused", "code": "R1", "words": "The card has expired."}
        amount, taken = asked["amount"], asked["amount"] if asked["take"] else 0
        transaction = f"b{len(self.charges) + 1}"
        self.charges[transaction] = {
            "held": amount,
            "taken": taken,
            "returned": 0,
            "open": True,
            "last4": asked["number"][-4:],
        }
        return self._approved(transaction, amount)

    def _change(
        self, call: str, charge: dict[str, Any] | None, asked: dict[str, Any]
    ) -> dict[str, Any]:
        transaction, amount = asked["transaction"], asked.get("amount")
        match call, charge:
            case "void", {"returned": 0}:
                charge |= {"held": 0, "taken": 0, "open": False}
            case "capture", {"open": True, "taken": 0} if amount <= charge["held"]:
                charge["taken"] = amount
            case "capture", {"open": True, "taken": taken} if taken == amount:
                pass  # done before
            case "refund", {"open": True} if amount <= charge["taken"] - charge["returned"]:
                charge["returned"] += amount
                return self._approved(f"{transaction}r{charge['returned']}", amount, transaction)
            case "void" | "capture" | "refund", _:
                return {"result": "refused", "code": "R2", "words": f"No {call} is possible."}
            case _:
                raise AssertionError(f"unknown call: {call}")
        return self._approved(transaction, amount)

    def _approved(self, transaction: str, amount: int | None, of: str = "") -> dict[str, Any]:
        last4 = self.charges[of or transaction]["last4"]
        return {"result": "approved", "transaction": transaction, "amount": amount, "last4": last4}


@asynccontextmanager
async def open_bank() -> AsyncIterator[Bank]:
    """Serve a bank at `bank.url`."""
    bank = Bank()

    def answer(asked: dict[str, Any]) -> object:
        reply = bank.answer(asked)
        if bank.lose_next and asked["call"] not in ("find", "newest", "hello"):
            bank.lose_next = False
            return GONE
        return json.dumps(reply).encode()

    async with serving(answer) as bank.url:
        yield bank
