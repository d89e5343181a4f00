"""Errors by kind: what raised, where, and what was said, without what varies.

A handler of the log counts every line of level `error` and above in memory. Every few seconds what
was counted is added to the rows of all processes. A kind that no process has seen before is logged
in one line.

Of a line that has arguments only its template is kept. Text that is whole already, as other
libraries write it, loses its quotations, addresses and everything that has a digit. The text of an
exception is never kept: it may quote what a client sent.
"""

import asyncio
import hashlib
import logging
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import msgspec

from easypay import clock
from easypay.card_numbers import scrub
from easypay.db.failures import is_passing
from easypay.observability.blocked_loop import place, stack_of_traceback

log = logging.getLogger(__name__)

EVERY_S: Final = 5.0
_LAST_S: Final = 1.0
MOST_KINDS: Final = 500
"""Rows that are kept."""
MOST_WAITING: Final = 200
"""Kinds of one process that wait to be written. Further ones are counted together."""
_LONGEST: Final = 160
_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|<[^>]*>")
_VARIES: Final = re.compile(r"\S*(?:\d|@)\S*")
_UNWRITABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
"""What PostgreSQL or UTF-8 refuses, and what a terminal obeys."""

# In the order of the fingerprints, so that no two processes wait for each other.
_ADD: Final = """
    INSERT INTO error_kinds AS k
           (fingerprint, level, exception, place, message, count, first_seen, last_seen)
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
                         $7::timestamptz[], $8::timestamptz[])
     ORDER BY 1
    ON CONFLICT (fingerprint) DO UPDATE
       SET count = k.count + excluded.count,
           first_seen = least(k.first_seen, excluded.first_seen),
           last_seen = greatest(k.last_seen, excluded.last_seen)
    RETURNING fingerprint, xmax = 0 AS is_new
"""
# Waits for no row: another process may be counting it, and the next new kind forgets the rest.
_FORGET: Final = f"""
    WITH oldest AS MATERIALIZED (
        SELECT fingerprint FROM error_kinds ORDER BY last_seen DESC OFFSET {MOST_KINDS}
    ), free AS MATERIALIZED (
        SELECT fingerprint FROM error_kinds WHERE fingerprint IN (SELECT fingerprint FROM oldest)
           FOR UPDATE SKIP LOCKED
    )
    DELETE FROM error_kinds WHERE fingerprint IN (SELECT fingerprint FROM free)
"""
_LIST: Final = """
    SELECT level, exception, place, message, count, first_seen, last_seen
      FROM error_kinds ORDER BY last_seen DESC LIMIT $1
"""


class Kind(msgspec.Struct, frozen=True):
    """What makes two errors the same."""

    level: str
    exception: str
    """Its class; empty if nothing was raised."""
    place: str
    message: str

    @property
    def fingerprint(self) -> bytes:
        text = "\0".join((self.level, self.exception, self.place, self.message))
        return hashlib.sha256(text.encode()).digest()[:16]


class Seen(msgspec.Struct):
    """How often a kind was seen, and when."""

    count: int
    first: datetime
    last: datetime


class ErrorRow(msgspec.Struct, frozen=True):
    """A kind as `easypay errors` shows it."""

    level: str
    exception: str
    place: str
    message: str
    count: int
    first_seen: str
    last_seen: str


def kind_of(record: logging.LogRecord) -> Kind:
    """Return the kind of a log line."""
    error = record.exc_info[1] if record.exc_info else None
    raised = "" if error is None else type(error).__qualname__
    where = f"{record.module}.{record.funcName}"
    if error is not None and error.__traceback__ is not None:
        where = place(stack_of_traceback(error.__traceback__))
    text = str(record.msg)
    if isinstance(record.msg, BaseException):  # log.error(error)
        raised, text = raised or type(record.msg).__qualname__, ""
    elif not record.args:
        text = without_values(text)
    message = scrub(text.partition("\n")[0])[:_LONGEST]
    named = (record.levelname.lower(), raised, re.sub(r":\d+\)", ")", where), message)
    return Kind(*(_UNWRITABLE.sub("…", each) for each in named))


