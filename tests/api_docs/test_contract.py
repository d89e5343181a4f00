"""The gateway behaves as its OpenAPI document promises: schemathesis finds no failure.

For a longer search: make breadth TIMES=60 ARGS=tests/api_docs/test_contract.py
"""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from breadth import examples
from easypay.api.routes import ROUTES
from easypay.merchants.model import SCOPES
from harness import ADMIN_KEY, Stack, audit

ROOT = Path(__file__).parents[2]
EXAMPLES = examples(2, 3)
LONGEST_S = 360 + 10 * EXAMPLES


@pytest.mark.breadth
@pytest.mark.timeout(LONGEST_S + 30)
async def test_schemathesis_finds_no_failure(stack: Stack) -> None:
    gateway = await stack.gateway(profile_longest_s="0")
    shop = await stack.shop(gateway, currencies=("JPY", "KWD", "USD"))
    everything = await stack.with_key(shop, scopes=SCOPES)
    await everything.client.aclose()
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli",
        "--config-file", "tests/api_docs/contract/schemathesis.toml",
        "run", f"{gateway.url}/openapi.json", "--max-examples", str(EXAMPLES),
        cwd=ROOT,
        env={**os.environ, "MERCHANT_KEY": everything.secret, "ADMIN_KEY": ADMIN_KEY},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(run.communicate(), LONGEST_S)
    finally:
        if run.returncode is None:
            run.kill()
            await run.wait()
    await shop.client.aclose()
    assert run.returncode == 0, output.decode()
    assert f"Tested: {len(ROUTES) - 1}" in output.decode()  # all but the document
    assert await audit(stack, shop, settled=False) == []
