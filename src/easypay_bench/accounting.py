"""Check that every payment of a run is accounted for: the database and the simulator must agree.

A fast gateway that charges twice, or reports as captured what was never sold, is not fast.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import asyncpg

from easypay_bench.http_calls import call
from easypay_bench.stack import Merchant, Stack

SALE: Final = "authCaptureTransaction"
APPROVED: Final = "1"
SETTLE_TIMEOUT_S: Final = 30.0
_MOST_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Held:
    """A payment as the gateway has it."""

    status: str
    kind: str
    reference: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Sold:
    """A transaction as the processor has it."""

    type: str
    response_code: str
    reference: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Account:
    """How many payments there are, and everything wrong with them, in words."""

    payments: int
    wrong: list[str]


async def account(stack: Stack, merchant: Merchant, *, replied: int, cut_off: int) -> Account:
    """Compare the merchant's payments with the processor's, once none is in flight.

    `replied` payments were answered with success; up to `cut_off` more were sent, but nobody
    waited for their reply.
    """
    held = await _payments(stack.database_url, merchant)
    query = urlencode({"login": merchant.login})
    rows = call("GET", f"{stack.simulator_url}/simulator/transactions?{query}")
    sold = [
        Sold(row["type"], row["response_code"], row["invoice_number"], _minor(row["amount"]))
        for row in rows
    ]
    return Account(len(held), compare(held, sold, replied=replied, cut_off=cut_off))


def compare(
    held: Sequence[Held], sold: Sequence[Sold], *, replied: int, cut_off: int = 0
) -> list[str]:
    """Return every way in which the two sides disagree; empty if all is well."""
    wrong: list[str] = []
    if not replied <= len(held) <= replied + cut_off:
        wrong.append(f"{replied} payments were answered, the gateway has {len(held)}")
    statuses = Counter(each.status for each in held if each.status != "captured")
    wrong += [f"{count} payments are {status}" for status, count in statuses.items()]

    sales: dict[str, list[Sold]] = {}
    for row in sold:
        sales.setdefault(row.reference, []).append(row)
    known = {each.reference for each in held}
    wrong += _some(
        f"the processor has {reference or 'a row without reference'}, the gateway does not"
        for reference in sales
        if reference not in known
    )
    wrong += _some(
        f"{each.reference}: {len(sales.get(each.reference, ()))} transactions for one payment"
        for each in held
        if len(sales.get(each.reference, ())) != 1
    )
    wrong += _some(
        f"{row.reference}: {row.type} {row.response_code} of {row.amount_minor}"
        f" for a {each.kind} of {each.amount_minor}"
        for each in held
        for row in sales.get(each.reference, ())[:1]
        if (row.type, row.response_code, row.amount_minor) != (SALE, APPROVED, each.amount_minor)
        or each.kind != "sale"
    )
    return wrong


def _some(complaints: Iterable[str]) -> list[str]:
    found = list(complaints)
    more = len(found) - _MOST_SHOWN
    return found[:_MOST_SHOWN] + ([f"... and {more} more like it"] if more > 0 else [])


async def _payments(dsn: str, merchant: Merchant) -> list[Held]:
    connection = await asyncpg.connect(dsn)
    try:
        await settled(connection, merchant)
        rows = await connection.fetch(
            "SELECT p.status, o.kind, o.reference, o.amount_minor"
            "  FROM payments p LEFT JOIN operations o"
            "    ON o.merchant_id = p.merchant_id AND o.payment_id = p.id"
            " WHERE p.merchant_id = $1",
            merchant.id,
        )
    finally:
        await connection.close()
    return [Held(row["status"], row["kind"], row["reference"], row["amount_minor"]) for row in rows]


async def settled(connection: "asyncpg.Connection[asyncpg.Record]", merchant: Merchant) -> None:
    """Wait, with a limit, until no payment of the merchant is in flight."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + SETTLE_TIMEOUT_S
    while loop.time() < give_up_at:
        open_ones: int = await connection.fetchval(
            "SELECT count(*) FROM payments WHERE merchant_id = $1 AND status = 'processing'",
            merchant.id,
        )
        if not open_ones:
            return
        await asyncio.sleep(0.1)


def _minor(amount: str) -> int:
    whole, _, cents = amount.partition(".")
    return int(whole) * 100 + int(cents.ljust(2, "0"))
