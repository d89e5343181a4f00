"""One seed's world: a database, gateways behind links that can fail, and time that is driven.

The clocks are the database's, the simulator's, each gateway's and the worker's. All are ahead of
the real time by the same amount, which only grows; those of the simulator and each gateway have an
error of their own.
"""

import asyncio
import math
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx

from faults.seeds.failover import Standby
from faults.seeds.links import Link
from faults.seeds.plan import Plan
from faults.seeds.servers import SERVER, Servers, at_port
from harness import ADMIN_KEY, ENCRYPTION_KEY, free_port, http_client, until, with_database
from harness.forks import Program, end_of, start_logged
from harness.processes import variables

DEADLINE_S: Final = 0.4
DAY_S: Final = 86_400
SETTINGS: Final = {
    "processor_deadline_s": str(DEADLINE_S),
    "processor_connect_timeout_s": "0.3",
    "drain_s": "0.05",
    "shutdown_grace_s": "2",
    "record_patience_s": "0.3",
    "groups_in_flight": "1",
    "database_pool_size": "2",
    "admin_key": ADMIN_KEY,
    "encryption_key": ENCRYPTION_KEY,
}
"""Calls have short real deadlines. Settings about age are as in production."""


async def _nothing() -> None:
    return None


def _set_clock(file: Path, ahead_ms: int) -> None:
    """Write a process's clock into its file, which the process has mapped."""
    if not file.exists():
        file.write_bytes(bytes(8))
    with file.open("r+b") as opened:
        opened.write(ahead_ms.to_bytes(8, "little", signed=True))


