"""Check the money rules in our rows and in the processor's."""

from collections.abc import Sequence
from typing import Any

from easypay.money import parse_decimal
from easypay.payments.model import CREATES, REVIEWS
from harness.shop import Shop
from harness.stack import Stack

_BY_PARENT = ("void", "capture")
"""Kinds that the processor stores in the transaction they act on."""
_SUCCESS = {"1", "4"}
_DONE_BEFORE = "310"
"""The processor's answer to a void of what is voided already."""
_TABLES = (
    *("payments", "operations", "idempotency_keys", "events", "late_charges"),
    "queued_operations",
)
WIRE_TYPE = {
    "sale": "authCaptureTransaction",
    "authorize": "authOnlyTransaction",
    "capture": "priorAuthCaptureTransaction",
    "void": "voidTransaction",
    "refund": "refundTransaction",
}
"""A review has no row of its own: its decision shows in the payment's row."""


def check_rows(payments: list[Any], operations: list[Any], events: list[Any]) -> list[str]:
    """Return every rule that rows of any shops break by themselves, whatever the processor has.
    Outcomes may be unknown, and keys may be forgotten."""
    by_payment: dict[Any, list[Any]] = {row["id"]: [] for row in payments}
    for operation in sorted(operations, key=lambda o: o["id"]):
        by_payment[operation["payment_id"]].append(operation)
    wrong = _check_events(operations, events)
    for payment in payments:
        wrong += _check_payment(payment, by_payment[payment["id"]], settled=False)
    return wrong


async def audit(
    stack: Stack,
    shop: Shop,
    *,
    settled: bool = True,
    truth: list[dict[str, Any]] | None = None,
    nobody_needed: bool = False,
) -> list[str]:
    """Return every broken money rule of one shop, as text; empty if all hold.

    `settled`: every outcome should be known, so the processor's rows and ours must agree. Otherwise
    only the rules that hold at every commit are checked. `truth`: the processor's rows, for a shop
    that has used several accounts. `nobody_needed`: no late charge may wait for a person.
    """
    payments, operations, keys, events, late_charges, queue = await _rows(stack, shop)
    if truth is None:
        truth = await stack.simulator.truth(login=shop.login)
    operations.sort(key=lambda o: o["id"])
    # An operation that gives a late charge back was asked for by no shop, so it has no key.
    asked_for = [o for o in operations if o["gives_back"] is None]
    wrong = _check_keys(keys, asked_for) + _check_events(operations, events)
    wrong += _check_queue(operations, queue, settled=settled)
    by_payment: dict[Any, list[Any]] = {row["id"]: [] for row in payments}
    for operation in operations:
        if operation["payment_id"] not in by_payment:
            wrong.append(f"operation {operation['id']} has no payment")
    for operation in asked_for:
        by_payment.setdefault(operation["payment_id"], []).append(operation)
    for payment in payments:
        wrong += _check_payment(payment, by_payment[payment["id"]], settled=settled)
    late = {row["operation_id"]: row for row in late_charges}
    ended = {"returned", "closed"} | (set() if nobody_needed else {"needs_person"})
    explained = {key for key, row in late.items() if row["state"] in ended}
    references = {o["reference"]: o for o in operations}
    wrong += _check_truth(truth, references, explained, settled=settled)
    return wrong + _check_late(truth, operations, late, events)


async def assert_nothing_was_done(stack: Stack, shop: Shop) -> None:
    """No request of the shop has left a row here or a transaction at the processor."""
    payments, operations, keys, events, _, queue = await _rows(stack, shop)
    assert payments == operations == keys == events == queue == []
    assert await stack.simulator.truth(login=shop.login) == []


async def _rows(stack: Stack, shop: Shop) -> list[list[Any]]:
    """Return all rows of a shop, table by table."""
    sql = "SELECT * FROM {} WHERE merchant_id = $1"
    async with stack.sessions.session() as connection:
        return [await connection.fetch(sql.format(t), shop.merchant_id) for t in _TABLES]


def _check_keys(keys: list[Any], asked_for: list[Any]) -> list[str]:
    wrong = []
    if len(keys) != len(asked_for):
        wrong.append(f"{len(keys)} keys but {len(asked_for)} operations that a shop asked for")
    if len({key["operation_id"] for key in keys}) != len(keys):
        wrong.append("two keys share an operation")
    return wrong


def _check_events(operations: list[Any], events: list[Any]) -> list[str]:
    """Every ended operation has an event; one that gives a late charge back only if approved. What
    a void ended in the queue shares the void's."""
    with_event = {event["operation_id"] for event in events}
    voided = {event["payment_id"] for event in events if event["type"] == "payment.voided"}
    return [
        f"{o['kind']} {o['id']} has no event"
        for o in operations
        if o["state"] not in ("queued", "in_flight", "unknown", "not_sent")
        and (o["gives_back"] is None or o["state"] == "approved")
        and not (o["state"] == "cancelled" and o["payment_id"] in voided)
        and o["id"] not in with_event
    ]


