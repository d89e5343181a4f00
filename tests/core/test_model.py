"""For every status and event, the table gives the next status or the event is refused."""

import itertools
import re
from pathlib import Path

import pytest

from easypay.errors import InvalidState
from easypay.payments.model import EDGES, TRANSITIONS, Event, Status, advance, diagram

# The table once more, by hand: (status, event) -> status. Any other pair must be refused.
LEGAL = """
    pending    sent             processing
    pending    failed           failed
    pending    cancelled        voided
    processing authorized       authorized
    processing captured         captured
    processing declined         declined
    processing failed           failed
    processing held_for_review  in_review
    processing cancelled        voided
    in_review  authorized       authorized
    in_review  captured         captured
    in_review  declined         declined
    in_review  voided           voided
    in_review  expired          expired
    authorized captured         captured
    authorized voided           voided
    authorized expired          expired
    captured   voided           voided
    failed     found_authorized authorized
    failed     found_captured   captured
"""
TABLE = {
    (Status(start), Event(event)): Status(end)
    for start, event, end in (line.split() for line in LEGAL.strip().splitlines())
}
PAIRS = list(itertools.product(Status, Event))


@pytest.mark.parametrize(("status", "event"), PAIRS, ids=[f"{s}-{e}" for s, e in PAIRS])
def test_every_pair_of_status_and_event_follows_the_table(status: Status, event: Event) -> None:
    if (status, event) in TABLE:
        assert advance(status, event) == TABLE[status, event]
    else:
        with pytest.raises(InvalidState, match=f"{status} cannot be {event}") as caught:
            advance(status, event)
        assert (caught.value.http_status, caught.value.code) == (409, "invalid_state")


def test_terminal_statuses_have_no_way_out() -> None:
    starts = {start for start, _ in EDGES}
    assert set(Status) - starts == {Status.DECLINED, Status.VOIDED, Status.EXPIRED}
    # `failed` is left only on proof that the money moved after all.
    assert {event for start, event in TRANSITIONS if start is Status.FAILED} == {
        Event.FOUND_AUTHORIZED,
        Event.FOUND_CAPTURED,
    }


def test_no_path_of_statuses_is_a_cycle() -> None:
    def reachable(start: Status, seen: frozenset[Status] = frozenset()) -> set[Status]:
        ends = {end for begin, end in EDGES if begin is start} - seen
        return ends.union(*(reachable(end, seen | ends) for end in ends))

    assert not any(status in reachable(status) for status in Status)


def test_the_diagram_in_the_docs_matches_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text("utf-8")
    assert f"```mermaid\n{diagram()}\n```\n" in page, "paste the output of `model.diagram()`"
    drawn = re.findall(r"^    (\w+) --> (\w+): ([\w ]+)$", page, re.MULTILINE)
    assert {(start, event.replace(" ", "_")): end for start, end, event in drawn} == TABLE
