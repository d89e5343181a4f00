"""Two weeks of notifications, and what the gateway and its workers ask of them."""

from datetime import timedelta
from typing import Final

import msgspec

from easypay import clock, ids
from easypay.db import work_list
from easypay.notifications import store
from easypay.notifications.accounts import ALL_KEYS
from easypay.notifications.store import NOTIFICATIONS, STORE, Told, Watched
from easypay.processors.notifications import Notification
from plans.world import ACCOUNT, World

_FILL: Final = """
    INSERT INTO notifications (account, notification_id, event_type, reference, received_at)
    SELECT $1, 'n' || n, 'net.authorize.payment.authcapture.created', md5(n::text),
           now() - interval '16 days' + n * interval '45 s'
      FROM generate_series(1, 30000) AS n
"""
_FILL_WORK: Final = """
    INSERT INTO notification_work (account, notification_id, happened, reference, due_at)
    SELECT account, notification_id, 'charge', reference,
           now() + (row_number() OVER () - 50) * interval '1 s'
      FROM notifications LIMIT 3000
"""
_FILL_WEBHOOKS: Final = """
    INSERT INTO account_webhooks
        (account, webhook_id, url, state, looked_below, check_due_at)
    SELECT account, 'w', 'https://example.com', 'active', lowest_id_at(now()),
           now() + row_number() OVER () * interval '1 s' - interval '5 s'
      FROM (SELECT DISTINCT account FROM processor_logins) AS l
"""
_TABLES: Final = ("notifications", "notification_work", "account_webhooks")


async def fill(w: World) -> None:
    """Give an account two weeks of notifications, and every account a webhook."""
    if await w.connection.fetchval("SELECT EXISTS (SELECT FROM notifications)"):
        return
    await w.connection.execute(_FILL, ACCOUNT)
    await w.connection.execute(_FILL_WORK)
    await w.connection.execute(_FILL_WEBHOOKS)
    await w.connection.execute(f"VACUUM ANALYZE {', '.join(_TABLES)}")


async def told(w: World) -> list[Told]:
    """New notifications, as a group stores them."""
    return [
        Told(
            ACCOUNT,
            Notification(
                id=ids.new_id().hex,
                event_type="net.authorize.payment.void.created",
                happened="void",
                reference=ids.reference(ids.new_id()),
            ),
        )
        for _ in range(32)
    ]


async def store_all(w: World) -> None:
    """Store a group of them, twice."""
    items = await told(w)
    for _ in range(2):
        await w.pool.fetch(STORE.sql, *STORE.arguments(items))


async def follow(w: World) -> None:
    """Claim some, and end them."""
    claimed = await work_list.claim(w.pool, NOTIFICATIONS, most=20, lease_s=30)
    assert claimed
    await work_list.finish(w.pool, NOTIFICATIONS, [(work.key, work.attempt) for work in claimed])


async def find(w: World) -> None:
    """Look for an operation, and make its inquiry due."""
    account = await w.connection.fetchval(
        "SELECT account FROM processor_logins WHERE merchant_id = $1 LIMIT 1",
        w.operation.merchant_id,
    )
    known = await store.find(w.pool, account, w.operation.reference, abandoned_after_s=10.0)
    assert known is not None
    await store.ask_now(w.pool, known, abandoned_after_s=10.0)
    await store.read_books_soon(w.pool, account)


async def watch(w: World) -> None:
    """Take an account whose webhook is due, and look at its charges."""
    watched = await store.claim_webhook(w.pool, every_s=300.0, patience_s=600.0)
    assert watched is not None
    since = clock.now() - timedelta(hours=1)
    watched = msgspec.structs.replace(
        watched, account=ACCOUNT, looked_below=ids.lowest_id_at(since)
    )
    assert isinstance(watched, Watched)
    looked, missed = await store.missed(w.pool, watched, 1_000)
    await store.checked(w.pool, watched, "active", looked, len(missed))
    assert await store.webhook_of(w.pool, ACCOUNT) is not None


async def count(w: World) -> None:
    """Count the webhooks by their state."""
    assert await store.counts(w.pool)


async def purge(w: World) -> None:
    """Forget those that are past their time."""
    assert await store.purge(w.pool) > 0


async def read_keys(w: World) -> None:
    """Read every key that signs notifications."""
    assert await w.pool.fetch(ALL_KEYS, ["authorize_net"])
