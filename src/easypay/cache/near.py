"""The near cache: values in this process, bounded in bytes. What was used longest ago leaves."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import msgspec

_OVERHEAD: Final = 850
"""Bytes that an entry takes beside its value and its name: measured, and rounded up."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A value, and when it was read."""

    value: Any
    """None: there is none."""
    version: int
    """The row's version; 0 if the value is not one row."""
    read_at: float
    """This process's monotonic clock before the database was read, in seconds."""
    ends_at: float
    """The same clock: from then on the entry is gone."""
    size: int
    """Of the value, in bytes."""
    told: bool = False
    """Whether this process is told if it changes, while it hears of changes at all."""
    forms: dict[bytes, bytes] = msgspec.field(default_factory=dict)
    """What was made of the value for clients: its tag, its compressed forms."""


class NearCache:
    """Entries by name. Not for threads."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def get(self, name: str, now: float) -> Entry | None:
        """Return an entry that has not ended, or None."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        if entry.ends_at <= now:
            self.delete(name)
            return None
        self._entries.move_to_end(name)
        return entry

    def put(self, name: str, entry: Entry) -> None:
        """Keep an entry, unless it is too large, or one that is there was read later or is of a
        later version."""
        cost = _cost(name, entry)
        if cost > self.most_bytes // 4:
            return
        there = self._entries.get(name)
        if there is not None:
            if there.read_at > entry.read_at or there.version > entry.version:
                return
            self.delete(name)
        self._entries[name] = entry
        self.bytes += cost
        while self.bytes > self.most_bytes:
            oldest, gone = self._entries.popitem(last=False)
            self.bytes -= _cost(oldest, gone)

    def delete(self, name: str) -> None:
        """Forget an entry, if it is there."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            self.bytes -= _cost(name, entry)

    def delete_where(self, chosen: Callable[[str], bool]) -> None:
        """Forget every entry whose name is chosen. Looks at all of them."""
        for name in [name for name in self._entries if chosen(name)]:
            self.delete(name)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.bytes = 0


def _cost(name: str, entry: Entry) -> int:
    return entry.size + len(name) + _OVERHEAD
