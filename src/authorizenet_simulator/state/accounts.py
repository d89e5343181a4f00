"""A merchant at the processor: its credentials, and indexes of its transactions."""

from authorizenet_simulator.state import events
from authorizenet_simulator.state.settings import Settings
from authorizenet_simulator.state.transactions import Batch, Txn


class Account:
    """A merchant: credentials, and its own indexes."""

    __slots__ = (
        "batches",
        "currencies",
        "customers",
        "disordered",
        "echecks",
        "held",
        "latest",
        "login",
        "older",
        "recent",
        "recent_since",
        "settings",
        "signature_key",
        "tallies",
        "transaction_key",
        "unsettled",
    )

    def __init__(self, added: events.AccountAdded) -> None:
        self.login = added.login
        self.transaction_key = added.transaction_key
        self.currencies = tuple(added.currencies)
        """The first is meant where a request names none."""
        self.signature_key = added.signature_key
        self.settings: Settings | None = None
        """None: the settings of every account."""
        self.forget()

    def forget(self) -> None:
        """Drop every transaction."""
        self.unsettled: dict[int, Txn] = {}
        """Everything not final, oldest first; includes what is held."""
        self.held: dict[int, Txn] = {}
        self.batches: list[Batch] = []
        # Duplicate digests: two generations of at least one longest window each, so that old
        # ones go without a search.
        self.recent: dict[int, Txn] = {}
        self.older: dict[int, Txn] = {}
        self.recent_since = 0
        self.latest = 0
        """When its newest transaction was."""
        self.disordered = False
        """The clock went back, so the order of ids is no longer that of times."""
        self.customers: dict[int, list[Txn]] = {}
        """What was charged to each customer profile, oldest first."""
        self.echecks = ("", 0)
        """The month, on the account's calendar, and what its eChecks took so far."""
        self.tallies: dict[str, list[int]] = {}
        """Voids, declines and errors that no batch has counted yet, by brand."""

    def count(self, brand: str, what: int) -> None:
        self.tallies.setdefault(brand, [0, 0, 0])[what] += 1
