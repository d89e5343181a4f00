"""The one way in to both caches: `get`, `set`, `delete` and `get_or_set`.

A reader says how old a value may be for it. Age is counted from before the database was read, so
nobody ever gets anything older than that. What is told of changes makes values fresher, never
allowed to be older:

    this process knows of changes elsewhere    a value may be as old as the reader allows
    it does not                                 at most a second, however much the reader allows

Readers who miss the same value at the same time share one query: a flight. If the value changes
during a flight, its waiters get what it read, and it is not kept.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol
from uuid import UUID

import msgspec

from easypay.cache.names import LIFE_S, UNTOLD_S, Answer, Kind, is_of_merchant, payment_name
from easypay.cache.near import Entry, NearCache
from easypay.clock import monotonic
from easypay.mode import Mode

_SHORTEST_SHARE: Final = 0.8
"""Lives are drawn between this share of LIFE_S and all of it, so that they do not end together."""


class Loaded(msgspec.Struct, frozen=True, gc=False):
    """What was read from the database."""

    value: Answer | None
    """None: there is none."""
    version: int = 0
    older_by_s: float = 0.0
    """How far the server that was read may be behind the primary, in seconds."""


class Read(msgspec.Struct, frozen=True, gc=False):
    """A value for one reader."""

    value: Answer | None
    age_s: float
    cached: bool
    """Whether somebody else's query found it, before this reader asked."""
    forms: dict[bytes, bytes]
    """What was made of it already, for all who read it here."""


Load = Callable[[], Awaitable[Loaded]]


class Found(msgspec.Struct, frozen=True, gc=False):
    """What the shared cache has under a name."""

    entry: Entry | None
    held: bytes | None
    """To be given to `fill`; None if there is nothing to fill."""
    told: bool = False
    """Whether this process will be told if the value changes after this."""


class PaymentRef(Protocol):
    """Anything that belongs to a payment: an operation."""

    @property
    def merchant_id(self) -> UUID: ...
    @property
    def mode(self) -> Mode: ...
    @property
    def payment_id(self) -> UUID: ...


class Shared(Protocol):
    """The cache that all processes share."""

    async def look_up(self, name: str) -> Found:
        """Return what is there. Never raises, and takes at most a few milliseconds."""

    async def fill(self, name: str, held: bytes, entry: Entry) -> None:
        """Store an entry, if nothing has changed since `held` was given out. Never raises."""

    def forget(self, name: str) -> None:
        """Drop a name everywhere, soon."""

    def forget_payments(self, changed: Sequence[PaymentRef]) -> None:
        """Drop payments everywhere, soon. Cheap, for it is called after each commit."""

    def forget_merchant(self, merchant_id: UUID) -> None:
        """Drop everything of a merchant everywhere, soon."""


class _Flight:
    """A query that several readers may wait for."""

    __slots__ = ("began", "changed", "task", "within_s")

    def __init__(self, within_s: float) -> None:
        self.within_s = within_s
        self.began = monotonic()
        self.changed = False
        self.task: asyncio.Task[Entry]


