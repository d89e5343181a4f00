"""Returned items: settled eChecks that the bank has returned."""

from typing import Any

import msgspec

from authorizenet_simulator.state.store import Store


class ItemReturned(msgspec.Struct, array_like=True, tag="returned"):
    trans_id: int
    login: str
    item_id: int
    at: int
    code: str
    """The bank's return code: R01 and so on."""
    description: str


Event = ItemReturned


class Returns(Store):
    """The store of returned items, by transaction."""

    events = (ItemReturned,)

    def __init__(self) -> None:
        self.items: dict[int, list[ItemReturned]] = {}

    def apply(self, event: Any) -> None:
        self.items.setdefault(event.trans_id, []).append(event)

    def reset(self, login: str) -> None:
        self.items = {
            key: items for key, items in self.items.items() if login and items[0].login != login
        }
