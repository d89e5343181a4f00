"""A change and its event commit together: there is neither one without the other."""

from typing import Any

from harness import QUICK, Shop, Stack, all_known, audit, connected, payment_uuid

REFUSE = """
    CREATE OR REPLACE FUNCTION not_now() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE 'not now' USING ERRCODE = 'lock_not_available';
    END $$;
    CREATE TRIGGER not_now BEFORE {what} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION not_now();
"""
CHANGES = {
    "events": ("INSERT ON events", "true"),
    "payments": ("UPDATE ON payments", "NEW.status <> OLD.status"),
    "operations": ("UPDATE ON operations", "NEW.state = 'approved'"),
}
AS_ONE_SEES_IT = """
    SELECT status, (SELECT array_agg(type ORDER BY id) FROM events WHERE payment_id = $1) AS types,
           (SELECT state FROM operations WHERE payment_id = $1 AND kind = 'capture') AS state
      FROM payments WHERE id = $1
"""


async def seen(stack: Stack, payment: dict[str, Any]) -> tuple[Any, ...]:
    (row,) = await stack.fetch(AS_ONE_SEES_IT, payment_uuid(payment["id"]))
    return tuple(row)


async def test_a_change_and_its_event_are_written_together_or_not_at_all(stack: Stack) -> None:
    """One of the three tables refuses the outcome of a capture: the other two do not have it."""
    gateway = await stack.gateway(**QUICK | {"record_patience_s": "0.3"})
    shop: Shop = await stack.shop(gateway)
    for table, (what, when) in CHANGES.items():
        payment = await shop.paid(capture="manual")
        before = await seen(stack, payment)
        assert before == ("authorized", ["payment.authorized"], None)
        async with connected(stack.dsn) as connection:
            await connection.execute(REFUSE.format(what=what, when=when))
        answer = await shop.capture(payment["id"])
        assert answer.status_code == 202, (table, answer.text)
        assert await seen(stack, payment) == (*before[:2], "in_flight"), table
        await stack.fetch(f"DROP TRIGGER not_now ON {table}")
        await shop.becomes(payment["id"], "captured")
        both = ["payment.authorized", "payment.captured"]
        assert await seen(stack, payment) == ("captured", both, "approved"), table
    await all_known(stack, shop)
    assert await audit(stack, shop) == []
    await shop.client.aclose()
