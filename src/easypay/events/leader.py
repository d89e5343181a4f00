"""One process at a time numbers the events of all merchants and lets the readers follow.

Every gateway runs this; a lease says which one leads. A leader that was stopped and goes on does no
harm: its statements find that the marks have moved, and write nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import asyncpg

from easypay import clock, ids
from easypay.clock import monotonic
from easypay.db.connections import Connector, Lane
from easypay.db.failures import is_passing
from easypay.db.lease import Lease
from easypay.events import numbering, summaries
from easypay.events.numbering import Mark
from easypay.events.readers import Follower, Place, PlanAge, any_of, head

log = logging.getLogger(__name__)

POLL_S: Final = 0.11
"""How often the present month is looked at. A look costs as much as twenty-five events, and readers
may be 200 ms behind. Rows outside every month are looked for once a second."""
AWAITED_POLL_S: Final = 0.025
"""How often it is looked at while somebody waits for events and there are new ones."""
_PEEK_S: Final = 0.015
"""How often it is asked then whether anything was committed. That costs a twentieth of a look."""
_SURELY_MORE: Final = 10
"""After a look that found so many events it is not asked whether there are more."""
_LEASE_S: Final = 5.0
_TAKE_EVERY_S: Final = 1.0
_ALL_MONTHS_EVERY_S: Final = 10.0
_SUMMARISE_AFTER: Final = 1_000
"""How many events fill about one range of the block range index. Each look reads all rows that are
in no summary yet."""
_BY_PLACE_S: Final = 60.0
"""How long marks are looked for by place, once old versions of one have filled a page."""
_TRANSACTIONS: Final = 2_000
_MOST: Final = 5_000
_AGAIN_S: Final = 1.0

Watcher = Callable[[int, float], None]
"""Called with how many events were numbered, and the age of the oldest in seconds."""
Chore = Callable[[Any], Awaitable[bool]]
"""Called with the pool between two looks at the feed, about once a second, so it must be short.
Returns whether there is more to do: then it is called after the next look, too."""
Beside = Callable[[Any], Awaitable[None]]
"""Called with the pool beside the looks, every `POLL_S`. A process that does not lead calls it,
too, once a second: the leader may be of a version that does not know it."""


async def _no_chore(_: Any) -> bool:
    return False


async def _nothing(_: Any) -> None:
    pass


class FeedLeader:
    """Takes the lease, and leads while it has it."""

    def __init__(
        self,
        pool: Any,
        dsn: str,
        follower: Follower,
        *,
        limit_s: float,
        watch: Watcher,
        beside: Beside = _nothing,
        chore: Chore = _no_chore,
        impatient: Sequence[str] = (),
        somebody_waits: Callable[[], bool] = lambda: False,
    ) -> None:
        """`impatient`: readers that want each event soon, if they are there. `somebody_waits`:
        whether a client of this process waits for an event."""
        self._pool = pool
        self._follower = follower
        self._watch = watch
        self._beside = beside
        self._chore = chore
        self._impatient = impatient
        self._somebody_waits = somebody_waits
        self._is_awaited = False
        """Whether an impatient reader is there."""
        self._lease = Lease("feed", ids.new_id(), _LEASE_S)
        self._new_lane = partial(Lane, dsn, "feed", self._statement, lookups=True, limit_s=limit_s)
        self._lane = self._new_lane()
        self._plan = PlanAge()
        self._is_plan_old = False
        self._planned: Lane | None = None
        """A lane with newer plans, which takes the place of the other before the next look."""
        self._connector = Connector(dsn)
        self._marks: dict[str, Mark] = {}
        self._steps: dict[str, int] = {}
        self._head: int | None = None
        """The newest number of the feed; None if another process may have given newer ones."""
        self._head_row: Place | None = None
        """Where the row with that number was put last."""
        self._by_place_until = 0.0
        """While somebody holds an old snapshot, marks are looked for where they were put."""
        self._follows_in = ""
        """The month whose new events the follower reads in the statement that numbers them."""
        self._found = 0
        """How many new events the last look at that month found."""
        self._summaries = summaries.Summaries(pool)
        self._not_summarised = 0
        """About how many events were numbered since the newest summary was made."""

    async def run(self) -> None:
        """Run until cancelled. What the database refuses for a while is tried again."""
        while True:
            try:
                if await self._lease.take(self._pool) is None:
                    await self._beside(self._pool)
                    await asyncio.sleep(_TAKE_EVERY_S)
                    continue
                await self._lead()
            except Exception as error:
                if not is_passing(error):
                    raise
                log.warning("the feed waits for the database: %s", error)
                await asyncio.sleep(_AGAIN_S)
            finally:
                await self._forget()

    async def stop(self) -> None:
        """Give up the lease, so that another process leads at once."""
        await self._lease.release(self._pool)

    async def _forget(self) -> None:
        self._marks.clear()
        self._steps.clear()
        self._head = None
        await self._take_planned()
        await self._lane.close()
        await self._follower.close()

    def _statement(self, variant: str) -> str:
        """Return a statement by its variant: a month, perhaps followed by `read`. For a month that
        is gone there is none."""
        if variant == numbering.PEEK:
            return numbering.IS_ANY_NEW
        month, _, read = variant.partition(" ")
        if read:
            return numbering.and_read(month, self._follower.reader)
        return numbering.in_month(month) if month else ""

    async def _lead(self) -> None:
        """Lead until another process has the lease."""
        if await numbering.is_restored(self._pool):
            await self._adopt(await numbering.marks(self._pool), "this database was restored")
        upkeep = [asyncio.create_task(each) for each in (self._hold(), self._keep_up())]
        try:
            await self._look_until(lambda: any(each.done() for each in upkeep))
        finally:
            for each in upkeep:
                each.cancel()
            ended = await asyncio.gather(*upkeep, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _hold(self) -> None:
        """Keep the lease until another process has it. What is looked at until this is known finds
        that the marks have moved."""
        while await self._lease.take(self._pool) is not None:
            self._is_awaited = await any_of(self._pool, self._impatient)
            await asyncio.sleep(_TAKE_EVERY_S)

    async def _keep_up(self) -> None:
        """Do beside the looks what would hold them up."""
        all_at = 0.0
        while True:
            now = monotonic()
            if self._is_plan_old and self._planned is None:
                await self._plan_anew()
            await self._beside(self._pool)
            if now >= all_at or self._not_summarised >= _SUMMARISE_AFTER:
                all_at = now + _ALL_MONTHS_EVERY_S
                self._not_summarised = 0
                if await self._summaries.make(_present()):
                    self._not_summarised = _SUMMARISE_AFTER
            await asyncio.sleep(POLL_S)

    async def _plan_anew(self) -> None:
        """Plan the statements anew over another connection, while the looks go on over theirs: it
        takes as long as several looks. If there is no connection, this is tried again."""
        mark, position = self._marks.get(_present()), self._follower.position
        if mark is None or position is None:
            return
        lane = self._new_lane()
        try:
            await numbering.plan(lane, mark, position)
        except Exception as error:
            await lane.close()
            if not is_passing(error):
                raise
        else:
            self._planned, self._is_plan_old = lane, False

    async def _take_planned(self) -> None:
        """Look over the lane that was planned anew, if there is one."""
        if self._planned is not None:
            old, self._lane, self._planned = self._lane, self._planned, None
            await old.close()

    async def _look_until(self, is_over: Callable[[], bool]) -> None:
        rows_outside_at = all_at = 0.0
        behind: set[str] = set()
        caught_up = more_chores = False
        while not is_over():
            await self._take_planned()
            now = monotonic()
            looked_at = {_present()}
            if now >= rows_outside_at:
                looked_at.add("default")
                rows_outside_at = now + _TAKE_EVERY_S
                more_chores = True
            if now >= all_at:
                await self._read_marks()
                self._follows_in = _present()
                behind = set(self._marks)
                all_at = now + _ALL_MONTHS_EVERY_S
            months = behind | (looked_at & self._marks.keys())
            behind = {month for month in months if await self._number(month)}
            if not behind and not caught_up:
                await numbering.note_caught_up(self._pool)
                caught_up = True
            await self._follow()
            more_chores = more_chores and await self._chore(self._pool)
            if not behind:
                await self._rest(now)

    async def _rest(self, looked_at: float) -> None:
        """Wait until the next look is due. If somebody waits for events it is due as soon as
        anything was committed, whoever committed it."""
        ends = looked_at + POLL_S
        mark = self._marks.get(_present())
        if mark is not None and (self._is_awaited or self._somebody_waits()):
            await asyncio.sleep(max(0.0, looked_at + AWAITED_POLL_S - monotonic()))
            if self._found >= _SURELY_MORE:
                return
            while monotonic() + _PEEK_S < ends:
                if await numbering.is_any_new(self._lane, mark):
                    return
                await asyncio.sleep(_PEEK_S)
        await asyncio.sleep(max(0.0, ends - monotonic()))

    async def _read_marks(self) -> None:
        self._head = None
        self._marks = {mark.month: mark for mark in await numbering.marks(self._pool)}

    async def _number(self, month: str) -> bool:
        """Number what is new in a month. Returns whether there may be more."""
        mark, step = self._marks[month], self._steps.get(month, _TRANSACTIONS)
        # A reader that is behind follows by itself, in as large steps as it can take. So it does
        # after a look that found nothing: the statement for both takes longer to find nothing.
        follows = (
            self._found > 0 and month == self._follows_in and self._head == self._follower.position
        )
        try:
            done = await numbering.number(
                self._lane,
                mark,
                transactions=step,
                most=_MOST,
                head=self._head_row,
                read_to=self._follower.position if follows else None,
                places=self._follower.places,
                by_place=monotonic() < self._by_place_until,
            )
        except asyncpg.UndefinedTableError:  # this month was taken out, or the one before
            await self._read_marks()
            self._follows_in = ""
            return False
        if done.mark is None:
            if done.events <= _MOST:  # another process moved the mark
                await self._read_marks()
                return False
            if step == 1:
                await self._adopt([mark], "a transaction wrote very many events")
            self._steps[month] = max(1, step // 8)
            return True
        self._marks[month] = done.mark
        if _has_new_page(mark, done.mark):
            self._by_place_until = monotonic() + _BY_PLACE_S
        self._head_row = done.head or self._head_row
        if month == self._follows_in:
            self._found = done.events
        if done.events:
            self._watch(done.events, done.behind_s)
            self._not_summarised += done.events
            if self._head is not None:
                self._head += done.events
            if done.read is not None:
                self._follower.position, self._follower.places = self._head, done.read
            self._is_plan_old = self._plan.is_over(done.events) or self._is_plan_old
        full = done.mark.read_below - mark.read_below == step
        # Long stretches hold nothing of this month: its first transaction is anything but 0.
        self._steps[month] = step * 8 if full and not done.events else _TRANSACTIONS
        return full

    async def _adopt(self, marks: Sequence[Mark], why: str) -> None:
        """Number all that the feed lacks of these months, over a connection without time limits.

        The lease may end meanwhile. Whoever takes it does the same, and one of the two is undone.
        """
        log.info("%s: the feed is compared with the events of %d months", why, len(marks))
        connection = await self._connector.connect(
            server_settings={"application_name": "easypay feed"}
        )
        try:
            for mark in marks:
                numbered = await numbering.adopt(connection, mark)
                log.info("%s: %d events were not in the feed yet", mark.month, numbered)
        finally:
            connection.terminate()
        await self._read_marks()

    async def _follow(self) -> None:
        if self._head is None:
            self._head = await head(self._pool)
        await self._follower.catch_up(self._pool, self._head)


def _has_new_page(before: Mark, after: Mark) -> bool:
    """Whether a mark was put on another page: the one before is full of versions that somebody may
    still see."""
    return before.row is not None and after.row is not None and before.row[0] != after.row[0]


def _present() -> str:
    """Return the suffix of this month's tables."""
    return f"{clock.now():%Y_%m}"
