"""The interface of a store, which the ledger uses."""

from collections.abc import Iterator
from typing import Any


class Store:
    """A feature's state beside the transactions: profiles, subscriptions, webhooks and others.

    Only `apply` changes it, by events of its own types, so that a replay recreates it.
    """

    events: tuple[type, ...] = ()
    """This store's types of event."""

    def apply(self, event: Any) -> None:
        """Apply an event."""
        raise NotImplementedError

    def reset(self, login: str) -> None:
        """Delete the state of one account, or of every account ('')."""
        raise NotImplementedError

    def snapshot(self) -> Iterator[Any]:
        """Yield the events that recreate what a full reset leaves; none by default."""
        return iter(())
