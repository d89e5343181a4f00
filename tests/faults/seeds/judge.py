"""The judge: the processor's records, our rows, events, replies and the shops' responses agree."""

import asyncio
import json
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final

from easypay.payments.model import EDGES, REVIEWS
from faults.seeds.batches import lines_agree
from faults.seeds.failover_loss import lost_without_a_log_line, without_what_was_lost
from faults.seeds.intent_checks import intents_kept
from faults.seeds.money import SUCCESS, Money, money_of
from faults.seeds.shops import Attempt, Intent, Shops
from faults.seeds.vault import judge_vault
from faults.seeds.world import World
from harness import audit, one_done_of_two
from harness.sessions import Sessions

_IN_TIME: Final = timedelta(seconds=4)
_TABLES: Final = (
    "payments",
    "operations",
    "events",
    "idempotency_keys",
    "late_charges",
    "unresolved_operations",
    "watched_operations",
    "processor_logins",
)
_LOST_ACCOUNT: Final = frozenset({"16", "33", "E00040"})
"""Codes of an account that did not take the payment."""

_NOT_OURS: Final = ("_maintain_min_size",)
"""Tracebacks of the driver's own pool, which tries to reconnect while it cannot."""


async def judge(world: World, shops: Shops) -> list[str]:
    """Return everything that is wrong, as text; empty if all agree."""
    wrong = [*shops.bugs, *shops.cards.bugs]
    wrong += await _replays(world, shops)
    for number in range(len(shops.merchants)):
        wrong += await _one_shop(world, shops, number)
    wrong += _logs(world)
    wrong += shops.batches.wrong_log()
    return wrong


async def _one_shop(world: World, shops: Shops, number: int) -> list[str]:
    merchant_id = shops.merchants[number]
    truth = [
        row
        for login in shops.logins[number]
        for row in await world.servers.simulator.truth(login=login)
    ]

    async def whole_truth(login: str) -> list[dict[str, Any]]:
        return truth

    rows = {
        table: await world.fetch(f"SELECT * FROM {table} WHERE merchant_id = $1", merchant_id)
        for table in _TABLES
    }
    _keep(world, number, rows, truth)
    beyond: set[str] = set()
    unlogged: list[str] = []
    if world.plan.has_failover:
        unlogged = lost_without_a_log_line(world, shops, rows, truth)
        truth, beyond = without_what_was_lost(world, rows, truth)
    beyond |= _purged(shops, rows)
    sessions = Sessions(world.dsn)
    stack: Any = SimpleNamespace(sessions=sessions, simulator=SimpleNamespace(truth=whole_truth))
    shop: Any = SimpleNamespace(merchant_id=merchant_id, login="")
    audited = await audit(stack, shop)
    sessions.end()
    wrong = unlogged + [
        f"audit: {each}" for each in audited if not any(name in each for name in beyond)
    ]
    money = money_of(truth, rows["operations"])
    wrong += payments_agree(rows, money)
    wrong += _late(rows, truth)
    if world.processor_tells_the_time:
        exact = world.gateways_tell_the_time
        wrong += _believed_too_early(rows, truth, world.settled_at, exact)
    wrong += events_follow(rows)
    wrong += _open(rows)
    if world.plan.has_vault:
        wrong += await judge_vault(world, shops.cards, merchant_id, shops.logins[number])
    own_intents = [each for each in shops.intents.values() if each.shop == number]
    wrong += await lines_agree(world, merchant_id, rows, money)
    wrong += intents_kept(own_intents, rows, money, world.lost_window)
    return [f"shop {number}: {each}" for each in wrong]


def _purged(shops: Shops, rows: dict[str, list[Any]]) -> set[str]:
    """Return what the audit may say because keys were purged; nothing if others are missing too."""
    keys = len(rows["idempotency_keys"])
    asked_for = [row for row in rows["operations"] if row["gives_back"] is None]
    purged = sum(row["id"] in shops.batches.purged for row in asked_for)
    is_all = purged and keys + purged == len(asked_for)
    return {f"{keys} keys but {len(asked_for)} operations"} if is_all else set()


