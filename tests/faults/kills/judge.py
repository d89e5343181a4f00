"""The judge: processor, rows, events, webhooks, feed and answers agree after everything."""

import asyncio
import uuid
from collections import Counter
from typing import Any, Final

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from easypay import ids
from faults.kills.shop import Asked, Endpoint, RoundShop
from faults.kills.world import World
from faults.seeds.judge import events_follow, payments_agree
from faults.seeds.money import money_of
from harness import audit, payment_uuid

_TABLES: Final = ("payments", "operations", "events", "idempotency_keys", "late_charges")
_MOST_REPEATED: Final = 30
_NOT_OURS: Final = ("_maintain_min_size",)
"""Tracebacks of the driver's own pool, which tries to reconnect while it cannot."""
_FEED: Final = """
    SELECT e.id, e.payment_id, e.type FROM feed f
      JOIN streams s USING (stream)
      JOIN events e ON e.merchant_id = s.merchant_id AND e.id = f.event_id
                   AND e.payment_id = f.payment_id
     WHERE s.merchant_id = $1 ORDER BY f.position
"""
_DELIVERED: Final = """
    SELECT event_id, count(*) FROM webhook_attempts
     WHERE merchant_id = $1 AND endpoint_id = $2 AND outcome = 'delivered' GROUP BY event_id
"""


async def judge(world: World, shop: RoundShop) -> list[str]:
    """Return everything that is wrong, as text; empty if all agree."""
    wrong = list(shop.bugs)
    rows = {
        table: await world.fetch(f"SELECT * FROM {table} WHERE merchant_id = $1", shop.merchant_id)
        for table in _TABLES
    }
    truth = await world.simulator.truth(login=shop.login)
    wrong += [f"audit: {each}" for each in await audit(world.stack, shop.shops[0])]
    wrong += payments_agree(rows, money_of(truth, rows["operations"]))
    wrong += events_follow(rows)
    wrong += _orders(shop, rows)
    feed = await world.fetch(_FEED, shop.merchant_id)
    if len(feed) != len(rows["events"]):
        wrong.append(f"{len(rows['events'])} events, but {len(feed)} in the feed")
    for endpoint in shop.endpoints:
        delivered = await world.fetch(_DELIVERED, shop.merchant_id, endpoint.id)
        found = _arrived(shop, endpoint, feed) + _recorded(endpoint, feed, delivered)
        wrong += [f"endpoint {endpoint.path}: {each}" for each in found]
    wrong += await _read(shop, feed)
    wrong += await _repeats(shop)
    wrong += _logs(world)
    return wrong


def _orders(shop: RoundShop, rows: dict[str, list[Any]]) -> list[str]:
    """Every accepted order is one payment, and there is no other."""
    wrong = []
    by_id = {row["id"]: row for row in rows["payments"]}
    operations = {row["id"]: row for row in rows["operations"]}
    keys = {row["key"]: row for row in rows["idempotency_keys"]}
    accepted = {payment_uuid(each.answer["id"]): each for each in shop.payments}
    if len(accepted) != len(shop.payments):
        wrong.append("two orders got the same payment")
    for payment_id, asked in accepted.items():
        row = by_id.get(payment_id)
        if row is None:
            wrong.append(f"{asked.key} was accepted as {asked.answer['id']}, which is lost")
        elif row["amount_minor"] != asked.body["amount"]:
            wrong.append(f"{asked.key}: {row['amount_minor']} instead of {asked.body['amount']}")
    orders = {each.key for each in shop.asked if each.path == "/payments"}
    for key, row in keys.items():
        if operations[row["operation_id"]]["kind"] in ("sale", "authorize") and key not in orders:
            wrong.append(f"payment {row['payment_id']} was made for the key {key}")
    for asked in shop.asked:
        if asked.accepted and asked.key not in keys:
            wrong.append(f"{asked.key} was accepted and is lost")
    return wrong