class Caches:
    """The caches of one process. `hears`: whether it is told of changes elsewhere now."""

    def __init__(self, near_bytes: int) -> None:
        self._near = NearCache(near_bytes)
        self._flights: dict[str, _Flight] = {}
        self._shared: Shared | None = None
        self._hears: Callable[[], bool] = lambda: False
        self.wanted_at = -LIFE_S
        """When somebody last read who allows more than a second, by the monotonic clock."""
        self.counts: Counter[tuple[str, str]] = Counter()
        """Look-ups by kind and result: hit, shared, miss, stale, error."""

    @property
    def is_on(self) -> bool:
        """Whether anything is cached at all."""
        return self._near.most_bytes > 0

    @property
    def near_bytes(self) -> int:
        """How much the near cache holds, in bytes."""
        return self._near.bytes

    @property
    def near_entries(self) -> int:
        """How many values the near cache holds."""
        return len(self._near)

    def connect(self, shared: Shared | None, hears: Callable[[], bool]) -> None:
        """Add the shared cache, if there is one, and what tells of changes."""
        self._shared, self._hears = shared, hears

    # reading -----------------------------------------------------------------------------------

    def near(self, kind: Kind, name: str, within_s: float) -> Read | None:
        """Return a value that was read at most `within_s` ago, if this process has it. None: ask
        `get_or_set`, which looks here again."""
        now = monotonic()
        entry = self._near.get(name, now)
        if entry is None:
            return None
        age_s = now - entry.read_at
        if not self._is_good(entry, age_s, within_s):
            return None
        if within_s > UNTOLD_S:
            self.wanted_at = now
        self.counts[kind.name, "hit"] += 1
        return Read(entry.value, age_s, True, entry.forms)

    async def get_or_set(self, kind: Kind, name: str, within_s: float, load: Load) -> Read:
        """Return a value that was read at most `within_s` ago, or what `load` returns.

        Raises what `load` raises.
        """
        while True:
            asked_at = monotonic()
            if within_s > UNTOLD_S:
                self.wanted_at = asked_at
            entry = self._near_entry(kind, name, within_s, asked_at)
            if entry is not None:
                self.counts[kind.name, "hit"] += 1
                return _read(entry, asked_at - entry.read_at, True)
            flight = self._flights.get(name)
            joins = (
                flight is not None
                and not flight.changed
                and flight.within_s <= within_s
                and asked_at - flight.began <= within_s
            )
            if flight is None or not joins:
                flight = self._take_off(kind, name, within_s, load)
            entry = await asyncio.shield(flight.task)
            age_s = monotonic() - entry.read_at
            if not joins:
                return _read(entry, age_s, entry.read_at < flight.began)
            if asked_at - entry.read_at <= within_s:
                self.counts[kind.name, "hit"] += 1
                return _read(entry, age_s, True)

    async def get(self, kind: Kind, name: str, within_s: float) -> Read | None:
        """Return a value that was read at most `within_s` ago from the caches, or None.

        The gateway does not use this itself: `get_or_set` also fills the caches.
        """
        now = monotonic()
        entry = self._near_entry(kind, name, within_s, now)
        if entry is None and self._shared is not None:
            entry = self._fresh((await self._shared.look_up(name)).entry, within_s)
        return None if entry is None else _read(entry, monotonic() - entry.read_at, True)

    async def set(self, name: str, loaded: Loaded, read_at: float) -> None:
        """Keep what was read from the database at `read_at`, by the monotonic clock, in this
        process and for a second: nobody tells of what changed while it was read.

        The gateway does not use this itself: what `get_or_set` reads is kept for longer.
        """
        self._near.put(name, _entry(loaded, read_at, told=False))

    def _near_entry(self, kind: Kind, name: str, within_s: float, now: float) -> Entry | None:
        entry = self._near.get(name, now)
        if entry is None:
            return None
        if self._is_good(entry, now - entry.read_at, within_s):
            return entry
        self.counts[kind.name, "stale"] += 1
        return None

    def _is_good(self, entry: Entry, age_s: float, within_s: float) -> bool:
        return age_s <= within_s and (age_s <= UNTOLD_S or (entry.told and self._hears()))

    def _fresh(self, entry: Entry | None, within_s: float) -> Entry | None:
        if entry is None or monotonic() - entry.read_at > within_s:
            return None
        return entry

    def _take_off(self, kind: Kind, name: str, within_s: float, load: Load) -> _Flight:
        flight = _Flight(within_s)
        overtaken = self._flights.get(name)
        if overtaken is not None:
            # Nobody finds it by its name any more to say that the value has changed.
            overtaken.changed = True
        flight.task = asyncio.create_task(self._fly(flight, kind, name, load))
        self._flights[name] = flight

        def land(task: asyncio.Task[Entry]) -> None:
            if self._flights.get(name) is flight:
                del self._flights[name]
            if not task.cancelled():
                task.exception()  # whoever waits gets it; if nobody does, it is nobody's

        flight.task.add_done_callback(land)
        return flight

    async def _fly(self, flight: _Flight, kind: Kind, name: str, load: Load) -> Entry:
        """Look into the shared cache, then into the database."""
        held, told = None, self._hears()
        if self._shared is not None:
            found = await self._shared.look_up(name)
            held, told = found.held, found.told
            entry = self._fresh(found.entry, flight.within_s)
            if entry is not None:
                self.counts[kind.name, "shared"] += 1
                self._keep(flight, name, entry)
                return entry
        self.counts[kind.name, "miss"] += 1
        read_at = monotonic()
        entry = _entry(await load(), read_at, told=told)
        self._keep(flight, name, entry)
        if self._shared is not None and held is not None and not flight.changed:
            await self._shared.fill(name, held, entry)
        return entry

    def _keep(self, flight: _Flight, name: str, entry: Entry) -> None:
        if not flight.changed:
            self._near.put(name, entry)

    # what has changed --------------------------------------------------------------------------

    def delete(self, name: str) -> None:
        """Forget a value, here and everywhere."""
        self.drop(name)
        if self._shared is not None:
            self._shared.forget(name)

    def payments_changed(self, changed: Sequence[PaymentRef]) -> None:
        """Forget payments, here and everywhere. Does next to nothing if nothing is cached."""
        if self._near or self._flights:
            for each in changed:
                self.drop(payment_name(each.merchant_id, each.mode, each.payment_id))
        if self._shared is not None:
            self._shared.forget_payments(changed)

    def delete_merchant(self, merchant_id: UUID) -> None:
        """Forget everything of a merchant, here and everywhere."""
        self.drop_merchant(merchant_id)
        if self._shared is not None:
            self._shared.forget_merchant(merchant_id)

    def drop(self, name: str) -> None:
        """Forget a value in this process. What is being read now is not kept."""
        self._near.delete(name)
        flight = self._flights.get(name)
        if flight is not None:
            flight.changed = True

    def drop_merchant(self, merchant_id: UUID) -> None:
        """Forget everything of a merchant in this process."""
        self._near.delete_where(lambda name: is_of_merchant(name, merchant_id))
        for name, flight in self._flights.items():
            flight.changed |= is_of_merchant(name, merchant_id)

    def drop_all(self) -> None:
        """Forget everything in this process."""
        self._near.clear()
        for flight in self._flights.values():
            flight.changed = True

    def failed(self, name: str) -> None:
        """Count that the shared cache could not answer, or answered what is not a value."""
        self.counts[name.partition(":")[0], "error"] += 1


def _read(entry: Entry, age_s: float, cached: bool) -> Read:
    return Read(entry.value, age_s, cached, entry.forms)


def _entry(loaded: Loaded, read_at: float, *, told: bool) -> Entry:
    life_s = LIFE_S * random.uniform(_SHORTEST_SHARE, 1.0)  # noqa: S311 - not a secret
    if loaded.value is None:
        return Entry(None, 0, read_at, read_at + UNTOLD_S, 0)
    return Entry(
        loaded.value,
        loaded.version,
        read_at - loaded.older_by_s,
        read_at + life_s,
        size_of(loaded.value),
        told,
    )


def size_of(answer: Answer) -> int:
    """Return the bytes of an answer. What is kept of its forms takes no more than itself."""
    headers = sum(len(name) + len(value) + 120 for name, value in answer.headers)
    return 2 * len(answer.body) + headers
