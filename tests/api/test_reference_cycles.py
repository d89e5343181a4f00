"""Requests leave no reference cycles, so that reference counting frees them at once."""

import asyncio
import gc
import weakref
from functools import partial
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from easypay.api.repeats import Repeats
from easypay.api.send_response import EXTENSION
from easypay.server.client_connections import Clients, Limits, Phase
from easypay.server.protocol import HttpProtocol

REQUEST = b"POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 2\r\n\r\n{}"


async def test_an_answered_request_leaves_no_reference_cycle() -> None:
    """Collecting cycles would stop all payments for tens of milliseconds, once in a thousand."""
    asked: list[weakref.ref[Any]] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        reply = scope["extensions"][EXTENSION]["send"]
        asked.append(weakref.ref(reply.args[0]))
        await reply(200, b"content-length: 2\r\n", b"ok", False)

    config = uvicorn.Config(answer, lifespan="off", log_config=None)
    config.load()
    limits = Limits(head_bytes=16_384, longest_s=dict.fromkeys(Phase, 10.0))
    protocol = partial(
        HttpProtocol,
        config=config,
        server_state=ServerState(),
        app_state={},
        clients=Clients(limits, at_most=10, per_address=10, trusted=()),
        repeats=Repeats(0, lambda: False),
    )
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    gc.disable()
    try:
        for _ in range(3):
            writer.write(REQUEST)
            await reader.readuntil(b"ok")
        assert [each() is None for each in asked] == [True, True, False]  # the last is still in use
    finally:
        gc.enable()
        writer.close()
        server.close()
