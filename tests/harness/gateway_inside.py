"""A gateway inside this process, for programs that count what its functions do.

Its settings come from the environment, as for `easypay serve`.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from easypay.api.send_response import EXTENSION
from easypay.server.app import build_app
from easypay.settings import Settings

T = TypeVar("T")


@asynccontextmanager
async def gateway_inside() -> AsyncIterator[Any]:
    """Run the gateway for the length of the block."""
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
    try:
        yield app
    finally:
        messages.put_nowait({"type": "lifespan.shutdown"})
        await life


async def ask(
    app: Any, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
) -> tuple[int, bytes, bytes]:
    """Return the status, the header lines and the body of the answer."""
    answers: list[tuple[int, bytes, bytes]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def answer(status: int, lines: bytes, body: bytes, _: bool) -> None:
        answers.append((status, lines, body))

    scope = {
        "type": "http",
        "method": method,
        "path": path.partition("?")[0],
        "query_string": path.partition("?")[2].encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "extensions": {EXTENSION: {"send": answer}},
    }
    await app(scope, receive, None)
    (found,) = answers
    return found


async def calls_of(ask_once: Callable[[], Awaitable[T]]) -> tuple[T, int, Counter[str]]:
    """Return what was answered, the calls of functions meanwhile, and how often each was called.

    Tasks of the gateway's own may run meanwhile: take the least of several.
    """
    seen: Counter[str] = Counter()

    def count(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            file = "/".join(frame.f_code.co_filename.split("/")[-2:])
            seen[f"{file} {frame.f_code.co_qualname}"] += 1
        elif event == "c_call":
            seen[f"C {argument.__qualname__}"] += 1

    sys.setprofile(count)
    try:
        answered = await ask_once()
    finally:
        sys.setprofile(None)
    return answered, seen.total(), seen
