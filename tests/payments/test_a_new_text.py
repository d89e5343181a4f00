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
from harness import QUICK, Simulator, Stack, new_database, run_easypay

SOURCES = Path(__file__).parents[2] / "src"
NAME, NOTE = "invoice_note", "Thank you, {Ada}"

DETAILS = (
    "    statement_descriptor: StatementDescriptor | None = None\n",
    "    {name}: Annotated[str, free_text(80, 'A line for the invoice.', example='Thank you')]"
    " | None = None\n",
)
TYPE = ('"payment_intent_2"', '"payment_intent_next"')
VIEW = ("    statement_descriptor: str | None\n", "    {name}: str | None\n")
MESSAGE = (
    "    if descriptor := text(details.statement_descriptor, 255):\n",
    "    if note := text(details.{name}, 80):\n"
    "        fields = [{{'name': 'note', 'value': note}}]\n"
    "        transaction['userFields'] = {{'userField': fields}}\n",
)
"""(a line, what the edit adds after it, or puts in its place if it is a name; before it in the
message, whose keys have the order of the processor's schema)."""


def edited(folder: Path) -> Path:
    """Return our sources with the four edits."""
    shutil.copytree(SOURCES / "easypay", folder / "easypay", dirs_exist_ok=True)
    easypay = folder / "easypay"

    def edit(file: str, old: str, new: str) -> None:
        text = (easypay / file).read_text("utf-8")
        assert text.count(old) == 1, (file, old)
        (easypay / file).write_text(text.replace(old, new.format(name=NAME)), "utf-8")

    edit("payment_details.py", DETAILS[0], DETAILS[0] + DETAILS[1])
    edit("payment_details.py", *TYPE)
    edit("payments/views.py", VIEW[0], VIEW[0] + VIEW[1])
    message, added = MESSAGE
    edit("processors/authorize_net/messages.py", message, added + message)
    migrations = easypay / "db" / "migrations"
    newest = "".join(path.read_text("utf-8") for path in sorted(migrations.glob("*.sql")))
    fields = re.findall(r"^CREATE TYPE payment_intent_2 AS \((.*?)^\)", newest, re.M | re.S)[0]
    fields = re.sub(r"(statement_descriptor +text,\n)", rf"\1    {NAME} text,\n", fields)
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
    older = len(migrate.files())
    assert await stack.value("SELECT count(*) FROM migrations") == older + 1
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
