"""An export makes way for payments: it sees them, by whichever gateway, and rests."""

import pytest

from easypay.clock import stopwatch
from easypay.exporting.pace import ROWS_ALONE, ROWS_BESIDE, Pace
from easypay.exporting.snapshot import Snapshot
from harness import Shop, Stack, connected, until


async def test_beside_payments_it_makes_short_turns_and_works_its_share_of_the_time() -> None:
    busy = False

    async def is_busy() -> bool:
        return busy

    alone = Pace(0.2, is_busy)
    assert await alone.rows() == ROWS_ALONE
    begun = stopwatch()
    await alone.rest(10)
    assert stopwatch() - begun < 1

    busy = True
    beside = Pace(0.2, is_busy)
    assert await beside.rows() == ROWS_BESIDE
    begun = stopwatch()
    await beside.rest(0.02)
    assert 0.08 <= stopwatch() - begun < 1, "a fifth of the time, so four times as long"

    always = Pace(1, is_busy)
    assert await always.rows() == ROWS_ALONE, "with the whole time it need not look"


async def test_a_snapshot_sees_whether_payments_are_written_now(
    shared_stack: Stack, shop: Shop
) -> None:
    snapshot = await Snapshot.open(shared_stack.dsn, limit_s=30)

    async def is_quiet() -> bool:
        return not await snapshot.payments_are_written()

    async def is_seen() -> bool:
        await shop.paid()
        return await snapshot.payments_are_written()

    await until(is_quiet, what="nobody pays")
    await until(is_seen, what="the payment is seen")
    await until(is_quiet, what="that was some time ago")
    await snapshot.close()


async def test_a_snapshot_that_cannot_be_closed_is_cut_off_and_says_why(
    shared_stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = await Snapshot.open(shared_stack.dsn, limit_s=30)
    pid = await snapshot.connection.fetchval("SELECT pg_backend_pid()")
    async with connected(shared_stack.dsn) as other:
        await other.fetchval("SELECT pg_terminate_backend($1, 20000)", pid)
    await snapshot.close()
    assert snapshot.connection.is_closed()
    assert "could not be closed, so it is cut off: " in caplog.text
