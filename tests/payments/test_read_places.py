"""A page is answered even if its position cannot be read, and a fault of ours is told."""

import pytest

from easypay.db.partitions import Months
from easypay.db.pool import make_pool
from easypay.db.reading import Reading
from easypay.db.replica import Replica
from easypay.payments import read_places
from easypay.payments.lists import Lists
from easypay.payments.read_places import UNKNOWN, ReadPlace, ReadPlaces
from harness import Stack

NOBODY = "postgresql://u:p@127.0.0.1:1/d"


async def _position(dsn: str) -> int:
    """Return the position of a page that was read at a server which has a replica."""
    reading = Reading(dsn, connections=1, queue=1, limit_s=20, patience_s=20)
    pool = await make_pool(dsn, size=1)
    place = ReadPlace("primary", dsn, "read-write", reading, Lists(reading, Months()), pool)
    places = ReadPlaces(place, place, Replica(dsn, pool, limit_s=1, for_each=1))
    try:
        return await places.position(place)
    finally:
        await place.close(5)


async def test_a_position_that_cannot_be_read_is_unknown(
    shared_stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    assert await _position(shared_stack.dsn) > UNKNOWN
    assert await _position(NOBODY) == UNKNOWN
    assert "page has seen" not in caplog.text, "the database is away, which others say"


async def test_a_statement_of_ours_that_is_wrong_is_told(
    shared_stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(read_places, "PRIMARY_POSITION", "SELECT no_such_position()")
    assert await _position(shared_stack.dsn) == UNKNOWN
    assert "how much of the log a page has seen is not known" in caplog.text
    assert "UndefinedFunctionError" in caplog.text
