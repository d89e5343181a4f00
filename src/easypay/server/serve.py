"""One gateway process: the listening socket, uvicorn, and a stop that loses no request.

On SIGTERM it keeps accepting for `drain_s`, while readiness fails and each response closes its
connection, so that load balancers and clients can leave. Then it stops listening, waits for
requests in flight for at most `shutdown_grace_s`, and exits 0. A second signal ends it at once.
"""

import asyncio
import logging
import select
import signal
import socket
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import uvicorn

from easypay.api.repeats import Repeats
from easypay.observability import logs
from easypay.server.background import kept_running
from easypay.server.client_connections import Clients, Limits, Phase
from easypay.server.open_files import SPARE_FILES, allow_files
from easypay.server.protocol import HttpProtocol
from easypay.settings import Settings

KEEP_ALIVE_S = 75
FIRST_REQUEST_S = 1.0
"""How long a stop waits for requests on accepted connections that have sent nothing yet."""
BACKLOG = 2048
LINGER_S = 2.0
BACKLOG_S = 0.1
"""How long connections are accepted from the kernel's queue before the socket closes."""
LONGEST_BACKLOG_S = 1.0
"""How much longer if connections still wait there, because the machine is busy."""
_logger = logging.getLogger("easypay.server.serve")


class Gateway(Protocol):
    """What the server uses of the application beyond ASGI."""

    open_requests: int
    open_connections: Callable[[], int]
    turned_away: Counter[str]
    repeats: Repeats

    def begin_drain(self) -> None: ...

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Server(uvicorn.Server):
    """uvicorn, with our way of stopping."""

    def __init__(
        self,
        config: uvicorn.Config,
        gateway: Gateway,
        *,
        drain_s: float,
        shared: bool,
    ) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._drain_s = drain_s
        self._shared = shared
        self._asked_to_stop = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Treat signals as requests to stop; the process ends by itself, with status 0."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self._on_signal)
        try:
            yield
        finally:
            for each in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(each)

    def _on_signal(self) -> None:
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
        self._asked_to_stop.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Connect to what the gateway needs, accept requests, then log that."""
        await super().startup(sockets)
        for bound in sockets or []:
            _logger.info("listening on %s", url_of(bound))

    async def main_loop(self) -> None:
        while not self.should_exit:
            await self.on_tick(0)  # refreshes the Date header
            try:
                await asyncio.wait_for(self._asked_to_stop.wait(), 1.0)
            except TimeoutError:
                continue
        await self._drain()

    async def _drain(self) -> None:
        """Drain for `drain_s`, or until nobody is connected."""
        _logger.info("draining: %d requests open", self._gateway.open_requests)
        self._gateway.begin_drain()
        await self._until_nobody_is_connected(self._drain_s)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve the backlog, then close the socket and let uvicorn end the rest."""
        if not self._shared:
            # Closing the socket resets connections that the kernel has let in and nobody accepted.
            # So limit its queue to one and accept those. A shared socket keeps its queue.
            for bound in sockets or []:
                bound.listen(0)
            await asyncio.sleep(BACKLOG_S)
            await _until_accepted(sockets or [])
        for server in self.servers:
            server.close()
        # uvicorn closes a connection at once if its first request has not been read yet.
        await self._until_nobody_is_connected(FIRST_REQUEST_S)
        await super().shutdown(sockets)

    async def _until_nobody_is_connected(self, at_most_s: float) -> None:
        """Wait, with a limit. Each response now closes its connection: only silent ones remain."""
        loop = asyncio.get_running_loop()
        until = loop.time() + at_most_s
        while loop.time() < until and self.server_state.connections and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _until_accepted(sockets: list[socket.socket]) -> None:
    """Wait, with a limit, until no connection waits in the kernel's queue: each turn of the loop
    accepts those that do. After a time alone, a busy machine may not have taken that turn yet."""
    waiting = select.poll()
    for bound in sockets:
        waiting.register(bound, select.POLLIN)
    loop = asyncio.get_running_loop()
    until = loop.time() + LONGEST_BACKLOG_S
    while loop.time() < until and waiting.poll(0):  # noqa: ASYNC110
        await asyncio.sleep(0)


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket. Port 0 picks a free one. Raises OSError if the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(BACKLOG)  # a second listener on the same port would otherwise bind unnoticed
    except BaseException:
        bound.close()
        raise
    return bound


def _clients(settings: Settings, files: int) -> Clients:
    """Limit the connections so that files are left: a process that can open none does nothing
    well, and uvloop stops listening for good. If files are few, the processor gets half."""
    reserved = SPARE_FILES + settings.database_connections
    for_processor = min(settings.processor_connections, max(0, files - reserved) // 2)
    return Clients(
        Limits(
            head_bytes=settings.max_head_bytes,
            upload_bytes=settings.batch_max_bytes + settings.batch_max_bytes // 4,
            longest_s={
                Phase.HEAD: settings.head_timeout_s,
                Phase.BODY: settings.body_timeout_s,
                Phase.ANSWERING: float("inf"),
                Phase.UNREAD: settings.answer_timeout_s,
                Phase.IDLE: KEEP_ALIVE_S,
                Phase.LINGERING: LINGER_S,
            },
        ),
        at_most=max(1, min(settings.max_connections, files - reserved - for_processor)),
        per_address=settings.max_connections_per_address,
        trusted=settings.trusted_proxies,
    )


def url_of(bound: socket.socket) -> str:
    """Return `http://127.0.0.1:8000`, with brackets around IPv6."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    settings: Settings, bound: socket.socket, *, shared: bool = False, log_level: str = "info"
) -> None:
    """Run the gateway on a bound socket until a signal. Raises SystemExit if it cannot start.

    `shared`: other processes accept on this socket too, and continue when this one stops.
    """
    from easypay.server.app import build_app

    clients = _clients(settings, allow_files())
    logs.configure(log_level.upper())
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    gateway: Gateway = build_app(settings)
    config = uvicorn.Config(
        gateway,
        loop="uvloop",
        http=partial(HttpProtocol, clients=clients, repeats=gateway.repeats),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    # Typed as whole seconds; any number works.
    config.timeout_graceful_shutdown = settings.shutdown_grace_s  # type: ignore[assignment]

    async def run() -> None:
        server = Server(config, gateway, drain_s=settings.drain_s, shared=shared)
        connections: Any = server.server_state.connections
        gateway.open_connections = lambda: len(connections)
        gateway.turned_away = clients.turned_away
        sweep = kept_running("the sweep of connections", lambda: clients.sweep(lambda: connections))
        sweeping = asyncio.create_task(sweep)
        await server.serve(sockets=[bound])
        sweeping.cancel()

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(run())