def without_values(text: str) -> str:
    """Return the first line of a text without quotations, numbers, ids and addresses."""
    line = _QUOTED.sub("…", text.partition("\n")[0])
    return _VARIES.sub("…", line)


class ErrorKinds(logging.Handler):
    """Counts the errors of this process. `counted` is told of each line's level, `found` of each
    new kind."""

    def __init__(
        self, counted: Callable[[str], None], found: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(logging.ERROR)
        self._counted = counted
        self._found = found
        self._waiting: dict[Kind, Seen] = {}
        # The collector may run while it is held, and end a task whose error is logged.
        self._lock = threading.RLock()

    def emit(self, record: logging.LogRecord) -> None:
        """Logging calls this for each line, from any thread."""
        # What cannot be read is in the log. `handleError` would print its arguments as they are.
        with suppress(Exception):
            kind = kind_of(record)
            self._counted(kind.level)
            with self._lock:
                self._add(kind, Seen(1, clock.now(), clock.now()))

    def _add(self, kind: Kind, seen: Seen) -> None:
        if kind not in self._waiting and len(self._waiting) >= MOST_WAITING:
            kind = Kind("error", "", "", "more kinds at once than are told apart")
        known = self._waiting.setdefault(kind, Seen(0, seen.first, seen.last))
        known.count += seen.count
        known.first, known.last = min(known.first, seen.first), max(known.last, seen.last)

    async def run(self, pool: Any) -> None:
        """Count until cancelled, and write every few seconds, and at the end."""
        root = logging.getLogger()
        root.addHandler(self)
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                await self.write(pool)
        finally:
            root.removeHandler(self)
            with suppress(Exception):  # it was logged, and the process stops
                async with asyncio.timeout(_LAST_S):
                    await self.write(pool)

    async def write(self, pool: Any) -> None:
        """Add what was counted to the rows of all processes. What cannot be written now waits."""
        if not self._waiting:
            return
        with self._lock:
            taken, self._waiting = self._waiting, {}
        try:
            new = await add(pool, taken)
        except Exception as error:
            with self._lock:
                for kind, seen in taken.items():
                    self._add(kind, seen)
            if not is_passing(error):
                raise
            return
        for kind in new:
            self._found()
            log.warning(
                "a new kind of error: %s %s at %s: %s",
                *(kind.level, kind.exception or "line", kind.place, kind.message),
            )
        if new:
            await self._forget(pool)

    async def _forget(self, pool: Any) -> None:
        """Delete the oldest of too many rows. If that cannot be done now, the next new kind does
        it: what was added is not added again."""
        try:
            await pool.execute(_FORGET)
        except Exception as error:
            if not is_passing(error):
                raise


async def add(runner: Any, seen: dict[Kind, Seen]) -> list[Kind]:
    """Add counts to the rows. Return the kinds that had no row."""
    by_fingerprint = {kind.fingerprint: kind for kind in seen}
    columns: list[Sequence[Any]] = [
        list(by_fingerprint),
        *([getattr(kind, name) for kind in seen] for name in Kind.__struct_fields__),
        *([getattr(each, name) for each in seen.values()] for name in Seen.__struct_fields__),
    ]
    rows = await runner.fetch(_ADD, *columns)
    return [by_fingerprint[row["fingerprint"]] for row in rows if row["is_new"]]


async def kinds(runner: Any, limit: int) -> list[ErrorRow]:
    """Return the kinds, the latest first."""
    rows = [dict(row) for row in await runner.fetch(_LIST, limit)]
    return [
        ErrorRow(**row | {name: clock.rfc3339(row[name]) for name in ("first_seen", "last_seen")})
        for row in rows
    ]
