"""One seed's world: a database, gateways behind links that can go bad, and time that is driven.

There are four kinds of clock: the database's, the simulator's, and each gateway's wall clock. All
are ahead of the real time by the same amount, which only grows, and each gateway's and the
simulator's is wrong by an error of its own.
"""

import asyncio
import math
import os
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx

from faults.seeds.failover import Standby
from faults.seeds.ground import SERVER, Ground, at_port
from faults.seeds.links import Link
from faults.seeds.plan import Plan
from harness import ADMIN_KEY, ENCRYPTION_KEY, free_port, until, with_database

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
"""Real time is short where a call waits. All that is about age is as in production."""


class Gate:
    """A gateway: the process there is just now, its three links, and its wrong clock."""

    def __init__(self, world: "World", number: int, skew_ms: int) -> None:
        self.number = number
        self.skew_ms = skew_ms
        self.pid: int | None = None
        self.suspended = False
        self.is_armed = False
        """It dies at a point of its next payment."""
        self._world = world
        self._port = free_port()
        self.log = world.folder / f"gateway-{number}.log"
        self._clock_file = world.folder / f"clock-{number}"
        cluster = world.ground.cluster
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
        return self.pid is not None and self._world.ground.nursery.is_alive(self.pid)

    def set_clock(self) -> None:
        wrong = self._world.ahead_ms + self.skew_ms
        if not self._clock_file.exists():
            self._clock_file.write_bytes(bytes(8))
        with self._clock_file.open("r+b") as file:
            file.write(wrong.to_bytes(8, "little", signed=True))

    async def start(self, **over: str) -> None:
        self.set_clock()
        simulator = self._world.ground.simulator
        wire = simulator.wire.replace(f":{simulator.port}/", f":{self._world.processor.port}/")
        settings = SETTINGS | {
            "database_url": at_port(self._world.dsn, self.database.port),
            "authorize_net_test_url": wire,
            "authorize_net_live_url": wire,
            "clock_file": str(self._clock_file),
            # One looks often, so that time can be driven fast; both do the work.
            "resolver_poll_s": "0.3" if self.number else "0.05",
            **over,
        }
        self.is_armed = "failpoint" in over
        self.pid = await self._world.ground.nursery.fork(settings, self._port, self.log)

    async def ready(self) -> None:
        async def answers() -> bool:
            assert self.is_alive, f"gateway {self.number} ended: {self.said()[-2000:]}"
            with suppress(httpx.TransportError):
                answer = await self._world.client.get(f"http://127.0.0.1:{self._port}/readyz")
                return answer.status_code == 200
            return False

        await until(answers, within_s=20, what=f"gateway {self.number} is ready")

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def send(self, number: signal.Signals) -> None:
        if self.is_alive:
            assert self.pid is not None
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def kill(self) -> None:
        """kill -9."""
        if self.pid is not None and self.is_alive:
            self.send(signal.SIGKILL)
            await self._world.ground.nursery.end_of(self.pid)

    async def terminate(self) -> int | None:
        """SIGTERM, and its exit status; None where it did not end within its grace."""
        if self.pid is None or not self.is_alive:
            return 0
        self.send(signal.SIGTERM)
        try:
            status = await asyncio.wait_for(self._world.ground.nursery.end_of(self.pid), 12)
        except TimeoutError:
            await self.kill()
            return None
        self.exits.append(status)
        return status


