"""What breaks: one function for each kind of happening that no shop causes."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg

from faults.seeds.plan import Happening
from faults.seeds.shops import Shops
from faults.seeds.world import DEADLINE_S, World

Breaks = Callable[[World, Shops, Happening], Awaitable[None]]


async def _fault(world: World, shops: Shops, what: Happening) -> None:
    await world.servers.simulator.post("/faults", **what.args)


async def _kill(world: World, shops: Shops, what: Happening) -> None:
    await asyncio.sleep(what.args["after_s"])
    await world.gates[what.args["gate"]].kill()


async def _die_at(world: World, shops: Shops, what: Happening) -> None:
    """Make the gateway send itself kill -9 at an exact point of its next payment."""
    gate = world.gates[what.args["gate"]]
    await gate.kill()
    await gate.start(failpoint=what.args["point"])
    await gate.ready()


async def _terminate(world: World, shops: Shops, what: Happening) -> None:
    await asyncio.sleep(what.args["after_s"])
    gate = world.gates[what.args["gate"]]
    status = await gate.terminate()
    if status != 0:
        shops.bugs.append(f"gateway {gate.number} ended its SIGTERM with {status}")


async def _suspend(world: World, shops: Shops, what: Happening) -> None:
    """Let the machine sleep in mid-call and wake up long after. Its monotonic clock stood still,
    but here it must have gone on for as long as a call may take."""
    await asyncio.sleep(0.01)
    gate = world.gates[what.args["gate"]]
    gate.send(signal.SIGSTOP)
    gate.suspended = True
    await asyncio.sleep(DEADLINE_S + 0.1)


async def wake(world: World, what: Happening) -> None:
    """End a suspension, once no other gateway is in a call."""
    gate = world.gates[what.args["gate"]]
    await world.advance_clocks(what.args["for_s"])
    await world.work_is_taken_up()
    gate.send(signal.SIGCONT)
    gate.suspended = False
    await asyncio.sleep(0.05)


async def _skew(world: World, shops: Shops, what: Happening) -> None:
    gate = world.gates[what.args["gate"]]
    gate.skew_ms = what.args["ms"]
    gate.set_clock()


async def _processor_skew(world: World, shops: Shops, what: Happening) -> None:
    world.processor_skew_ms = what.args["ms"]
    await world.set_processor_clock()


async def _link(world: World, shops: Shops, what: Happening) -> None:
    gate = world.gates[what.args["gate"]]
    link = gate.link(what.args["which"])
    await asyncio.sleep(what.args["after_s"])
    match what.args["how"]:
        case "silence":
            link.silence()
            await asyncio.sleep(what.args["for_s"])
            link.cut()  # the peer is gone, and data on its way is lost
        case "refuse":
            link.refuse()
            link.cut()
            await asyncio.sleep(what.args["for_s"])
        case "cut":
            link.cut()
        case "lose":
            link.lose_replies(1)
            await asyncio.sleep(what.args["for_s"])
            link.lose_replies(0)
    link.mend()


async def _lock(world: World, shops: Shops, what: Happening) -> None:
    """Hold row locks in another session."""
    connection = await asyncpg.connect(world.dsn)
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL statement_timeout = '2s'")
            await connection.fetch(f"SELECT 1 FROM {what.args['table']} LIMIT 200 FOR UPDATE")
            await asyncio.sleep(what.args["for_s"])
    except asyncpg.PostgresError as error:
        world.tell(f"the lock was not got: {type(error).__name__}")
    finally:
        await connection.close()


async def _account(world: World, shops: Shops, what: Happening) -> None:
    await asyncio.sleep(what.args["after_s"])
    connection = await asyncpg.connect(world.dsn)
    try:
        await shops.new_account(what.args["shop"], connection)
    finally:
        await connection.close()


async def _lag(world: World, shops: Shops, what: Happening) -> None:
    for login in (login for logins in shops.logins for login in logins):
        await world.servers.simulator.post(
            "/settings", login=login, reporting_lag_ms=what.args["ms"]
        )


async def _settle(world: World, shops: Shops, what: Happening) -> None:
    await asyncio.sleep(what.args.get("after_s", 0))
    await world.settle()


async def _failover(world: World, shops: Shops, what: Happening) -> None:
    """Fail over: whatever was committed since the burst began is lost with the primary."""
    await asyncio.sleep(what.args["after_s"])
    await world.fail_over()
    world.tell("failed over")


async def _worker(world: World, shops: Shops, what: Happening) -> None:
    await shops.batches.worker_breaks(what)


BREAKS: Final[dict[str, Breaks]] = {
    "fault": _fault,
    "kill": _kill,
    "die_at": _die_at,
    "terminate": _terminate,
    "suspend": _suspend,
    "skew": _skew,
    "processor_skew": _processor_skew,
    "link": _link,
    "lock": _lock,
    "account": _account,
    "lag": _lag,
    "settle": _settle,
    "failover": _failover,
    "worker": _worker,
}
AT_ONCE: Final = frozenset({"fault", "skew", "processor_skew", "lag", "die_at"})
"""Done before the shops send requests; all others happen meanwhile."""