def _arrived(shop: RoundShop, endpoint: Endpoint, feed: list[Any]) -> list[str]:
    """Every event that the endpoint wants has arrived, signed, and in order per payment. What comes
    again is the same."""
    wrong = []
    wanted = [row for row in feed if not endpoint.types or row["type"] in endpoint.types]
    names = {ids.typed(ids.EVENT, row["id"]): row for row in wanted}
    first: dict[str, bytes] = {}
    for got in shop.got(endpoint):
        try:
            Webhook(endpoint.secret).verify(got.body, got.headers)
        except WebhookVerificationError as error:
            wrong.append(f"{got.id} does not verify: {error}")
        if first.setdefault(got.id, got.body) != got.body:
            wrong.append(f"{got.id} has come with two bodies")
    wrong += [f"{each} never came" for each in names if each not in first]
    wrong += [f"{each} came, and is no event that it wants" for each in first if each not in names]
    orders: tuple[dict[uuid.UUID, list[str]], dict[uuid.UUID, list[str]]] = ({}, {})
    for order, came in zip(orders, (names, first), strict=True):
        for name in came:
            if name in names:
                order.setdefault(names[name]["payment_id"], []).append(name)
    for payment, expected in orders[0].items():
        came_in = orders[1].get(payment, [])
        if came_in != [each for each in expected if each in first]:
            wrong.append(f"payment {payment}: {came_in} came instead of {expected}")
    return wrong


def _recorded(endpoint: Endpoint, feed: list[Any], delivered: list[Any]) -> list[str]:
    """Each event has one delivery in the log."""
    counts = Counter({row["event_id"]: row["count"] for row in delivered})
    return [
        f"{row['type']} {row['id']} has {counts[row['id']]} deliveries in the log"
        for row in feed
        if (not endpoint.types or row["type"] in endpoint.types) and counts[row["id"]] != 1
    ]


async def _read(shop: RoundShop, feed: list[Any]) -> list[str]:
    """Whoever followed the feed all the time, and whoever reads it now, has each event once and in
    its order."""
    wrong = []
    expected = [ids.typed(ids.EVENT, row["id"]) for row in feed]
    now: list[dict[str, Any]] = []
    params = {"limit": "100"}
    while True:
        page = (await shop.shops[0].client.get("/events", params=params)).json()
        if not page["data"]:
            break
        now += page["data"]
        params["after"] = page["next_cursor"]
    for who, events in (("who followed", shop.follower.got), ("who reads now", now)):
        names = [event["id"] for event in events]
        if names != expected:
            missing = [each for each in expected if each not in names]
            twice = [name for name, count in Counter(names).items() if count > 1]
            more = [each for each in names if each not in expected]
            wrong.append(f"{who} misses {missing}, has twice {twice}, has more {more}")
        versions: dict[str, list[int]] = {}
        for event in events:
            versions.setdefault(event["payment_id"], []).append(event["data"]["version"])
        wrong += [
            f"{who} sees {payment} in the versions {each}"
            for payment, each in versions.items()
            if each != sorted(each)
        ]
    return wrong


async def _repeats(shop: RoundShop) -> list[str]:
    """Repeat accepted requests at each gateway: both give the same, and no other payment."""
    accepted = [each for each in shop.asked if each.accepted][-_MOST_REPEATED:]
    at_once = asyncio.Semaphore(8)

    async def repeated(asked: Asked) -> list[str]:
        async with at_once:
            return await shop.repeated(asked)

    found = await asyncio.gather(*map(repeated, accepted))
    return [wrong for each in found for wrong in each]


def _logs(world: World) -> list[str]:
    """No process logged a traceback, as it would for a bug, and none ended by itself."""
    wrong = []
    for member in world.members.values():
        wrong += member.unexpected
        for line in member.logs().splitlines():
            if "Traceback" in line and not any(each in line for each in _NOT_OURS):
                shown = line.replace("\\n", "\n")
                wrong.append(f"{member.name} logged a traceback: {shown[:4000]}")
                break
    return wrong
