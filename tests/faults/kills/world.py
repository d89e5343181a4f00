"""Where rounds happen: PostgreSQL, the simulator, two gateways, two workers, a merchant's server.

All processes are real and can be killed or stopped. They are forked from one that has loaded the
code (`harness.forks`), so that a new one is there at once. A world serves many rounds.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx

from easypay.clock import monotonic
from easypay.db import embedded
from easypay.db.embedded import Cluster
from easypay.db.postgres_binaries import ClusterError
from faults.kills.plan import MEMBERS
from harness import (
    ADMIN_KEY,
    ENCRYPTION_KEY,
    QUICK,
    SHARED,
    Simulator,
    Stack,
    connected,
    free_port,
    http_client,
    migrated,
    until,
)
from harness.forks import Fork, Program, end_of, start_logged
from harness.processes import variables
from webhooks.receiver import Receiver, receiving

SERVER: Final = {
    "fsync": "off",  # what a killed process has written, the kernel has
    "max_connections": "300",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "min_wal_size": "64MB",
}
_RUNS_S: Final = 4.0
"""How long a forked process may take until it runs."""
DEADLINE_S: Final = 0.6
ROUNDS_SETTINGS: Final = (
    QUICK
    | SHARED
    | {
        "processor_deadline_s": str(DEADLINE_S),
        "drain_s": "0.1",
        "shutdown_grace_s": "3",
        "record_patience_s": "1",
        "database_patience_s": "2",
    }
)
_ALWAYS: Final = {
    "admin_key": ADMIN_KEY,
    "encryption_key": ENCRYPTION_KEY,
    "webhook_private_networks": "127.0.0.0/8",
}
_STARTS_S: Final = 20.0


class Member:
    """A gateway or a worker: its present process, and how it is to end."""

    def __init__(self, world: "World", name: str) -> None:
        self.name = name
        self.lock = asyncio.Lock()
        """Whoever kills or stops it holds this until it runs again."""
        self.armed: str | None = None
        """The point at which it is to die or stop."""
        self.program: Program | None = None
        self.unexpected: list[str] = []
        """Ends that nothing of the plan explains."""
        self._world = world
        self._port = free_port()
        self._log = world.folder / f"{name}.log"
        self._read_from = 0
        self._launches = 0
        self.notes: list[str] = []
        """What happened to the tool's own fork, for the story."""
        self._ends: list[int] = []
        """How its starts ended that did not succeed."""

    @property
    def is_gateway(self) -> bool:
        return self.name.startswith("gateway")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def is_alive(self) -> bool:
        return self.program is not None and self.program.poll() is None

    @property
    def is_stopped(self) -> bool:
        """Whether the process is stopped by a signal."""
        if self.program is None:
            return False
        with suppress(OSError):
            stat = Path(f"/proc/{self.program.pid}/stat").read_text()
            return stat.rpartition(")")[2].split()[0] == "T"
        return False

    async def start(self, failpoint: str | None = None) -> None:
        """Start it and wait until it works. While PostgreSQL is away it cannot, so it is started
        again, as a supervisor would."""
        ends = monotonic() + _STARTS_S
        while not await self._started(failpoint, ends):
            assert monotonic() < ends, f"{self.name} does not start: {await self._abort()}"
            await asyncio.sleep(0.1)

    async def _abort(self) -> str:
        """Let it write down where it is, and end it. Return its log and how its starts ended."""
        self.send(signal.SIGABRT)
        status = await asyncio.wait_for(self._end(), 5)
        return f"{self._ends} {status} {self.logs()[-3000:]}"

    async def _started(self, failpoint: str | None, ends: float) -> bool:
        await self._launch(failpoint)
        runs_by = monotonic() + _RUNS_S
        while isinstance(self.program, Fork) and self.is_alive and not self.program.runs:
            if monotonic() > runs_by:
                where = Path(f"/proc/{self.program.pid}/wchan").read_text()
                self.notes.append(f"{self.name} was forked and did not run ({where}); killed")
                await self.kill()
                return False
            await asyncio.sleep(0.01)
        return await self._works(ends)

    async def _launch(self, failpoint: str | None) -> None:
        self.armed = failpoint
        simulator = self._world.simulator
        settings = _ALWAYS | {
            "database_url": self._world.cluster.tcp_dsn,
            "authorize_net_test_url": simulator.wire,
            "authorize_net_live_url": simulator.wire,
            **self._world.settings,
            **({"failpoint": failpoint} if failpoint else {}),
        }
        self._launches = self._whole_log().count("working on")
        serve = ["serve", "--host", "127.0.0.1", "--port", str(self._port)]
        program = ["easypay", *(serve if self.is_gateway else ["worker"])]
        self.program = start_logged(program, os.environ | variables(settings), self._log)

    async def _end(self) -> int:
        assert self.program is not None
        return await end_of(self.program)

    async def _works(self, ends: float) -> bool:
        """Wait until it works; False if it ends before. If it is to die at a point, it may do so at
        once: that counts as working."""
        while monotonic() < ends:
            if self.is_gateway:
                with suppress(httpx.TransportError):
                    answer = await self._world.client.get(f"{self.url}/readyz")
                    if answer.status_code == 200:
                        return True
            elif self._whole_log().count("working on") > self._launches:
                return True
            if not self.is_alive:
                status = await self._end()
                self._ends.append(status)
                return self.armed is not None and status == -signal.SIGKILL
            await asyncio.sleep(0.02)
        return False

    def send(self, number: signal.Signals) -> None:
        if self.program is not None:
            self.program.send_signal(number)

    async def kill(self) -> None:
        """Send kill -9, and wait for the end."""
        if self.program is not None:
            self.send(signal.SIGKILL)
            await self._end()

    async def terminate(self) -> None:
        """Send SIGTERM: it must end by itself, with status 0."""
        if self.program is None or not self.is_alive:
            return
        self.send(signal.SIGTERM)
        try:
            status = await asyncio.wait_for(self._end(), 15)
        except TimeoutError:
            self.unexpected.append(f"{self.name} did not end within 15 s of its SIGTERM")
            await self.kill()
            return
        if status != 0 and not (self.armed and status == -signal.SIGKILL):
            self.unexpected.append(f"{self.name} ended its SIGTERM with {status}")

    async def alive_again(self) -> None:
        """Let it run as it is to run: it goes on if it was stopped, and is started if it died or is
        still to die."""
        async with self.lock:
            self.send(signal.SIGCONT)
            if self.armed is not None:
                await self.kill()
            elif not self.is_alive and self.program is not None:
                status = await self._end()
                if status != -signal.SIGKILL:
                    self.unexpected.append(f"{self.name} ended by itself with {status}")
            if not self.is_alive:
                await self.start()

    def mark(self) -> None:
        """Let `logs` begin here."""
        self._read_from = len(self._whole_log())
        self.unexpected.clear()
        self._ends.clear()
        self.notes.clear()

    def logs(self) -> str:
        """Return what it has logged since the mark."""
        return self._whole_log()[self._read_from :]

    def _whole_log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""


