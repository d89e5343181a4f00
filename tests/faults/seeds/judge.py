"""The judge: the processor's truth, our rows, events, replies and what shops were told agree."""

import asyncio
import json
import math
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final

from easypay.money import parse_decimal
from easypay.payments.model import REVIEWS
from easypay.payments.status import EDGES
from faults.seeds.shops import Attempt, Intent, Shops
from faults.seeds.world import World
from harness import audit

_IN_TIME: Final = timedelta(seconds=4)
_LONGEST_LAG: Final = timedelta(minutes=13)
"""Of a batch, with room for the wrong clock of the gateway that stamps events."""
_TABLES: Final = (
    "payments",
    "operations",
    "events",
    "idempotency_keys",
    "late_charges",
    "unresolved_operations",
    "watched_operations",
)
_SUCCESS: Final = frozenset({"1", "4"})
_DEAD: Final = frozenset({"voided", "expired", "declined", "failedReview", "generalError"})
_LOST_ACCOUNT: Final = frozenset({"16", "33", "E00040"})
"""What another account than the one that took the payment says of it."""

_NOT_OURS: Final = ("_maintain_min_size",)
"""Tracebacks of the driver's own pool, which tries to keep a connection while none can be had."""


async def judge(world: World, shops: Shops) -> list[str]:
    """Everything that is wrong, in words; empty when all agree."""
    wrong = list(shops.bugs)
    wrong += await _replays(world, shops)
    for number in range(len(shops.merchants)):
        wrong += await _one_shop(world, shops, number)
    wrong += _logs(world)
    return wrong


async def _one_shop(world: World, shops: Shops, number: int) -> list[str]:
    merchant_id = shops.merchants[number]
    truth = [
        row
        for login in shops.logins[number]
        for row in await world.ground.simulator.truth(login=login)
    ]

    async def whole_truth(login: str) -> list[dict[str, Any]]:
        return truth

    rows = {
        table: await world.fetch(f"SELECT * FROM {table} WHERE merchant_id = $1", merchant_id)
        for table in _TABLES
    }
    _keep(world, number, rows, truth)
    beyond: set[str] = set()
    if world.plan.has_failover:
        truth, beyond = _without_what_was_lost(world, rows, truth)
    stack: Any = SimpleNamespace(dsn=world.dsn, simulator=SimpleNamespace(truth=whole_truth))
    shop: Any = SimpleNamespace(merchant_id=merchant_id, login="")
    audited = await audit(stack, shop)
    wrong = [f"audit: {each}" for each in audited if not any(name in each for name in beyond)]
    money = _money_of(truth, rows["operations"])
    wrong += _payments(rows, money)
    wrong += _late(rows, truth)
    if world.processor_tells_the_time:
        wrong += _believed_too_early(rows, truth, world.settled_at)
    wrong += _events(rows)
    wrong += _open(rows)
    mine = [each for each in shops.intents.values() if each.shop == number]
    wrong += _intents(mine, rows, money, world.lost_window)
    return [f"shop {number}: {each}" for each in wrong]


def _keep(world: World, number: int, rows: dict[str, list[Any]], truth: list[Any]) -> None:
    """All that was judged, beside the logs."""
    kept = {table: [dict(row) for row in each] for table, each in rows.items()}
    text = json.dumps(kept | {"truth": truth}, indent=1, default=str)
    (world.folder / f"shop-{number}.json").write_text(text)


