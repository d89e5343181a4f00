"""`GET /events`: all that happened to a merchant's payments, in an order that never changes.

A client keeps the cursor of the last page and asks for what came after it. If nothing did, it may
wait for it: `Prefer: wait=30`. All who wait in one process share one look at the feed, ten times a
second while anybody waits. They read only when there is something new, and few of them at a time,
so those who read other things get their turn.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from easypay.api.auth import caller_of
from easypay.api.http import ClientLeft, Request, Response, encode, invalid_query
from easypay.api.paging import Cursors, limit_of
from easypay.clock import monotonic
from easypay.db.connections import LOST
from easypay.errors import EasyPayError
from easypay.events import pages
from easypay.events.pages import FeedPage, Place
from easypay.merchants.directory import Directory
from easypay.merchants.model import Caller
from easypay.payments.event_objects import FeedEventView, objects_of

QUERY: Final = ("after", "limit", "types")
LATEST: Final = "latest"
LONGEST_WAIT_S: Final = 30
MOST_TYPES: Final = 20
MOST_WAITING: Final = 500
"""Requests that wait in one process. Beyond them, and beyond those of one merchant, a request is
answered at once."""
MOST_WAITING_OF_MERCHANT: Final = 20
_LOOK_EVERY_S: Final = 0.1
_SCOPE: Final = "all events"
_TYPE: Final = r"[a-z_]{1,30}\.[a-z_]{1,30}"
TYPES_PATTERN: Final = rf"^{_TYPE}(,{_TYPE}){{0,{MOST_TYPES - 1}}}$"
_TYPES: Final = re.compile(TYPES_PATTERN)
_WAIT: Final = re.compile(rb"(?:^|[,;])\s*wait\s*=\s*(\d{1,6})\s*(?:$|[,;])", re.IGNORECASE)
# The newest number is read from the feed itself: its head changes all the time, and has many
# versions beside an old snapshot.
_NEWS: Final = """
    SELECT (SELECT max(seq) FROM feed),
           (SELECT array_agg(DISTINCT stream) FROM feed WHERE seq > $1)
