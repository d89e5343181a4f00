"""One job: reads seeds from its input, one a line, and answers each with a line of JSON."""

import asyncio
import json
import sys
from pathlib import Path

from faults.seeds.ground import standing
from faults.seeds.one import run_seed


async def work(folder: Path, keep: bool) -> None:
    """Until the input ends."""
    seeds = asyncio.Queue[str]()
    loop = asyncio.get_running_loop()

    def read() -> None:
        line = sys.stdin.readline()
        seeds.put_nowait(line)
        if not line:
            loop.remove_reader(sys.stdin)

    loop.add_reader(sys.stdin, read)
    async with standing(folder / "ground") as ground:
        while line := await seeds.get():
            seed = int(line)
            result = await run_seed(ground, seed, folder / f"seed-{seed}", keep=keep)
            print(json.dumps(result.as_dict()), flush=True)


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), keep="keep" in sys.argv[2:]))
