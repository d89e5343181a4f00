"""How far back the claims of a work list look. Pure.

A claim reads an index from the oldest due time on. Rows that are gone stay in it for as long as a
transaction elsewhere may still see them: an export, a backup. After ten minutes of that, each claim
would read ten minutes of rows that are gone. So a claim begins where an earlier one has ended: at
the last row that it found, or if it found everything, at its own time. It begins a little before
that, for what commits late.

Older work is looked for now and then, and less often if that takes long: what waited behind an
earlier row, or was committed very late.
"""

from typing import Final

import msgspec

from easypay.clock import monotonic

EVER_S: Final = 1e9
LATE_S: Final = 10.0
"""Longer than nearly every transaction that writes a row. The look at old work finds the others."""
JUST_S: Final = 0.25
"""Longer than a transaction that writes a row usually takes. Every claim looks so far back, those
that may look `LATE_S` back find the others."""
_OLD_EVERY_S: Final = 2.0
_REST: Final = 40
"""After a look at late or old work there is a pause of so many times what it took."""


class Span(msgspec.Struct, frozen=True):
    """Due times that one claim looks at: less than `newer_s` seconds ago, at least `older_s`.
    `late`: it looks as far back as for late work."""

    newer_s: float = EVER_S
    older_s: float = 0.0
    late: bool = True


WHOLE: Final = Span()


class ClaimWindow:
    """Remembers up to where one process's claims have found everything."""

    def __init__(self) -> None:
        self._seen_at: float | None = None
        """All that was due before this moment has been claimed, but for what is late or waits."""
        self._late_at = 0.0
        """When to look for late work again."""
        self._old_at = 0.0
        """When to look for old work again."""

    def spans(self) -> list[Span]:
        """Return where to look next: old work first, if that is due."""
        if self._seen_at is None:
            return [WHOLE]
        now = monotonic()
        back_s = now - self._seen_at
        late = now >= self._late_at
        new = Span(newer_s=back_s + (LATE_S if late else JUST_S), late=late)
        return [new] if now < self._old_at else [Span(older_s=back_s + LATE_S), new]

    def looked(
        self, span: Span, began: float, found: int, most: int, overdue_s: float = 0.0
    ) -> None:
        """Note that a claim of at most `most` rows, which began at this `monotonic` time, found so
        many; `overdue_s`: how long the one that became due last had been due."""
        now = monotonic()
        rested_at = now + _REST * (now - began)
        if span.older_s:
            self._old_at = now if found else max(now + _OLD_EVERY_S, rested_at)
            return
        reached_at = began if found < most else began - overdue_s
        before = self._seen_at
        if before is None:
            self._old_at = now + _OLD_EVERY_S
        if span.late:
            only_late = before is not None and reached_at < before
            self._late_at = now if only_late else rested_at  # there may be more of it
        self._seen_at = reached_at if before is None else max(before, reached_at)
