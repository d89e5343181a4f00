"""Count the calls of functions that a payment takes by card and by stored method, in a gateway
inside this process.

A program of its own, because a profiler sees all threads' work and a gateway changes the process's
garbage collector. Settings come from the environment, as for `easypay serve`.

    python counted_payments.py KEY METHOD [--list]

Writes JSON: the fewest calls of each; with --list also which functions the stored method calls more
often.
"""

import asyncio
import json
import sys
import uuid
from collections import Counter
from typing import Any, Final

from harness.gateway_inside import ask, calls_of, gateway_inside

ROUNDS: Final = 25
CARD: Final = {"number": "4111111111111111", "exp_month": 12, "exp_year": 2035}


async def pay(app: Any, secret: str, method: dict[str, Any]) -> None:
    body = json.dumps({"amount": 2500, "currency": "USD", "payment_method": method}).encode()
    headers = {
        "authorization": f"Bearer {secret}",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "idempotency-key": str(uuid.uuid4()),
    }
    status, _, answer = await ask(app, "POST", "/api/v1/payments", headers, body)
    assert status == 201, answer


async def run(secret: str, stored: str, *, listed: bool) -> dict[str, Any]:
    methods = {
        "card": {"type": "card", "card": CARD},
        "stored": {"type": "stored", "stored": {"id": stored}},
    }
    fewest: dict[str, tuple[int, Counter[str]]] = {}
    async with gateway_inside() as app:
        for method in methods.values():
            await pay(app, secret, method)
        for number in range(ROUNDS):
            # Now the one and now the other comes first: on a slow machine what is read again each
            # second would always be read by the same one.
            for name, method in sorted(methods.items(), reverse=number % 2 == 1):
                _, total, seen = await calls_of(lambda: pay(app, secret, method))  # noqa: B023
                if name not in fewest or total < fewest[name][0]:
                    fewest[name] = total, seen
    found: dict[str, Any] = {name: total for name, (total, _) in fewest.items()}
    if listed:
        more = fewest["stored"][1]
        more.subtract(fewest["card"][1])
        found["more"] = {name: n for name, n in more.most_common() if n}
    return found


if __name__ == "__main__":
    key, method_id, *options = sys.argv[1:]
    result = asyncio.run(run(key, method_id, listed="--list" in options))
    sys.stdout.write(json.dumps(result, indent=1))
