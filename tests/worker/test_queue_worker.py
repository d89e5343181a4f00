"""A worker of queued payments that stops: it claims nothing more, and gives back what it has."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from easypay import clock, ids
from easypay.db import work_list
from easypay.db.work_list import Work
from easypay.payments.queue_worker import QueueWorker
from harness import until

AT_ONCE = 8


class Waiting(QueueWorker):
    """Each operation takes until `may_end`."""

    def __init__(self) -> None:
        nothing: dict[str, Any] = dict.fromkeys(
            ("lane", "pool", "begin", "begin_follow_up", "leave", "recorder", "unrecorded",
             "processors", "login_of", "box")
        )  # fmt: skip
        super().__init__(**nothing, deadline_s=1.0, at_once=AT_ONCE)
        self.may_end = asyncio.Event()
        self.began: list[Work] = []
        self.ended_well: list[Work] = []

    async def _do(self, work: Work) -> None:
        self.began.append(work)
        await self.may_end.wait()
        self.ended_well.append(work)


class Rows:
    """Stands for the work list: it always has more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given_back: list[Any] = []
        self.claims = 0
        self.answers = asyncio.Event()
        self.answers.set()
        monkeypatch.setattr(work_list, "claim_next", self._claim)
        monkeypatch.setattr(work_list, "postpone", self._postpone)

    async def _claim(self, *_: Any, most: int, lease_s: float) -> list[Work]:
        self.claims += 1
        await self.answers.wait()
        now = clock.now()
        return [Work((ids.new_id(),), (), 1, now, now, lease_s) for _ in range(most)]

    async def _postpone(self, _: Any, __: Any, later: list[Any]) -> set[Any]:
        self.given_back += later
        return set()


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    return Rows(monkeypatch)


async def stopped(
    worker: Waiting, within_s: float, meanwhile: Callable[[], Awaitable[None]]
) -> None:
    stopping = asyncio.create_task(worker.stop(within_s))
    await meanwhile()
    await asyncio.wait_for(stopping, 5)


async def test_a_full_worker_claims_nothing_more_when_it_stops(rows: Rows) -> None:
    worker = Waiting()
    running = asyncio.create_task(worker.run())
    await until(lambda: _is(len(worker.began) == AT_ONCE))

    async def let_end() -> None:
        await asyncio.sleep(0.01)
        worker.may_end.set()

    await stopped(worker, 3.0, let_end)
    await asyncio.wait_for(running, 5)
    assert rows.claims == 1
    assert worker.began == worker.ended_well
    assert rows.given_back == []


async def test_what_is_being_claimed_when_it_stops_is_done_or_given_back(rows: Rows) -> None:
    for within_s in (3.0, 0.2):
        worker = Waiting()
        rows.answers.clear()
        rows.given_back.clear()
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(0.01)

        async def answer(worker: Waiting = worker, ends: bool = within_s > 1) -> None:
            await asyncio.sleep(0.01)
            rows.answers.set()
            if ends:
                worker.may_end.set()

        await stopped(worker, within_s, answer)
        await asyncio.wait_for(running, 5)
        assert len(worker.began) == AT_ONCE
        back = [] if within_s > 1 else worker.began
        assert rows.given_back == [(work.key, 1, 0.0, None) for work in back]


async def _is(true: bool) -> bool:
    return true