def _check_queue(operations: list[Any], queue: list[Any], *, settled: bool) -> list[str]:
    """Whatever is queued is on the list, or nobody would ever send it; in the end none is."""
    listed = {row["operation_id"] for row in queue}
    wrong = [
        f"{o['kind']} {o['id']} is queued and not on the list"
        for o in operations
        if o["state"] == "queued" and o["id"] not in listed
    ]
    if settled:
        wrong += [f"{o['kind']} {o['id']} is queued" for o in operations if o["state"] == "queued"]
        wrong += [f"operation {each} is still on the list" for each in listed]
    return wrong


def _check_payment(payment: Any, own: list[Any], *, settled: bool) -> list[str]:
    wrong: list[str] = []
    name = f"payment {payment['id']} ({payment['status']})"
    creates = [o for o in own if o["kind"] in ("sale", "authorize")]
    if len(creates) != 1:
        return [f"{payment['id']} has {len(creates)} creating operations"]
    given_back = [o for o in own if o["kind"] == "refund" and o["state"] == "approved"]
    refunded = sum(o["amount_minor"] for o in given_back if not o["voided"])
    voiding = [o for o in given_back if o["voided"]]
    reserved = sum(
        o["amount_minor"]
        for o in own
        if o["kind"] == "refund" and o["state"] in ("in_flight", "unknown", "not_sent", "held")
    )
    if refunded != payment["refunded_minor"]:
        wrong.append(f"{name}: refunds sum to {refunded}, it says {payment['refunded_minor']}")
    if reserved != payment["refund_reserved_minor"]:
        wrong.append(
            f"{name}: open refunds {reserved}, reserved {payment['refund_reserved_minor']}"
        )
    if refunded + reserved > payment["captured_minor"]:
        wrong.append(f"{name}: more refunded than captured")
    approved = {o["kind"]: o for o in own if o["state"] == "approved"}
    if payment["status"] == "captured":
        taken = approved.get("sale") or approved.get("capture") or approved.get("approve")
        if taken is None or taken["amount_minor"] != payment["captured_minor"]:
            wrong.append(
                f"{name}: captured {payment['captured_minor']} without an operation for it"
            )
    unsent = any(o["state"] == "cancelled" for o in creates)
    if payment["status"] == "pending" and creates[0]["state"] != "queued":
        wrong.append(f"{name}: its operation is {creates[0]['state']}")
    if unsent and payment["status"] not in ("failed", "voided"):
        wrong.append(f"{name}: it ended in the queue")
    undecided = any(o["state"] == "declined" for o in own if o["kind"] in CREATES | REVIEWS)
    if payment["status"] == "voided" and not ("void" in approved or voiding or undecided):
        wrong.append(f"{name}: voided without a void")
    if voiding and (len(voiding) > 1 or payment["status"] != "voided" or payment["captured_minor"]):
        wrong.append(f"{name}: a refund voided it, and money is left, or it did so twice")
    if any(o["voided"] for o in own if o not in voiding):
        wrong.append(f"{name}: something else than a refund says that it voided it")
    if payment["status"] in ("declined", "failed") and {"sale", "authorize"} & set(approved):
        wrong.append(f"{name}: its operation was approved")
    if settled and payment["active_operation"] is not None:
        wrong.append(f"{name}: still held by {payment['active_operation']}")
    if settled and payment["status"] in ("pending", "processing"):
        wrong.append(f"{name}: outcome still unknown")
    return wrong


def one_done_of_two(truth: list[dict[str, Any]], operations: Sequence[Any]) -> dict[str, str]:
    """Find voids of one transaction, or captures of it for one amount, where the processor did one
    and our rows name another. Return the reference of the one named by that of the one done.

    A full refund before settlement counts as a void. A transaction's details do not say which
    request voided or captured it, nor does the reply that it was voided before. If one request was
    called absent and came late before another with the same effect had its outcome, nobody can tell
    them apart. Both sides then have one effect. If a second one was done there or approved here, it
    is not such a pair.
    """
    done = {row["invoice_number"] for row in truth if row["response_code"] in _SUCCESS}
    voids = {row["invoice_number"] for row in truth if row["type"] == WIRE_TYPE["void"]}
    by_effect: dict[Any, list[Any]] = {}
    for operation in operations:
        kind = operation["kind"]
        if kind == "refund" and (operation["voided"] or operation["reference"] in voids):
            kind = "void"
        if operation["parent_transaction_id"] is not None and kind in _BY_PARENT:
            amount = operation["amount_minor"] if kind == "capture" else None
            effect = (operation["parent_transaction_id"], kind, amount)
            by_effect.setdefault(effect, []).append(operation)
    pairs: dict[str, str] = {}
    for alike in by_effect.values():
        at_processor = [o for o in alike if o["reference"] in done]
        in_rows = [o for o in alike if o["state"] == "approved"]
        if len(at_processor) != 1 or len(in_rows) != 1 or at_processor[0]["state"] != "absent":
            continue
        named = in_rows[0]
        found = '"inquiry"' in (named["evidence"] or "") or named["processor_code"] == _DONE_BEFORE
        if named["reference"] not in done and found:
            pairs[at_processor[0]["reference"]] = named["reference"]
    return pairs


