"""What a feature remembers beside the transactions, and how the ledger carries it along."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from authorizenet_simulator.state.journal import Event
    from authorizenet_simulator.state.ledger import Ledger


class Store(Protocol):
    """What a feature remembers beside the transactions: profiles, subscriptions, webhooks.

    It changes only in `apply`, by events of its own types, so that a replay makes it anew.
    """

    events: tuple[type, ...]
    """The types of event that are this store's."""

    def apply(self, event: Any) -> None:
        """Take over what happened."""

    def reset(self, login: str) -> None:
        """Forget what one account has, or every account ('')."""

    def snapshot(self) -> "Iterator[Event]":
        """The events that make what a reset of everything leaves."""

    def due(self) -> int | None:
        """When the clock brings something next, Unix milliseconds; None for nothing."""

    def tick(self, ledger: "Ledger", now: int) -> None:
        """Do what has fallen due at `now`: the moment that was due, at or before the clock's.

        Afterwards `due` names a later moment, or else is asked again with the next request only.
        """
