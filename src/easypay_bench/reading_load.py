"""Measure payments and replays alone, then beside clients that read lists at full speed.

    python -m easypay_bench.reading_load --readers 64 --seconds 10

The target: the p99 of payments and of replays beside 64 readers is at most twice that alone.
"""

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from easypay_bench.payment_request import Orders, orders
from easypay_bench.performance_bars import spread
from easypay_bench.stack import Stack, own, shop

_PAYERS: Final = 8
_PAGES: Final = 20


async def _exchange_all(
    stack: Stack, requests: Callable[[], bytes], ends_at: float
) -> tuple[list[float], int]:
    """Send one request after another over one connection; return the milliseconds that each took,
    and how many were refused because too many were reading."""
    reader, writer = await asyncio.open_connection(stack.host, stack.port)
    took_ms: list[float] = []
    refused = 0
    while perf_counter() < ends_at:
        sent_at = perf_counter()
        writer.write(requests())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        if head[9:12] in (b"200", b"201"):
            took_ms.append((perf_counter() - sent_at) * 1000)
        elif head[9:12] == b"503":
            refused += 1
        else:
            raise RuntimeError(f"an unexpected reply: {head!r}")
    writer.close()
    return took_ms, refused


async def measure(
    stack: Stack, api_key: str, made: Orders, series: str, *, readers: int, seconds: float
) -> dict[str, Any]:
    """Return how many payments, replays and lists there were, and how many ms they took."""
    numbers = itertools.count()
    page = (
        f"GET /api/v1/payments?limit={_PAGES} HTTP/1.1\r\nHost: {stack.host}\r\n"
        f"Authorization: Bearer {api_key}\r\n\r\n"
    ).encode()
    first = made.request(series, next(numbers))
    ends_at = perf_counter() + seconds
    kinds: dict[str, tuple[int, Callable[[], bytes]]] = {
        "payments": (_PAYERS, lambda: made.request(series, next(numbers))),
        "replays": (1, lambda: first),
        "lists": (readers, lambda: page),
    }
    await _exchange_all(stack, lambda: first, perf_counter() + 0.2)
    running = {
        kind: [asyncio.create_task(_exchange_all(stack, requests, ends_at)) for _ in range(clients)]
        for kind, (clients, requests) in kinds.items()
    }
    found: dict[str, Any] = {}
    for kind, tasks in running.items():
        results = await asyncio.gather(*tasks)
        took_ms = [each for times, _ in results for each in times]
        if took_ms:
            found[kind] = {
                "count": len(took_ms),
                "refused": sum(refused for _, refused in results),
                **spread(took_ms),
            }
    return found


def main() -> None:
    """Print both measurements as JSON, and how much longer the p99 became."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--readers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, own(Path(folder)) as stack:
        with shop(stack) as merchant:
            made = orders(f"{stack.host}:{stack.port}", merchant.api_key)
            found = {
                series: asyncio.run(
                    measure(
                        stack,
                        merchant.api_key,
                        made,
                        series,
                        readers=readers,
                        seconds=options.seconds,
                    )
                )
                for series, readers in (("a", 0), ("b", options.readers))
            }
    alone, beside = found["a"], found["b"]
    json.dump(
        {
            "alone": alone,
            "beside": beside,
            "p99_ratio": {
                kind: round(beside[kind]["p99"] / alone[kind]["p99"], 2)
                for kind in ("payments", "replays")
            },
        },
        sys.stdout,
        indent=2,
    )
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
