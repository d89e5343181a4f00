"""How far back the claims of a work list look. Pure.

A claim reads an index from the oldest due time on. Rows that are gone stay in it for as long as a
transaction elsewhere may still see them: an export, a backup. After ten minutes of that, each claim
would read ten minutes of rows that are gone. So a claim begins where an earlier one has found
everything, a little before that for what commits late. Older work is looked for now and then: what
waited behind an earlier row, or was committed very late.
"""

from typing import Final

import msgspec

from easypay.clock import monotonic

EVER_S: Final = 1e9
LATE_S: Final = 10.0
"""Longer than nearly every transaction that writes a row. The old look finds the others."""
_OLD_EVERY_S: Final = 2.0
_REST: Final = 20
"""After a look at old work there is a pause of so many times what it took."""


class Span(msgspec.Struct, frozen=True):
    """Due times that one claim looks at: less than `newer_s` seconds ago, at least `older_s`."""

    newer_s: float = EVER_S
    older_s: float = 0.0


WHOLE: Final = Span()


class ClaimWindow:
    """Remembers up to where one process's claims have found everything."""

    def __init__(self) -> None:
        self._seen_at: float | None = None
        """When a claim began that found all there was then."""
        self._old_at = 0.0

    def spans(self) -> list[Span]:
        """Return where to look next: old work first, if that is due."""
        if self._seen_at is None:
            return [WHOLE]
        now = monotonic()
        back_s = now - self._seen_at + LATE_S
        new = Span(newer_s=back_s)
        return [new] if now < self._old_at else [Span(older_s=back_s), new]

    def looked(self, span: Span, began: float, found: int, most: int) -> None:
        """Note that a claim of at most `most` rows, which began at this `monotonic` time, found so
        many."""
        if span.older_s:
            now = monotonic()
            pause_s = max(_OLD_EVERY_S, _REST * (now - began))
            self._old_at = now if found else now + pause_s
        elif found < most:
            self._seen_at = began
            if span is WHOLE:
                self._old_at = monotonic() + _OLD_EVERY_S
