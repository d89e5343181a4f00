"""The processor's books as rows of ours, written straight from the simulator's truth table."""

from typing import Any

from easypay.clock import rfc3339
from harness import Shop, Stack

STATES = {
    "settledSuccessfully": "settled",
    "refundSettledSuccessfully": "settled",
    "returnedItem": "returned",
    "chargeback": "charged_back",
    "chargebackReversal": "chargeback_reversed",
}
"""By the processor's status: what became of the money."""

_WRITE = """
    INSERT INTO settled_transactions (account, batch_id, transaction_id, kind, status,
        settlement_state, reference, amount_minor, currency, card_brand, last4, settled_at,
        merchant_id, mode, payment_id, operation_id, order_reference)
    SELECT $1, $2, i.transaction_id, i.kind, i.status, i.state, i.reference, i.amount, 'USD',
           p.card_brand, p.card_last4, $3, o.merchant_id, o.mode, o.payment_id, o.id,
           p.order_reference
      FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[])
           AS i(transaction_id, kind, status, state, reference, amount)
      LEFT JOIN operations o ON o.reference = i.reference
      LEFT JOIN payments p ON p.merchant_id = o.merchant_id AND p.id = o.payment_id
    ON CONFLICT (account, batch_id, transaction_id) DO UPDATE
       SET status = excluded.status, settlement_state = excluded.settlement_state
"""


def account_of(shop: Shop) -> bytes:
    """The account's name in these rows."""
    return shop.login.encode()


async def read_books(stack: Stack, shop: Shop, *, batch: str = "1") -> None:
    """Write what the processor has settled of a shop; what is there already gets its new state."""
    truth = await stack.simulator.truth(login=shop.login)
    known = {
        row["transaction_id"]
        for row in await stack.fetch(
            "SELECT transaction_id FROM settled_transactions WHERE account = $1 AND batch_id <> $2",
            *(account_of(shop), batch),
        )
    }
    rows: dict[str, tuple[Any, ...]] = {}
    for each in truth:
        if each["status"] not in STATES or each["trans_id"] in known | rows.keys():
            continue
        kind = "refund" if each["type"] == "refundTransaction" else "charge"
        amount = int(each["amount"].replace(".", ""))
        rows[each["trans_id"]] = (
            *(each["trans_id"], kind, each["status"], STATES[each["status"]]),
            *(each["invoice_number"], amount),
        )
    columns = [list(column) for column in zip(*rows.values(), strict=True)]
    at = await stack.value("SELECT date_trunc('milliseconds', db_now())")
    await stack.fetch(_WRITE, account_of(shop), batch, at, *columns)


async def settled_at(stack: Stack, shop: Shop, batch: str = "1") -> str:
    """When a batch settled, as the API shows it."""
    return rfc3339(
        await stack.value(
            "SELECT min(settled_at) FROM settled_transactions WHERE account = $1 AND batch_id = $2",
            *(account_of(shop), batch),
        )
    )
