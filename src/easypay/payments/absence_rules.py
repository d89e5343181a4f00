"""When absence is proven: the rules, as pure functions. Times are the database's.

Reporting lags, a charge can come late, and a transaction can be in no list while it settles. So
one look at the lists proves nothing. Two passes must miss the operation. Both must begin after its
call has ended, the second at least `gap_s` after the first. The later pass also needs a witness: an
approved operation of ours that began after this call had ended, and that is listed. It shows that
the lists have caught up. If such an operation is known but none is listed, the pass proves nothing,
however old the call is. If none is known, time decides: `absent_after_s` after the call.

Even then, an operation that was called absent stays watched: see `watched_operations`.
"""

from datetime import datetime, timedelta
from typing import NamedTuple


class Look(NamedTuple):
    """One pass over what an account reports."""

    began_at: datetime
    ended_at: datetime
    caught_up_to: datetime | None = None
    """When the newest of our approved operations in the lists began."""
    newest_known: datetime | None = None
    """When the newest of our approved operations known before the pass began."""


class Schedule(NamedTuple):
    """How long proof takes, in seconds."""

    call_s: float
    """From an operation's begin until its call has certainly ended."""
    gap_s: float
    """Between the two passes that must miss it."""
    absent_after_s: float
    """After the call, if no witness is known."""


def counts(call_ended_at: datetime, look: Look) -> bool:
    """Whether this pass can prove a call's absence. One that began before the call ended cannot:
    the charge may have come after the pass looked."""
    return look.began_at >= call_ended_at


def misses_its_witness(call_ended_at: datetime, look: Look) -> bool:
    """Whether an operation is known that should be listed by now, and none is listed."""
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
    """Return whether absence is proven, now that `look` missed the operation too.

    `first_from` and `first_to` are the begin and end of the first pass that counted and missed it,
    or None. `listed` is true of operations that are transactions of their own; others (captures,
    voids, reviews) have no witness.
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
