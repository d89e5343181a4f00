"""What a hit of the caches takes, counted in calls of functions: no time is checked."""

import asyncio
import json
import os
import sys
from pathlib import Path

from harness.stack import Stack
from harness.valkey import running

PROGRAM = Path(__file__).parent / "counted_reads.py"

MOST_FOR_A_ROW = 5
"""Calls for each further payment of a page: its view, its metadata."""
MORE_THAN_LIVEZ = 45
"""Calls. /livez has no caller, no log line, and a path without parameters."""


async def counted(stack: Stack, **settings: str) -> dict[str, int]:
    shop = await stack.shop(stack.only_gateway)
    own = {
        "EASYPAY_AUTHORIZE_NET_TEST_URL": stack.simulator.wire,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(PROGRAM), shop.secret),
        env=os.environ | stack.env | own | settings,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, error.decode()
    found: dict[str, int] = json.loads(out)
    return found


async def test_a_hit_takes_few_calls_and_never_asks_the_shared_cache(
    shared_stack: Stack, tmp_path: Path
) -> None:
    with running(tmp_path) as valkey:
        alone, with_valkey = await asyncio.gather(
            counted(shared_stack), counted(shared_stack, EASYPAY_CACHE_URL=valkey.url)
        )
    for found in (alone, with_valkey):
        # A hit is one more look into a dict of this process, and a line in the log.
        assert found["304 with leave"] <= found["livez"] + MORE_THAN_LIVEZ, found
        assert found["304 with leave"] * 4 < found["304 without leave"], found
        assert found["page of 20"] - found["page of 1"] <= 19 * MOST_FOR_A_ROW, found
        # The same bytes again are not even read.
        assert found["304 again, from its bytes"] < found["livez, from its bytes"], found
    assert with_valkey["304 with leave"] == alone["304 with leave"]
