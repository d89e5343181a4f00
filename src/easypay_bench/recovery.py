"""Measure how soon charges whose replies were lost are found. Behind `make recovery`.

    python -m easypay_bench.recovery --lost 4000 --history 300000

One account takes three million transactions a day, and already has `--history` of them. Then every
reply is lost for `--lost` payments. Measured are: the time from the last of them until all are
known to be charged; the time for a single lost payment of another account meanwhile; and, with
`--absent`, the time to prove that as many payments never happened.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from easypay_bench import http_calls
from easypay_bench import stack as stacks
from easypay_bench.stack import Merchant, Stack

_A_DAY: Final = 3_000_000
_CONNECTIONS: Final = 32
_CHUNK: Final = 2_000
_LIMIT_S: Final = 900.0


async def _post_all(url: str, headers: str, bodies: Iterable[tuple[str, bytes]]) -> list[int]:
    """POST each (more headers, body) over some connections; return the statuses."""
    parts = urlsplit(url)
    waiting = iter(bodies)
    statuses: list[int] = []

    async def worker() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for more, body in waiting:
            writer.write(
                f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{headers}{more}"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            statuses.append(int(head[9:12]))
            for line in head.split(b"\r\n"):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    await reader.readexactly(int(value))
        writer.close()

    await asyncio.gather(*(worker() for _ in range(_CONNECTIONS)))
    return statuses


async def _fill(stack: Stack, login: str, key: str, transactions: int) -> None:
    """Create sales on an account, spread over the past as on a busy day."""
    clock = f"{stack.simulator_url}/simulator/clock"
    span_s = transactions / _A_DAY * 86_400
    await asyncio.to_thread(http_calls.call, "POST", clock, {"advance_s": -span_s})
    for start in range(0, transactions, _CHUNK):
        count = min(_CHUNK, transactions - start)
        sales = (("", _sale(login, key, number)) for number in range(start, start + count))
        await _post_all(stack.simulator_url + stacks.PROCESSOR_PATH, "", sales)
        await asyncio.to_thread(
            http_calls.call, "POST", clock, {"advance_s": span_s * count / transactions}
        )
        _say(f"\r{start + count:,} of {transactions:,} transactions on the books")
    await asyncio.to_thread(http_calls.call, "POST", clock, {"real": True})
    _say("\n")


def _sale(login: str, key: str, number: int) -> bytes:
    return json.dumps(
        {
            "createTransactionRequest": {
                "merchantAuthentication": {"name": login, "transactionKey": key},
                "refId": f"old-{number}",
                "transactionRequest": {
                    "transactionType": "authCaptureTransaction",
                    "amount": "12.50",
                    "payment": {
                        "creditCard": {
                            "cardNumber": "4111111111111111",
                            "expirationDate": "2040-12",
                        }
                    },
                    "order": {"invoiceNumber": f"old-{number}"},
                },
            }
        }
    ).encode()


async def _pay(stack: Stack, merchant: Merchant, count: int, name: str) -> list[int]:
    body = json.dumps(
        {
            "amount": 2500,
            "currency": "USD",
            "payment_method": {
                "type": "card",
                "card": {"number": "4111111111111111", "exp_month": 12, "exp_year": 2035},
            },
        }
    ).encode()
    return await _post_all(
        f"{stack.api_url}/api/v1/payments",
        f"Authorization: Bearer {merchant.api_key}\r\n",
        ((f"Idempotency-Key: {name}-{number}\r\n", body) for number in range(count)),
    )


def _fault(stack: Stack, kind: str, login: str) -> None:
    url = f"{stack.simulator_url}/simulator/faults"
    http_calls.call(
        "POST", url, {"kind": kind, "login": login, "method": "createTransactionRequest"}
    )


def _no_faults(stack: Stack) -> None:
    http_calls.call("DELETE", f"{stack.simulator_url}/simulator/faults")


async def _open(connection: Any, merchant: Merchant) -> int:
    count: int = await connection.fetchval(
        "SELECT count(*) FROM unresolved_operations WHERE merchant_id = $1", merchant.id
    )
    return count


async def _ended(connection: Any, merchant: Merchant, since: float, what: str) -> float:
    """Wait until the merchant has nothing open; return the seconds since `since`."""
    while left := await _open(connection, merchant):
        if time.monotonic() - since > _LIMIT_S:
            raise http_calls.StackFailed(f"{left} of {what} are still open after {_LIMIT_S:.0f} s")
        await asyncio.sleep(0.5)
    return time.monotonic() - since


async def _measure(stack: Stack, *, lost: int, history: int, absent: bool) -> dict[str, Any]:
    connection = await asyncpg.connect(stack.database_url)
    with stacks.shop(stack) as busy, stacks.shop(stack) as other:
        await _fill(stack, busy.login, busy.transaction_key, history)
        for merchant in (busy, other):
            await asyncio.to_thread(_fault, stack, "drop_reply", merchant.login)
        statuses = await _pay(stack, busy, lost, "lost")
        last = time.monotonic()
        await _pay(stack, other, 1, "single")
        single = time.monotonic()
        await asyncio.to_thread(_no_faults, stack)
        _say(f"{statuses.count(202):,} replies lost\n")
        single_s, all_s = await asyncio.gather(
            _ended(await asyncpg.connect(stack.database_url), other, single, "the single one"),
            _ended(connection, busy, last, "the lost ones"),
        )
        captured = await connection.fetchval(
            "SELECT count(*) FROM payments WHERE merchant_id = $1 AND status = 'captured'", busy.id
        )
        found = {
            "lost": statuses.count(202),
            "adopted": captured,
            "adopted_after_s": round(all_s, 1),
            "single_of_another_account_after_s": round(single_s, 1),
        }
        if absent:
            await asyncio.to_thread(_fault, stack, "reset_before", busy.login)
            never = await _pay(stack, busy, lost, "never")
            last = time.monotonic()
            await asyncio.to_thread(_no_faults, stack)
            await asyncio.sleep(13)  # by then each call has ended; a newer charge is the witness
            await _pay(stack, busy, 1, "witness")
            found["never_happened"] = never.count(202)
            found["absence_proven_after_s"] = round(
                await _ended(connection, busy, last, "the absent ones"), 1
            )
        await connection.close()
        return found


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m easypay_bench.recovery")
    parser.add_argument("--lost", type=int, default=4_000)
    parser.add_argument("--history", type=int, default=300_000)
    parser.add_argument("--absent", action="store_true", help="also prove that as many never were")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="easypay-recovery-") as folder:
        with stacks.own(Path(folder)) as stack:
            found = asyncio.run(
                _measure(stack, lost=options.lost, history=options.history, absent=options.absent)
            )
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
