"""The export of payments over HTTP: what is asked for, how many run, and how each ends.

An export reads over a connection of its own, opened for it. So many run at once in this process,
and so many for one merchant in all processes; others are refused at once.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import msgspec

from easypay import clock
from easypay.api import payment_filters
from easypay.api.auth import caller_of
from easypay.api.http import Request, Response
from easypay.api.paging import CREATED, span_between
from easypay.api.read_from import read_from
from easypay.api.streaming import Cut, Streamed, Write
from easypay.clock import stopwatch
from easypay.db.failures import is_passing
from easypay.errors import EasyPayError, NotAcceptable, Overloaded, TooManyExports
from easypay.exporting.pace import IsBusy
from easypay.exporting.run import MonthTakenOut, Progress, TookTooLong, run
from easypay.exporting.snapshot import BUSY, Snapshot
from easypay.exporting.statement import Format, Wish
from easypay.merchants.directory import Directory
from easypay.merchants.model import Caller
from easypay.payments.read_places import ReadPlace, ReadPlaces

log = logging.getLogger(__name__)

QUERY: Final = (*CREATED, "order", *payment_filters.NAMES)
MEDIA_TYPES: Final[Mapping[Format, str]] = {
    Format.CSV: "text/csv",
    Format.JSONL: "application/jsonl",
}
"""What the API gives, the preferred one first."""
_CONTENT_TYPES: Final = {
    Format.CSV: b"text/csv; charset=utf-8; header=present",
    Format.JSONL: b"application/jsonl",
}
_NOT_MORE: Final = "Repeat the request when one of them has ended."


class Limits(msgspec.Struct, frozen=True):
    """How many exports run, how long, and how much of the time beside payments."""

    at_once: int
    """In this process."""
    of_merchant: int
    """Of one merchant, in all processes together."""
    longest_s: float
    stall_s: float
    """How long a client may take to read a piece of 64 KiB."""
    share: float


class ExportsApi:
    """The handler for exports. `running` is called with how many run, whenever that changes, and
    `ended` with how each ended and its rows."""

    def __init__(
        self,
        *,
        directory: Directory,
        places: ReadPlaces,
        limits: Limits,
        running: Callable[[float], None],
        ended: Callable[[str, int], None],
    ) -> None:
        self._directory = directory
        self._places = places
        self._limits = limits
        self._running = running
        self._ended = ended
        self._tasks: set[asyncio.Task[object]] = set()
        self._stopping = False
        self._count = 0

    async def export(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, "payments:export")
        query = request.query(*QUERY)
        filters = payment_filters.filters_of(query)
        span = span_between(caller.merchant_id, caller.mode, query)
        wish = Wish(
            span, filters, accepted(request.headers.get(b"accept", b"*/*").decode("latin-1"))
        )

        async def ask(place: ReadPlace) -> Response:
            answer = Streamed(
                200,
                content_type=_CONTENT_TYPES[wish.format],
                headers=_headers(wish.format, clock.now()),
                stall_s=self._limits.stall_s,
            )
            if request.method != "HEAD":
                export = await self._begin(caller, wish, place)
                answer.write, answer.close = export.write, export.close
            return answer

        return await read_from(self._places, request, ask, share=False)

    def stop(self) -> None:
        """End all exports: their clients see that they were cut. No new one begins."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()

    async def _begin(self, caller: Caller, wish: Wish, place: ReadPlace) -> "_Export":
        """Take the snapshot, as long as there is room. It stays on its server to the end."""
        if self._stopping:
            raise Overloaded("The gateway stops. Nothing was read. Repeat the request.")
        if self._count >= self._limits.at_once:
            raise Overloaded(
                f"{self._count} exports are running here, and no more may. Nothing was read. "
                f"{_NOT_MORE}",
                retry_after_s=5,
            )
        self._add(1)
        snapshot = None
        try:
            snapshot = await Snapshot.open(
                place.dsn, wanted=place.wanted, limit_s=self._limits.longest_s
            )
            if not await snapshot.claim(caller.merchant_id, self._limits.of_merchant):
                raise TooManyExports(
                    f"{self._limits.of_merchant} exports of this merchant are running, and no more "
                    f"may. Nothing was read. {_NOT_MORE}"
                )
        except BaseException:
            self._add(-1)
            if snapshot is not None:
                snapshot.cut()
            raise
        is_busy = snapshot.payments_are_written
        return _Export(
            self,
            snapshot,
            caller,
            wish,
            is_busy if place is self._places.primary else self._payments_are_written,
        )

    async def _payments_are_written(self) -> bool:
        """The same, for an export that reads the replica: this process's time is shared, too."""
        try:
            return bool(await self._places.primary.reading.fetchval(BUSY))
        except Exception as error:
            if not is_passing(error) and not isinstance(error, EasyPayError):
                raise
            return True

    def _add(self, change: int) -> None:
        self._count += change
        self._running(self._count)

    async def _run(self, export: "_Export", write: Write) -> None:
        """Run an export to its end. Raises Cut if there is none."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await run(
                export.snapshot,
                export.wish,
                write,
                share=self._limits.share,
                is_busy=export.is_busy,
                limit_s=self._limits.longest_s,
                watch=export.watch,
            )
        except (TookTooLong, MonthTakenOut) as error:
            raise Cut(error.detail) from error
        except asyncio.CancelledError:
            if self._stopping:
                raise Cut("the gateway stops") from None
            raise
        except Exception as error:
            if isinstance(error, Cut) or not is_passing(error):
                raise
            raise Cut(f"the database: {type(error).__name__}: {error}") from error
        finally:
            self._tasks.discard(task)

    def _end(self, export: "_Export", how: str, why: str) -> None:
        self._add(-1)
        self._ended(how, export.progress.rows)
        log.log(
            logging.INFO if how == "whole" else logging.WARNING,
            "export of %s %s as %s: %s%s, %d rows and %d bytes in %.1f s",
            export.caller.merchant_text,
            export.caller.mode,
            export.wish.format,
            how,
            f" ({why})" if why else "",
            export.progress.rows,
            export.progress.bytes,
            stopwatch() - export.begun,
        )


class _Export:
    """An export that has its snapshot. It is closed in any case."""

    def __init__(
        self, api: ExportsApi, snapshot: Snapshot, caller: Caller, wish: Wish, is_busy: IsBusy
    ) -> None:
        self.snapshot = snapshot
        self.is_busy = is_busy
        self.caller = caller
        self.wish = wish
        self.progress = Progress()
        self.begun = stopwatch()
        self._api = api
        self._how, self._why = "left", "the client left"

    def watch(self, progress: Progress) -> None:
        self.progress = progress

    async def write(self, write: Write) -> None:
        """Send the export. Raises Cut."""
        try:
            await self._api._run(self, write)
        except Cut as cut:
            self._how, self._why = "cut", str(cut)
            raise
        except Exception as error:
            self._how, self._why = "cut", f"a fault: {type(error).__name__}"
            raise
        self._how, self._why = "whole", ""

    async def close(self) -> None:
        """Give the snapshot back."""
        try:
            if self._how == "whole":
                await self.snapshot.close()
            else:
                self.snapshot.cut()
        finally:
            self._api._end(self, self._how, self._why)


def accepted(header: str) -> Format:
    """Return the format that an Accept header likes best. Raises NotAcceptable.

    The most specific range counts for a type, as RFC 9110 (12.5.1) says.
    """
    liked: dict[Format, float] = {}
    for format, media_type in MEDIA_TYPES.items():
        best = (-1, 0.0)
        for each in header.split(","):
            name, *parameters = (part.strip().lower() for part in each.split(";"))
            ranges = ("*/*", f"{media_type.partition('/')[0]}/*", media_type)
            if name in ranges:
                best = max(best, (ranges.index(name), _quality(parameters)))
        liked[format] = best[1]
    format = max(liked, key=lambda each: liked[each])
    if liked[format] <= 0:
        raise NotAcceptable(
            f"An export is {' or '.join(MEDIA_TYPES.values())}. Send one of them as Accept. "
            "Parquet files are made by the operator's command, easypay export."
        )
    return format


def _quality(parameters: list[str]) -> float:
    for each in parameters:
        if each.startswith("q="):
            try:
                return min(1.0, max(0.0, float(each[2:])))
            except ValueError:
                return 0.0
    return 1.0


def _headers(format: Format, now: datetime) -> list[tuple[bytes, bytes]]:
    name = f"payments-{now:%Y%m%dT%H%M%SZ}.{format}"
    return [
        (b"content-disposition", f'attachment; filename="{name}"'.encode()),
        (b"vary", b"Accept, Accept-Encoding"),
    ]
