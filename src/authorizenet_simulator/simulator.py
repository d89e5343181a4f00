"""Builds the parts of one simulator: ledger, schema, faults, deliveries, recorded calls."""

from pathlib import Path

from authorizenet_simulator.control.faults import Faults
from authorizenet_simulator.control.recorded_calls import Calls
from authorizenet_simulator.state.clock import Clock
from authorizenet_simulator.state.journal import Journal
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.subscriptions import recurring_payments
from authorizenet_simulator.webhooks.deliveries import Deliveries
from authorizenet_simulator.wire import schema


class Simulator:
    """State and settings of one process; with `state_file` None nothing is kept on disk."""

    def __init__(self, seed: int, state_file: Path | None) -> None:
        self.clock = Clock()
        self.ledger = Ledger(Journal(state_file), self.clock, seed)
        self.ledger.collect = recurring_payments.collect
        self.rules = schema.load()
        self.faults = Faults(seed)
        self.deliveries = Deliveries(self.ledger, self.faults)
        self.calls = Calls(self.ledger)
