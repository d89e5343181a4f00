"""What a standby that lost the last second lost, and who said so."""

from typing import Any

from easypay.money import parse_decimal
from faults.seeds.shops import Shops
from faults.seeds.world import World


def lost_without_a_word(
    world: World, shops: Shops, rows: dict[str, list[Any]], truth: list[dict[str, Any]]
) -> list[str]:
    """A process that knows an outcome of what the failover lost says so, critically, with the
    reference. It knows where its shop has had no answer before, and nothing killed it."""
    breaks = next(
        burst.breaks
        for burst in world.plan.bursts
        if any(each.kind == "failover" for each in burst.breaks)
    )
    if any(each.kind in ("kill", "die_at", "terminate", "suspend", "link") for each in breaks):
        return []
    known = {row["reference"] for row in rows["operations"]}
    said = "".join(
        line for gate in world.gates for line in gate.said().splitlines() if '"critical"' in line
    )
    told = {
        intent.amount
        for intent in shops.intents.values()
        for attempt in intent.attempts
        if intent.kind == "buy" and any(each.status < 300 for each in attempt.answers)
    }
    return [
        f"{row['invoice_number']} was lost by the failover, and no line says so"
        for row in truth
        if row["type"] in ("authCaptureTransaction", "authOnlyTransaction")
        and row["invoice_number"] not in known
        and row["invoice_number"] not in said
        and parse_decimal(row["amount"], "USD").minor not in told
    ]


def without_what_was_lost(
    world: World, rows: dict[str, list[Any]], truth: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], set[str]]:
    """A standby that lost the last second lost what began in it: no row of ours can explain it,
    and people mend it by the processor's reports. What it concerns is taken out of `rows` and
    left out of the truth that is returned, with the ids and references of it."""
    known = {row["reference"] for row in rows["operations"]}
    lost = [row for row in truth if row["invoice_number"] not in known]
    for row in lost:
        world.tell(f"lost by the failover: {row['type']} {row['invoice_number']} {row['amount']}")
    gone = {row["trans_id"] for row in lost} | {row["ref_trans_id"] for row in lost}
    payments = {row["id"] for row in rows["payments"] if row["transaction_id"] in gone}
    beyond = {str(each) for each in payments} | {
        row["reference"] for row in rows["operations"] if row["payment_id"] in payments
    }
    rows["payments"] = [row for row in rows["payments"] if row["id"] not in payments]
    for table in ("operations", "events", "idempotency_keys", "late_charges"):
        rows[table] = [row for row in rows[table] if row["payment_id"] not in payments]
    kept = [row for row in truth if row["invoice_number"] in known - beyond]
    return kept, beyond | {row["invoice_number"] for row in lost}
