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
from collections import Counter
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import easypay
from easypay.api.send_response import EXTENSION
from easypay.server.app import build_app
from easypay.settings import Settings

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
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def answer(status: int, *_: object) -> None:
        statuses.append(status)

    headers = {
        "authorization": f"Bearer {secret}",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "idempotency-key": str(uuid.uuid4()),
    }
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/payments",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "extensions": {EXTENSION: {"send": answer}},
    }
    await app(scope, receive, None)
    (status,) = statuses
    return status


async def run(secret: str, payments: int) -> dict[str, Any]:
    app = build_app(Settings())
    messages: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    started: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def send(message: dict[str, str]) -> None:
        if message["type"] == "lifespan.startup.complete":
            started.set_result(None)
        elif message["type"] == "lifespan.startup.failed":
            raise SystemExit(message["message"])

    life = asyncio.create_task(app({"type": "lifespan"}, messages.get, send))
    messages.put_nowait({"type": "lifespan.startup"})
    await asyncio.wait({started, life}, return_when=asyncio.FIRST_COMPLETED)
    statuses, counts = [await pay(app, secret)], []
    for _ in range(payments):
        seen: Counter[str] = Counter()

        def count(frame: Any, event: str, arg: Any, seen: Counter[str] = seen) -> None:
            seen[event] += 1

        sys.setprofile(count)
        try:
            statuses.append(await pay(app, secret))
        finally:
            sys.setprofile(None)
        counts.append(seen["call"] + seen["c_call"])
    traced.set(True)
    trace = Trace()
    sys.setprofile(trace)
    try:
        statuses.append(await pay(app, secret))
    finally:
        sys.setprofile(None)
    messages.put_nowait({"type": "lifespan.shutdown"})
    await life
    return {
        "statuses": sorted(set(statuses)),
        "files": sorted(trace.files),
        "calls": min(counts, default=0),
    }


if __name__ == "__main__":
    key, *more = sys.argv[1:]
    found = asyncio.run(run(key, int(more[0]) if more else 0))
    sys.stdout.write(json.dumps(found))
