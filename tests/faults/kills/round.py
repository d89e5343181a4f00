"""One round: load and kills, then everything is let end, then the judgement."""

import asyncio
import shutil
import time
import traceback
from pathlib import Path
from typing import Final

from easypay.clock import monotonic
from faults.kills import breaks, judge
from faults.kills.plan import Plan, orders, plan
from faults.kills.shop import RoundShop, open_shop
from faults.kills.world import World
from faults.seeds.single_seed import Result

_LONGEST_S: Final = 120.0
_ENDS_WITHIN_S: Final = 45.0
_ORDER_PAUSE_S: Final = 0.02

_WORK_TAKES_S: Final = 5.0
"""Those who live get so much time for what they claim before leases are ended again: a pass over an
account's lists that always loses its lease would never come to its end."""
_LEFT: Final = """
    SELECT (SELECT count(*) FROM operations
             WHERE merchant_id = $1 AND state IN ('queued', 'in_flight', 'unknown', 'not_sent')),
           (SELECT count(*) FROM unresolved_operations WHERE merchant_id = $1 AND NOT held),
           (SELECT count(*) FROM queued_operations WHERE merchant_id = $1),
           (SELECT count(*) FROM events WHERE merchant_id = $1)
             - (SELECT count(*) FROM feed JOIN streams USING (stream) WHERE merchant_id = $1),
           (SELECT h.last_seq - r.last_seq FROM feed_head h, feed_readers r
             WHERE r.name = 'webhooks'),
           (SELECT count(*) FROM webhook_deliveries
             WHERE merchant_id = $1 AND parked_at IS NULL)
"""
_LEFT_NAMES: Final = (
    *("open operations", "unresolved operations", "queued operations", "events without a place"),
    *("events not fanned out", "deliveries"),
)


class Story:
    """What happened, line by line, with the seconds since the beginning."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._begun = monotonic()

    def tell(self, what: str) -> None:
        self.lines.append(f"{monotonic() - self._begun:6.2f} s  {what}")


async def run_round(world: World, seed: int, folder: Path, *, keep: bool = False) -> Result:
    """Run a round. Its folder keeps plan, story and logs if something was found, or with `keep`."""
    begun = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    the_plan, story, result = plan(seed), Story(), Result(seed, "clean")
    for each in world.members.values():
        each.mark()
    world.receiver.got.clear()
    shop: RoundShop | None = None
    try:
        async with asyncio.timeout(_LONGEST_S):
            shop = await open_shop(world, seed)
            await _course(world, shop, the_plan, story)
            await ended(world, shop, story)
            result.found = await judge.judge(world, shop)
    except Exception as error:
        story.tell("".join(traceback.format_exception(error)))
        result.found.append(f"the round broke: {type(error).__name__}: {error}")
    finally:
        if shop is not None:
            await shop.close()
    result.verdict = "found" if result.found else "clean"
    result.took_s = round(time.monotonic() - begun, 2)
    if shop is not None:
        result.counts = _counts(shop)
        story.tell(f"counts: {result.counts}")
    for note in (note for member in world.members.values() for note in member.notes):
        story.tell(note)
    if result.found or keep:
        _write(world, folder, [*the_plan.lines(), "", *story.lines, "", *result.found])
    else:
        shutil.rmtree(folder)
    return result


async def _course(world: World, shop: RoundShop, the_plan: Plan, story: Story) -> None:
    """Let clients order while things break, until the time is over and all have their answers."""
    over = asyncio.Event()
    if the_plan.latency_ms:
        await world.simulator.post(
            "/faults",
            kind="latency",
            distribution="uniform",
            ms=the_plan.latency_ms,
            login=shop.login,
        )

    async def client(number: int) -> None:
        for order in orders(the_plan.seed, number):
            await shop.order(order)
            if over.is_set():
                return
            await asyncio.sleep(_ORDER_PAUSE_S)

    async def breaking() -> None:
        await asyncio.gather(
            *(breaks.happens(world, shop, each, story.tell) for each in the_plan.breaks)
        )
        await world.all_alive()
        story.tell("everything runs again")

    async def time_is_over() -> None:
        await asyncio.sleep(the_plan.load_s)
        over.set()

    async with asyncio.TaskGroup() as group:
        for number in range(the_plan.clients):
            group.create_task(client(number))
        group.create_task(breaking())
        group.create_task(time_is_over())
    story.tell(f"{len(shop.asked)} requests have their answers")


async def ended(world: World, shop: RoundShop, story: Story, *, early: bool = True) -> None:
    """Wait until nothing of the shop is left to do. `early`: leases of the dead end now."""
    ends, ending_at, tell_at = monotonic() + _ENDS_WITHIN_S, 0.0, 0.0
    await world.all_alive()
    while True:
        shop.follows()
        (left,) = await world.fetch(_LEFT, shop.merchant_id)
        what = [f"{count} {name}" for count, name in zip(left, _LEFT_NAMES, strict=True) if count]
        if not what and len(shop.follower.got) >= await _events(world, shop):
            break
        assert monotonic() < ends, f"not over within {_ENDS_WITHIN_S:g} s: {', '.join(what)}"
        if monotonic() >= tell_at:
            story.tell(f"left: {', '.join(what)}")
            tell_at = monotonic() + 2
        if early and monotonic() >= ending_at:
            await world.leases_end()
            ending_at = monotonic() + _WORK_TAKES_S
        await asyncio.sleep(0.05)
    story.tell("everything has ended")


async def _events(world: World, shop: RoundShop) -> int:
    (row,) = await world.fetch(
        "SELECT count(*) FROM events WHERE merchant_id = $1", shop.merchant_id
    )
    return int(row[0])


def _counts(shop: RoundShop) -> dict[str, int]:
    return {
        "requests": len(shop.asked),
        "queued": sum(each.queued for each in shop.asked),
        "sent": sum(each.sent for each in shop.asked),
        "payments": len(shop.payments),
        "events": len(shop.follower.got),
        "webhooks": sum(len(shop.got(each)) for each in shop.endpoints),
    }


def _write(world: World, folder: Path, lines: list[str]) -> None:
    (folder / "story.txt").write_text("\n".join(lines) + "\n")
    for each in world.members.values():
        (folder / f"{each.name}.log").write_text(each.logs())
