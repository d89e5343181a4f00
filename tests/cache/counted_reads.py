"""Count the calls of functions that reads take in a gateway inside this process.

A program of its own, because a profiler sees all threads' work and a gateway changes the process's
garbage collector. Settings come from the environment, as for `easypay serve`.

    python counted_reads.py KEY [--list]

Writes JSON: the fewest calls for each request of `REQUESTS`, for a payment, and for lists of one
payment and of twenty; and for bytes that come again, from their arrival to the answer. With --list
also which functions were called.
"""

import asyncio
import json
import sys
import uuid
from collections import Counter
from functools import partial
from typing import Any, Final

from easypay.api.conditional import version_tag
from easypay.clock import stopwatch
from harness.gateway_inside import ask, calls_of, gateway_inside
from harness.wire_inside import Wire

ROUNDS: Final = 15
OLD: Final = {"cache-control": "max-age=60"}
TAG: Final = {"if-none-match": version_tag(2).decode()}
REQUESTS: Final[dict[str, tuple[int, dict[str, str]]]] = {
    "304 with leave": (304, OLD | TAG),
    "200 with leave": (200, OLD),
    "304 without leave": (304, TAG),
    "200 without leave": (200, {}),
}
LISTED: Final = (
    *("livez", "304 with leave", "livez, from its bytes", "304 again, from its bytes"),
    "page of 20",
)
OTHERS: Final = ("C ", "asyncio/", "python3", "harness/", "cache/counted_reads")
LIVEZ: Final = b"GET /livez HTTP/1.1\r\nhost: shop\r\n\r\n"
BODY: Final = {
    "amount": 2500,
    "currency": "USD",
    "payment_method": {
        "type": "card",
        "card": {"number": "4111111111111111", "exp_month": 12, "exp_year": 2035, "cvc": "907"},
    },
}


async def pay(app: Any, headers: dict[str, str]) -> tuple[int, bytes, bytes]:
    body = json.dumps(BODY).encode()
    more = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "idempotency-key": str(uuid.uuid4()),
    }
    return await ask(app, "POST", "/api/v1/payments", headers | more, body)


async def fewest(once: Any, wanted: int) -> tuple[int, Counter[str]]:
    """Return the fewest calls of several rounds, and which they were."""
    found: list[tuple[int, Counter[str]]] = []
    for _ in range(ROUNDS):
        (status, lines, _), total, seen = await calls_of(once)
        assert status == wanted, (status, lines)
        found.append((total, seen))
    return min(found, key=lambda each: each[0])


def again(path: str, secret: str) -> bytes:
    """Return the bytes of a request that a client of the caches sends again and again."""
    lines = (f"GET {path} HTTP/1.1", "host: shop", f"authorization: Bearer {secret}")
    more = (f"{name}: {value}" for name, value in (OLD | TAG).items())
    return "\r\n".join((*lines, *more)).encode() + b"\r\n\r\n"


async def on_the_wire(app: Any, packet: bytes, wanted: int) -> tuple[int, Counter[str]]:
    """Return the fewest calls for bytes that have come before over the same connection: those of
    the gateway and of uvicorn, not of the loop that drives them here."""
    wire = Wire(app)

    async def once() -> tuple[int, bytes, bytes]:
        answer = await wire.ask(packet)
        return int(answer.split()[1]), answer, b""

    for _ in range(3):
        status, lines, _ = await once()
        assert status == wanted, lines
    _, seen = await fewest(once, wanted)
    own = Counter({each: count for each, count in seen.items() if not each.startswith(OTHERS)})
    return own.total(), own


async def is_kept(app: Any, path: str, headers: dict[str, str]) -> None:
    """Wait until the payment is in the near cache, and may be older than a second there."""
    until = stopwatch() + 20
    while stopwatch() < until:
        await ask(app, "GET", path, headers)
        await asyncio.sleep(1.1)
        _, lines, _ = await ask(app, "GET", path, headers)
        if b"age: 1\r\n" in lines or b"age: 2\r\n" in lines:
            return
    raise SystemExit("the payment was not kept")


async def run(secret: str) -> dict[str, tuple[int, Counter[str]]]:
    key = {"authorization": f"Bearer {secret}"}
    async with gateway_inside() as app:
        status, _, body = await pay(app, key)
        assert status == 201, body
        path = f"/api/v1/payments/{json.loads(body)['id']}"
        await is_kept(app, path, key | OLD)
        found = {"livez": await fewest(partial(ask, app, "GET", "/livez", {}), 200)}
        for name, (wanted, headers) in REQUESTS.items():
            found[name] = await fewest(partial(ask, app, "GET", path, key | headers), wanted)
        found["livez, from its bytes"] = await on_the_wire(app, LIVEZ, 200)
        found["304 again, from its bytes"] = await on_the_wire(app, again(path, secret), 304)
        found["payment"] = await fewest(partial(pay, app, key), 201)
        for _ in range(20 - ROUNDS):
            await pay(app, key)
        for size in (1, 20):  # and there is a next page: a payment was made before those counted
            page = f"/api/v1/payments?limit={size}&created_to=2999-01-01T00:00:00Z"
            found[f"page of {size}"] = await fewest(partial(ask, app, "GET", page, key), 200)
    return found


if __name__ == "__main__":
    counted = asyncio.run(run(sys.argv[1]))
    if "--list" in sys.argv:
        for name in LISTED:
            sys.stderr.write(f"{name}\n")
            for function, count in counted[name][1].most_common():
                sys.stderr.write(f"  {count:3} {function}\n")
    sys.stdout.write(json.dumps({name: total for name, (total, _) in counted.items()}) + "\n")
