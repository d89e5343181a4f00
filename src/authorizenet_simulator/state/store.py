"""What the ledger asks of a store."""

from collections.abc import Iterator
from typing import Any


class Store:
    """What a feature remembers beside the transactions: profiles, subscriptions, webhooks.

    It changes only in `apply`, by events of its own types, so that a replay makes it anew.
    """

    events: tuple[type, ...] = ()
    """The types of event that are this store's."""

    def apply(self, event: Any) -> None:
        """Take over what happened."""
        raise NotImplementedError

    def reset(self, login: str) -> None:
        """Forget what one account has, or every account ('')."""
        raise NotImplementedError

    def snapshot(self) -> Iterator[Any]:
        """The events that make what a reset of everything leaves: as a rule nothing."""
        return iter(())
