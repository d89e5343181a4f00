"""When absence is believed: the rules, as pure functions. Times are the database's clock.

Reporting lags, a charge can come late, and a transaction can be in no list while it settles. So
one look at the lists proves nothing. Two passes must miss the operation, each begun after its call
had ended, the second at least `gap_s` after the first. And the later pass needs a witness: an
operation of ours that the processor approved, begun after this call had ended, and listed. It
shows that the lists have caught up. If such an operation is known and none is listed, the pass
proves nothing, however old the call. If none is known, time must do: `absent_after_s` after the
call.

Even so, what was called absent stays watched: see `watch`.
"""

from datetime import datetime, timedelta
from typing import NamedTuple


class Look(NamedTuple):
    """One pass over what an account reports."""

    began_at: datetime
    ended_at: datetime
    caught_up_to: datetime | None = None
    """When the newest of our approved operations that the lists show had begun."""
    newest_known: datetime | None = None
    """When the newest of our approved operations on this account had begun, known before the
    pass."""


class Schedule(NamedTuple):
    """How long proof takes, in seconds."""

    call_s: float
    """From an operation's begin until its call has surely ended."""
    gap_s: float
    """Between the two passes that must miss it."""
    absent_after_s: float
    """After the call, where there is no witness."""


def counts(call_ended_at: datetime, look: Look) -> bool:
    """Does this pass say anything about a call's absence? One begun before the call's end does not:
    the charge may have come behind its back."""
    return look.began_at >= call_ended_at


def misses_its_witness(call_ended_at: datetime, look: Look) -> bool:
    """Is an operation known that should be listed by now, and none is?"""
    known = _is_later(look.newest_known, call_ended_at)
    return known and not _is_later(look.caught_up_to, call_ended_at)


def is_absent(
    call_ended_at: datetime,
    first_from: datetime | None,
    first_to: datetime | None,
    look: Look,
    schedule: Schedule,
    *,
    listed: bool,
) -> bool:
    """Is absence proven, now that `look` missed the operation too?

    `first_from` and `first_to` are when the first pass that counted and missed it began and ended;
    None if there is none. `listed` is for operations that are transactions of their own; others
    (captures, voids, reviews) have no witness.
    """
    if first_from is None or first_to is None or first_from < call_ended_at:
        return False
    if not counts(call_ended_at, look):
        return False
    if look.began_at - first_to < timedelta(seconds=schedule.gap_s):
        return False
    if listed and _is_later(look.caught_up_to, call_ended_at):
        return True
    if listed and misses_its_witness(call_ended_at, look):
        return False
    return look.began_at - call_ended_at >= timedelta(seconds=schedule.absent_after_s)


def _is_later(moment: datetime | None, than: datetime) -> bool:
    return moment is not None and moment > than
