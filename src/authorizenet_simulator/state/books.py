"""The ledger's plain data, which `batches` and `status_changes` modify."""

from collections import deque

from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.events import NonceMinted
from authorizenet_simulator.state.settings import Settings
from authorizenet_simulator.state.transactions import Action, Batch, Txn


class Books:
    """Every account's transactions and batches, and the indexes over all of them."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.settings = Settings()
        self.nonces: dict[str, NonceMinted] = {}
        """Unused Accept nonces."""
        self.next_batch = 0
        self.forget()

    def forget(self) -> None:
        """Delete every transaction."""
        self.txns: dict[int, Txn] = {}
        self.rows: list[Txn | Action] = []
        """One entry for each request that had an effect or was declined, oldest first."""
        self.batches: dict[int, Batch] = {}
        self.aging: deque[Txn] = deque()
        self.reviewing: deque[Txn] = deque()