class Gate:
    """A gateway: its current process, its three links and its wrong clock."""

    def __init__(self, world: "World", number: int, skew_ms: int) -> None:
        self.number = number
        self.skew_ms = skew_ms
        self.program: Program | None = None
        self.suspended = False
        self.is_armed = False
        """It will die at a point of its next payment."""
        self._world = world
        self._port = free_port()
        self.log = world.folder / f"gateway-{number}.log"
        self._clock_file = world.folder / f"clock-{number}"
        cluster = world.servers.cluster
        self.database = Link(f"database of {number}", "127.0.0.1", cluster.port)
        self.clients = Link(f"clients of {number}", "127.0.0.1", self._port)
        self.exits: list[int] = []

    def link(self, which: str) -> Link:
        return {
            "database": self.database,
            "clients": self.clients,
            "processor": self._world.processor,
        }[which]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.clients.port}"

    @property
    def is_alive(self) -> bool:
        return self.program is not None and self.program.poll() is None

    def set_clock(self) -> None:
        _set_clock(self._clock_file, self._world.ahead_ms + self.skew_ms)

    @property
    def wire(self) -> str:
        """The processor's address, over its link."""
        simulator = self._world.servers.simulator
        return simulator.wire.replace(f":{simulator.port}/", f":{self._world.processor.port}/")

    async def start(self, **over: str) -> None:
        self.set_clock()
        wire = self.wire
        settings = SETTINGS | {
            "database_url": at_port(self._world.dsn, self.database.port),
            "authorize_net_test_url": wire,
            "authorize_net_live_url": wire,
            "clock_file": str(self._clock_file),
            # One polls often, so that time can be driven fast; both do the work.
            "resolver_poll_s": "0.3" if self.number else "0.05",
            **over,
        }
        self.is_armed = "failpoint" in over
        words = ["serve", "--host", "127.0.0.1", "--port", str(self._port)]
        environment = os.environ | variables(settings)
        self.program = start_logged(["easypay", *words], environment, self.log)

    async def ready(self) -> None:
        async def answers() -> bool:
            assert self.is_alive, f"gateway {self.number} ended: {self.logs()[-2000:]}"
            with suppress(httpx.TransportError):
                answer = await self._world.client.get(f"http://127.0.0.1:{self._port}/readyz")
                return answer.status_code == 200
            return False

        await until(answers, what=f"gateway {self.number} is ready")

    def logs(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def send(self, number: signal.Signals) -> None:
        if self.program is not None:
            self.program.send_signal(number)

    async def kill(self) -> None:
        """Send kill -9."""
        if self.program is not None:
            self.program.kill()
            await end_of(self.program)

    async def terminate(self) -> int | None:
        """Send SIGTERM; return the exit status, or None if it did not end within its grace."""
        if self.program is None or not self.is_alive:
            return 0
        self.send(signal.SIGTERM)
        try:
            status = await asyncio.wait_for(end_of(self.program), 12)
        except TimeoutError:
            await self.kill()
            return None
        self.exits.append(status)
        return status


class World:
    """Everything that chaos breaks and that shops talk to."""

    def __init__(self, servers: Servers, plan: Plan, folder: Path) -> None:
        self.servers = servers
        self.plan = plan
        self.folder = folder
        self.ahead_ms = 0
        self.right_clock = folder / "clock"
        """The clock file of a process whose clock is as the database's."""
        self.processor_skew_ms = plan.processor_skew_ms
        self.runs_lines = False
        """Whether a worker sends lines of a batch."""
        # One link for all: its URL is part of an account, so every process must use the same.
        self.processor = Link("processor", "127.0.0.1", servers.simulator.port)
        self.gates: list[Gate] = []
        # A new connection per request, because a stopping gateway waits a second for idle ones.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.client = http_client(timeout=2, limits=limits)
        self.story: list[str] = []
        self.standby: Standby | None = None
        self.wakes_workers: Callable[[], None] = lambda: None
        """Called when there may be work for a worker."""
        self.stops_workers: Callable[[], Awaitable[None]] = _nothing
        self.lost_window = (math.inf, -math.inf)
        """The monotonic times between which commits were lost with the primary."""
        self._begun = time.monotonic()
        self.settled_at: list[datetime] = []
        """Times of settlement, by the database's clock."""
        self._cutoff_s = plan.cutoff_s
        self._name = ""
        self._database: Any = None
        self._one_at_a_time = asyncio.Lock()
        self._busy_until = 0.0

    async def open(self) -> None:
        await self.servers.start_over()
        self._name = await self.servers.new_database()
        self.dsn = with_database(self.servers.cluster.tcp_dsn, self._name)
        self._database = await asyncpg.connect(self.dsn)
        if self.plan.has_failover:
            server = self.servers.cluster
            self.standby = await Standby(server, self.folder / "standby", SERVER).start()
        await self.advance_clocks(0)
        processor_breaks = any(self.plan.breaks_link(gate, "processor") for gate in (0, 1))
        await self.processor.start(direct=not processor_breaks)
        for number, skew_ms in enumerate(self.plan.gateway_skews_ms):
            gate = Gate(self, number, skew_ms)
            for which in ("database", "clients"):
                await gate.link(which).start(direct=not self.plan.breaks_link(number, which))
            self.gates.append(gate)
        await asyncio.gather(*(gate.start() for gate in self.gates))
        await asyncio.gather(*(gate.ready() for gate in self.gates))

    async def close(self) -> None:
        await self.stops_workers()
        for gate in self.gates:
            gate.send(signal.SIGCONT)
            await gate.kill()
        await asyncio.gather(*(link.stop() for link in self.links))
        await self.client.aclose()
        if self._database is not None:
            await self._database.close()
            if self.standby is not None:
                await self.standby.stop()
            await self.servers.drop_database(self._name)

    @property
    def processor_tells_the_time(self) -> bool:
        """Return whether the processor's clock was nearly right all the time."""
        return max(map(abs, self._wrong("processor_skew", self.plan.processor_skew_ms))) <= 2_000

    @property
    def gateways_tell_the_time(self) -> bool:
        """Return whether every gateway's clock was nearly right all the time."""
        return max(map(abs, self._wrong("skew", *self.plan.gateway_skews_ms))) <= 2_000

    def _wrong(self, kind: str, *at_first: int) -> list[int]:
        breaks = [each for burst in self.plan.bursts for each in burst.breaks]
        return [*at_first, *(each.args["ms"] for each in breaks if each.kind == kind)]

    @property
    def links(self) -> list[Link]:
        each_has = [link for gate in self.gates for link in (gate.database, gate.clients)]
        return [*each_has, self.processor]

    def tell(self, what: str) -> None:
        """Add a line to the seed's story: driven time, real time, what happened."""
        real = time.monotonic() - self._begun
        self.story.append(f"{self.ahead_ms / 1000:10.1f} s  {real:6.2f} s  {what}")

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        """Query the database directly, past every link."""
        async with self._one_at_a_time:
            rows: list[Any] = await self._database.fetch(sql, *arguments)
        return rows

    async def lose_from_now(self) -> None:
        """Stop following the primary: what it commits from now on will be lost."""
        assert self.standby is not None
        self.lost_window = (time.monotonic(), math.inf)
        await self.standby.stop_following()

    async def fail_over(self) -> None:
        """Promote the standby, and lead every database link to it."""
        assert self.standby is not None
        self.lost_window = (self.lost_window[0], time.monotonic())
        for gate in self.gates:
            gate.database.refuse()
            gate.database.cut()
        await self.standby.promote()
        async with self._one_at_a_time:
            await self._database.close()
            self.dsn = with_database(self.standby.cluster.tcp_dsn, self._name)
            self._database = await asyncpg.connect(self.dsn)
        for gate in self.gates:
            gate.database.target = ("127.0.0.1", self.standby.cluster.port)
            gate.database.mend()

    # time ------------------------------------------------------------------------------------

    async def advance_clocks(self, by_s: float) -> None:
        """Move all clocks, each with its own error."""
        self.ahead_ms += round(by_s * 1000)
        await self.fetch("UPDATE seeds.clock SET ahead = $1", timedelta(milliseconds=self.ahead_ms))
        # Living gateways have left a sign each minute, also of the time that is skipped.
        await self.fetch("UPDATE configuration SET alive_at = db_now() WHERE copy IS NOT NULL")
        await self.set_processor_clock()
        _set_clock(self.right_clock, self.ahead_ms)
        for gate in self.gates:
            gate.set_clock()

    async def set_processor_clock(self) -> None:
        wrong = timedelta(milliseconds=self.ahead_ms + self.processor_skew_ms)
        await self.servers.simulator.post("/clock", now=(datetime.now(UTC) + wrong).isoformat())

    async def settle(self) -> None:
        """Settle at the processor: what has been captured goes into batches."""
        self.settled_at.append((await self.fetch("SELECT db_now()"))[0][0])
        await self.servers.simulator.post("/settle")

    def is_calling(self) -> None:
        """Note that a client has just sent a request. No time may be skipped while a call runs,
        because a call that ends by its deadline would seem to have taken longer."""
        self._busy_until = time.monotonic() + DEADLINE_S + 0.15

    async def no_call_runs(self) -> None:
        """Wait until no living process can be in a call."""
        while time.monotonic() < self._busy_until:
            rows = await self.fetch("SELECT 1 FROM operations WHERE state = 'in_flight' LIMIT 1")
            if not rows:
                return
            await asyncio.sleep(0.02)

    async def drive_to(self, at_s: float) -> None:
        """Advance to `at_s`, stopping whenever work is due, but at least `step_s` apart. This
        minimum grows by `growth` of the driven time, and after an hour by all of it."""
        step_s, growth = self.plan.step_s, self.plan.growth
        begun_s = self.ahead_ms / 1000
        await self.no_call_runs()
        while (left_s := at_s - self.ahead_ms / 1000) > 0.001:
            if self.runs_lines:
                self.is_calling()
                await self.no_call_runs()
            due_s = await self._next_due_s()
            driven_s = self.ahead_ms / 1000 - begun_s
            least_s = step_s + (growth if driven_s < 3600 else 1.0) * driven_s
            wanted_s = left_s if due_s is None else max(due_s + 0.1, least_s)
            to_cutoff_s = self._cutoff_s - self.ahead_ms / 1000
            await self.advance_clocks(min(left_s, wanted_s, to_cutoff_s))
            if to_cutoff_s <= min(left_s, wanted_s):
                self._cutoff_s += DAY_S
                await self.settle()
            if due_s is not None:
                await self.work_is_taken_up()

    async def _next_due_s(self) -> float | None:
        """Return the seconds until the resolver has work. Reviews, polled every five minutes for
        days, and authorizations, which expire after weeks, do not count: they are handled along
        with other work."""
        rows = await self.fetch(_NEXT_DUE)
        due: float | None = rows[0][0]
        return due

    async def work_is_taken_up(self, within_s: float = 0.4) -> None:
        """Wait until no due work is left that a process could take, and none is at work."""
        ends = time.monotonic() + within_s
        self.wakes_workers()
        while time.monotonic() < ends:
            await asyncio.sleep(0.015)
            due_s = await self._next_due_s()
            if (due_s is None or due_s > 0) and not (await self.fetch(_AT_IT))[0][0]:
                return

    async def is_idle(self) -> bool:
        """Return whether no operation is open or watched; reviews and authorizations may remain."""
        return not (await self.fetch(_OPEN))[0][0]


_NEXT_DUE: Final = """
    SELECT extract(epoch FROM min(at) - db_now())::float8 FROM (
        SELECT min(next_inquiry_at) AS at FROM unresolved_operations WHERE NOT held
        UNION ALL
        SELECT min(next_look_at) FROM watched_operations WHERE purpose <> 'expiry'
        UNION ALL
        SELECT min(begun_at) + interval '4 seconds' FROM operations WHERE state = 'in_flight'
        UNION ALL
        SELECT min(due_at) FROM vault_work WHERE parked_at IS NULL) due
"""
_AT_IT: Final = "SELECT count(*) FROM account_passes WHERE leased_until > db_now()"
_OPEN: Final = """
    SELECT (SELECT count(*) FROM unresolved_operations WHERE NOT held)
         + (SELECT count(*) FROM watched_operations WHERE purpose <> 'expiry')
         + (SELECT count(*) FROM operations WHERE state IN ('in_flight', 'unknown'))
         + (SELECT count(*) FROM vault_work)
"""
