"""A claim looks back as far as there can be something for an endpoint, and seldom further."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from easypay import clock, ids
from easypay.clock import monotonic
from easypay.db.claim_window import EVER_S
from easypay.mode import Mode
from easypay.webhooks.model import Delivery
from easypay.webhooks.recent import Recent

MERCHANT, ENDPOINT = ids.new_id(), ids.new_id()
OF_EACH = 16


def delivery(age_s: float = 0.0) -> Delivery:
    made = clock.now() - timedelta(seconds=age_s)
    new: Any = ids.new_id
    return Delivery(
        MERCHANT, ENDPOINT, new(), Mode.TEST, new(), "payment.captured", None, 1, 0, made, age_s,
        "", (), monotonic() + 40,
    )  # fmt: skip


def claimed(
    recent: Recent, *found: Delivery, whole: bool = False, rooms: dict[UUID, int] | None = None
) -> None:
    if not whole:
        recent.note([(MERCHANT, ENDPOINT)])
    asked = None if whole else recent.next()
    assert whole or asked is not None
    recent.claimed(asked, monotonic(), found, rooms or {}, OF_EACH, cut_off=False)


def back_s(recent: Recent) -> float:
    """Return how far back a claim looks for the endpoint."""
    recent.note([(MERCHANT, ENDPOINT)])
    asked = recent.next()
    assert asked is not None
    (back,) = asked
    assert (back.merchant_id, back.endpoint_id) == (MERCHANT, ENDPOINT)
    return back.back_s


def test_the_first_claim_is_of_everything() -> None:
    assert Recent().next() is None


def test_where_nothing_is_left_only_what_is_new_is_looked_for() -> None:
    recent = Recent()
    recent.note([(MERCHANT, ENDPOINT)])
    claimed(recent, whole=True)
    assert back_s(recent) < 5


def test_an_endpoint_that_was_just_fanned_out_to_is_looked_through() -> None:
    recent = Recent()
    claimed(recent, whole=True)
    assert recent.next() == []
    recent.note([(MERCHANT, ENDPOINT)])
    assert back_s(recent) == EVER_S
    claimed(recent)
    assert back_s(recent) < 5


def test_between_claims_of_everything_only_what_was_noted_is_asked_for() -> None:
    recent, other = Recent(), ids.new_id()
    recent.note([(MERCHANT, ENDPOINT), (MERCHANT, other)])
    claimed(recent, whole=True)
    assert recent.next() == []
    recent.note([(MERCHANT, other)])
    asked, began = recent.next(), monotonic()
    assert asked is not None
    assert [each.endpoint_id for each in asked] == [other]
    recent.note([(MERCHANT, ENDPOINT)])  # while it claims
    recent.claimed(asked, began, [], {}, OF_EACH, cut_off=False)
    left = recent.next()
    assert left is not None
    assert [each.endpoint_id for each in left] == [ENDPOINT]


def test_what_found_no_room_is_asked_for_again() -> None:
    recent, other = Recent(), ids.new_id()
    recent.note([(MERCHANT, ENDPOINT), (MERCHANT, other)])
    found = delivery()
    recent.claimed(None, monotonic(), [found], {}, OF_EACH, cut_off=True)
    asked = recent.next()
    assert asked is not None
    assert {each.endpoint_id for each in asked} == {ENDPOINT, other}


def test_what_had_no_room_in_a_claim_of_everything_does_not_wait_for_long() -> None:
    pauses = []
    for cut_off in (True, False):
        recent = Recent()
        recent.claimed(None, monotonic() - 1.0, [delivery()], {}, OF_EACH, cut_off=cut_off)
        pauses.append(recent.all_in_s())
    assert pauses[0] < 8 < 30 < pauses[1]


def test_a_claim_begins_where_one_ended_that_got_as_many_as_it_asked_for() -> None:
    recent = Recent()
    found = [delivery(600), delivery(500)]
    claimed(recent, *found, whole=True, rooms={ENDPOINT: 2})
    assert 600 <= back_s(recent) < 602, "what waits behind the first may be as old"
    for each in found:
        recent.over(each)
    claimed(recent, delivery(400), delivery(300), rooms={ENDPOINT: 2})
    assert 400 <= back_s(recent) < 402


def test_what_was_fanned_out_beside_a_claim_is_looked_for_by_the_next() -> None:
    recent = Recent()
    recent.note([(MERCHANT, ENDPOINT)])
    claimed(recent, whole=True)
    asked, began = recent.next(), monotonic()
    recent.note([(MERCHANT, ENDPOINT)], since=began - 30)
    recent.claimed(asked, began, [], {}, OF_EACH, cut_off=False)
    assert back_s(recent) > 30
    claimed(recent)
    assert back_s(recent) < 5


def test_what_a_claim_has_looked_for_the_next_one_leaves_out_though_more_was_noted_beside_it() -> (
    None
):
    recent = Recent()
    recent.note([(MERCHANT, ENDPOINT)])
    claimed(recent, whole=True)
    recent.note([(MERCHANT, ENDPOINT)], since=monotonic() - 30)
    for _ in range(2):
        asked, began = recent.next(), monotonic()
        recent.note([(MERCHANT, ENDPOINT)], since=began)
        recent.claimed(asked, began, [], {}, OF_EACH, cut_off=False)
    assert back_s(recent) < 5


def test_what_waits_behind_a_delivery_under_way_is_found_after_it() -> None:
    recent, old = Recent(), delivery(600)
    claimed(recent, old, whole=True)
    assert back_s(recent) > 600
    recent.over(old)
    assert back_s(recent) > 600, "the next event of its payment may be as old"
    claimed(recent)
    assert back_s(recent) < 5