def _keep(world: World, number: int, rows: dict[str, list[Any]], truth: list[Any]) -> None:
    """Write the judged rows and records beside the logs."""
    content = {table: [dict(row) for row in each] for table, each in rows.items()}
    text = json.dumps(content | {"truth": truth}, indent=1, default=str)
    (world.folder / f"shop-{number}.json").write_text(text)


def payments_agree(rows: dict[str, list[Any]], money: dict[Any, list[Money]]) -> list[str]:
    """Compare each payment's row with the processor's charge. A late charge that is held for review
    waits for a person."""
    wrong = []
    before_a_person = {
        row["payment_id"]
        for row in rows["late_charges"]
        if row["state"] == "needs_person" and "review" in row["reason"]
    }
    for payment in rows["payments"]:
        name = f"payment {payment['id']} ({payment['status']})"
        charges = money.get(payment["id"], [])
        live = [each for each in charges if each.is_live]
        if len(live) > 1:
            wrong.append(f"{name}: charged {len(live)} times")
            continue
        has = live[0] if live else None
        status = payment["status"]
        if status in ("failed", "declined", "voided", "expired"):
            if has is not None and has.kept and payment["id"] not in before_a_person:
                wrong.append(f"{name}: the processor keeps {has.kept} of it ({has.status})")
        elif has is None:
            wrong.append(f"{name}: the processor has no charge for it")
        elif status == "captured":
            if (has.captured, has.refunded) != (
                payment["captured_minor"],
                payment["refunded_minor"],
            ):
                wrong.append(
                    f"{name}: captured {payment['captured_minor']}, refunded "
                    f"{payment['refunded_minor']}; the processor {has.captured}, {has.refunded}"
                )
        elif status == "authorized" and (has.captured or has.amount != payment["authorized_minor"]):
            wrong.append(f"{name}: the processor holds {has.amount}, has taken {has.captured}")
        for each in charges:
            if each.refunded > each.captured:
                wrong.append(
                    f"{name}: refunded {each.refunded} of {each.captured} at the processor"
                )
    for each in money.get(None, []):
        wrong.append(f"the processor has {each.trans_id}, which no operation of ours explains")
    return wrong


def _late(rows: dict[str, list[Any]], truth: list[dict[str, Any]]) -> list[str]:
    """Each late charge happened, has an event, and was given back, kept, corrected or handed to a
    person."""
    wrong = []
    done = {row["invoice_number"] for row in truth}
    references = {row["id"]: row["reference"] for row in rows["operations"]}
    found = {each["operation_id"] for each in rows["events"] if each["type"] == "late_charge.found"}
    done |= set(one_done_of_two(truth, rows["operations"]).values())
    for row in rows["late_charges"]:
        name = f"late {row['kind']} {row['operation_id']}"
        if row["operation_id"] not in found:
            wrong.append(f"{name} has no event")
        if row["state"] == "returning":
            wrong.append(f"{name} is still being given back after everything")
        if row["kind"] not in REVIEWS and references[row["operation_id"]] not in done:
            wrong.append(f"{name} is {row['state']} ({row['reason']}), and never happened")
    return wrong


