"""The life of a payment is told by the twelve files that the code tour names, and no others."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

from harness import Stack

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOUR = ROOT / "docs" / "code-tour.md"
KNOWS_PAYMENTS = re.compile(r"payments/|processors/|api/payments")
MOST_LINES = 600


def table(heading: str) -> list[str]:
    """Return the files of the table under a heading, each once, in their order."""
    section = TOUR.read_text("utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    links = re.findall(r"\]\(\.\./src/easypay/([\w/]+\.py)\)", "\n".join(rows))
    return list(dict.fromkeys(links))


TWELVE = table("The twelve files")
MACHINERY = [f for f in table("The machinery around them") if KNOWS_PAYMENTS.match(f)]


def test_the_files_are_twelve_and_none_of_all_is_long() -> None:
    assert len(TWELVE) == 12
    files = list((ROOT / "src").rglob("*.py"))
    assert len(files) > 500
    lines = {str(file): file.read_text("utf-8").count("\n") for file in files}
    assert {file: n for file, n in lines.items() if n > MOST_LINES} == {}


async def test_a_payment_meets_only_the_files_that_the_code_tour_names(
    shared_stack: Stack,
) -> None:
    shop = await shared_stack.shop(shared_stack.only_gateway)
    settings = {
        "EASYPAY_AUTHORIZE_NET_TEST_URL": shared_stack.simulator.wire,
        "EASYPAY_REQUEST_LOG": "false",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    gateway = await asyncio.create_subprocess_exec(
        *(sys.executable, str(HERE / "traced_payment.py"), shop.secret),
        env=os.environ | shared_stack.env | settings,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await asyncio.wait_for(gateway.communicate(), 60)
    assert gateway.returncode == 0, error.decode()
    found = json.loads(out)
    assert found["statuses"] == [201]
    met = {file for file in found["files"] if KNOWS_PAYMENTS.match(file)}
    assert met - {*TWELVE, *MACHINERY} == set(), "name it in docs/code-tour.md, with its reason"
    assert {*TWELVE, *MACHINERY} - met == set(), (
        "docs/code-tour.md names it, but no payment meets it"
    )
