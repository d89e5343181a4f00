"""What the statistics should say, counted in plain Python over the rows of payments and events.

It shares nothing with the statements that count: it knows what a void undid from the events before
it, and days from `zoneinfo`.
"""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from easypay import ids
from easypay.payments.statistics import Question, Statistics

QUARTER = timedelta(minutes=15)


def local_start(day: date, zone: str) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def edges(question: Question, zone: str) -> list[datetime]:
    """Return where the buckets begin, and where the last ends."""
    since, until = question.since, question.until
    found: set[datetime] = set()
    if question.interval == "hour":
        moment = datetime(2000, 1, 1, tzinfo=UTC)
        moment += (since - moment) // QUARTER * QUARTER
        while moment < until:
            if moment.astimezone(ZoneInfo(zone)).minute == 0:
                found.add(moment)
            moment += QUARTER
    elif question.interval != "none":
        day = since.date() - timedelta(days=40)
        while day <= until.date() + timedelta(days=2):
            begins = {"day": True, "week": day.weekday() == 0, "month": day.day == 1}
            if begins[question.interval]:
                found.add(local_start(day, zone))
            day += timedelta(days=1)
    return [since, *sorted(each for each in found if since < each < until), until]


def flow_of(event: Any, before: list[Any], payment: Any) -> tuple[str | None, int]:
    """Return what an event counts as, and its amount. `before`: the payment's earlier events."""
    captures = [each["amount_minor"] for each in before if each["type"] == "payment.captured"]
    kind, amount = event["type"], event["amount_minor"]
    match kind:
        case "payment.captured":
            return ("sold" if payment["capture"] == "automatic" else "captured"), amount
        case "payment.voided":
            return ("undone", captures[-1]) if captures else ("voided", amount)
        case "refund.succeeded":
            return ("undone" if event["status"] == "voided" else "refunded"), amount
        case "payment.authorized" | "payment.declined" | "payment.failed" | "payment.in_review":
            return kind.removeprefix("payment."), amount
        case "payment.expired":
            return "expired", amount
        case _:
            return None, 0


Counted = dict[tuple[int, str, str | None, str], tuple[int, int]]


async def expected(connection: Any, question: Question, zone: str) -> Counted:
    """Count the rows. Returns count and amount by bucket, currency, brand and counter."""
    who = question.merchant_id, question.mode
    payments = {
        row["id"]: row
        for row in await connection.fetch(
            "SELECT * FROM payments WHERE merchant_id = $1 AND mode = $2", *who
        )
    }
    events = await connection.fetch(
        "SELECT * FROM events WHERE merchant_id = $1 AND mode = $2 ORDER BY created_at, id", *who
    )
    unknown = {
        row[0]
        for row in await connection.fetch(
            "SELECT payment_id FROM unresolved_operations WHERE merchant_id = $1", who[0]
        )
    }
    buckets = edges(question, zone)
    found: dict[tuple[int, str, str | None, str], list[int]] = defaultdict(lambda: [0, 0])

    def add(at: datetime, payment: Any, counter: str, amount: int) -> None:
        if not question.since <= at < question.until:
            return
        bucket = max(n for n, edge in enumerate(buckets) if edge <= at)
        brand = (payment["card_brand"] or "") if question.by_brand else None
        each = found[bucket, payment["currency"], brand, counter]
        each[0] += 1
        each[1] += amount

    before: dict[Any, list[Any]] = defaultdict(list)
    for event in events:
        payment = payments[event["payment_id"]]
        flow, amount = flow_of(event, before[payment["id"]], payment)
        before[payment["id"]].append(event)
        if flow is not None:
            add(event["created_at"], payment, flow, amount)
        if flow == "declined":
            add(event["created_at"], payment, f"code {payment['decline_code'] or ''}", 0)
    for payment in payments.values():
        if payment["status"] != "processing" or payment["id"] in unknown:
            at = ids.moment_of(payment["id"])
            add(at, payment, f"now_{payment['status']}", payment["amount_minor"])
    return {key: (count, amount) for key, (count, amount) in found.items()}


def told(statistics: Statistics) -> Counted:
    """Return an answer in the form of `expected`."""
    found: Counted = {}
    for number, bucket in enumerate(statistics.buckets):
        for (currency, brand), tally in bucket.tallies.items():
            for counter, each in tally.counters.items():
                found[number, currency, brand, counter] = (each.count, each.minor)
            for code, count in tally.decline_codes.items():
                found[number, currency, brand, f"code {code}"] = (count, 0)
    return found
