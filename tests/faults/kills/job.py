"""One job: reads one number per line from its input, and writes one line of JSON for each round.

After a round that found something the world is made anew, so that one fault is not found twice.
"""

import asyncio
import itertools
import json
import sys
from pathlib import Path

from faults.kills.round import run_round
from faults.kills.world import ROUNDS_SETTINGS, running_world
from faults.seeds.single_seed import Result


async def work(folder: Path, keep: bool) -> None:
    """Run until the input ends."""
    loop = asyncio.get_running_loop()

    async def next_seed() -> str:
        return await loop.run_in_executor(None, sys.stdin.readline)

    seed = await next_seed()
    for number in itertools.count(1):
        if not seed:
            return
        async with running_world(folder / f"world-{number}", ROUNDS_SETTINGS) as world:
            while seed:
                place = folder / f"seed-{int(seed)}"
                result: Result = await run_round(world, int(seed), place, keep=keep)
                print(json.dumps(result.as_dict()), flush=True)
                seed = await next_seed()
                if result.found:
                    break


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), keep="keep" in sys.argv[2:]))