def _believed_too_early(
    rows: dict[str, list[Any]],
    truth: list[dict[str, Any]],
    settled_at: list[datetime],
    gateways_tell_the_time: bool,
) -> list[str]:
    """What the processor did in time was never called absent: proof needs a witness, or longer than
    the ten minutes reports may lag. Only a newly settled charge can be in no list for so long."""
    wrong = []
    done_at: dict[str, datetime] = {}
    for row in truth:
        if row["response_code"] in SUCCESS:
            done_at.setdefault(row["invoice_number"], datetime.fromisoformat(row["submitted_at"]))
    began = {row["id"]: row for row in rows["operations"]}
    for row in rows["late_charges"]:
        operation = began[row["operation_id"]]
        at = done_at.get(operation["reference"])
        if at is None or at - operation["begun_at"] > _IN_TIME:
            continue
        absent = next(
            (
                each["created_at"]
                for each in rows["events"]
                if each["operation_id"] == operation["id"] and each["type"] != "late_charge.found"
            ),
            row["found_at"],
        )
        # The latest moment it can have been called absent. A charge that settled before it was in
        # no list for a while, and may have been missed.
        latest = absent if gateways_tell_the_time else row["found_at"]
        if any(at < each < latest for each in settled_at):
            continue
        wrong.append(
            f"{operation['kind']} {operation['reference']} was called absent "
            f"after the processor had done it at {at}: found late at {row['found_at']}"
        )
    return wrong


def events_follow(rows: dict[str, list[Any]]) -> list[str]:
    """Each event follows from the one before, and the last has the payment's status."""
    wrong = []
    by_payment: dict[Any, list[Any]] = {}
    for event in sorted(rows["events"], key=lambda each: each["written_by"]):
        by_payment.setdefault(event["payment_id"], []).append(event)
    for payment in rows["payments"]:
        own_events = by_payment.get(payment["id"], [])
        is_queued = bool(own_events) and own_events[0]["status"] == "pending"
        at = "pending" if is_queued else "processing"
        for event in own_events:
            if event["status"] != at and (at, event["status"]) not in EDGES:
                wrong.append(
                    f"payment {payment['id']}: an event goes from {at} to {event['status']}"
                )
            at = event["status"]
        if at != payment["status"]:
            wrong.append(f"payment {payment['id']} is {payment['status']}, its last event {at}")
    return wrong


def _open(rows: dict[str, list[Any]]) -> list[str]:
    """No operation stays open, and none went to an account that did not take the payment."""
    wrong = []
    by_method = {row["id"] for row in rows["payments"] if row["payment_method_id"] is not None}
    for operation in rows["operations"]:
        if operation["state"] in ("in_flight", "unknown"):
            wrong.append(
                f"{operation['kind']} {operation['reference']} is {operation['state']} after "
                "everything"
            )
        is_of_method = operation["payment_id"] in by_method and operation["kind"] == "sale"
        if operation["processor_code"] in _LOST_ACCOUNT and not is_of_method:
            wrong.append(
                f"{operation['kind']} {operation['reference']} was asked of an account that did "
                f"not take the payment: {operation['processor_code']}"
            )
    return wrong


async def _replays(world: World, shops: Shops) -> list[str]:
    """Repeat each key at both gateways: a key with an outcome gets the same bytes from both."""
    wrong = []

    async def twice(intent: Intent, attempt: Attempt) -> None:
        got = [await shops.send(intent, attempt, gate, 20) for gate in (0, 1)]
        if any(answer is None for answer in got):
            wrong.append(f"{attempt.key} gets no response although no fault is left")
        elif got[0].status in (200, 201) and (got[0].status, got[0].body) != (  # type: ignore[union-attr]
            got[1].status,  # type: ignore[union-attr]
            got[1].body,  # type: ignore[union-attr]
        ):
            wrong.append(f"{attempt.key} is answered differently by two gateways")

    for number in range(len(shops.merchants)):  # one shop at a time, to keep the load low
        await asyncio.gather(
            *(
                twice(intent, each)
                for intent in shops.intents.values()
                if intent.shop == number
                for each in intent.attempts
            )
        )
    await world.no_call_runs()
    return wrong


def _logs(world: World) -> list[str]:
    """No gateway logged a traceback, as it would for a bug."""
    wrong = []
    for gate in world.gates:
        for line in gate.logs().splitlines():
            if "Traceback" not in line:
                continue
            if any(each in line for each in _NOT_OURS):
                continue
            shown = line.replace("\\n", "\n")
            wrong.append(f"gateway {gate.number} logged a traceback: {shown[:4000]}")
            break
    return wrong