def _check_truth(
    truth: list[dict[str, Any]], references: dict[str, Any], late: set[Any], *, settled: bool
) -> list[str]:
    """`late`: operations whose late charge has ended, so not those still being given back."""
    wrong: list[str] = []
    pairs = one_done_of_two(truth, list(references.values()))
    done: dict[str, list[dict[str, Any]]] = {}
    for row in truth:
        if row["response_code"] in _SUCCESS:
            done.setdefault(row["invoice_number"], []).append(row)
    for reference, rows in done.items():
        operation = references.get(reference)
        if operation is None:
            wrong.append(f"the processor has {reference}, which we never asked for")
            continue
        kind = operation["kind"]
        taken_back = [row for row in rows if kind in CREATES and row["type"] == WIRE_TYPE["void"]]
        rows = [row for row in rows if row not in taken_back]
        if len(rows) != 1:
            wrong.append(f"the processor did {kind} {reference} {len(rows)} times")
            continue
        row = rows[0]
        # Of a pair, the details do not say which request was done, nor its type.
        right_type = WIRE_TYPE["void" if operation["voided"] else kind]
        if row["type"] != right_type and reference not in pairs:
            wrong.append(f"{reference} is a {kind}, the processor did {row['type']}")
        minor = parse_decimal(row["amount"], operation["currency"]).minor
        if kind != "void" and minor != operation["amount_minor"] and not taken_back:
            wrong.append(f"{reference}: {operation['amount_minor']} asked, {minor} done")
        if taken_back and operation["state"] == "approved":
            wrong.append(f"{reference} is approved, but was taken back at once")
        # A charge that was held and then voided or expired took no money, whatever its state.
        over = kind in CREATES and row["status"] in ("voided", "expired")
        over = over or operation["id"] in late or reference in pairs
        if settled and operation["state"] not in ("approved", "held") and not over:
            wrong.append(f"{reference} is {operation['state']}, but the processor did it")
    unsent = {o["payment_id"] for o in references.values() if o["state"] == "cancelled"}
    for reference, operation in references.items():
        if operation["state"] in ("queued", "cancelled") and reference in done:
            wrong.append(f"{reference} is {operation['state']}, but the processor did it")
        if operation["kind"] == "void" and operation["payment_id"] in unsent:
            continue  # it ended a payment that had not been sent
        by_review = operation["kind"] in REVIEWS
        explained = reference in done or reference in pairs.values()
        if operation["state"] == "approved" and not explained and not by_review:
            wrong.append(f"{reference} is approved, but the processor never did it")
    return wrong


def _check_late(
    truth: list[dict[str, Any]], operations: list[Any], late: dict[Any, Any], events: list[Any]
) -> list[str]:
    """Every late charge has its events, and one given back is gone at the processor, too."""
    wrong: list[str] = []
    by_id = {o["id"]: o for o in operations}
    recorded = {(event["operation_id"], event["type"]) for event in events}
    for operation_id, row in late.items():
        operation = by_id[operation_id]
        name = f"late charge {operation['reference']}"
        if (operation_id, "late_charge.found") not in recorded:
            wrong.append(f"{name} has no event")
        if row["state"] != "returned":
            continue
        back = {
            o["reference"]: o
            for o in operations
            if o["gives_back"] == operation_id and o["state"] == "approved"
        }
        if len(back) != 1:
            wrong.append(f"{name} was given back by {len(back)} operations")
        if not all((o["id"], "late_charge.returned") in recorded for o in back.values()):
            wrong.append(f"{name} was given back without an event")
        left = 0
        for done in truth:
            if done["response_code"] not in _SUCCESS or done["status"] in ("voided", "expired"):
                continue
            minor = parse_decimal(done["amount"], "USD").minor
            if done["invoice_number"] == operation["reference"]:
                left += minor if done["type"] != WIRE_TYPE["void"] else 0
            elif done["invoice_number"] in back and done["type"] == WIRE_TYPE["refund"]:
                left -= minor
        if left:
            wrong.append(f"{name} says it was given back, and {left} is left at the processor")
    return wrong
