"""Accounting after a load: the gateway must know each payment it answered for, and the processor
must have each exactly once. Asks the API and, if there is one, the simulator."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

from easypay_bench.http_calls import call
from easypay_bench.loadtest.histograms import Tally

END_WITHIN_S: Final = 90.0
_MOST_SHOWN: Final = 5
_CHARGES: Final = frozenset({"authCaptureTransaction", "authOnlyTransaction"})
Row = Mapping[str, Any]


def check(
    api_url: str,
    api_key: str,
    *,
    since: str,
    tally: Tally,
    simulator_url: str | None,
    login: str | None,
) -> tuple[int, list[str]]:
    """Return how many payments there are, and everything wrong with them, in words.

    `since`: a time before the run, RFC 3339. `login`: the processor account that only this run
    uses; without it, other transactions at the processor cannot be told from ours. Waits until no
    payment is `processing`. Raises StackFailed if nobody answers.
    """
    payments = _ended(api_url, api_key, since)
    rows: list[Row] | None = None
    if simulator_url is not None:
        query = urlencode({"login": login}) if login else ""
        rows = call("GET", f"{simulator_url}/simulator/transactions?{query}")
    wrong = compare(
        payments,
        rows,
        created=tally.payments["create"],
        unanswered=tally.payments["unanswered"],
        ours_alone=login is not None,
    )
    return len(payments), wrong


def _ended(api_url: str, api_key: str, since: str) -> list[Row]:
    """Return all payments since then, once none is processing or that takes too long."""
    give_up_at = time.monotonic() + END_WITHIN_S
    while True:
        payments = list(_payments(api_url, api_key, since))
        still = sum(payment["status"] == "processing" for payment in payments)
        if not still or time.monotonic() > give_up_at:
            return payments
        asyncio.run(asyncio.sleep(1))


def _payments(api_url: str, api_key: str, since: str) -> Iterable[Row]:
    path = f"{api_url}/api/v1/payments?limit=100&created_from={quote(since)}"
    cursor = ""
    while True:
        page = call("GET", f"{path}{cursor}", bearer=api_key)
        yield from page["data"]
        if not page["has_more"]:
            return
        cursor = f"&cursor={page['next_cursor']}"


def compare(
    payments: Sequence[Row],
    rows: Sequence[Row] | None,
    *,
    created: int,
    unanswered: int = 0,
    ours_alone: bool = True,
) -> list[str]:
    """Return every way in which answers, gateway and processor disagree; empty if all is well.

    `created` payments were answered with success, and `unanswered` requests may have made more.
    `rows`: the simulator's transactions, None if there is no simulator.
    """
    wrong: list[str] = []
    if not created <= len(payments) <= created + unanswered:
        wrong.append(f"{created} payments were answered for, the gateway has {len(payments)}")
    statuses = Counter(payment["status"] for payment in payments)
    if statuses["processing"]:
        wrong.append(f"{statuses['processing']} payments are still processing")
    if rows is None:
        return wrong
    by_id: dict[str, list[Row]] = {}
    refunds: dict[str, list[Row]] = {}
    for row in rows:
        if row["type"] == "refundTransaction":
            refunds.setdefault(row["ref_trans_id"] or "", []).append(row)
        else:
            by_id.setdefault(row["trans_id"], []).append(row)
    known = {payment["processor"]["transaction_id"] for payment in payments}
    if ours_alone:
        wrong += _some(
            f"the processor charged {trans_id}, which the gateway does not know"
            for trans_id, of_it in by_id.items()
            if trans_id not in known and any(_approved(row) for row in of_it)
        )
        wrong += _some(
            f"the processor refunded {trans_id}, which the gateway does not know"
            for trans_id, of_it in refunds.items()
            if trans_id not in known and any(_approved(row) for row in of_it)
        )
    wrong += _some(
        f"{payment['id']} is {payment['status']}: {problem}"
        for payment in payments
        for problem in _problems(
            payment,
            by_id.get(payment["processor"]["transaction_id"] or "", []),
            refunds.get(payment["processor"]["transaction_id"] or "", []),
        )
    )
    return wrong


def _problems(payment: Row, rows: Sequence[Row], refunds: Sequence[Row]) -> Iterable[str]:
    charges = [row for row in rows if row["type"] in _CHARGES]
    captures = [row for row in rows if row["type"] == "priorAuthCaptureTransaction"]
    voids = [row for row in rows if row["type"] == "voidTransaction"]
    status = payment["status"]
    refunded = sum(_minor(row["amount"]) for row in refunds if _approved(row))
    undone = status == "captured" and len(voids) == 1 and not refunded
    if undone:  # the processor refunds nothing unsettled: a void returned the full amount
        refunded = payment["captured_amount"]
    if status in ("captured", "authorized", "voided"):
        if len(charges) != 1 or not _approved(charges[0]):
            yield f"{len(charges)} charges at the processor"
        elif _minor(charges[0]["amount"]) != payment["amount"]:
            yield f"charged {charges[0]['amount']}, asked for {payment['amount']}"
        if len(voids) != (status == "voided" or undone):
            yield f"{len(voids)} voids at the processor"
    if status == "captured":
        taken = sum(_minor(row["amount"]) for row in captures or charges)
        if taken != payment["captured_amount"] or len(captures) > 1:
            yield f"captured {taken} there, {payment['captured_amount']} here"
    if status in ("authorized", "declined", "failed") and captures:
        yield "captured at the processor"
    if status in ("declined", "failed") and any(_approved(row) for row in charges):
        yield "approved at the processor"
    if refunded != payment["refunded_amount"]:
        yield f"refunded {refunded} there, {payment['refunded_amount']} here"


def _approved(row: Row) -> bool:
    return bool(row["response_code"] == "1")


def _minor(amount: str) -> int:
    whole, _, cents = amount.partition(".")
    return int(whole) * 100 + int(cents.ljust(2, "0"))


def _some(complaints: Iterable[str]) -> list[str]:
    found = list(complaints)
    more = len(found) - _MOST_SHOWN
    return found[:_MOST_SHOWN] + ([f"... and {more} more like it"] if more > 0 else [])
