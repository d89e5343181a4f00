"""What a failover to a lagging standby lost, and whether a gateway logged it."""

from typing import Any

from easypay.money import parse_decimal
from faults.seeds.shops import Shops
from faults.seeds.world import World


def lost_without_a_log_line(
    world: World, shops: Shops, rows: dict[str, list[Any]], truth: list[dict[str, Any]]
) -> list[str]:
    """Each lost charge whose outcome a process knew must be in a critical line with its reference.
    This is checked for charges without an earlier response, if nothing killed the process."""
    breaks = next(
        burst.breaks
        for burst in world.plan.bursts
        if any(each.kind == "failover" for each in burst.breaks)
    )
    if any(each.kind in ("kill", "die_at", "terminate", "suspend", "link") for each in breaks):
        return []
    known = {row["reference"] for row in rows["operations"]}
    critical_lines = "".join(
        line for gate in world.gates for line in gate.logs().splitlines() if '"critical"' in line
    )
    answered_amounts = {
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
        and row["invoice_number"] not in critical_lines
        and parse_decimal(row["amount"], "USD").minor not in answered_amounts
    ]


def without_what_was_lost(
    world: World, rows: dict[str, list[Any]], truth: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], set[str]]:
    """Take out everything that began in the lost second: no row explains it, and people correct it
    from the processor's reports. Removes its payments from `rows`; returns the remaining truth,
    and the ids and references of what was taken out."""
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
    remaining = [row for row in truth if row["invoice_number"] in known - beyond]
    return remaining, beyond | {row["invoice_number"] for row in lost}
