"""A client's connection to a gateway inside this process, without a socket: bytes in, bytes out."""

import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from easypay.server.client_connections import Clients, Limits, Phase
from easypay.server.protocol import HttpProtocol

IDLE_S = 10.0
"""How long each phase of the connection may take."""


class Wire(asyncio.Transport):
    """One connection to `app`."""

    def __init__(self, app: Any) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        config = uvicorn.Config(app, lifespan="off", log_config=None, proxy_headers=False)
        config.load()
        limits = Limits(head_bytes=16_384, longest_s=dict.fromkeys(Phase, IDLE_S))
        self.clients = Clients(limits, at_most=10, per_address=10, trusted=())
        self.protocol = HttpProtocol(
            config=config,
            server_state=ServerState(),
            app_state={},
            clients=self.clients,
            repeats=app.repeats,
        )
        self._written: list[bytes] = []
        self._has_written = asyncio.Event()
        self._is_closed = False
        self.protocol.connection_made(self)

    def write(self, data: Any) -> None:
        self._written.append(data)
        self._has_written.set()

    def close(self) -> None:
        self._is_closed = True

    def is_closing(self) -> bool:
        return self._is_closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def said(self) -> bytes:
        """Return what was answered since the last time."""
        said = b"".join(self._written)
        self._written.clear()
        self._has_written.clear()
        return said

    async def answer(self) -> bytes:
        """Wait for an answer, and return it."""
        await asyncio.wait_for(self._has_written.wait(), 20)
        return self.said()

    async def ask(self, request: bytes) -> bytes:
        """Send a request, and return its answer."""
        self.protocol.data_received(request)
        return await self.answer()
