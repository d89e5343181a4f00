"""What breaks: one function for each kind."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import asyncpg

from faults.kills.plan import Breaking
from faults.kills.shop import RoundShop
from faults.kills.world import World
from webhooks.receiver import Got

Break = Callable[[World, RoundShop, dict[str, Any]], Awaitable[None]]


async def _kill(world: World, shop: RoundShop, args: dict[str, Any]) -> None:
    member = world.members[args["member"]]
    async with member.lock:
        await member.kill()
        await asyncio.sleep(args["down_s"])
        await member.start()


async def _die_at(world: World, shop: RoundShop, args: dict[str, Any]) -> None:
    """Let it send itself kill -9 when it next reaches a point."""
    member = world.members[args["member"]]
    async with member.lock:
        await member.kill()
        await member.start(failpoint=args["point"])


async def _stop(world: World, shop: RoundShop, args: dict[str, Any]) -> None:
    """Stop it for a while, in which its leases end or not."""
    member = world.members[args["member"]]
    async with member.lock:
        member.send(signal.SIGSTOP)
        await asyncio.sleep(args["down_s"] / 2)
        if args["leases"]:
            await world.leases_end()
        await asyncio.sleep(args["down_s"] / 2)
        member.send(signal.SIGCONT)


async def _terminate(world: World, shop: RoundShop, args: dict[str, Any]) -> None:
    member = world.members[args["member"]]
    async with member.lock:
        await member.terminate()
        await asyncio.sleep(args["down_s"])
        await member.start()


async def _postgres(world: World, shop: RoundShop, args: dict[str, Any]) -> None:
    if args["how"] == "session":
        with suppress(OSError, asyncpg.PostgresError):  # it is away already
            await world.postgres.kill_session()
    elif args["how"] == "server":
        await world.postgres.kill_server(args["down_s"])
    else:
        await world.postgres.stop_immediately(args["down_s"])


async def _leases(world: World, shop: RoundShop, args: dict[str, Any]) -> None:
    await world.leases_end()


async def _unwell(world: World, shop: RoundShop, args: dict[str, Any]) -> None:
    """Let one endpoint refuse, hang up or hang for a while."""
    path, how = f"/{shop.number}{args['path']}", args["how"]

    async def answer(got: Got) -> Any:
        if got.path != path:
            return 204
        if how == "hangs":
            await asyncio.sleep(args["for_s"])
            return 204
        return None if how == "closes" else how

    world.receiver.answer = answer
    await asyncio.sleep(args["for_s"])
    if world.receiver.answer is answer:
        world.receiver.answer = lambda _: 204


async def _fault(world: World, shop: RoundShop, args: dict[str, Any]) -> None:
    await world.simulator.post("/faults", login=shop.login, **args)


async def _settle(world: World, shop: RoundShop, args: dict[str, Any]) -> None:
    await world.simulator.post("/settle")


BREAKS: Final[dict[str, Break]] = {
    "kill": _kill,
    "die_at": _die_at,
    "stop": _stop,
    "terminate": _terminate,
    "postgres": _postgres,
    "leases": _leases,
    "unwell": _unwell,
    "fault": _fault,
    "settle": _settle,
}


async def happens(
    world: World, shop: RoundShop, what: Breaking, tell: Callable[[str], None]
) -> None:
    """Let one thing break at its time."""
    await asyncio.sleep(what.at_s)
    tell(f"breaks: {what}")
    await BREAKS[what.kind](world, shop, what.args)
