"""One job: reads one seed per line from its input, and writes one line of JSON for each."""

import asyncio
import json
import sys
from pathlib import Path

from faults.seeds.servers import running_servers
from faults.seeds.single_seed import run_seed


async def work(folder: Path, keep: bool) -> None:
    """Run until the input ends."""
    seeds = asyncio.Queue[str]()
    loop = asyncio.get_running_loop()

    def read() -> None:
        line = sys.stdin.readline()
        seeds.put_nowait(line)
        if not line:
            loop.remove_reader(sys.stdin)

    loop.add_reader(sys.stdin, read)
    async with running_servers(folder / "servers") as servers:
        while line := await seeds.get():
            seed = int(line)
            result = await run_seed(servers, seed, folder / f"seed-{seed}", keep=keep)
            print(json.dumps(result.as_dict()), flush=True)


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), keep="keep" in sys.argv[2:]))
