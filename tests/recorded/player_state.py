"""A player's state: its transactions, the requests it got, and the answers a test scripted."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from recorded import bodies


@dataclass
class Transaction:
    """A transaction as the player's answers describe it. Amounts are texts, as on the wire."""

    trans_id: str
    login: str
    kind: str
    amount: str
    settles: str
    invoice: str
    status: str
    parent: str
    account: str
    brand: str
    held: bool
    """Whether a filter held it at first."""

    def marks(self) -> dict[str, str]:
        """Return the values to fill into a body about it. A refund's body names its parent too."""
        return {
            bodies.PAYMENT_ID: self.parent or self.trans_id,
            bodies.REFUND_ID: self.trans_id,
            bodies.ACCOUNT: self.account,
            bodies.BRAND: f'"{self.brand}"',
            '"$number"': self.amount,
            '"$settled"': self.settles,
            "$amount": self.amount,
            "$invoice": self.invoice,
            "$status": self.status,
        }


class Request(NamedTuple):
    """One request, and the name of the body it got. A field the request lacks is empty."""

    login: str
    method: str
    kind: str
    """The transactionType, or the decision on a held transaction; empty in reporting."""
    invoice: str
    about: str
    """The id of the transaction it names."""
    ref_id: str
    request: dict[str, Any]
    """What is to be done with money; empty in reporting."""
    fields: dict[str, Any]
    """The whole request."""
    body: str = ""


def read(method: str, fields: dict[str, Any]) -> Request:
    request = fields.get("transactionRequest") or fields.get("heldTransactionRequest") or {}
    ref_id = fields.get("refId", "")
    return Request(
        login=fields["merchantAuthentication"]["name"],
        method=method,
        kind=request.get("transactionType") or request.get("action", ""),
        invoice=request.get("order", {}).get("invoiceNumber", ref_id),
        about=request.get("refTransId") or fields.get("transId", ""),
        ref_id=ref_id,
        request=request,
        fields=fields,
    )


class Play(NamedTuple):
    """The body a test scripted, and whether the request is executed nevertheless."""

    body: str
    done: bool
    kind: str | None = None


class Row(NamedTuple):
    """One record of a transaction or of a change to it."""

    of: Transaction
    kind: str
    amount: str
    invoice: str
    code: str


@dataclass
class Rules:
    """A test's settings for one login."""

    currencies: list[str]
    held_above: Decimal = Decimal("Infinity")
    held_as: str = "held"
    delay_s: float = 0.0
    settled: bool = False
    faults: list[tuple[str | None, Play]] = field(default_factory=list)
    """Each with the method it applies to, None for any."""