def _without_what_was_lost(
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
    for table in ("operations", "events", "idempotency_keys"):
        rows[table] = [row for row in rows[table] if row["payment_id"] not in payments]
    kept = [row for row in truth if row["invoice_number"] in known - beyond]
    return kept, beyond | {row["invoice_number"] for row in lost}


class Money:
    """What the processor says of one charge of ours, in minor units."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.trans_id = row["trans_id"]
        self.status = row["status"]
        self.is_sale = row["type"] == "authCaptureTransaction"
        self.amount = parse_decimal(row["amount"], "USD").minor
        self.captured = self.amount if self.is_sale else 0
        self.refunded = 0

    @property
    def is_live(self) -> bool:
        """Money is held or taken."""
        return self.status not in _DEAD

    @property
    def kept(self) -> int:
        """What the shop has of it in the end; what is held counts, too."""
        if not self.is_live:
            return 0
        return (self.captured or self.amount) - self.refunded


def _money_of(truth: list[dict[str, Any]], operations: list[Any]) -> dict[Any, list[Money]]:
    """Charges by payment."""
    payment_of = {each["reference"]: each["payment_id"] for each in operations}
    charges: dict[str, Money] = {}
    found: dict[Any, list[Money]] = {}
    for row in truth:
        if row["response_code"] not in _SUCCESS:
            continue
        if row["type"] in ("authCaptureTransaction", "authOnlyTransaction"):
            money = charges[row["trans_id"]] = Money(row)
            found.setdefault(payment_of.get(row["invoice_number"]), []).append(money)
        elif row["type"] == "priorAuthCaptureTransaction":
            charges[row["trans_id"]].captured = parse_decimal(row["amount"], "USD").minor
        elif (
            row["type"] == "refundTransaction"
            and row["status"] not in _DEAD
            and row["ref_trans_id"] in charges
        ):
            charges[row["ref_trans_id"]].refunded += parse_decimal(row["amount"], "USD").minor
    return found


def _payments(rows: dict[str, list[Any]], money: dict[Any, list[Money]]) -> list[str]:
    """Row by row: what we say of a payment is what the processor has."""
    wrong = []
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
            if has is not None and has.kept:
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
    """A late charge happened, has an event, and an end: given back, kept, corrected, or a person
    who is needed."""
    wrong = []
    done = {row["invoice_number"] for row in truth}
    references = {row["id"]: row["reference"] for row in rows["operations"]}
    told = {each["operation_id"] for each in rows["events"] if each["type"] == "late_charge.found"}
    for row in rows["late_charges"]:
        name = f"late {row['kind']} {row['operation_id']}"
        if row["operation_id"] not in told:
            wrong.append(f"{name} has no event")
        if row["state"] == "returning":
            wrong.append(f"{name} is still being given back after everything")
        if row["kind"] not in REVIEWS and references[row["operation_id"]] not in done:
            wrong.append(f"{name} is {row['state']} ({row['reason']}), and never happened")
    return wrong


def _believed_too_early(
    rows: dict[str, list[Any]], truth: list[dict[str, Any]], settled_at: list[datetime]
) -> list[str]:
    """What the processor did in time was never called absent: reports lag ten minutes at most, and
    proof takes longer, or a witness. Only what had just settled may be in no list for so long."""
    wrong = []
    done_at: dict[str, datetime] = {}
    for row in truth:
        if row["response_code"] in _SUCCESS:
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
            None,
        )
        if absent is None or any(absent - each < _LONGEST_LAG for each in settled_at if each > at):
            continue
        wrong.append(
            f"{operation['kind']} {operation['reference']} was called absent "
            f"{(absent - at).total_seconds():.0f} s after the processor had done it"
        )
    return wrong


def _events(rows: dict[str, list[Any]]) -> list[str]:
    """Events tell each payment's way, step by step, to where it is."""
    wrong = []
    by_payment: dict[Any, list[Any]] = {}
    for event in sorted(rows["events"], key=lambda each: each["written_by"]):
        by_payment.setdefault(event["payment_id"], []).append(event)
    for payment in rows["payments"]:
        mine = by_payment.get(payment["id"], [])
        at = "processing"
        for event in mine:
            if event["status"] != at and (at, event["status"]) not in EDGES:
                wrong.append(
                    f"payment {payment['id']}: an event goes from {at} to {event['status']}"
                )
            at = event["status"]
        if at != payment["status"]:
            wrong.append(f"payment {payment['id']} is {payment['status']}, its last event {at}")
    return wrong


def _open(rows: dict[str, list[Any]]) -> list[str]:
    """Nothing waits for ever."""
    wrong = []
    for operation in rows["operations"]:
        if operation["state"] in ("in_flight", "unknown"):
            wrong.append(
                f"{operation['kind']} {operation['reference']} is {operation['state']} after "
                "everything"
            )
        if operation["processor_code"] in _LOST_ACCOUNT:
            wrong.append(
                f"{operation['kind']} {operation['reference']} was asked of an account that did "
                f"not take the payment: {operation['processor_code']}"
            )
    return wrong


def _intents(
    intents: list[Intent],
    rows: dict[str, list[Any]],
    money: dict[Any, list[Money]],
    lost_window: tuple[float, float],
) -> list[str]:
    """What a shop wants once happens once, and is what the shop was told. What it was told by a
    primary that nobody followed any more does not count."""
    begins, ends = lost_window
    wrong = []
    keys = {row["key"]: row for row in rows["idempotency_keys"]}
    operations = {row["id"]: row for row in rows["operations"]}
    for intent in intents:
        name = f"{intent.kind} {intent.number}"
        done = [keys[each.key] for each in intent.attempts if each.key in keys]
        if intent.kind == "buy":
            kept = [
                each for row in done for each in money.get(row["payment_id"], []) if each.kept > 0
            ]
            if len(kept) > 1 + intent.impatient_keys:
                wrong.append(f"{name} is charged {len(kept)} times, under {len(done)} keys")
        for attempt in intent.attempts:
            if any(begins <= each.told_at and each.asked_at <= ends for each in attempt.answers):
                continue
            row = keys.get(attempt.key)
            if row is None and begins < math.inf:
                continue  # lost, or what was lost concerns it
            operation = operations[row["operation_id"]] if row else None
            wrong += [f"{name}: {each}" for each in _told(attempt, operation)]
        approved = [
            o for row in done if (o := operations[row["operation_id"]])["state"] == "approved"
        ]
        if intent.kind in ("refund", "capture", "void") and len(approved) > 1:
            wrong.append(f"{name} was done {len(approved)} times")
    return wrong


def _told(attempt: Attempt, operation: Any) -> list[str]:
    """One key: whoever was told an outcome is told it for ever, and it is what happened."""
    wrong = []
    outcome = attempt.outcome
    if outcome is None:
        return wrong
    later = [each for each in attempt.answers if each.asked_at > outcome.told_at]
    for answer in later:
        if (answer.status, answer.body) != (outcome.status, outcome.body) and answer.status not in (
            429,
            503,
        ):
            wrong.append(
                f"{attempt.key} was answered {outcome.status} {outcome.body!r:.200}, and later "
                f"{answer.status} {answer.body!r:.200}"
            )
            break
    if operation is None:
        wrong.append(f"{attempt.key} was answered {outcome.status}, and its key is gone")
        return wrong
    if operation["reply_body"] != outcome.body:
        wrong.append(f"{attempt.key}: the reply we keep is not the one that was given")
    told = outcome.json["status"]
    state = operation["state"]
    good = told in ("captured", "authorized", "voided", "succeeded")
    if good and state not in ("approved", "held"):
        wrong.append(f"{attempt.key} was told {told}, and its operation is {state}")
    if told == "declined" and state != "declined":
        wrong.append(f"{attempt.key} was told {told}, and its operation is {state}")
    return wrong


async def _replays(world: World, shops: Shops) -> list[str]:
    """Every key once more at both gateways: the same bytes for whoever was told an outcome."""
    wrong = []

    async def twice(intent: Intent, attempt: Attempt) -> None:
        got = [await shops.send(intent, attempt, gate, 20) for gate in (0, 1)]
        if any(answer is None for answer in got):
            wrong.append(f"{attempt.key} gets no answer, though all is quiet")
        elif got[0].status in (200, 201) and (got[0].status, got[0].body) != (  # type: ignore[union-attr]
            got[1].status,  # type: ignore[union-attr]
            got[1].body,  # type: ignore[union-attr]
        ):
            wrong.append(f"{attempt.key} is answered differently by two gateways")

    for number in range(len(shops.merchants)):  # all at once is no quiet
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
    """A gateway that met a bug says so with a traceback."""
    wrong = []
    for gate in world.gates:
        for line in gate.said().splitlines():
            if "Traceback" not in line:
                continue
            if any(each in line for each in _NOT_OURS):
                continue
            shown = line.replace("\\n", "\n")
            wrong.append(f"gateway {gate.number} logged a traceback: {shown[:4000]}")
            break
    return wrong