class Postgres:
    """The server, which can be killed and started again. Everything that starts it runs in one
    thread, because it ends with the thread that started it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="postgres")
        self._lock = asyncio.Lock()

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def start(self) -> Cluster:
        self.cluster: Cluster = await self._in_thread(
            lambda: embedded.start(self._folder, settings=SERVER)
        )
        return self.cluster

    async def stop(self) -> None:
        await self._in_thread(self.cluster.stop)
        self._thread.shutdown()

    async def kill_session(self) -> None:
        """Kill -9 the process of one session of ours. The server then ends all sessions and
        recovers, as after a crash."""
        async with self._lock, connected(self.cluster.tcp_dsn) as connection:
            pid = await connection.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'easypay%'"
                " ORDER BY state = 'active' DESC, random() LIMIT 1"
            )
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    async def kill_server(self, down_s: float) -> None:
        """Kill -9 the server with all its processes; start it again after `down_s`."""
        async with self._lock:
            process = self.cluster.process
            for pid in (process.pid, *_children(process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await self._start_again(down_s)

    async def stop_immediately(self, down_s: float) -> None:
        """Let it end without a checkpoint; start it again after `down_s`."""
        async with self._lock:
            self.cluster.process.send_signal(signal.SIGQUIT)
            await self._start_again(down_s)

    async def _start_again(self, down_s: float) -> None:
        await asyncio.to_thread(self.cluster.process.wait)
        await asyncio.sleep(down_s)
        port, ends = self.cluster.port, monotonic() + _STARTS_S
        while True:
            try:
                await self._in_thread(self.cluster.restart)
                break
            except ClusterError:
                assert monotonic() < ends, "PostgreSQL does not start again"
                await asyncio.sleep(0.1)
        assert self.cluster.port == port, "its port was taken meanwhile"


def _children(parent: int) -> list[int]:
    """Return the processes that this one started."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            stat = (entry / "stat").read_text()
            if int(stat.rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
    return found


class World:
    """Everything of which a round needs one."""

    def __init__(
        self,
        postgres: Postgres,
        simulator: Simulator,
        receiver: Receiver,
        folder: Path,
        settings: dict[str, str],
    ) -> None:
        self.settings = settings
        """Of gateways and workers, beside what all need."""
        self.postgres = postgres
        self.simulator = simulator
        self.receiver = receiver
        self.folder = folder
        self.client = http_client(timeout=2)
        self.stack = Stack(self.cluster.tcp_dsn, simulator, folder)
        self.members: dict[str, Member] = {}

    @property
    def cluster(self) -> Cluster:
        return self.postgres.cluster

    @property
    def gateways(self) -> list[Member]:
        return [each for each in self.members.values() if each.is_gateway]

    def member(self, name: str) -> Member:
        """Return a new gateway or worker, which is not started yet."""
        self.members[name] = Member(self, name)
        return self.members[name]

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        """Run a query; while PostgreSQL is away, again and again."""
        found: list[list[Any]] = []

        async def fetched() -> bool:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                found.append(await self.stack.fetch(sql, *arguments))
            return bool(found)

        await until(fetched, what="PostgreSQL answers")
        return found[0]

    async def leases_end(self) -> None:
        """Let every claim and every pass over an account's lists end now, as if its lease had
        passed."""
        for table in ("queued_operations", "webhook_deliveries"):
            await self.fetch(
                f"UPDATE {table} SET due_at = db_now()"
                " WHERE due_at > db_now() AND parked_at IS NULL"
            )
        await self.fetch(
            "UPDATE account_passes SET leased_until = db_now() WHERE leased_until > db_now()"
        )

    async def all_alive(self) -> None:
        """End everything that is broken: all processes run, and nothing is set to fail."""
        await self.simulator.clear_faults()
        self.receiver.answer = lambda _: 204
        await asyncio.gather(*(each.alive_again() for each in self.members.values()))

    async def close(self) -> None:
        for each in self.members.values():
            each.send(signal.SIGCONT)
            await each.kill()
        await self.client.aclose()


@asynccontextmanager
async def running_world(folder: Path, settings: dict[str, str]) -> AsyncIterator[World]:
    """Yield a world with two gateways and two workers; all ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    postgres, simulator = Postgres(folder / "postgres"), Simulator(folder)
    cluster = await postgres.start()
    try:
        await asyncio.gather(simulator.ready(), _prepared(cluster))
        await simulator.post("/settings", auto_settle=False)  # the round decides when
        async with receiving() as receiver:
            world = World(postgres, simulator, receiver, folder, settings)
            try:
                made = [world.member(name) for name in MEMBERS]
                await asyncio.gather(*(each.start() for each in made))
                yield world
            finally:
                await world.close()
    finally:
        await simulator.client.aclose()
        simulator.kill()
        await postgres.stop()


async def _prepared(cluster: Cluster) -> None:
    """Create the schema, and let sessions begin cheaply."""
    async with connected(cluster.tcp_dsn) as connection:
        await connection.execute("SET scram_iterations = 1")
        await connection.execute(f"ALTER USER {embedded.USER} PASSWORD '{cluster.password}'")
    await migrated(cluster.tcp_dsn)
