"""Somebody adds a text to a payment: four edits, and it is everywhere."""

import asyncio
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from easypay.db import migrate
from easypay.payment_details import DETAIL_FIELDS, INTENT_TYPE
from harness import QUICK, Simulator, Stack, new_database, run_easypay

SOURCES = Path(__file__).parents[2] / "src"
NAME, NOTE = "invoice_note", "Thank you, {Ada}"

LAST = DETAIL_FIELDS[-1]
FIELD = (
    f"    {NAME}: Annotated[str, free_text(80, 'A line for the invoice.', example='Thank you')]"
    " | None = None\n"
)
SENT = f"""\
    if note := text(details.{NAME}, 80):
        fields = [{{"name": "note", "value": note}}]
        transaction["userFields"] = {{"userField": fields}}
"""


def edited(folder: Path) -> Path:
    """Return our sources with the four edits."""
    easypay = folder / "easypay"
    shutil.copytree(SOURCES / "easypay", easypay)

    def edit(file: str, old: str, new: str) -> None:
        text, found = re.subn(old, new, (easypay / file).read_text("utf-8"), flags=re.M | re.S)
        assert found == 1, (file, old)
        (easypay / file).write_text(text, "utf-8")

    edit("payment_details.py", rf"^    {LAST}: .*?= None\n", rf"\g<0>{FIELD}")
    edit("payment_details.py", f'"{INTENT_TYPE}"', '"payment_intent_next"')
    edit("payments/views.py", rf"^    {LAST}: str \| None\n", rf"\g<0>    {NAME}: str | None\n")
    # The message's keys have the order of the processor's schema.
    before = r"^    if descriptor := "
    edit("processors/authorize_net/messages.py", before, rf"{SENT}\g<0>")
    migrations = easypay / "db" / "migrations"
    written = "".join(path.read_text("utf-8") for path in sorted(migrations.glob("*.sql")))
    (fields,) = re.findall(rf"^CREATE TYPE {INTENT_TYPE} AS \((.*?)^\)", written, re.M | re.S)
    fields = re.sub(rf"^ +{LAST} +text,\n", rf"\g<0>    {NAME} text,\n", fields, flags=re.M)
    (migrations / "9999_a_new_text.sql").write_text(
        f"ALTER TABLE payments ADD COLUMN {NAME} text;\n"
        f"CREATE TYPE payment_intent_next AS ({fields});\n"
    )
    return folder


@pytest.fixture
async def stack(
    cluster: Any, template: str, simulator: Simulator, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:  # fmt: skip
    """Return a stack whose programs have the edits."""
    ours = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{edited(tmp_path / 'src')}:{ours}")
    with Stack(await new_database(cluster.dsn, template), simulator, tmp_path) as made:
        assert run_easypay("migrate", **made.env).code == 0
        yield made


async def test_a_new_text_needs_four_edits(stack: Stack) -> None:
    count = "SELECT count(*) FROM migrations"
    assert await stack.value(count) == len(migrate.files()) + 1
    # A seed has it, and an export of the seed.
    words = ("--payments", "20", "--months", "1", "--merchants", "1", "--json")
    seeded = await asyncio.to_thread(run_easypay, "db", "seed", *words, **stack.env)
    assert seeded.code == 0, seeded.err
    assert await stack.value(f"SELECT count(*) FROM payments WHERE {NAME} = 'Thank you'") == 20

    program = [sys.executable, "-m", "easypay.api.openapi"]
    documenting = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
    gateway = await stack.gateway(**QUICK)
    shop = await stack.shop(gateway)
    paid = await shop.paid(**{NAME: NOTE}, order_reference="order-1")
    assert paid[NAME] == NOTE
    assert await shop.payment(paid["id"]) == paid
    assert await shop.all("/payments") == [paid]
    again = await shop.pay(**{NAME: "4111111111111111"})
    assert (again.status_code, again.json()["errors"][0]["pointer"]) == (422, f"#/{NAME}")

    exporter = await stack.with_key(shop, scopes=["payments:read", "payments:export"])
    answer = await exporter.client.get("/payments/export", headers={"accept": "text/csv"})
    head, row, _ = answer.text.splitlines()
    values = dict(zip(head.split(","), row.replace(f'"{NOTE}"', "note").split(","), strict=True))
    assert (values[NAME], values["order_reference"]) == ("note", "order-1")
    answer = await exporter.client.get("/payments/export", headers={"accept": "application/jsonl"})
    assert json.loads(answer.text.splitlines()[0]) == paid
    await exporter.client.aclose()

    schemas = json.loads((await documenting.communicate())[0])["components"]["schemas"]
    described = {
        name: schemas[name]["properties"][NAME]["description"]
        for name in ("CreatePayment", "Payment")
    }
    assert described == dict.fromkeys(("CreatePayment", "Payment"), "A line for the invoice.")