"""
_HEAD: Final = "SELECT last_seq FROM feed_head"


class FeedEventPage(msgspec.Struct, frozen=True):
    """Events, oldest first. `next_cursor` is never null: ask with it for what comes after."""

    data: list[FeedEventView]
    has_more: bool
    next_cursor: str


class Arrivals:
    """Tells who waits for a stream that it has new events."""

    def __init__(self, reading: Any) -> None:
        self._reading = reading
        self._waiting: dict[int, set[asyncio.Event]] = {}
        self._count = 0
        self._look: asyncio.Task[None] | None = None
        self._stopped = False

    def may_wait(self, stream: int) -> bool:
        """Whether one more may wait for a stream."""
        mine = len(self._waiting.get(stream, ()))
        return not self._stopped and self._count < MOST_WAITING and mine < MOST_WAITING_OF_MERCHANT

    def expect(self, stream: int) -> asyncio.Event:
        """Return what is set when the stream may have new events. Give it to `leave` afterwards.

        It is set at first: what arrived since the caller's last read was told to nobody.
        """
        arrived = asyncio.Event()
        arrived.set()
        self._waiting.setdefault(stream, set()).add(arrived)
        self._count += 1
        if self._look is None:
            self._look = asyncio.create_task(self._watch())
        return arrived

    def leave(self, stream: int, arrived: asyncio.Event) -> None:
        """Wait no more."""
        waiting = self._waiting[stream]
        waiting.discard(arrived)
        self._count -= 1
        if not waiting:
            del self._waiting[stream]

    @property
    def somebody_waits(self) -> bool:
        """Whether anybody waits."""
        return self._count > 0

    @property
    def may_go_on(self) -> bool:
        """Whether those that wait may wait on: the process does not drain, and the feed is
        watched."""
        return not self._stopped and self._look is not None

    def stop(self) -> None:
        """Let nobody wait any more: the process drains."""
        self._stopped = True
        self._tell(list(self._waiting))

    def _tell(self, streams: list[int]) -> None:
        for stream in streams:
            for arrived in self._waiting.get(stream, ()):
                arrived.set()

    async def _watch(self) -> None:
        """Look at the feed while anybody waits. If it cannot be read, nobody waits on."""
        try:
            seen = await self._reading.fetchval(_HEAD)
            self._tell(list(self._waiting))  # of what came before this first look
            while self._waiting:
                await asyncio.sleep(_LOOK_EVERY_S)
                newest, streams = tuple(await self._reading.fetchrow(_NEWS, seen))
                last = newest or 0
                # A failover can take back the newest numbers: then everybody looks.
                self._tell(list(self._waiting) if last < seen else streams or [])
                seen = last
        except (*LOST, EasyPayError):
            self._tell(list(self._waiting))
        finally:
            self._look = None


class EventsApi:
    """The handler of the merchant's feed. Of those that wait, `at_once` read at the same time."""

    def __init__(
        self, *, directory: Directory, reading: Any, cursors: Cursors, at_once: int
    ) -> None:
        self._directory = directory
        self._reading = reading
        self._cursors = cursors
        self._arrivals = Arrivals(reading)
        self._turns = asyncio.Semaphore(at_once)

    @property
    def somebody_waits(self) -> bool:
        """Whether a request waits for an event."""
        return self._arrivals.somebody_waits

    def stop(self) -> None:
        """Answer those that wait: the process drains."""
        self._arrivals.stop()

    async def list(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, "events:read")
        query = request.query(*QUERY)
        limit, types = limit_of(query), types_of(query)
        wait_s = wait_of(request)
        stream = await self._stream(caller)
        place = await self._place(caller, query, stream)
        page = await self._read(caller, stream, place, limit, types)
        waits = wait_s > 0 and stream is not None and self._arrivals.may_wait(stream)
        if waits and not page.events and not page.more:
            assert stream is not None
            gone = asyncio.create_task(request.left())
            try:
                page, views = await self._awaited(caller, stream, page, limit, types, wait_s, gone)
            finally:
                gone.cancel()
        else:
            views = await objects_of(self._reading, page.events)
        cursor = self._cursors.write(page.after.event_id, caller, _SCOPE, page.after.position)
        response = Response(200, encode(FeedEventPage(list(views), page.more, cursor)))
        if waits:
            response.headers = [(b"preference-applied", b"wait=%d" % wait_s)]
        return response

    async def _stream(self, caller: Caller) -> int | None:
        # It is not remembered: a failover can take back a new stream, which gets another number.
        return await pages.stream_of(self._reading, caller.merchant_id, caller.mode)

    async def _place(self, caller: Caller, query: dict[str, str], stream: int | None) -> Place:
        """Return how far the client has come. Raises ValidationFailed for a cursor that is not
        ours."""
        after = query.get("after")
        if after is None or (after == LATEST and stream is None):
            return Place()
        if after == LATEST:
            return await pages.newest(self._reading, stream or 0)
        event_id, position = self._cursors.read(after, caller, _SCOPE, name="after")
        return Place(position, event_id)

    async def _read(
        self, caller: Caller, stream: int | None, place: Place, limit: int, types: frozenset[str]
    ) -> FeedPage:
        if stream is None:
            return FeedPage([], place, more=False)
        place = await pages.checked(self._reading, stream, place)
        return await pages.read(
            self._reading, caller.merchant_id, stream, place, limit=limit, types=types
        )

    async def _awaited(
        self,
        caller: Caller,
        stream: int,
        page: FeedPage,
        limit: int,
        types: frozenset[str],
        wait_s: int,
        gone: "asyncio.Task[None]",
    ) -> tuple[FeedPage, Sequence[FeedEventView]]:
        """Return the first page that has an event; without one if the time has passed, or if this
        process can tell nobody of new ones any more. Raises ClientLeft once `gone` has ended."""
        give_up_at = monotonic() + wait_s
        arrived = self._arrivals.expect(stream)
        gone.add_done_callback(lambda _: arrived.set())
        views: Sequence[FeedEventView] = ()
        try:
            while not page.events and (left_s := give_up_at - monotonic()) > 0:
                try:
                    async with asyncio.timeout(left_s):
                        await arrived.wait()
                        await self._turns.acquire()
                except TimeoutError:
                    break
                try:
                    if gone.done():
                        raise ClientLeft
                    if not self._arrivals.may_go_on:
                        break
                    arrived.clear()
                    stream_now = await self._stream(caller)
                    page = await self._read(caller, stream_now, page.after, limit, types)
                    views = await objects_of(self._reading, page.events)
                finally:
                    self._turns.release()
                if page.more:  # none of the wanted types among those looked at
                    arrived.set()
        finally:
            self._arrivals.leave(stream, arrived)
        return page, views


def types_of(query: dict[str, str]) -> frozenset[str]:
    """Return the wanted types; none means all. Raises ValidationFailed."""
    text = query.get("types")
    if text is None:
        return frozenset()
    if not _TYPES.fullmatch(text):
        raise invalid_query(
            "types", f"Use up to {MOST_TYPES} types with commas between: payment.captured."
        )
    return frozenset(text.split(","))


def wait_of(request: Request) -> int:
    """Return how many seconds the client is ready to wait (RFC 7240); at most LONGEST_WAIT_S."""
    found = _WAIT.search(request.headers.get(b"prefer", b""))
    return 0 if found is None else min(int(found[1]), LONGEST_WAIT_S)
