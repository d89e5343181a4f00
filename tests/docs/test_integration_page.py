"""The programs of docs/integration.md, as printed: each runs a shop's whole life and charges once.

A program is every block of its language, from top to bottom. It runs twice: the second time every
answer is a repeat, and the processor's books stay as they were.
"""

import asyncio
import json
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from easypay.merchants.model import SCOPES
from easypay.problem_table import PROBLEMS
from easypay.webhooks.signing import headers, new_secret
from harness import QUICKER, Shop, Stack, audit

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "integration.md").read_text("utf-8")
WEBHOOKS = (ROOT / "docs" / "api" / "webhooks.md").read_text("utf-8")
PROGRAMS = {
    "sh": ["bash", "-eu", "-o", "pipefail", "-c"],
    "python": [sys.executable, "-c"],
    "javascript": ["node", "-e"],
    "php": ["php", "-d", "display_errors=stderr", "-r"],
}
PRINTED = """\
paid: captured
held: authorized
captured: 2000
declined: generic_decline
lost and found: captured
refund: succeeded
card on file: captured
batch: done
settled: settled
booked: 2500
differences: 0
"""


def blocks(page: str, language: str) -> str:
    """Return the blocks of a language, one after another."""
    found = re.findall(rf"^```{language}\n(.*?)^```", page, re.M | re.S)
    return "\n".join(found).replace("<?php\n", "")


async def run(language: str, program: str, folder: Path) -> str:
    """Run a program and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAMS[language],
        program,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        printed, complaints = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, complaints.decode() + printed.decode()
    return printed.decode()


@pytest.fixture
async def shops(stack: Stack, tmp_path: Path) -> AsyncIterator[dict[str, Shop]]:
    """A merchant for each language, as `make run` describes its demo merchant to programs."""
    gateway = await stack.gateway(**QUICKER)
    stack.worker(**QUICKER, reconcile_every_s="1")
    made: dict[str, Shop] = {}
    for language in PROGRAMS:
        merchant = await stack.shop(gateway)
        shop = made[language] = await stack.with_key(merchant, scopes=SCOPES)
        await merchant.client.aclose()
        (tmp_path / language / ".easypay").mkdir(parents=True)
        (tmp_path / language / ".easypay" / "demo.json").write_text(
            json.dumps(
                {
                    "api_url": gateway.url,
                    "api_key": shop.secret,
                    "simulator_url": stack.simulator.url,
                }
            )
        )
    yield made
    for shop in made.values():
        await shop.client.aclose()


async def booked(stack: Stack, shop: Shop) -> list[tuple[str, str, str]]:
    """Return every transaction of the processor's books."""
    rows = await stack.simulator.truth(login=shop.login)
    return [(row["trans_id"], row["type"], row["amount"]) for row in rows]


@pytest.mark.timeout(240)
async def test_every_program_runs_a_shop_and_a_repeat_charges_nothing(
    stack: Stack, shops: dict[str, Shop], tmp_path: Path
) -> None:
    programs = {
        language: blocks(WEBHOOKS if language != "sh" else "", language) + blocks(PAGE, language)
        for language, (command, *_) in PROGRAMS.items()
        if shutil.which(command)
    }
    assert {"sh", "python"} <= set(programs)
    charged = {}
    for language, program in programs.items():  # a lost reply is the next call's, whoever makes it
        assert await run(language, program, tmp_path / language) == PRINTED
        charged[language] = await booked(stack, shops[language])
    await asyncio.gather(
        *(run(each, program, tmp_path / each) for each, program in programs.items())
    )
    await stack.simulator.clear_faults()
    for language in programs:
        assert await booked(stack, shops[language]) == charged[language]
        assert await audit(stack, shops[language]) == []


# Each reads messages from its argument and prints what it answered, and the version that it kept.
HANDLED = {
    "python": """
import json, sys
print(json.dumps([on_webhook(m[0], m[1], m[2].encode()) for m in MESSAGES]
    + [ORDERS["o-1"]["version"]]))
""",
    "javascript": """
console.log(JSON.stringify([...MESSAGES.map((m) => onWebhook(m[0], m[1], Buffer.from(m[2]))),
  ORDERS.get("o-1").version]));
""",
    "php": """
echo json_encode([...array_map(fn ($m) => on_webhook($m[0], $m[1], $m[2]), $MESSAGES),
  $ORDERS['o-1']['version']]);
""",
}
GIVEN = {
    "python": "import json\nMESSAGES = json.loads({})",
    "javascript": "const MESSAGES = JSON.parse({});",
    "php": "$MESSAGES = json_decode({}, true);",
}


def told(secret: str, event: str, version: int, *, signed_with: str = "") -> list[object]:
    """Return a message about a payment: the secret, its headers and its body."""
    body = json.dumps(
        {
            "id": event,
            "type": "payment.captured",
            "data": {"order_reference": "o-1", "version": version},
        }
    )
    signed = headers([signed_with or secret], event, int(time.time()), body.encode())
    return [secret, dict(signed), body]


@pytest.mark.parametrize("language", HANDLED)
async def test_a_shop_believes_a_genuine_message_once_and_never_goes_back(
    language: str, tmp_path: Path
) -> None:
    if shutil.which(PROGRAMS[language][0]) is None:
        pytest.skip(f"{PROGRAMS[language][0]} is not installed")
    secret = new_secret()
    messages = [
        told(secret, "evt_1", 3),
        told(secret, "evt_1", 9),  # seen before, so nothing in it counts
        told(secret, "evt_2", 2),  # late
        told(secret, "evt_3", 7, signed_with=new_secret()),
    ]
    (handler,) = [
        block
        for block in re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)
        if "SEEN" in block
    ]
    literal = (
        repr(json.dumps(messages)) if language != "javascript" else json.dumps(json.dumps(messages))
    )
    program = [GIVEN[language].format(literal), blocks(WEBHOOKS, language), handler]
    printed = await run(language, "\n".join([*program, HANDLED[language]]), tmp_path)
    assert json.loads(printed) == [200, 200, 200, 401, 3]


def test_the_table_of_problems_has_every_problem_once() -> None:
    rows = re.findall(r"^\| ([A-Z][a-z ]+) \| (.+?) \| .+ \|$", PAGE, re.M)
    kinds = {kind: re.findall(r"`(\w+)`", codes) for kind, codes in rows}
    named = [code for codes in kinds.values() for code in codes]
    assert sorted(named) == sorted(PROBLEMS)
    repeats = {kind: {PROBLEMS[code].repeat for code in codes} for kind, codes in kinds.items()}
    assert repeats.pop("Not ended yet") == {"same_key"}
    assert repeats.pop("Ended without money") == repeats.pop("Used key") == {"new_key"}
    assert set().union(*repeats.values()) == {"no"}
