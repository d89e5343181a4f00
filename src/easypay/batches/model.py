"""A batch as a row, its states, and what may be asked of it in each. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay.errors import InvalidState
from easypay.mode import MODE, Mode

ENDED: Final = ("done", "failed", "skipped")
"""States of a line that never change."""
MOST_AT_ONCE: Final = 1000
USUAL_AT_ONCE: Final = 128
"""How many lines of a batch may be under way, over all workers."""

MOVES: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "start": (("ready",), "running"),
    "pause": (("running",), "paused"),
    "resume": (("paused",), "running"),
    "cancel": (("ready", "running", "paused"), "cancelled"),
}
"""What a merchant may ask: from which states, and to which."""


class Batch(msgspec.Struct, frozen=True):
    """One row of `batches`."""

    merchant_id: UUID
    id: UUID
    mode: Mode
    key: str
    name: str
    format: str
    on_error: str
    state: str
    reason: str | None
    digest: bytes | None
    bytes: int
    lines: int
    wrong: int
    last_line: int
    next_line: int
    lines_per_second: float | None
    at_once: int
    ran_s: float
    running_since: datetime | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


COLUMNS: Final = ", ".join(Batch.__struct_fields__)


def batch_of(row: Any) -> Batch:
    """Return a row of COLUMNS as a batch."""
    merchant_id, batch_id, mode, *others = row
    return Batch(merchant_id, batch_id, MODE[mode], *others)


def why_not(state: str, move: str) -> InvalidState:
    """Return the refusal of a move that a batch's state does not allow."""
    from_states, _ = MOVES[move]
    return InvalidState(
        f"The batch is {state}; {move} is possible only if it is {' or '.join(from_states)}. "
        "Read the batch and decide by its state."
    )


class LineRow(msgspec.Struct, frozen=True, gc=False):
    """A line and what became of it."""

    line: int
    state: str
    operation: str
    reference: str | None
    payment_id: UUID | None
    operation_id: UUID | None
    outcome: str | None
    detail: str | None
    amount_minor: int | None
    currency: str | None


class Sum(msgspec.Struct, frozen=True):
    """Lines that ended in the same way, with their amounts in minor units."""

    operation: str
    state: str
    outcome: str
    currency: str
    lines: int
    amount_minor: int


class Progress(msgspec.Struct, frozen=True):
    """How far a batch has come. `under_way` lines are claimed or have an unknown outcome."""

    sums: tuple[Sum, ...]
    claimed: int
    open: int
    now: datetime

    @property
    def ended(self) -> int:
        return sum(each.lines for each in self.sums)

    def of(self, state: str) -> int:
        """Return how many lines ended in a state."""
        return sum(each.lines for each in self.sums if each.state == state)


def rate_of(batch: Batch, progress: Progress) -> float:
    """Return how many lines ended in each second that the batch was running."""
    ran_s = batch.ran_s
    if batch.running_since is not None:
        ran_s += max(0.0, (progress.now - batch.running_since).total_seconds())
    return progress.ended / ran_s if ran_s > 0 else 0.0
