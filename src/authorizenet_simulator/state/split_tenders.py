"""Split tenders: an order that a prepaid card paid partly, and the payments of the rest.

Only the payments of each order are stored; the amount paid is computed from their current
status.
"""

from typing import Any, Literal, get_args

import msgspec

from authorizenet_simulator.state.store import Store


class Opened(msgspec.Struct, array_like=True, tag="split_opened"):
    split_id: int
    login: str
    requested: int


class Joined(msgspec.Struct, array_like=True, tag="split_joined"):
    split_id: int
    trans_id: int
    requested: int
    balance: int | None
    """What is left on the card; None if unknown."""


class Closed(msgspec.Struct, array_like=True, tag="split_closed"):
    split_id: int
    status: Literal["completed", "voided"]


Event = Opened | Joined | Closed


class Group(msgspec.Struct):
    """One order. `requested` is its amount in hundredths."""

    split_id: int
    login: str
    requested: int
    status: Literal["held", "completed", "voided"] = "held"
    members: list[Joined] = []


class SplitTenders(Store):
    """The store of groups, by id."""

    events = get_args(Event)

    def __init__(self) -> None:
        self.groups: dict[int, Group] = {}

    def apply(self, event: Any) -> None:
        match event:
            case Opened(split_id, login, requested):
                self.groups[split_id] = Group(split_id, login, requested)
            case Joined():
                self.groups[event.split_id].members.append(event)
            case Closed(split_id, status):
                self.groups[split_id].status = status

    def reset(self, login: str) -> None:
        self.groups = {
            key: group for key, group in self.groups.items() if login and group.login != login
        }
