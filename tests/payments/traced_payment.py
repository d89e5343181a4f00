"""Take payments in a gateway inside this process, and say which files they touched.

A program of its own, because a profiler sees all threads' work and a gateway changes the process's
garbage collector. Settings come from the environment, as for `easypay serve`.

    python traced_payment.py KEY [payments]

Writes JSON: `files` of the last payment, below `src/easypay`: of functions that ran, and of types
that their variables had. `calls`: the fewest calls of functions that one payment took.
"""

import asyncio
import json
import sys
import uuid
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import easypay
from harness.gateway_inside import ask, calls_of, gateway_inside

HERE = str(Path(easypay.__file__).parent) + "/"
BODY = {
    "amount": 2500,
    "currency": "USD",
    "payment_method": {
        "type": "card",
        "card": {"number": "4111111111111111", "exp_month": 12, "exp_year": 2035, "cvc": "907"},
    },
    "order_reference": "order-1",
    "description": "Two chairs",
    "customer": {"reference": "c-1", "email": "ada@example.com"},
    "billing_address": {"line1": "1 Street", "postal_code": "97201"},
}


traced: ContextVar[bool] = ContextVar("traced", default=False)
"""True in what works for the traced payment, and not in the tasks of the gateway's own."""


class Trace:
    """Which of our files ran, and whose types were in use."""

    def __init__(self) -> None:
        self.files: set[str] = set()

    def __call__(self, frame: Any, event: str, arg: Any) -> None:
        own = frame.f_code.co_filename
        if event not in ("call", "return") or not own.startswith(HERE) or not traced.get():
            return
        self.files.add(own.removeprefix(HERE))
        if event == "return":
            for value in (arg, *frame.f_locals.values()):
                module = sys.modules.get(type(value).__module__)
                file = getattr(module, "__file__", None) or ""
                if file.startswith(HERE):
                    self.files.add(file.removeprefix(HERE))


async def pay(app: Any, secret: str) -> int:
    """POST a payment and return the status of the answer."""
    body = json.dumps(BODY).encode()
    headers = {
        "authorization": f"Bearer {secret}",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "idempotency-key": str(uuid.uuid4()),
    }
    status, _, _ = await ask(app, "POST", "/api/v1/payments", headers, body)
    return status


async def run(secret: str, payments: int) -> dict[str, Any]:
    async with gateway_inside() as app:
        statuses, counts = [await pay(app, secret)], []
        for _ in range(payments):
            status, calls, _ = await calls_of(lambda: pay(app, secret))
            statuses.append(status)
            counts.append(calls)
        traced.set(True)
        trace = Trace()
        sys.setprofile(trace)
        try:
            statuses.append(await pay(app, secret))
        finally:
            sys.setprofile(None)
    return {
        "statuses": sorted(set(statuses)),
        "files": sorted(trace.files),
        "calls": min(counts, default=0),
    }


if __name__ == "__main__":
    key, *more = sys.argv[1:]
    found = asyncio.run(run(key, int(more[0]) if more else 0))
    sys.stdout.write(json.dumps(found))
