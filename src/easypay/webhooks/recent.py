"""Which endpoints have had deliveries lately, and how far back a claim looks for each. Pure.

Rows that are gone stay in an index for as long as a transaction elsewhere may still see them. So a
claim that goes through everything gets slower, the longer an export or a backup takes. Most claims
ask only for the endpoints for which this worker knows of something, and for each from where an
earlier claim has ended: at the last row that it found, or if it found everything, at its own time.
A claim of everything finds the rest now and then: tries again, and what another worker has fanned
out and not claimed.

A row may wait behind an earlier event of its payment that is being delivered. It became due no
earlier than that event, so claims look back as far as the oldest that this worker has not recorded.
Only if a claim of that event has ended without an attempt, the event was due again later than the
row behind it.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

from easypay.clock import monotonic
from easypay.db.claim_window import EVER_S
from easypay.webhooks.model import Back, Delivery

ALL_EVERY_S: Final = 0.5
_REST: Final = 40
"""After a claim of everything there is a pause of so many times what it took."""
_REST_CUT_OFF: Final = 4
"""The same if that claim had no room for all."""
_LATE_S: Final = 0.1
"""What others write is committed so long after its time, or a claim of everything finds it. This
worker's own fan-outs are noted with the time at which they began."""
_LATELY_S: Final = 60.0
_NOTHING: Final = (-math.inf, math.inf)
"""In place of when an endpoint was noted, and since when there is something new."""
_MOST: Final = 1_000
"""Endpoints. If there may be something for more, the next claim is of everything."""


class Recent:
    """What one worker remembers between its claims. Moments are those of `clock.monotonic`."""

    def __init__(self) -> None:
        self._lately: dict[UUID, tuple[UUID, float]] = {}
        """Endpoint -> its merchant, and when it last had something."""
        self._seen_at: dict[UUID, float] = {}
        """Endpoint -> all that became due before was claimed, or waits behind what was."""
        self._claimed: dict[UUID, dict[UUID, float]] = {}
        """Endpoint -> event -> when it became due, of those that are not recorded yet."""
        self._new: dict[UUID, tuple[float, float]] = {}
        """Endpoint -> when it was noted, and since when there may be something new, if there may.
        All of them are in `_lately`."""
        self._noted_at: dict[UUID, float] = {}
        """Endpoint -> when it was noted last, also if it was claimed since."""
        self._all_at = 0.0
        self._asked_at = 0.0
        """When the last claim began."""

    def note(self, endpoints: Iterable[tuple[UUID, UUID]], since: float = math.inf) -> None:
        """Note the merchants and ids of endpoints for which there may be something to claim that
        became due after the moment `since`."""
        now = monotonic()
        for merchant_id, endpoint_id in endpoints:
            noted_at, before = self._new.get(endpoint_id, _NOTHING)
            if noted_at < self._asked_at:  # the last claim looks for it
                before = math.inf
            self._lately[endpoint_id] = merchant_id, now
            self._noted_at[endpoint_id] = now
            self._new[endpoint_id] = now, min(since, before)
            if endpoint_id in self._seen_at:
                self._seen_at[endpoint_id] = min(since, self._seen_at[endpoint_id])

    def was_noted(self, endpoint_id: UUID, since: float) -> bool:
        """Whether an endpoint was noted at this moment or later."""
        return self._noted_at.get(endpoint_id, -math.inf) >= since

    def all_in_s(self) -> float:
        """Return how soon everything is to be claimed, in seconds."""
        return self._all_at - monotonic()

    def next(self) -> list[Back] | None:
        """Return what to claim now; None: everything. The claim begins after this."""
        self._asked_at = now = monotonic()
        if now >= self._all_at or len(self._new) > _MOST:
            return None
        return [Back(self._lately[each][0], each, self._back_s(each, now)) for each in self._new]

    def _back_s(self, endpoint_id: UUID, now: float) -> float:
        seen_at = self._seen_at.get(endpoint_id)
        return EVER_S if seen_at is None else min(EVER_S, now - seen_at + _LATE_S)

    def claimed(
        self,
        asked: Collection[Back] | None,
        began: float,
        found: Sequence[Delivery],
        rooms: Mapping[UUID, int],
        of_each: int,
        *,
        cut_off: bool,
    ) -> None:
        """Note what a claim that began at a moment has found.

        `rooms`, `of_each`: the most that were asked for. `cut_off`: there was no room for more in
        all, so endpoints may have been left out.
        """
        now = monotonic()
        reached: dict[UUID, float] = {}
        for each in found:
            due_at = began - each.overdue_s
            self._claimed.setdefault(each.endpoint_id, {})[each.event_id] = due_at
            reached[each.endpoint_id] = max(due_at, reached.get(each.endpoint_id, due_at))
            self._lately[each.endpoint_id] = each.merchant_id, now
        counts = Counter(each.endpoint_id for each in found)
        for endpoint_id in self._lately if asked is None else [each.endpoint_id for each in asked]:
            if not cut_off and counts[endpoint_id] < rooms.get(endpoint_id, of_each):
                reached[endpoint_id] = began
            if endpoint_id in reached:
                held = self._claimed.get(endpoint_id, {}).values()
                noted_at, since = self._new.get(endpoint_id, _NOTHING)
                if noted_at < began:  # else the claim may not have seen what was new
                    self._new.pop(endpoint_id, None)
                    since = math.inf
                self._seen_at[endpoint_id] = min((reached[endpoint_id], since, *held))
        if cut_off:
            for endpoint_id in self._lately:
                self._new.setdefault(endpoint_id, (now, math.inf))
        if asked is None:
            rest = _REST_CUT_OFF if cut_off else _REST
            self._all_at = now + max(ALL_EVERY_S, rest * (now - began))
            self._forget(now - _LATELY_S)

    def over(self, delivery: Delivery) -> float:
        """Note that a delivery was recorded, or will not be by this worker. Return after which
        moment the events behind it became due."""
        held = self._claimed.get(delivery.endpoint_id, {})
        due_at = held.pop(delivery.event_id, -math.inf)
        if not held:
            self._claimed.pop(delivery.endpoint_id, None)
        was_given_up = delivery.attempt > delivery.failures + 1
        return -math.inf if was_given_up else due_at

    def _forget(self, before: float) -> None:
        self._lately = {each: at for each, at in self._lately.items() if at[1] >= before}
        for remembered in (self._seen_at, self._new, self._noted_at):
            for each in remembered.keys() - self._lately.keys():
                del remembered[each]
