"""The programs that a test starts, each as a process that logs to a file."""

import itertools
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx

from easypay.merchants.vault import new_encryption_key
from harness.forks import start_logged
from harness.http import http_client
from harness.waiting import until
from recorded.player import Player

ADMIN_KEY = "ep_admin_for_tests_only"
ENCRYPTION_KEY = new_encryption_key()
QUICK = {
    # The resolver's schedule, fast enough for tests.
    "unknown_first_inquiry_s": "0.2",
    "unknown_interval_s": "0.2",
    "unknown_pass_gap_s": "0.3",
    "unknown_absent_after_s": "1.5",
    "not_sent_ends_after_s": "1.5",
    "review_interval_s": "0.3",
    "resolver_poll_s": "0.2",
    "queue_poll_s": "0.05",
    "processor_deadline_s": "1.0",
    "drain_s": "0.3",
    # Half as many sessions: a gateway then starts with a quarter less CPU.
    "groups_in_flight": "1",
}
SHARED = {"groups_in_flight": "2"}
"""As usual, for gateways that many tests share and for those under load."""
QUICKER = QUICK | {
    "unknown_first_inquiry_s": "0.1",
    "unknown_interval_s": "0.1",
    "unknown_pass_gap_s": "0.1",
    "unknown_absent_after_s": "0.2",
    "not_sent_ends_after_s": "1.1",
    "review_interval_s": "0.1",
    "resolver_poll_s": "0.1",
}


_ports = itertools.cycle(random.sample(range(16_000, 32_000), 16_000))


def free_port() -> int:
    """Return a free port, a different one at each call. It is below the range that systems give to
    clients, so no connection takes it before its server does."""
    for port in _ports:
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("cycle() never ends")


def variables(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that give a gateway or a worker these settings."""
    return {f"EASYPAY_{name.upper()}": value for name, value in settings.items()}


class Process:
    """A child process that logs to a file."""

    def __init__(
        self, arguments: list[str], env: dict[str, str], log: Path, *, pass_fds: Sequence[int] = ()
    ) -> None:
        self.log = log
        self._arguments = arguments
        self._env = env
        self._pass_fds = pass_fds
        self.start()

    def start(self) -> None:
        """Start the program. After its end it may be started again."""
        environment = os.environ | self._env
        self.process = start_logged(self._arguments, environment, self.log, self._pass_fds)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    async def serves(self, url: str, *, within_s: float = 45) -> None:
        """Wait until a GET of the address returns 200."""
        async with http_client(timeout=5) as client:

            async def answers() -> bool:
                assert self.running, self.logs()
                try:
                    return (await client.get(url)).status_code == 200
                except httpx.TransportError:
                    return False

            await until(answers, within_s=within_s, what=f"{url} answers")

    async def logged(self, text: str, *, within_s: float = 45) -> None:
        """Wait until the log has this text."""

        async def is_there() -> bool:
            assert self.running, self.logs()
            return text in self.logs()

        await until(is_there, within_s=within_s, what=f"the log has {text!r}")

    def logs(self) -> str:
        """Return the whole log."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """Send SIGKILL and reap the process."""
        if self.running:
            self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """Send SIGTERM, wait, and return the exit code."""
        if self.running:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class Control:
    """The simulator's control API. Create and use it in the same event loop."""

    def __init__(self, url: str) -> None:
        self.client = http_client(base_url=f"{url}/simulator", timeout=30)

    async def truth(self, **filters: str) -> list[dict[str, Any]]:
        """Return the truth table's rows, oldest first."""
        answer = await self.client.get("/transactions", params=filters)
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()
        return rows

    async def profiles(self, login: str) -> list[dict[str, Any]]:
        """Return the account's customer profiles with their payment methods, oldest first."""
        answer = await self.client.get("/profiles", params={"login": login})
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()
        return rows

    async def post(self, path: str, **body: Any) -> Any:
        answer = await self.client.post(path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def fault(self, kind: str, login: str, **fields: Any) -> None:
        """Make the account's next matching call meet a fault."""
        await self.post("/faults", **{"kind": kind, "login": login, "count": 1, **fields})

    async def all_faults_met(self, login: str) -> None:
        """Wait until every fault that is counted for this account has met its call."""

        async def are_met() -> bool:
            faults = (await self.client.get("/faults")).raise_for_status().json()
            return not [each for each in faults if each.get("login") == login and "count" in each]

        await until(are_met, what="the account's faults have met their calls")

    async def slow(self, login: str, *, ms: int) -> None:
        """Delay every call of this account by `ms`."""
        await self.post("/faults", kind="latency", distribution="constant", ms=ms, login=login)

    async def clear_faults(self) -> None:
        (await self.client.delete("/faults")).raise_for_status()


class Simulator(Process, Control):
    """A simulator process and its control API."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.wire = f"{self.url}/xml/v1/request.api"
        Control.__init__(self, self.url)
        Process.__init__(
            self,
            [
                "authorizenet_simulator",
                "--port",
                str(self.port),
                "--state-file",
                str(folder / "simulator.log"),
            ],
            {},
            folder / "simulator.out",
        )

    async def ready(self) -> "Simulator":
        await self.serves(f"{self.url}/simulator/livez")
        return self


@asynccontextmanager
async def simulating(folder: Path) -> AsyncIterator[Simulator]:
    """Run a simulator with its files in `folder`, for the length of the block."""
    running = Simulator(folder)
    try:
        yield await running.ready()
    finally:
        await running.client.aclose()
        running.kill()


_workers = itertools.count(1)


class Worker(Process):
    """One worker process."""

    def __init__(self, folder: Path, dsn: str, simulator: Simulator | Player, **over: str) -> None:
        settings = {
            "database_url": dsn,
            "encryption_key": ENCRYPTION_KEY,
            "authorize_net_test_url": simulator.wire,
            "authorize_net_live_url": simulator.wire,
            **over,
        }
        super().__init__(
            ["easypay", "worker"],
            variables(settings),
            folder / f"worker-{next(_workers)}.log",
        )


class Gateway(Process):
    """One gateway process."""

    def __init__(
        self,
        folder: Path,
        dsn: str,
        simulator: Simulator | Player,
        *,
        port: int | None = None,
        bound: socket.socket | None = None,
        **over: str,
    ) -> None:
        """`bound`: a listening socket to serve, which other gateways may serve too."""
        self.port = port or (bound.getsockname()[1] if bound else free_port())
        fds = [bound.fileno()] if bound else []
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {
            "database_url": dsn,
            "encryption_key": ENCRYPTION_KEY,
            "admin_key": ADMIN_KEY,
            "authorize_net_test_url": simulator.wire,
            "authorize_net_live_url": simulator.wire,
            **over,
        }
        super().__init__(
            ["easypay", "serve", *(["--fd", str(fds[0])] if fds else address)],
            variables(settings),
            folder / f"gateway-{self.port}.log",
            pass_fds=fds,
        )

    async def ready(self) -> "Gateway":
        await self.serves(f"{self.url}/readyz")
        return self

    def wait(self, *, within_s: float = 45) -> None:
        """Wait until it is ready, without an event loop."""
        ends = time.monotonic() + within_s
        while True:
            assert self.running, self.logs()
            with suppress(OSError), urlopen(f"{self.url}/readyz", timeout=5):
                return
            assert time.monotonic() < ends, self.logs()
            time.sleep(0.02)
