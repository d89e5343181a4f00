"""Workers that are stopped at every point of their work for longer than their leases, then go on.

Each has a shop of its own, so that it is certain whose work it holds. Meanwhile other workers do
it. When the stopped ones go on, nothing may be charged or recorded a second time.
"""

import asyncio
import signal
from pathlib import Path
from typing import Final

from easypay.clock import monotonic
from faults.kills import judge
from faults.kills.plan import POINTS as ALL_POINTS
from faults.kills.plan import Order
from faults.kills.round import Story, ended
from faults.kills.shop import RoundShop, open_shop
from faults.kills.world import Member, World, running_world
from harness import until

POINTS: Final = ALL_POINTS["worker"]
LONGER_THAN_LEASES_S: Final = 45.0
"""From here on the leases are left to end by themselves."""
_QUICK: Final = {"processor_deadline_s": "1.0", "resolver_poll_s": "0.3", "drain_s": "0.1"}


async def run(folder: Path, stop_s: float) -> list[str]:
    """Stop a worker at each point for `stop_s` seconds. Return everything that is wrong.

    If that is shorter than the leases are, they are ended early.
    """
    short = stop_s < LONGER_THAN_LEASES_S
    story = Story()
    async with running_world(folder, _QUICK if short else {"drain_s": "0.1"}) as world:
        others = [each for each in world.members.values() if not each.is_gateway]
        for each in others:
            each.send(signal.SIGSTOP)
        shops: dict[str, RoundShop] = {}
        sleepers: list[Member] = []
        for point in POINTS:
            shops[point] = await open_shop(world, len(shops))
            sleepers.append(await _stopped_at(world, point, shops[point]))
        for each in others:
            each.send(signal.SIGCONT)
        await _sleep(world, stop_s, short=short)
        for each in sleepers:
            each.armed = None
            each.send(signal.SIGCONT)
        wrong: list[str] = []
        for point, shop in shops.items():
            await ended(world, shop, story, early=short)
            wrong += [f"{point}: {each}" for each in await _judged(world, shop)]
            await shop.close()
        return wrong


async def _stopped_at(world: World, point: str, shop: RoundShop) -> Member:
    """Queue a payment, and start a worker that stops at a point of its work on it."""
    await shop.order(Order(1, 2500, True, "automatic", False, True, ()))
    worker = world.member(f"worker-{point}")
    await worker.start(failpoint=f"{point} stops")

    async def is_stopped() -> bool:
        return worker.is_stopped

    await until(is_stopped, what=f"a worker is stopped at {point}")
    return worker


async def _sleep(world: World, stop_s: float, *, short: bool) -> None:
    """Let time pass; if it is short, end leases again and again."""
    ends = monotonic() + stop_s
    while monotonic() < ends:
        if short:
            await world.leases_end()
        await asyncio.sleep(min(0.5, stop_s))


async def _judged(world: World, shop: RoundShop) -> list[str]:
    """Return what is wrong; the processor must have charged the payment once."""
    wrong = await judge.judge(world, shop)
    truth = await world.simulator.truth(login=shop.login)
    charges = sum(row["type"] == "authCaptureTransaction" for row in truth)
    if charges != 1:
        wrong.append(f"the payment was charged {charges} times")
    return wrong
