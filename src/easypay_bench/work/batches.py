"""Batches: how fast one worker runs the lines of a file, and what an upload costs the gateway."""

import asyncio
import http.client
import json
import resource
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from easypay import ids
from easypay_bench import stack as stacks
from easypay_bench.http_calls import StackFailed, call
from easypay_bench.load import LoadFailed
from easypay_bench.stack import Merchant, Stack
from easypay_bench.work.bars import BatchRun, Uploaded
from easypay_bench.work.bursts import RATE, value
from easypay_bench.work.programs import asked, mint, pay

SCOPES: Final = ("payments:read", "payments:write", "batches:write")
_AT_ONCE: Final = 1000
"""As many as may be asked for: the worker has more claimed than it sends at once."""
_PIECE: Final = 500
_ENDS_S: Final = 600.0
_LOOK_S: Final = 0.05


async def run(stack: Stack, merchant: Merchant, payments: int) -> BatchRun:
    """Take as many payments by requests that wait, and by a batch that one worker runs."""
    await pay(stack, [merchant], payments, tokens=await mint(stack, merchant, payments))
    waiting_per_s = await value(stack.database_url, RATE, merchant.id, payments)
    tokens = await mint(stack, merchant, payments)  # now: they are good for 15 minutes only
    lines = (_payment(number, token) for number, token in enumerate(tokens))
    batch = await asyncio.to_thread(_upload, stack, merchant, lines, f"&at_once={_AT_ONCE}")
    path = f"{stack.api_url}/api/v1/batches/{batch['id']}"
    with stacks.worker(stack):
        call("POST", f"{path}/start", bearer=merchant.api_key)

        async def done() -> Any:
            found = await asyncio.to_thread(call, "GET", path, bearer=merchant.api_key)
            return found if found["state"] == "done" else None

        ended = await asked(done, _ENDS_S, "the batch did not end", _LOOK_S)
    if ended["done"] != payments:
        raise LoadFailed(f"of {payments} lines {ended['done']} are done: {ended['sums']}")
    return BatchRun(waiting_per_s, await value(stack.database_url, RATE, merchant.id, payments))


async def upload(stack: Stack, merchant: Merchant, lines: int) -> Uploaded:
    """Upload and check a file of captures that is not run. The gateway has one process."""
    before = peak = _memory(stack)
    began = perf_counter()
    uploading = asyncio.create_task(
        asyncio.to_thread(_upload, stack, merchant, map(_capture, range(lines)), "")
    )
    while not uploading.done():
        peak = max(peak, _memory(stack))
        await asyncio.wait([uploading], timeout=_LOOK_S)
    batch = await uploading
    if batch["lines"] != lines:
        raise LoadFailed(f"of {lines} lines {batch['lines']} can be run: {batch['reason']}")
    return Uploaded(lines, perf_counter() - began, (peak - before) / 2**20)


def _memory(stack: Stack) -> int:
    """Return how many bytes of memory the gateway has."""
    pages = [Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in stack.gateway_pids]
    return sum(map(int, pages)) * resource.getpagesize()


def _payment(number: int, token: str) -> bytes:
    method = {"data_descriptor": "COMMON.ACCEPT.INAPP.PAYMENT", "data_value": token}
    return json.dumps(
        {
            "operation": "payment",
            "amount": 1000 + number % 5000,
            "currency": "USD",
            "payment_method": {"type": "accept_token", "accept_token": method},
            "line_reference": f"line {number}",
        }
    ).encode()


def _capture(number: int) -> bytes:
    payment = ids.typed(ids.PAYMENT, ids.new_id())
    return b'{"operation":"capture","payment":"%b","amount":2500,"line_reference":"line %d"}' % (
        payment.encode(),
        number,
    )


def _upload(stack: Stack, merchant: Merchant, lines: Iterator[bytes], more: str) -> Any:
    """Upload lines as a stream, and return the batch, which does not start. Raises StackFailed."""
    connection = http.client.HTTPConnection(stack.host, stack.port, timeout=_ENDS_S)
    headers = {
        "Authorization": f"Bearer {merchant.api_key}",
        "Idempotency-Key": str(uuid.uuid4()),
        "Content-Type": "application/jsonl",
    }
    try:
        connection.request(
            "POST",
            f"/api/v1/batches?start=false{more}",
            _pieces(lines),
            headers,
            encode_chunked=True,
        )
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 201:
        raise StackFailed(f"the upload was answered with {answer.status}: {body[:300]!r}")
    return json.loads(body)


def _pieces(lines: Iterator[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    for line in lines:
        held.append(line)
        if len(held) == _PIECE:
            yield _text(held)
            held = []
    if held:
        yield _text(held)


def _text(lines: Sequence[bytes]) -> bytes:
    return b"\n".join(lines) + b"\n"
