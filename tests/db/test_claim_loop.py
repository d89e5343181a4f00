"""A loop over a work list: how often it claims, and how it ends."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from easypay import ids
from easypay.clock import monotonic
from easypay.db.claim_loop import GATHER_S, ClaimLoop
from easypay.db.work_list import Work
from easypay.payments.queue_rows import QUEUED

NOW = datetime.now(UTC)


def row() -> Work:
    return Work((ids.new_id(), ids.new_id()), (), 1, NOW, NOW, monotonic() + 60)


async def test_after_a_failed_claim_the_ends_of_pieces_are_no_reason_to_hurry(
    connection: Any,
) -> None:
    """While the database is away, every piece fails, too."""
    claims = 0

    async def claim() -> None:
        nonlocal claims
        claims += 1
        for n in range(9):
            loop.begin(row(), asyncio.sleep(0.03 * n))
        raise ConnectionResetError("the database is away")

    loop = ClaimLoop[Work](
        "pieces", QUEUED, connection, claim, work_of=lambda work: work, poll_s=1.0
    )
    running = asyncio.create_task(loop.run())
    await asyncio.sleep(0.3)
    assert claims == 1
    await loop.stop(1.0)
    running.cancel()
    await asyncio.wait([running])


async def test_what_is_claimed_piece_by_piece_is_not_waited_for(connection: Any) -> None:
    """Groups of a batch: each is a claim of its own, and the next may begin when one has ended."""
    claims, enough, began = 0, asyncio.Event(), monotonic()

    async def claim() -> None:
        nonlocal claims
        claims += 1
        loop.begin(row(), asyncio.sleep(0))
        if claims == 200:
            enough.set()

    loop = ClaimLoop[Work](
        "pieces", QUEUED, connection, claim, work_of=lambda work: work, poll_s=1.0, gather_s=0.0
    )
    running = asyncio.create_task(loop.run())
    await asyncio.wait_for(enough.wait(), 30)
    assert monotonic() - began < 200 * GATHER_S
    await loop.stop(1.0)
    await running


async def test_what_comes_one_by_one_is_claimed_together(connection: Any) -> None:
    """Each claim finds something, and pieces end all the time. Claims as quick as that would each
    have a begin and an end of their own."""
    claims, began = 0, monotonic()

    async def claim() -> None:
        nonlocal claims
        claims += 1
        for _ in range(3):
            loop.begin(row(), asyncio.sleep(0.001))

    loop = ClaimLoop[Work](
        "pieces", QUEUED, connection, claim, work_of=lambda work: work, poll_s=1.0
    )
    running = asyncio.create_task(loop.run())
    await asyncio.sleep(0.3)
    await loop.stop(1.0)
    await running
    assert 2 <= claims <= 1 + (monotonic() - began) / GATHER_S
    assert not loop.under_way
