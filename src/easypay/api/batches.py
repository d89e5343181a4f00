"""Batches over HTTP: upload a file, follow it, pause it, and read what became of each line."""

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from easypay import ids
from easypay.api.auth import caller_of
from easypay.api.batch_checks import check_for
from easypay.api.exports import accepted
from easypay.api.http import ClientLeft, Request, Response, decode, encode, invalid_query
from easypay.api.idempotency import key_of
from easypay.api.paging import Cursors, limit_of, newest_id, page_response
from easypay.api.streaming import Streamed, Write
from easypay.batches import removal, store
from easypay.batches.lines import SEAL_KEY
from easypay.batches.model import MOST_AT_ONCE, USUAL_AT_ONCE, Batch, LineRow
from easypay.batches.staging import Staging, TooLong, WrongField
from easypay.batches.store import Upload
from easypay.batches.views import BatchErrorView, BatchLineView, batch_view, line_view
from easypay.card_numbers import contains_card_number
from easypay.clock import monotonic
from easypay.errors import (
    BodyTooLarge,
    IdempotencyKeyReused,
    NotFound,
    Overloaded,
    RequestInProgress,
    RequestTimeout,
    TooManyUploads,
    UnsupportedMediaType,
)
from easypay.exporting.columns import harmless
from easypay.exporting.statement import Format
from easypay.merchants.directory import Directory
from easypay.merchants.model import Caller
from easypay.merchants.vault import Box, Vault
from easypay.payment_details import NO_CONTROL

SCOPE: Final = "batches:write"
READ_SCOPE: Final = "payments:read"
PATH: Final = "/api/v1/batches"
_FORMATS: Final = {b"application/jsonl": "jsonl", b"text/csv": "csv"}
QUERY: Final = ("name", "on_error", "start", "lines_per_second", "at_once")
LONGEST_NAME: Final = 100
MOST_RATE: Final = 10_000
_STALL_S: Final = 30.0
_PAGE: Final = 1000
_TYPES: Final = {Format.CSV: b"text/csv; charset=utf-8", Format.JSONL: b"application/jsonl"}


class ChangeBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No fields: the path says what is to be done."""


class Limits(msgspec.Struct, frozen=True):
    """The bounds of uploads."""

    most_bytes: int
    most_lines: int
    of_merchant: int
    within_s: float


class BatchesApi:
    """The handlers for batches."""

    def __init__(
        self, *, directory: Directory, pool: Any, vault: Vault, cursors: Cursors, limits: Limits
    ) -> None:
        self._directory = directory
        self._pool = pool
        self._cursors = cursors
        self._limits = limits
        self._box = Box(vault.derive(SEAL_KEY))
        self._waits: set[asyncio.Timeout] = set()
        self._stopping = False

    def stop(self) -> None:
        """Refuse the uploads that are running: their clients repeat them elsewhere."""
        self._stopping = True
        for each in self._waits:
            each.reschedule(0.0)

    # upload --------------------------------------------------------------------------------------

    async def upload(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, SCOPE)
        upload, starts = _wish(request, caller)
        self._check_length(request)
        limits = self._limits
        batch = await store.begin(
            self._pool, upload, within_s=limits.within_s, most=limits.of_merchant
        )
        if batch is None:
            return await self._again(request, caller, upload.key, starts)
        staging = Staging(
            self._pool,
            batch,
            check_for(caller),
            self._box,
            most_bytes=limits.most_bytes,
            most_lines=limits.most_lines,
        )
        try:
            whole = await staging.read(self._pieces(request))
            ended = await store.end(self._pool, batch, whole)
        except BaseException as error:
            await asyncio.shield(removal.forget(self._pool, batch))
            if isinstance(error, TooLong):
                raise self._too_large() from None
            if isinstance(error, store.UploadCut):
                raise RequestTimeout.of("body", limits.within_s) from None
            raise
        if ended is None:  # the same file is a batch already
            await removal.forget(self._pool, batch)
            found = await store.of_file(self._pool, caller.merchant_id, caller.mode, whole.digest)
            if found is None:
                raise RequestInProgress("The batch of the same file changed just now. Try again.")
            return await self._answer(await self._started(found, starts))
        if ended.state == "invalid":
            await removal.delete_lines(self._pool, ended)
        return await self._answer(await self._started(ended, starts), status=201)

    async def _again(self, request: Request, caller: Caller, key: str, starts: bool) -> Response:
        """Answer an upload whose key has a batch: with that, if the file is the same."""
        found = await store.of_key(self._pool, caller.merchant_id, caller.mode, key)
        if found is None:
            most = self._limits.of_merchant
            raise TooManyUploads(
                f"{most} uploads of this merchant are running, as many as may. Nothing was kept. "
                "Wait until one has ended and repeat the upload."
            )
        if found.state == "checking":
            raise RequestInProgress(
                "The first upload with this key is still running. If it was cut, its key is free "
                "again soon.",
                retry_after_s=5,
            )
        digest = sha256()
        size = 0
        async for piece in self._pieces(request):
            size += len(piece)
            if size > self._limits.most_bytes:
                raise self._too_large()
            digest.update(piece)
        if digest.digest() != found.digest:
            raise IdempotencyKeyReused(
                "This key belongs to another file. Use a new key for a new file."
            )
        return await self._answer(await self._started(found, starts))

    async def _started(self, batch: Batch, starts: bool) -> Batch:
        if not starts or batch.state != "ready":
            return batch
        return await store.move(self._pool, batch, "start")

    async def _pieces(self, request: Request) -> AsyncIterator[bytes]:
        """Return the body as it comes. Raises ClientLeft, RequestTimeout and Overloaded."""
        assert request.receive is not None, "the request came from a client"
        give_up_at = monotonic() + self._limits.within_s
        more = True
        while more:
            if self._stopping:
                raise Overloaded("The gateway stops. Nothing was kept. Repeat the upload.")
            if monotonic() > give_up_at:
                raise RequestTimeout.of("body", self._limits.within_s)
            try:
                async with asyncio.timeout(_STALL_S) as wait:
                    self._waits.add(wait)
                    message = await request.receive()
            except TimeoutError:
                if self._stopping:
                    continue
                raise RequestTimeout.of("body", _STALL_S) from None
            finally:
                self._waits.discard(wait)
            if message["type"] == "http.disconnect":
                raise ClientLeft
            yield message.get("body", b"")
            more = message.get("more_body", False)

    def _check_length(self, request: Request) -> None:
        declared = request.headers.get(b"content-length", b"").strip()
        if declared.isdigit() and (len(declared) > 18 or int(declared) > self._limits.most_bytes):
            raise self._too_large()

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"A batch may have {self._limits.most_bytes:,} bytes. Nothing was kept. Split the file."
        )

    # what was uploaded ---------------------------------------------------------------------------

    async def list_batches(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, READ_SCOPE)
        query = request.query("limit", "cursor")
        limit, text = limit_of(query), query.get("cursor")
        below = newest_id() if text is None else self._cursors.read(text, caller, "batches").last
        found = await store.page(
            self._pool, caller.merchant_id, caller.mode, below=below, most=limit + 1
        )
        more = len(found) > limit
        cursor = self._cursors.write(found[limit - 1].id, caller, "batches") if more else None
        views = [
            batch_view(batch, await store.progress(self._pool, batch)) for batch in found[:limit]
        ]
        return page_response(request, views, cursor)

    async def get(self, request: Request) -> Response:
        batch = await self._batch(request, READ_SCOPE)
        request.query()
        return await self._answer(batch)

    async def start(self, request: Request) -> Response:
        return await self._move(request, "start")

    async def pause(self, request: Request) -> Response:
        return await self._move(request, "pause")

    async def resume(self, request: Request) -> Response:
        return await self._move(request, "resume")

    async def cancel(self, request: Request) -> Response:
        return await self._move(request, "cancel")

    async def _move(self, request: Request, what: str) -> Response:
        batch = await self._batch(request, SCOPE)
        decode(request, _change, may_be_empty=True)
        return await self._answer(await store.move(self._pool, batch, what))

    async def results(self, request: Request) -> Response:
        return await self._streamed(request, wrong=False)

    async def errors(self, request: Request) -> Response:
        return await self._streamed(request, wrong=True)

    async def _streamed(self, request: Request, *, wrong: bool) -> Response:
        batch = await self._batch(request, READ_SCOPE)
        request.query()
        format = accepted(request.headers.get(b"accept", b"*/*").decode("latin-1"))
        name = f"{ids.typed(ids.BATCH, batch.id)}-{'errors' if wrong else 'results'}.{format}"
        answer = Streamed(
            200,
            content_type=_TYPES[format],
            headers=[
                (b"content-disposition", f'attachment; filename="{name}"'.encode()),
                (b"vary", b"Accept, Accept-Encoding"),
            ],
        )
        if request.method != "HEAD":

            async def write(to: Write) -> None:
                await self._write_lines(batch, format, to, wrong=wrong)

            answer.write = write
        return answer

    async def _write_lines(self, batch: Batch, format: Format, to: Write, *, wrong: bool) -> None:
        """Write the lines, and a last one with their number: without it the file was cut."""
        view: type[msgspec.Struct] = BatchErrorView if wrong else BatchLineView
        names = view.__struct_fields__
        count = last = 0
        if format is Format.CSV:
            await to(_csv([names]))
        while True:
            rows = await store.lines_after(self._pool, batch, last, most=_PAGE, wrong=wrong)
            if not rows:
                break
            last = rows[-1].line
            views: list[Any] = (
                [error for row in rows for error in _errors_of(row)]
                if wrong
                else [line_view(batch, row) for row in rows]
            )
            count += len(views)
            if format is Format.CSV:
                await to(_csv([harmless(msgspec.structs.astuple(each)) for each in views]))
            else:
                await to(b"".join(encode(each) + b"\n" for each in views))
        word = "errors" if wrong else "lines"
        if format is Format.CSV:
            await to(_csv([(word, count, *[""] * (len(names) - 2))]))
        else:
            await to(encode({word: count}) + b"\n")

    async def _batch(self, request: Request, scope: str) -> Batch:
        caller = await caller_of(self._directory, request, scope)
        batch_id = ids.parse(ids.BATCH, request.params["id"])
        if batch_id is None:
            raise NotFound("there is no such batch")
        return await store.find(self._pool, caller.merchant_id, caller.mode, batch_id)

    async def _answer(self, batch: Batch, *, status: int = 200) -> Response:
        view = batch_view(batch, await store.progress(self._pool, batch))
        headers = [(b"location", f"{PATH}/{view.id}".encode())] if status == 201 else []
        return Response(status, encode(view), headers=headers)


_change: Final = msgspec.json.Decoder(ChangeBatch)
_wrong: Final = msgspec.json.Decoder(list[WrongField])


def _wish(request: Request, caller: Caller) -> tuple[Upload, bool]:
    """Return what an upload asks for, and whether the batch starts at once."""
    key = key_of(request)
    if request.headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise UnsupportedMediaType(
            "Content-Encoding is not supported here. Send the file uncompressed, without this "
            "header."
        )
    kind = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind not in _FORMATS:
        raise UnsupportedMediaType(
            "Send the file with Content-Type: application/jsonl (a JSON object in each line) or "
            "text/csv."
        )
    query = request.query(*QUERY)
    name = query.get("name", "")
    if len(name) > LONGEST_NAME or not re.search(NO_CONTROL, name) or contains_card_number(name):
        why = f"It may have {LONGEST_NAME} characters, no control characters and no card number."
        raise invalid_query("name", why)
    rate = None
    if "lines_per_second" in query:
        rate = float(_number(query, "lines_per_second", MOST_RATE, 0))
    at_once = _number(query, "at_once", MOST_AT_ONCE, USUAL_AT_ONCE)
    upload = Upload(
        merchant_id=caller.merchant_id,
        mode=caller.mode,
        key=key,
        name=name,
        format=_FORMATS[kind],
        on_error=_word(query, "on_error", ("refuse", "skip")),
        lines_per_second=rate,
        at_once=at_once,
    )
    return upload, _word(query, "start", ("true", "false")) == "true"


def _word(query: dict[str, str], name: str, words: Sequence[str]) -> str:
    """Return a parameter that is one of these words; the first one if it is not given."""
    value = query.get(name, words[0])
    if value not in words:
        raise invalid_query(name, f"It is one of {', '.join(words)}.")
    return value


def _number(query: dict[str, str], name: str, most: int, usual: int) -> int:
    value = query.get(name)
    if value is None:
        return usual
    if not (value.isascii() and value.isdigit() and len(value) <= 6 and 1 <= int(value) <= most):
        raise invalid_query(name, f"It is a number from 1 to {most}.")
    return int(value)


def _errors_of(row: LineRow) -> list[BatchErrorView]:
    return [
        BatchErrorView(row.line, each.field, each.code, each.message)
        for each in _wrong.decode(row.detail or "[]")
    ]


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
