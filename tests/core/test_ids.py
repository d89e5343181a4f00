"""Ids sort by time and parse back, and a reference leads to its operation."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easypay import clock, ids
from easypay.db.partitions import within_months

uuids = st.integers(0, (1 << 128) - 1).map(lambda value: UUID(int=value))
kinds = st.sampled_from([ids.PAYMENT, ids.OPERATION, ids.REFUND, ids.EVENT, ids.MERCHANT])
moments = st.datetimes(
    datetime(1970, 1, 1),  # noqa: DTZ001
    datetime(2240, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
).map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000))


@given(kinds, uuids)
def test_a_typed_id_reads_back(kind: str, value: UUID) -> None:
    read = ids.parse(kind, ids.typed(kind, value))
    assert read == value
    assert type(read) is type(ids.new_id()), "the driver sends it without conversion"


@given(uuids, uuids)
def test_typed_ids_sort_as_their_uuids(first: UUID, second: UUID) -> None:
    shown = ids.typed("pay", first), ids.typed("pay", second)
    assert (shown[0] < shown[1]) == (first.int < second.int)


@given(kinds, uuids, st.text(max_size=40))
def test_only_our_own_form_parses_as_an_id(kind: str, value: UUID, junk: str) -> None:
    shown = ids.typed(kind, value)
    others = [
        shown.replace(kind, "cus", 1),
        shown[:-1],
        shown + "0",
        f"{kind}_{value}",
        f"{kind}_{{{value.hex[:30]}}}",
        f"{kind} {value.hex}",
        value.hex,
    ]
    if shown.upper() != shown:
        others.append(f"{kind}_{value.hex.upper()}" if value.hex != value.hex.upper() else "")
    assert [ids.parse(kind, other) for other in others] == [None] * len(others)
    if junk != shown:
        assert ids.parse(kind, junk) is None


@pytest.mark.parametrize(
    "text", ["", "pay_", "_", "pay_" + "g" * 32, "pay_" + "０" * 32, "\0" * 36]
)
def test_hostile_texts_are_not_ids(text: str) -> None:
    assert ids.parse(ids.PAYMENT, text) is None


@given(uuids)
def test_a_reference_gives_a_range_that_contains_its_id(value: UUID) -> None:
    reference = ids.reference(value)
    low, high = ids.reference_bounds(reference)
    assert len(reference) == ids.REFERENCE_LENGTH
    assert reference.isascii()
    assert reference.isalnum()
    assert low <= value <= high
    assert high.int - low.int == (1 << 28) - 1
    assert ids.reference(low) == ids.reference(high) == reference


@given(uuids, uuids)
def test_references_sort_as_their_ids(first: UUID, second: UUID) -> None:
    if first.int >> 28 != second.int >> 28:
        assert (ids.reference(first) < ids.reference(second)) == (first < second)


@pytest.mark.parametrize(
    "text", ["", "0" * 19, "0" * 21, "I" * 20, "0" * 19 + "-", "0" * 19 + "u", "é" * 20]
)
def test_an_invalid_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ids.reference_bounds(text)


@pytest.mark.parametrize("text", ["", "9" * 20, "ZZZZZZZZZXZZZFZZZZZZ"])
def test_a_reference_that_we_cannot_have_made_has_no_bounds(text: str) -> None:
    """Another program's number, and a text that would be of the year 10889."""
    now = datetime(2026, 11, 30, tzinfo=UTC)
    assert ids.own_reference_bounds(text, now) is None


def test_a_reference_of_ours_has_bounds_until_it_is_of_later() -> None:
    made = ids.new_id()
    text, moment = ids.reference(made), ids.moment_of(made)
    assert ids.own_reference_bounds(text, moment + timedelta(days=1)) == ids.reference_bounds(text)
    assert ids.own_reference_bounds(text, moment - timedelta(days=1)) is None


def test_a_hundred_thousand_ids_have_distinct_references_in_the_same_order() -> None:
    made = [ids.new_id() for _ in range(100_000)]
    assert len({ids.reference(value) for value in made}) == len(made)
    assert made == sorted(made)
    assert {value.version for value in made} == {7}


@given(moments)
def test_the_lower_bound_of_a_moment_is_the_lowest_id_of_its_millisecond(at: datetime) -> None:
    lowest = ids.lowest_id_at(at)
    assert ids.moment_of(lowest) == at
    assert lowest.int & ((1 << 80) - 1) == 0
    before = UUID(int=lowest.int - 1) if lowest.int else lowest
    assert ids.moment_of(before) in (at - timedelta(milliseconds=1), at)


def test_an_id_contains_its_creation_time() -> None:
    before = clock.now()
    made = ids.moment_of(ids.new_id())
    assert before - timedelta(milliseconds=1) <= made <= clock.now() + timedelta(milliseconds=1)


def test_time_zones_do_not_move_a_bound() -> None:
    utc = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)
    elsewhere = datetime.fromisoformat("2027-01-01T05:00:00+05:30")
    assert ids.lowest_id_at(utc) == ids.lowest_id_at(elsewhere)


@given(st.integers(-3_600_000, 3_600_000))
def test_what_is_dated_after_a_moment_sorts_after_what_was_made_then(ahead_ms: int) -> None:
    """However far ahead the clock was that dated it."""
    updated_at = clock.now() + timedelta(milliseconds=ahead_ms)
    earlier = ids.new_id_from(updated_at)
    at = clock.now_after(updated_at)
    later = ids.new_id_from(at)
    assert updated_at < at
    if ahead_ms > 0:
        assert earlier < later
    assert ids.lowest_id_at(at) <= later
    assert (later.version, later.variant) == (7, earlier.variant)
    assert ids.new_id_from(at) != later


def test_an_id_of_a_year_that_no_calendar_has_is_of_a_month_all_the_same() -> None:
    _, highest = ids.reference_bounds("Z" * 20)
    assert ids.moment_of(highest).year == 9990
    assert within_months("id", [highest]) == (
        f"id >= '{ids.lowest_id_at(datetime(9990, 1, 1, tzinfo=UTC))}'"
        f" AND id < '{ids.lowest_id_at(datetime(9990, 2, 1, tzinfo=UTC))}'"
    )