class World:
    """What chaos breaks and shops talk to."""

    def __init__(self, ground: Ground, plan: Plan, folder: Path) -> None:
        self.ground = ground
        self.plan = plan
        self.folder = folder
        self.ahead_ms = 0
        self.processor_skew_ms = plan.processor_skew_ms
        # One for all: the URL is a part of what an account is, so every process must have the same.
        self.processor = Link("processor", "127.0.0.1", ground.simulator.port)
        self.gates: list[Gate] = []
        # A connection for each request: a gateway that ends waits a second for idle ones.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.AsyncClient(timeout=2, trust_env=False, limits=limits)
        self.story: list[str] = []
        self.standby: Standby | None = None
        self.lost_window = (math.inf, -math.inf)
        """Between which monotonic moments what was committed was lost with the primary."""
        self._begun = time.monotonic()
        self.settled_at: list[datetime] = []
        """By the database's clock."""
        self._cutoff_s = plan.cutoff_s
        self._name = ""
        self._database: Any = None
        self._one_at_a_time = asyncio.Lock()
        self._busy_until = 0.0

    async def open(self) -> None:
        await self.ground.start_over()
        self._name = await self.ground.new_database()
        self.dsn = with_database(self.ground.cluster.tcp_dsn, self._name)
        self._database = await asyncpg.connect(self.dsn)
        if self.plan.has_failover:
            server = self.ground.cluster
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
        for gate in self.gates:
            gate.send(signal.SIGCONT)
            await gate.kill()
        await asyncio.gather(*(link.stop() for link in self.links))
        await self.client.aclose()
        if self._database is not None:
            await self._database.close()
            if self.standby is not None:
                await self.standby.stop()
            await self.ground.drop_database(self._name)

    @property
    def processor_tells_the_time(self) -> bool:
        """Its clock was about right all the time."""
        return max(map(abs, self._wrong("processor_skew", self.plan.processor_skew_ms))) <= 2_000

    @property
    def gateways_tell_the_time(self) -> bool:
        """Every gateway's was."""
        return max(map(abs, self._wrong("skew", *self.plan.gateway_skews_ms))) <= 2_000

    def _wrong(self, kind: str, *at_first: int) -> list[int]:
        breaks = [each for burst in self.plan.bursts for each in burst.breaks]
        return [*at_first, *(each.args["ms"] for each in breaks if each.kind == kind)]

    @property
    def links(self) -> list[Link]:
        each_has = [link for gate in self.gates for link in (gate.database, gate.clients)]
        return [*each_has, self.processor]

    def tell(self, what: str) -> None:
        """A line of the seed's story: driven time, real time, what happened."""
        real = time.monotonic() - self._begun
        self.story.append(f"{self.ahead_ms / 1000:10.1f} s  {real:6.2f} s  {what}")

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        """Ask the database itself, past every link."""
        async with self._one_at_a_time:
            rows: list[Any] = await self._database.fetch(sql, *arguments)
        return rows

    async def lose_from_now(self) -> None:
        """Nobody follows the primary any more; what it commits will be lost."""
        assert self.standby is not None
        self.lost_window = (time.monotonic(), math.inf)
        await self.standby.hears_no_more()

    async def fail_over(self) -> None:
        """The standby takes over; every link to the database leads to it."""
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
        """All clocks at once, each with its error."""
        self.ahead_ms += round(by_s * 1000)
        await self.fetch("UPDATE seeds.clock SET ahead = $1", timedelta(milliseconds=self.ahead_ms))
        await self.set_processor_clock()
        for gate in self.gates:
            gate.set_clock()

    async def set_processor_clock(self) -> None:
        wrong = timedelta(milliseconds=self.ahead_ms + self.processor_skew_ms)
        await self.ground.simulator.post("/clock", now=(datetime.now(UTC) + wrong).isoformat())

    async def settle(self) -> None:
        """The processor's cut-off: batches are made of what has been captured."""
        self.settled_at.append((await self.fetch("SELECT db_now()"))[0][0])
        await self.ground.simulator.post("/settle")

    def is_calling(self) -> None:
        """A client has just asked: for the length of a call no time may be skipped, for a call
        that ends by its deadline would seem to have taken longer."""
        self._busy_until = time.monotonic() + DEADLINE_S + 0.15

    async def no_call_runs(self) -> None:
        """Wait until no living process can be in a call."""
        while time.monotonic() < self._busy_until:
            rows = await self.fetch("SELECT 1 FROM operations WHERE state = 'in_flight' LIMIT 1")
            if not rows:
                return
            await asyncio.sleep(0.02)

    async def drive_to(self, at_s: float) -> None:
        """Advance to a moment, stopping wherever work falls due, but not more often than every
        `step_s` of the plan, which grows by `growth` of what was driven, after an hour by all."""
        step_s, growth = self.plan.step_s, self.plan.growth
        begun_s = self.ahead_ms / 1000
        await self.no_call_runs()
        while (left_s := at_s - self.ahead_ms / 1000) > 0.001:
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
        """When the resolver has something to do, in seconds from now. Reviews, which it asks about
        every five minutes for days, and authorizations, which expire after weeks, are no reason
        to stop; they are seen when there is another."""
        rows = await self.fetch(_NEXT_DUE)
        due: float | None = rows[0][0]
        return due

    async def work_is_taken_up(self, within_s: float = 0.4) -> None:
        """Wait until nothing is due that somebody could take up, and nobody is at it."""
        ends = time.monotonic() + within_s
        while time.monotonic() < ends:
            await asyncio.sleep(0.015)
            due_s = await self._next_due_s()
            if (due_s is None or due_s > 0) and not (await self.fetch(_AT_IT))[0][0]:
                return

    async def is_idle(self) -> bool:
        """Nothing is open, and nothing is watched any more; reviews may wait for ever."""
        return not (await self.fetch(_OPEN))[0][0]


_NEXT_DUE: Final = """
    SELECT extract(epoch FROM min(at) - db_now())::float8 FROM (
        SELECT min(next_inquiry_at) AS at FROM unresolved_operations WHERE NOT held
        UNION ALL
        SELECT min(next_look_at) FROM watched_operations WHERE purpose <> 'expiry'
        UNION ALL
        SELECT min(begun_at) + interval '4 seconds' FROM operations WHERE state = 'in_flight') due
"""
_AT_IT: Final = "SELECT count(*) FROM account_passes WHERE leased_until > db_now()"
_OPEN: Final = """
    SELECT (SELECT count(*) FROM unresolved_operations WHERE NOT held)
         + (SELECT count(*) FROM watched_operations WHERE purpose <> 'expiry')
         + (SELECT count(*) FROM operations WHERE state IN ('in_flight', 'unknown'))
"""
