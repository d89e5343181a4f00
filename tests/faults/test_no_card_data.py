"""After a run through everything that can happen, no card number or card code is anywhere."""

import re
import uuid
from pathlib import Path

import asyncpg

from easypay.db.embedded import Cluster
from harness import AMEX, MASTERCARD, QUICK, VISA, Shop, Stack, card, until

NUMBERS = (VISA, MASTERCARD, AMEX)
CODE = "7391"  # an American Express code that occurs nowhere else
SPELLINGS = tuple(
    mark.join(re.findall(".{1,4}", number)) for number in NUMBERS for mark in ("", " ", "-")
)
TEXT_FIELDS = ("order_reference", "description", "customer_reference", "statement_descriptor")


async def test_no_card_data_anywhere(stack: Stack, cluster: Cluster) -> None:
    gateway = await stack.gateway(**QUICK)
    shop: Shop = await stack.shop(gateway)
    amex = card(AMEX, cvc=CODE)
    said: list[str] = []

    async def ask(**over: object) -> None:
        answer = await shop.pay(**over)  # type: ignore[arg-type]
        said.append(answer.text + str(answer.headers))

    await ask(payment_method=amex)
    await ask(payment_method=amex, capture="manual")
    await ask(payment_method=amex, billing_address={"postal_code": "46282"})
    await ask(payment_method=card(MASTERCARD))
    await ask(payment_method=card(VISA, exp_year=2020))
    await ask(payment_method={"type": VISA})
    await ask(payment_method={"type": "card", "card": {"number": VISA, MASTERCARD: CODE}})
    await ask(currency=VISA)
    await ask(key=AMEX)
    for field in TEXT_FIELDS:
        for spelled in SPELLINGS:
            await ask(**{field: spelled})
    for name in ("first_name", "company", "line1", "city"):
        await ask(billing_address={name: VISA})
    await ask(metadata={VISA: "x", "y": AMEX})
    await ask(customer={"reference": VISA, "email": f"{VISA}@example.com"})
    said.append((await shop.client.get(f"/payments/{VISA}")).text.replace(VISA, "", 1))
    said.append((await shop.client.get(f"/payments?{VISA}={AMEX}")).text)
    for fault in ("drop_reply", "error_after", "truncate", "garbage", "reset_before"):
        await stack.simulator.post("/faults", kind=fault, count=1, login=shop.login)
        await ask(payment_method=amex, key=str(uuid.uuid4()))

    async def resolved() -> bool:
        return not await stack.fetch("SELECT 1 FROM unresolved_operations")

    await until(resolved)
    said.append((await shop.client.get("/payments?limit=100")).text)

    connection = await asyncpg.connect(stack.dsn, server_settings={"bytea_output": "escape"})
    tables = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    for table in tables:
        rows = await connection.fetch(f"SELECT t::text AS said FROM {table['relname']} t")
        said += [row["said"].replace('""', '"') for row in rows]
    await connection.close()
    assert gateway.terminate() == 0
    said.append(gateway.said())
    said.append(stack.simulator.said())
    said.append((stack.simulator.log.parent / "simulator.log").read_text())
    said += [path.read_text(errors="replace") for path in Path(cluster.home).glob("*.log")]

    everything = "\n".join(said)
    assert "payment.captured" in everything, "the sweep saw the tables"
    assert '"status":"captured"' in everything, "and the stored replies, in clear"
    for spelled in SPELLINGS:
        assert spelled not in everything, f"{spelled[:4]}… found"
    assert not re.search(rf"(?<![0-9a-zA-Z]){CODE}(?![0-9a-zA-Z])", everything)
    assert not re.search(r'"(cvc|cvv|cardCode)"\s*:\s*"[0-9]', everything)
