"""A fault of the program that a loop of the resolver survives is logged with its place in the code.
An error of the database is one line: it passes, and the place says nothing."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from easypay.db.failures import ConnectionLost
from easypay.payments.resolver import _repeat


def chore_that_fails_once(error: Exception) -> tuple[Callable[[], Awaitable[None]], asyncio.Event]:
    """Return a chore that raises an error the first time, and an event that it sets the next."""
    went_on, errors = asyncio.Event(), [error]

    async def chore() -> None:
        if errors:
            raise errors.pop()
        went_on.set()

    return chore, went_on


@pytest.mark.parametrize(
    ("error", "has_place"), [(KeyError("a bug"), True), (ConnectionLost("away"), False)]
)
async def test_a_chores_own_fault_is_logged_with_its_place(
    error: Exception, has_place: bool, caplog: pytest.LogCaptureFixture
) -> None:
    chore, went_on = chore_that_fails_once(error)
    with caplog.at_level(logging.WARNING, "easypay.payments.resolver"):
        running = asyncio.create_task(_repeat("sweep", chore, 0.001))
        async with asyncio.timeout(30):
            await went_on.wait()
        running.cancel()
    (record,) = caplog.records
    assert "the resolver's chore 'sweep' failed" in record.getMessage()
    assert bool(record.exc_info) is has_place
