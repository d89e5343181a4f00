"""The whole simulator: ledger, rules, faults and deliveries together."""

from pathlib import Path
from typing import Protocol

from authorizenet_simulator.control.faults import Faults
from authorizenet_simulator.control.recorded_calls import Calls
from authorizenet_simulator.state.clock import Clock
from authorizenet_simulator.state.journal import Journal
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.subscriptions import recurring_payments
from authorizenet_simulator.webhooks.deliveries import Deliveries
from authorizenet_simulator.wire import schema


class Connection(Protocol):
    """The client's connection, as a fault needs it."""

    def abort(self, *, reset: bool) -> None:
        """End it at once with nothing more sent; with `reset` the peer sees a reset."""


class Listener(Protocol):
    """The door: whether new connections are accepted."""

    def stop(self, spare: Connection | None) -> None:
        """Refuse new connections and end those now idle, except `spare`."""

    async def resume(self) -> None:
        """Accept again, on the same port."""


class Simulator:
    """State and settings of one process. `state_file` None: nothing outlives it."""

    def __init__(self, seed: int, state_file: Path | None) -> None:
        self.clock = Clock()
        self.ledger = Ledger(Journal(state_file), self.clock, seed)
        self.ledger.subscriptions.collect = recurring_payments.collect
        self.rules = schema.load()
        self.faults = Faults(seed)
        self.deliveries = Deliveries(self.ledger, self.faults)
        self.calls = Calls(self.ledger)
        self.listener: Listener | None = None
