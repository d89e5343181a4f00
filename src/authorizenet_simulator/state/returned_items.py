"""Returned items: eChecks that settled and that the bank gave back afterwards."""

from collections.abc import Iterator
from typing import Any

import msgspec


class ItemReturned(msgspec.Struct, array_like=True, tag="returned"):
    trans_id: int
    login: str
    item_id: int
    at: int
    code: str
    """The bank's: R01 and so on."""
    description: str


Event = ItemReturned


class Returns:
    """What was returned, by transaction."""

    events: tuple[type, ...] = (ItemReturned,)

    def __init__(self) -> None:
        self.items: dict[int, list[ItemReturned]] = {}

    def apply(self, event: Any) -> None:
        self.items.setdefault(event.trans_id, []).append(event)

    def reset(self, login: str) -> None:
        self.items = {
            key: items for key, items in self.items.items() if login and items[0].login != login
        }

    def snapshot(self) -> Iterator[Event]:
        yield from ()
