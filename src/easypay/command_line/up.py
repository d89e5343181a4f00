"""`easypay up`: start a whole stack, and stop it on Ctrl-C.

Order of start: ports, simulator, shared cache and database, schema, demo merchant, gateways, a
worker. Order of stop: gateways and worker drain, then the simulator, the shared cache and the
database. If this process is killed, the kernel ends its children (Linux), and the next start ends
those that are left.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import asyncpg
import msgspec
from pydantic import SecretStr, ValidationError
from rich.console import Console
from rich.table import Table

from easypay.cache import embedded as embedded_cache
from easypay.command_line import child_processes, demo_merchant
from easypay.command_line.child_processes import Child
from easypay.command_line.data_dir import (
    DataDirectory,
    DataDirectoryError,
    Environment,
    what_is_wrong,
)
from easypay.db import embedded
from easypay.db.embedded import Cluster
from easypay.db.migrate import migrate
from easypay.db.postgres_binaries import ClusterError
from easypay.errors import EasyPayError, ProcessorUnavailable, ValidationFailed
from easypay.merchants import credential_check
from easypay.mode import Mode
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from easypay.server.serve import listen, url_of
from easypay.settings import SANDBOX_URL, Settings

SIMULATOR_LOGIN: Final = "easypay-sim"
SIMULATOR_KEY: Final = "sim-secret-key-1"
READY_WITHIN_S: Final = 60.0
# A shop that is being written runs on this machine, and so does `easypay listen`. Whoever lets the
# simulator settle does not wait an hour for the books.
_USUAL: Final = {"EASYPAY_WEBHOOK_PRIVATE_NETWORKS": "127.0.0.0/8,::1/128"}
_WITH_SIMULATOR: Final = {"EASYPAY_RECONCILE_EVERY_S": "10"}
_ACCOUNT: Final = ("EASYPAY_AUTHORIZE_NET_LOGIN_ID", "EASYPAY_AUTHORIZE_NET_TRANSACTION_KEY")
_CHECK_DATABASE_EVERY_S: Final = 0.25
_LONGEST_SOCKET_PATH: Final = 100
"""Bytes. Systems allow 103 to 107."""
_CARD: Final = (
    '{"amount":2500,"currency":"USD","payment_method":{"type":"card","card":'
    '{"number":"4111111111111111","exp_month":12,"exp_year":2030,"cvc":"900"}}}'
)


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    data_dir: Path
    host: str
    port: int
    simulator_port: int
    workers: int | None
    as_json: bool


class _Processor(NamedTuple):
    """Where test payments are sent, and as whom."""

    url: str
    login_id: str
    transaction_key: str
    simulator_url: str | None = None
    """None: it is the sandbox."""


class StartError(Exception):
    """Why the stack cannot start, in one line."""


async def run(options: Options) -> int:
    """Start everything, run until a signal, stop everything. Returns the exit status."""
    stop_asked = asyncio.Event()
    stack = Stack(options)

    def on_signal() -> None:
        if stop_asked.is_set():
            stack.hurry()
        stop_asked.set()

    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(each, on_signal)
    starting = asyncio.create_task(stack.start())
    stopping = asyncio.create_task(stop_asked.wait())
    status = 0
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            await stopping
        stack.say("stopping: waiting for requests in flight")
    except (StartError, ClusterError, DataDirectoryError, EasyPayError) as error:
        print(f"easypay: {error}", file=sys.stderr)  # noqa: T201
        status = 1
    finally:
        starting.cancel()
        stopping.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await starting
        await stack.stop()
    return status


class Stack:
    """The running programs."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._environment = Environment()
        self._directory = DataDirectory(options.data_dir)
        self._console = Console(stderr=options.as_json, highlight=False)
        self._stopping = False
        self._patience_s = 30.0
        self._listener: socket.socket | None = None
        self._cluster: Cluster | None = None
        self._watch: asyncio.Task[None] | None = None
        self._simulator: Child | None = None
        self._cache: Child | None = None
        self._cache_url: str | None = None
        self._gateways: list[Child] = []
        self._worker: Child | None = None
        self._metrics_address = ""

    def say(self, line: str) -> None:
        """Print one line for the person at the terminal."""
        with suppress(OSError):  # the terminal may be gone; the stack continues
            self._console.print(f"easypay: {line}", markup=False, soft_wrap=True)

    async def start(self) -> None:
        """Start everything in order; return when the gateway is ready to take payments."""
        began = time.monotonic()
        options, environment = self._options, self._environment
        self._directory.open()
        child_processes.stop_leftovers(self._directory.children_path)
        self._listener = _listen("the gateway", options.host, options.port, "--port")
        self._listener.set_inheritable(True)
        api_url = url_of(self._listener)
        processor = await self._processor()
        saved = self._directory.secrets()
        encryption_key = _secret_text(environment.encryption_key) or saved["encryption_key"]
        admin_key = _secret_text(environment.admin_key) or saved["admin_key"]
        try:
            settings = Settings(
                database_url=environment.database_url or SecretStr(""),
                encryption_key=SecretStr(encryption_key),
            )
        except ValidationError as error:
            raise StartError(what_is_wrong(error)) from None
        self._metrics_address = settings.metrics_listen or _free_address()
        self._patience_s = settings.drain_s + settings.shutdown_grace_s + 10
        await self._start_cache()
        local_url, public_url = self._start_database(settings.database_connections)
        try:
            applied = await migrate(local_url)
            found = await demo_merchant.prepare(
                local_url,
                saved,
                encryption_key=encryption_key,
                login_id=processor.login_id,
                transaction_key=processor.transaction_key,
            )
        except (OSError, asyncpg.PostgresError, TimeoutError) as error:
            raise StartError(f"cannot use the database: {error or 'no answer'}") from None
        if found.items() - saved.items():
            self._directory.keep_secrets({**saved, **found})
        gateway_environment = {
            "EASYPAY_DATABASE_URL": local_url,
            "EASYPAY_ENCRYPTION_KEY": encryption_key,
            "EASYPAY_METRICS_DIR": str(self._directory.metrics_path()),
            "EASYPAY_METRICS_LISTEN": self._metrics_address,
            "EASYPAY_ADMIN_KEY": admin_key,
            "EASYPAY_AUTHORIZE_NET_TEST_URL": processor.url,
            **({"EASYPAY_CACHE_URL": self._cache_url} if self._cache_url else {}),
        }
        usual = _USUAL | (_WITH_SIMULATOR if processor.simulator_url else {})
        await self._start_gateways({**usual, **os.environ, **gateway_environment})
        await self._start_worker({**usual, **os.environ, **gateway_environment})
        if processor.simulator_url:
            await self._await_ready(self._simulator, f"{processor.simulator_url}/simulator/livez")
        await self._await_ready(self._gateways[0], f"{api_url}/readyz")
        reach = {
            "api_url": api_url,
            "api_key": found["demo_api_key"],
            "admin_key": admin_key,
            "simulator_url": processor.simulator_url,
            "database_url": public_url,
        }
        self._directory.write_demo(reach)
        self._print_summary(reach, applied, time.monotonic() - began)

    async def stop(self) -> None:
        """Stop gateways, simulator and database, one after the other. Safe at any point."""
        self._stopping = True
        if self._watch is not None:
            self._watch.cancel()
        if self._listener is not None:
            self._listener.close()
        drained = [*self._gateways, *([self._worker] if self._worker else [])]
        await asyncio.gather(*(child.stop(self._patience_s) for child in drained))
        if self._simulator is not None:
            await self._simulator.stop(5)
        if self._cache is not None:
            await self._cache.stop(5)
        if self._cluster is not None:
            self._cluster.stop()
        if self._listener is not None:
            self._directory.children_path.unlink(missing_ok=True)
        self._directory.close()

    def hurry(self) -> None:
        """Do not wait for requests in flight: a second signal came."""
        for child in (*self._gateways, self._worker):
            if child is not None:
                child.signal(signal.SIGTERM)

    async def _processor(self) -> _Processor:
        """Return the sandbox if the environment has an account there, else start the simulator.

        Raises StartError if the sandbox refuses the account.
        """
        environment = self._environment
        if environment.authorize_net_login_id or environment.authorize_net_transaction_key:
            login = environment.authorize_net_login_id or ""
            key = _secret_text(environment.authorize_net_transaction_key) or ""
            url = environment.authorize_net_test_url or SANDBOX_URL
            await self._check_account(url, login, key)
            return _Processor(url, login, key)
        simulator_url = await self._start_simulator()
        url = f"{simulator_url}/xml/v1/request.api"
        return _Processor(url, SIMULATOR_LOGIN, SIMULATOR_KEY, simulator_url)

    async def _check_account(self, url: str, login: str, key: str) -> None:
        """Raise StartError if a variable is missing, or the sandbox refuses the credentials."""
        for name, value in zip(_ACCOUNT, (login, key), strict=True):
            if not value:
                raise StartError(f"{name} is not set: the sandbox needs {' and '.join(_ACCOUNT)}")
        try:
            credentials = AUTHORIZE_NET.read_credentials(
                {"login_id": login, "transaction_key": key}
            )
            account = AUTHORIZE_NET.account(Mode.TEST, credentials, url)
            await credential_check.check_alone(AUTHORIZE_NET, account)
        except ValidationFailed as error:
            raise StartError(f"correct {' or '.join(_ACCOUNT)}: {error.detail}") from None
        except ProcessorUnavailable:
            self.say(f"{url} does not answer: payments fail until it does (is there a network?)")

    def _start_database(self, connections_each: int) -> tuple[str, str]:
        """Return the DSN for the gateways, and the DSN for everybody else."""
        if self._environment.database_url:
            url = self._environment.database_url.get_secret_value()
            return url, url
        connections = self._workers() * connections_each
        self._cluster = embedded.start(
            self._directory.path,
            settings={"max_connections": str(max(100, 2 * connections + 20))},
            log_path=self._directory.log_path("postgres"),
        )
        self._watch = asyncio.create_task(self._keep_database(self._cluster))
        return self._cluster.dsn, self._cluster.tcp_dsn

    async def _keep_database(self, cluster: Cluster) -> None:
        """Restart the server whenever it ends by itself."""
        delay_s = child_processes.FIRST_DELAY_S
        while not self._stopping:
            await asyncio.sleep(_CHECK_DATABASE_EVERY_S)
            if cluster.process.poll() is None:
                delay_s = child_processes.FIRST_DELAY_S
                continue
            self.say(f"the database ended: starting it again (log: {cluster.log_path})")
            try:
                cluster.restart()
            except ClusterError as error:
                self.say(str(error))
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, child_processes.LONGEST_DELAY_S)

    async def _start_cache(self) -> None:
        """Start the shared cache, unless the environment names one. EASYPAY_CACHE_URL may be empty:
        then there is none."""
        if "EASYPAY_CACHE_URL" in os.environ:
            return
        socket_path = self._directory.cache_socket
        program = embedded_cache.binary()
        if program is None:
            self.say("no shared cache: this machine has no valkey-server and no redis-server")
        elif len(str(socket_path)) > _LONGEST_SOCKET_PATH:
            self.say(f"no shared cache: the path {socket_path} is too long for a socket")
        else:
            command = embedded_cache.command(program, socket=socket_path)
            self._cache = self._child("cache", command, {**os.environ})
            await self._cache.start()
            self._cache_url = f"unix://{quote(str(socket_path))}"

    async def _start_simulator(self) -> str:
        options = self._options
        # The simulator binds by itself. This picks a port, or checks it for a clear error.
        with _listen("the simulator", "127.0.0.1", options.simulator_port, "--simulator-port") as s:
            port = s.getsockname()[1]
        program = [
            sys.executable, "-m", "authorizenet_simulator", "--host", "127.0.0.1", "--port",
            str(port), "--state-file", str(self._directory.path / "simulator.log"),
        ]  # fmt: skip
        self._simulator = self._child("simulator", program, {**os.environ})
        await self._simulator.start()
        return f"http://127.0.0.1:{port}"

    async def _start_gateways(self, environment: dict[str, str]) -> None:
        assert self._listener is not None
        descriptor = self._listener.fileno()
        program = [sys.executable, "-m", "easypay", "serve", "--fd", str(descriptor)]
        for number in range(1, self._workers() + 1):
            gateway = self._child(f"gateway-{number}", program, environment, inherit=[descriptor])
            self._gateways.append(gateway)
            await gateway.start()

    async def _start_worker(self, environment: dict[str, str]) -> None:
        program = [sys.executable, "-m", "easypay", "worker"]
        self._worker = self._child("worker-1", program, environment)
        await self._worker.start()

    def _child(
        self, name: str, program: list[str], environment: dict[str, str], **more: Any
    ) -> Child:
        return Child(
            name,
            program,
            log_path=self._directory.log_path(name),
            environment=environment,
            say=self.say,
            on_start=self._remember,
            **more,
        )

    def _remember(self) -> None:
        children = (self._simulator, self._cache, *self._gateways, self._worker)
        everyone = [child for child in children if child is not None]
        pids = [child.pid for child in everyone if child.pid is not None]
        child_processes.remember(self._directory.children_path, pids)

    def _workers(self) -> int:
        return self._options.workers or max(1, (os.cpu_count() or 1) // 2)

    async def _await_ready(self, child: Child | None, url: str) -> None:
        """Wait for a 200. Raises StartError if the child cannot get there."""
        assert child is not None
        give_up_at = time.monotonic() + READY_WITHIN_S
        while await _status(url) != 200:
            if child.restarts > 1 or time.monotonic() > give_up_at:
                raise StartError(f"{child.name} does not start: {child.last_words()}")
            await asyncio.sleep(0.02)

    def _print_summary(self, reach: dict[str, Any], applied: list[str], took_s: float) -> None:
        if self._options.as_json:
            print(msgspec.json.encode(reach).decode(), flush=True)  # noqa: T201
            return
        table = Table.grid(padding=(0, 2))
        rows = {
            "API": f"{reach['api_url']}/api/v1   (docs: {reach['api_url']}/docs)",
            "Test key": reach["api_key"],
            "Processor": reach["simulator_url"] or "the Authorize.Net sandbox",
            "Metrics": f"http://{self._metrics_address}/metrics",
            "Database": self._where_the_database_is(),
            "Cache": self._where_the_cache_is(),
            "Data, logs": str(self._directory.path),
        }
        for name, value in rows.items():
            table.add_row(f"[bold]{name}[/]", value)
        out: Callable[..., None] = partial(self._console.print, soft_wrap=True)
        out()
        out(f"[bold green]EasyPay is ready[/] after {took_s:.1f} s. Ctrl-C stops it.")
        if applied:
            out(f"Schema: applied {', '.join(applied)}.")
        out(table)
        out("\nTake a payment:\n")
        out(curl_line(reach["api_url"], reach["api_key"]), markup=False)
        out()
        sys.stdout.flush()

    def _where_the_cache_is(self) -> str:
        if self._cache_url:
            return self._cache_url.removeprefix("unix://")
        return "EASYPAY_CACHE_URL" if os.environ.get("EASYPAY_CACHE_URL") else "none shared"

    def _where_the_database_is(self) -> str:
        if self._cluster is None:
            return "EASYPAY_DATABASE_URL"
        note = f" ({self._cluster.note})" if self._cluster.note else ""
        return f"127.0.0.1:{self._cluster.port}, in {self._cluster.home}{note}"


def curl_line(api_url: str, api_key: str) -> str:
    """Return a shell command that takes a payment of $25.00, a new one each time."""
    return (
        f"curl -sS {api_url}/api/v1/payments -H 'Authorization: Bearer {api_key}'"
        " -H 'Content-Type: application/json'"
        ' -H "Idempotency-Key: demo-$(date +%s)-$RANDOM"'
        f" -d '{_CARD}'"
    )


def _secret_text(secret: Any) -> str | None:
    return None if secret is None else str(secret.get_secret_value())


def _listen(what: str, host: str, port: int, flag: str) -> socket.socket:
    try:
        return listen(host, port)
    except OSError as error:
        raise StartError(
            f"{what} cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()} "
            f"(choose another with {flag})"
        ) from None
    except OverflowError:
        raise StartError(f"{flag} must be a number from 0 to 65535") from None


def _free_address() -> str:
    """Return a loopback address with a free port."""
    with listen("127.0.0.1", 0) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


async def _status(url: str) -> int | None:
    """Return the status of a GET; None if nobody answers."""
    host, _, rest = url.removeprefix("http://").partition("/")
    name, _, port = host.rpartition(":")
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(name.strip("[]"), int(port))
            request = f"GET /{rest} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            line = await reader.readline()
            writer.close()
            return int(line.split()[1])
    except (OSError, IndexError, ValueError, TimeoutError):
        return None
