"""The room in the queue: bounds without a count for each request."""

import asyncio
import uuid
from typing import Any

import pytest

from easypay.errors import Overloaded, TooManyQueued
from easypay.payments import queue_room
from easypay.payments.queue_room import QueueRoom

ONE, OTHER = uuid.uuid4(), uuid.uuid4()


class Rows:
    """A database whose answer a test holds back."""

    def __init__(self, **rows: int) -> None:
        self.rows: dict[uuid.UUID, int] = {}
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def fetch(self, sql: str, most: int) -> list[tuple[uuid.UUID, int]]:
        self.asked += 1
        found = list(self.rows.items())
        await self.may_answer.wait()
        return found


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Drive the clock."""
    moment = [100.0]
    monkeypatch.setattr(queue_room, "monotonic", lambda: moment[0])
    return moment


async def test_many_requests_share_one_count(now: list[float]) -> None:
    rows = Rows()
    room = QueueRoom(rows, most=100, most_of_merchant=3)
    taken = await asyncio.gather(*(room.take(ONE) for _ in range(5)), return_exceptions=True)
    assert [type(each) for each in taken].count(TooManyQueued) == 2
    await room.take(OTHER)
    room.give_back(ONE)
    await room.take(ONE)
    assert rows.asked == 1


async def test_what_is_taken_during_a_count_is_kept(now: list[float]) -> None:
    rows = Rows()
    room = QueueRoom(rows, most=5, most_of_merchant=3)
    await room.take(ONE)
    rows.rows = {ONE: 1}
    now[0] += 2
    rows.may_answer.clear()
    await room.take(ONE)  # an old count serves while the next one begins
    rows.rows = {ONE: 2}
    await asyncio.sleep(0)
    await room.take(ONE)
    rows.may_answer.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert rows.asked == 2
    with pytest.raises(TooManyQueued):
        await room.take(ONE)
    await room.take(OTHER)
    await room.take(OTHER)
    with pytest.raises(Overloaded):
        await room.take(OTHER)


async def test_room_that_was_left_is_found_by_the_next_count(now: list[float]) -> None:
    rows = Rows()
    rows.rows = {ONE: 3}
    room = QueueRoom(rows, most=4, most_of_merchant=3)
    with pytest.raises(TooManyQueued):
        await room.take(ONE)
    rows.rows = {}
    now[0] += 20  # no count of this long ago is relied on
    await room.take(ONE)


async def test_without_a_count_nothing_is_accepted(now: list[float]) -> None:
    class Gone:
        async def fetch(self, *_: Any) -> Any:
            raise OSError("gone")

    room = QueueRoom(Gone(), most=4, most_of_merchant=3)
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            await room.take(ONE)
