"""What a player remembers: what it said that it did, what it was asked, and what a test told it."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from recorded import bodies


@dataclass
class Transaction:
    """What the processor has, going by what it said. Amounts are texts, as on the wire."""

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
        """What is filled in where a body speaks of it. A refund's body names its parent too."""
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


class Asked(NamedTuple):
    """One request, and the body that was said to it. Empty: it does not name such a thing."""

    login: str
    method: str
    kind: str
    """The transactionType, or what is to become of a held transaction; empty in reporting."""
    invoice: str
    about: str
    """The transaction that it names."""
    ref_id: str
    said: str = ""


class Told(NamedTuple):
    """What a test says to say next, and whether what was asked is done all the same."""

    said: str
    done: bool
    kind: str | None = None


class Row(NamedTuple):
    """One line of the books."""

    of: Transaction
    kind: str
    amount: str
    invoice: str
    code: str


@dataclass
class Rules:
    """What a test has set for one login."""

    currencies: list[str]
    held_above: Decimal = Decimal("Infinity")
    held_as: str = "held"
    delay_s: float = 0.0
    settled: bool = False
    faults: list[tuple[str | None, Told]] = field(default_factory=list)
    """By method, None for any."""
