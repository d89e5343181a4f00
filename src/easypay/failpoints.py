"""Faults for tests: the process dies at a named point of the flow or is stopped there as if it
were suspended, or its wall clock is wrong.

Disarmed in production: `reach` is then one comparison, and the clock is the system's.
"""

import mmap
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Final

from uuid_utils import UUID, uuid7

from easypay import clock, ids

NAMES: Final = frozenset({"after_begin", "before_send", "mid_send", "after_reply", "after_record"})
WEBHOOK_NAMES: Final = ("webhook_sent",)
"""Points of a worker that delivers webhooks."""
QUEUE_NAMES: Final = ("queue_claimed",)
"""Points of a worker that sends queued payments, beside NAMES, which it reaches too."""
ERASURE_NAMES: Final = ("erasure_begun", "erasure_group")
"""Points of the erasure of a customer: when it was begun, and after each group."""
CUSTOMER_NAMES: Final = (
    *("method_begun", "method_answered", "method_recorded", "method_changed"),
    *("method_deleting", "method_gone", "customer_deleting", "profile_gone"),
)
"""Points of storing, changing and deleting a payment method at the processor's vault."""
BATCH_NAMES: Final = ("batch_staged", "batch_claimed", "batch_lines_begun", "batch_line_sent")
"""Points of an upload, and of a worker that runs a batch, which reaches NAMES too."""
ARCHIVE_NAMES: Final = (
    *("archive_watches", "archive_begun", "archive_wrote_payments", "archive_wrote_operations"),
    *("archive_wrote_events", "archive_manifest", "archive_detached", "archive_finished"),
    *("archive_forgot", "restore_checked", "restore_loaded", "restore_attached"),
)
"""Points of `easypay db archive` and `restore-month`, in the order in which they are reached."""

COMPACT_NAMES: Final = (
    *("compact_watches", "compact_copying", "compact_copied", "compact_indexed"),
    *("compact_verified", "compact_swapped", "compact_dropped"),
)
"""Points of `easypay db compact`, in the order in which they are reached."""

RECONCILE_NAMES: Final = (
    *("reconcile_listed", "reconcile_batch_begun", "reconcile_batch_kept"),
    *("reconcile_batch_noted", "reconcile_batch_read", "reconcile_judged", "reconcile_asked"),
)
"""Points of reconciling an account, in the order in which they are reached."""

RESTORE_NAMES: Final = ("after_restore_begun",)
"""Points of `easypay db after-restore`: an operation is written, and its outcome is not."""

_armed: str | None = None
_stops = False


def arm(name: str | None) -> None:
    """Kill this process when it reaches `name`; with ` stops` behind the name, stop it there once
    (SIGSTOP). Raises ValueError for an unknown name."""
    global _armed, _stops
    known = (
        *sorted(NAMES),
        *QUEUE_NAMES,
        *WEBHOOK_NAMES,
        *CUSTOMER_NAMES,
        *BATCH_NAMES,
        *ERASURE_NAMES,
        *ARCHIVE_NAMES,
        *COMPACT_NAMES,
        *RECONCILE_NAMES,
        *RESTORE_NAMES,
    )
    point = None if name is None else name.removesuffix(" stops")
    if point is not None and point not in known:
        raise ValueError(f"{name!r} is not a failpoint; use one of {', '.join(known)}")
    _armed, _stops = point, point != name


def reach(name: str) -> None:
    """Mark a point of the flow: the process dies or is stopped here if the point is armed."""
    if _armed == name:
        _fall()


def _fall() -> None:
    global _armed
    if _stops:
        _armed = None
        os.kill(os.getpid(), signal.SIGSTOP)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def shift_clock(file: Path) -> None:
    """Shift this process's wall clock and ids from now on by the milliseconds in the file's first
    8 bytes (signed, little-endian), which are read again each time. The monotonic clock is not
    shifted."""
    true_now = clock.now
    with file.open("rb") as opened:
        shared = mmap.mmap(opened.fileno(), 8, access=mmap.ACCESS_READ)

    def off_ms() -> int:
        return int.from_bytes(shared[:8], "little", signed=True)

    clock.now = lambda: true_now() + timedelta(milliseconds=off_ms())
    ids.__dict__["uuid7"] = lambda: UUID(int=uuid7().int + (off_ms() << 80))
