"""Run one seed: its bursts, the quiet time after them, and the judgement."""

import asyncio
import shutil
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from faults.seeds import chaos, judge
from faults.seeds.plan import SHOPS, Burst, plan
from faults.seeds.servers import Servers
from faults.seeds.shops import Shops
from faults.seeds.vault import Mending
from faults.seeds.world import World

WATCHED_H: Final = 76
"""The longest watch is 72 hours, and the last operation's batch has closed by then."""
_LONGEST_S: Final = 150.0
"""Most seeds take 8 to 20 s; on a busy machine some took a minute."""


@dataclass
class Result:
    """The result of one seed. `found` is empty if everything agreed."""

    seed: int
    verdict: str
    found: list[str] = field(default_factory=list)
    took_s: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


async def run_seed(servers: Servers, seed: int, folder: Path, *, keep: bool = False) -> Result:
    """Run a seed. Its folder keeps plan, story and logs if something was found, or with `keep`."""
    begun = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    the_plan = plan(seed)
    world = World(servers, the_plan, folder)
    shops = Shops(world)
    result = Result(seed, "clean")
    waits: list[str] = []
    told = asyncio.get_running_loop().call_later(_LONGEST_S, lambda: waits.extend(_waits()))
    try:
        async with asyncio.timeout(_LONGEST_S):
            await _course(world, shops)
            await _quiet(world, shops)
            result.found = await judge.judge(world, shops)
    except Exception as error:
        last = world.story[-1] if world.story else "it had not begun"
        world.tell("".join([*traceback.format_exception(error), *waits]))
        where = "; ".join(waits) or _where(error)
        result.found.append(f"the run broke: {type(error).__name__}: {error} {where} after: {last}")
    finally:
        told.cancel()
        await shops.batches.close()
        await world.close()
    result.verdict = "clean" if not result.found else "found"
    result.took_s = round(time.monotonic() - begun, 2)
    result.counts = {
        "intents": len(shops.intents),
        "attempts": sum(len(each.attempts) for each in shops.intents.values()),
    }
    if result.found or keep:
        lines = [*the_plan.lines(), "", *world.story, "", *(result.found or ["clean"])]
        (folder / "story.txt").write_text("\n".join(lines) + "\n")
    else:
        shutil.rmtree(folder)
    return result


def _where(error: BaseException) -> str:
    """Return where an error was raised, innermost first."""
    frames = []
    chain: BaseException | None = error
    while chain is not None:
        frames += traceback.extract_tb(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__
    ours = [each for each in frames if "/faults/seeds/" in each.filename]
    return " < ".join(f"{Path(each.filename).name}:{each.lineno}" for each in ours[:-6:-1])


def _waits() -> Iterator[str]:
    """Yield where each task waits now, outermost first: the error of a time limit does not say it,
    and a task that waits for others hides theirs. Links only wait for what others send."""
    for task in asyncio.all_tasks():
        lines: list[str] = []
        at: Any = task.get_coro()
        while at is not None:
            frame = getattr(at, "cr_frame", None)
            if frame is not None and "/tests/" in frame.f_code.co_filename:
                lines.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
            at = getattr(at, "cr_await", None)
        if lines and not lines[-1].startswith("links.py"):
            yield " > ".join(lines)


async def _course(world: World, shops: Shops) -> None:
    """Do everything in the plan, burst by burst."""
    await world.open()
    await shops.open()
    if world.plan.has_vault:
        mending = await Mending(world).start()
        world.wakes_workers, world.stops_workers = mending.wake, mending.stop
    for burst in world.plan.bursts:
        await world.drive_to(burst.at_s)
        await _burst(world, shops, burst)


async def _burst(world: World, shops: Shops, burst: Burst) -> None:
    for what in burst.breaks:
        world.tell(f"breaks: {what}")
        if what.kind == "failover":
            await world.lose_from_now()
        if what.kind in chaos.AT_ONCE:
            await chaos.BREAKS[what.kind](world, shops, what)
    breaking = [
        asyncio.create_task(chaos.BREAKS[what.kind](world, shops, what))
        for what in burst.breaks
        if what.kind not in chaos.AT_ONCE
    ]
    await asyncio.gather(*breaking, *(shops.ask(what) for what in burst.requests))
    await world.no_call_runs()
    for what in burst.breaks:
        if what.kind == "suspend":
            await chaos.wake(world, what)
    await _all_alive(world)


async def _all_alive(world: World) -> None:
    """Restart dead gateways, and those that were to die but met no payment."""
    for gate in world.gates:
        if gate.is_armed:
            await gate.kill()
    dead = [gate for gate in world.gates if not gate.is_alive]
    await asyncio.gather(*(gate.start() for gate in dead))
    await asyncio.gather(*(gate.ready() for gate in dead))


async def _quiet(world: World, shops: Shops) -> None:
    """End all faults and drive time until nothing more can happen."""
    world.tell("faults end")
    for link in world.links:
        link.mend()
    await _all_alive(world)
    await world.servers.simulator.clear_faults()
    await shops.batches.quiet()
    await world.drive_to(world.ahead_ms / 1000 + WATCHED_H * 3600)
    for _ in range(5):
        if await world.is_idle():
            break
        await world.drive_to(world.ahead_ms / 1000 + 3600)
    for shop in range(SHOPS):
        await shops.cards.look(shop, 0, 20)
    await world.drive_to(world.ahead_ms / 1000 + 26 * 3600)
    world.tell("quiet")
