"""One read for all who ask the same: never older than the question, never another merchant's."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from easypay.db.shared_reads import SharedReads
from easypay.errors import Overloaded


class Table:
    """What is read: a number that grows. Each read sees it as it begins, and ends when told."""

    def __init__(self) -> None:
        self.number = 0
        self.begun = 0
        self.may_end = asyncio.Semaphore(0)

    async def read(self) -> int:
        seen = self.number
        self.begun += 1
        await self.may_end.acquire()
        return seen


async def _asking(
    shared: SharedReads, ask: Callable[[], Awaitable[int]], key: str = "list"
) -> "asyncio.Task[int]":
    """Return a caller who has asked and waits."""
    task = asyncio.create_task(shared.read(key, ask))
    await asyncio.sleep(0)
    return task


async def test_whoever_comes_while_a_read_runs_shares_the_next_one() -> None:
    table, shared = Table(), SharedReads()
    first = await _asking(shared, table.read)
    table.number = 1  # committed after the first read began, before the others ask
    others = [await _asking(shared, table.read) for _ in range(50)]
    assert table.begun == 1
    table.may_end.release()
    assert await first == 0
    table.may_end.release()
    assert await asyncio.gather(*others) == [1] * 50, "all see what was committed before they asked"
    assert table.begun == 2
    assert shared.shared == 49


async def test_a_read_that_has_begun_takes_no_more_callers() -> None:
    table, shared = Table(), SharedReads()
    first = await _asking(shared, table.read)
    second = await _asking(shared, table.read)
    table.may_end.release()
    await first
    await asyncio.sleep(0)
    assert table.begun == 2
    table.number = 7
    third = await _asking(shared, table.read)
    table.may_end.release()
    assert await second == 0
    table.may_end.release()
    assert await third == 7


async def test_of_those_who_share_the_last_ones_question_is_asked() -> None:
    """A list up to "now" must reach the now of the last who asked."""
    table, shared = Table(), SharedReads()

    def at(moment: int) -> Callable[[], Awaitable[int]]:
        async def ask() -> int:
            await table.read()
            return moment

        return ask

    first = await _asking(shared, at(1))
    second, third = await _asking(shared, at(2)), await _asking(shared, at(3))
    table.may_end.release()
    table.may_end.release()
    assert await asyncio.gather(first, second, third) == [1, 3, 3]


async def test_other_questions_do_not_wait() -> None:
    table, shared = Table(), SharedReads()
    mine = await _asking(shared, table.read, "merchant 1")
    others = await _asking(shared, table.read, "merchant 2")
    assert table.begun == 2
    table.may_end.release()
    table.may_end.release()
    await asyncio.gather(mine, others)
    assert shared.shared == 0


async def test_an_error_reaches_all_who_shared_it_and_nobody_else() -> None:
    table, shared = Table(), SharedReads()

    async def refused() -> int:
        await table.read()
        raise Overloaded("too many")

    first = await _asking(shared, refused)
    others = [await _asking(shared, refused) for _ in range(3)]
    table.may_end.release()
    table.may_end.release()
    for each in (first, *others):
        with pytest.raises(Overloaded, match="too many"):
            await each
    table.may_end.release()
    assert await shared.read("list", table.read) == 0


async def test_no_more_wait_than_may() -> None:
    """A client who has left waits on, so nothing else would limit them while a read is stuck."""
    table, shared = Table(), SharedReads(most=3)
    first = await _asking(shared, table.read)
    others = [await _asking(shared, table.read) for _ in range(3)]
    with pytest.raises(Overloaded, match="3 requests wait"):
        await shared.read("list", table.read)
    others.pop().cancel()
    await asyncio.sleep(0)
    others.append(await _asking(shared, table.read))
    for _ in range(2):
        table.may_end.release()
    assert await asyncio.gather(first, *others) == [0, 0, 0, 0]
    table.may_end.release()
    assert await shared.read("list", table.read) == 0


async def test_a_caller_who_leaves_takes_nothing_from_the_others() -> None:
    table, shared = Table(), SharedReads()
    first = await _asking(shared, table.read)
    leaves = await _asking(shared, table.read)
    stays = await _asking(shared, table.read)
    first.cancel()
    leaves.cancel()
    await asyncio.wait([first, leaves])
    assert first.cancelled()
    assert leaves.cancelled()
    table.may_end.release()
    assert await stays == 0
    assert table.begun == 2


async def test_nothing_is_read_for_callers_who_have_all_left() -> None:
    table, shared = Table(), SharedReads()
    first = await _asking(shared, table.read)
    others = [await _asking(shared, table.read) for _ in range(3)]
    for each in others:
        each.cancel()
    await asyncio.wait(others)
    table.may_end.release()
    await first
    await asyncio.sleep(0)
    assert table.begun == 1
    table.may_end.release()
    assert await shared.read("list", table.read) == 0, "and the next caller reads"
