"""Which endpoints have had deliveries lately, and how far back a claim looks for each. Pure.

Rows that are gone stay in an index for as long as a transaction elsewhere may still see them. So a
claim that goes through everything gets slower, the longer an export or a backup takes. Most claims
ask only for the endpoints that had something lately, from where an earlier claim has found
everything. A claim of everything finds the rest now and then: tries again, and what another worker
has fanned out.

A row may wait behind an earlier event of its payment that is being delivered. It became due after
that event was fanned out, so claims look back as far as the oldest that this worker has not
recorded.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

from easypay import clock
from easypay.clock import monotonic
from easypay.db.claim_window import EVER_S
from easypay.webhooks.model import Back, Delivery

ALL_EVERY_S: Final = 0.5
_REST: Final = 20
"""After a claim of everything there is a pause of so many times what it took."""
_LATE_S: Final = 2.0
"""Longer than a fan-out takes from its time to its commit. The claim of everything finds others."""
_LATELY_S: Final = 60.0
_MOST: Final = 1_000
"""Endpoints. While more had something lately, every claim is of everything."""


class Recent:
    """What one worker remembers between its claims. Moments are those of `clock.monotonic`."""

    def __init__(self) -> None:
        self._lately: dict[UUID, tuple[UUID, float]] = {}
        """Endpoint -> its merchant, and when it last had something."""
        self._emptied_at: dict[UUID, float] = {}
        """Endpoint -> all that became due before was claimed, or waits behind what was."""
        self._claimed: dict[UUID, dict[UUID, float]] = {}
        """Endpoint -> event -> when it was fanned out, of those that are not recorded yet."""
        self._all_at = 0.0

    def note(self, endpoints: Iterable[tuple[UUID, UUID]]) -> None:
        """Note the merchants and ids of endpoints for which there is something now."""
        now = monotonic()
        for merchant_id, endpoint_id in endpoints:
            self._lately[endpoint_id] = merchant_id, now

    def next(self) -> list[Back] | None:
        """Return what to claim now; None: everything."""
        now = monotonic()
        if now >= self._all_at or len(self._lately) > _MOST:
            return None
        return [
            Back(merchant_id, endpoint_id, self._back_s(endpoint_id, now))
            for endpoint_id, (merchant_id, _) in self._lately.items()
        ]

    def _back_s(self, endpoint_id: UUID, now: float) -> float:
        emptied_at = self._emptied_at.get(endpoint_id)
        return EVER_S if emptied_at is None else now - emptied_at + _LATE_S

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
        now, present = monotonic(), clock.now()
        for each in found:
            fanned_out_at = now - (present - each.created_at).total_seconds()
            self._claimed.setdefault(each.endpoint_id, {})[each.event_id] = fanned_out_at
        self.note((each.merchant_id, each.endpoint_id) for each in found)
        counts = Counter(each.endpoint_id for each in found)
        for endpoint_id in self._lately if asked is None else [each.endpoint_id for each in asked]:
            if not cut_off and counts[endpoint_id] < rooms.get(endpoint_id, of_each):
                held = self._claimed.get(endpoint_id, {}).values()
                self._emptied_at[endpoint_id] = min((began, *held))
            elif asked is None and counts[endpoint_id]:
                self._emptied_at.pop(endpoint_id, None)  # there may be more that is old
        if asked is None:
            self._all_at = now + max(ALL_EVERY_S, _REST * (now - began))
            self._forget(now - _LATELY_S)

    def over(self, delivery: Delivery) -> None:
        """Note that a delivery was recorded, or will not be by this worker."""
        held = self._claimed.get(delivery.endpoint_id, {})
        held.pop(delivery.event_id, None)
        if not held:
            self._claimed.pop(delivery.endpoint_id, None)

    def _forget(self, before: float) -> None:
        self._lately = {each: at for each, at in self._lately.items() if at[1] >= before}
        self._emptied_at = {
            each: at for each, at in self._emptied_at.items() if each in self._lately
        }
