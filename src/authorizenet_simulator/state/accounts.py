"""A merchant account: its credentials, and indexes of its transactions."""

from authorizenet_simulator.state import events
from authorizenet_simulator.state.settings import Settings
from authorizenet_simulator.state.transactions import Batch, Txn


class Account:
    """A merchant account with the indexes of its transactions."""

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
        """The first is the default."""
        self.signature_key = added.signature_key
        self.settings: Settings | None = None
        """None: the settings that apply to every account."""
        self.forget()

    def forget(self) -> None:
        """Delete every transaction."""
        self.unsettled: dict[int, Txn] = {}
        """Transactions without a final status, oldest first, held ones included."""
        self.held: dict[int, Txn] = {}
        self.batches: list[Batch] = []
        # Duplicate digests in two generations of at least one maximum window each, so that old
        # ones are dropped without a search.
        self.recent: dict[int, Txn] = {}
        self.older: dict[int, Txn] = {}
        self.recent_since = 0
        self.latest = 0
        """Time of the newest transaction."""
        self.disordered = False
        """The clock went back, so ids are no longer ordered by time."""
        self.customers: dict[int, list[Txn]] = {}
        """Transactions by customer profile id, oldest first."""
        self.echecks = ("", 0)
        """The month, in the account's time zone, and the total of its eChecks so far."""
        self.tallies: dict[str, list[int]] = {}
        """By brand: voids, declines and errors not yet counted in a batch."""

    def count(self, brand: str, what: int) -> None:
        self.tallies.setdefault(brand, [0, 0, 0])[what] += 1
