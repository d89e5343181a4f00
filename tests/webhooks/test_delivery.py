"""Every event reaches every endpoint that wants it: at least once, in order, whoever else fails."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from easypay import clock, ids
from easypay.clock import monotonic
from easypay.customers import store
from easypay.customers.model import Asked, CustomerFields
from easypay.db import work_list
from easypay.db.connections import Lane
from easypay.db.embedded import Cluster
from easypay.db.failures import ConnectionLost
from easypay.db.pool import Pool, open_pool
from easypay.errors import ValidationFailed
from easypay.events import numbering
from easypay.merchants import admin
from easypay.merchants.vault import Vault, new_encryption_key
from easypay.mode import Mode
from easypay.webhooks import (
    delivery,
    endpoints,
    log,
    queue,
    recent,
    redelivery,
    sent_requests,
)
from easypay.webhooks.addresses import AllowedNames, networks
from easypay.webhooks.delivery import Deliverer
from easypay.webhooks.fan_out import FanOut
from easypay.webhooks.http_sender import HttpSender
from easypay.webhooks.model import DISABLED, MOST_ENDPOINTS, Delivery, Endpoint
from easypay.webhooks.queue import DELIVERIES
from harness import new_database, until
from harness.processes import ENCRYPTION_KEY
from harness.shop import random_name
from webhooks.receiver import Got, Receiver, receiving

LOOPBACK = networks(["127.0.0.0/8", "::1/128"])
INSERT = """
    INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status, amount_minor,
        currency, created_at)
    SELECT $1, id, $2, id, 'test', $4, 'captured', 100, 'USD', now()
      FROM unnest($3::uuid[]) AS id
"""


class Bench:
    """A database with a merchant, whose events a test writes, and workers that deliver them."""

    def __init__(self, dsn: str, pool: Pool, receiver: Receiver, merchant_id: UUID) -> None:
        self.dsn = dsn
        self.pool = pool
        self.receiver = receiver
        self.merchant_id = merchant_id
        self.vault = Vault(ENCRYPTION_KEY)
        self.feed = Lane(dsn, "feed", numbering.in_month, lookups=True)

    async def endpoint(self, path: str = "/", **more: Any) -> tuple[Endpoint, str]:
        """Create an endpoint at the receiver."""
        async with self.pool.acquire() as connection:
            return await endpoints.create(
                connection,
                self.vault,
                self.merchant_id,
                Mode.TEST,
                url=self.receiver.url + path,
                private=LOOPBACK,
                **more,
            )

    async def happen(
        self, count: int = 1, *, payment: UUID | None = None, kind: str = "payment.captured"
    ) -> list[str]:
        """Let events of one payment happen. Return their ids as messages have them."""
        made = [ids.new_id() for _ in range(count)]
        await self.pool.execute(INSERT, self.merchant_id, payment or made[0], made, kind)
        for mark in await numbering.marks(self.pool):
            done = await numbering.number(self.feed, mark, transactions=1 << 40, most=1 << 40)
            assert done.mark is not None
        return [ids.typed(ids.EVENT, each) for each in made]

    def lane(self, sql: str) -> Lane:
        """Return a connection for one statement, as a worker has it."""
        return Lane(self.dsn, "test", lambda _: sql, lookups=True, settings=queue.LANE_SETTINGS)

    @asynccontextmanager
    async def working(self, **more: Any) -> AsyncIterator[Deliverer]:
        """Run a worker for the length of a block."""
        worker = Deliverer(
            pool=self.pool,
            dsn=self.dsn,
            vault=self.vault,
            sender=HttpSender(AllowedNames(LOOPBACK)),
            **more,
        )
        task = asyncio.create_task(worker.run())
        worker.wake()
        try:
            yield worker
        finally:
            await worker.stop(1.0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def arrived(self, count: int, path: str = "/") -> list[Got]:
        """Wait until so many messages have arrived at a path, and are recorded."""

        async def enough() -> bool:
            return len(self.receiver.of(path)) >= count

        await until(enough, what=("messages", self.receiver.got))
        return self.receiver.of(path)

    async def left(self, count: int = 0) -> None:
        """Wait until everything is fanned out and so many deliveries are left."""

        async def so() -> bool:
            behind = await self.pool.fetchval(
                "SELECT h.last_seq - r.last_seq FROM feed_head h, feed_readers r"
                " WHERE name = 'webhooks'"
            )
            found = await self.pool.fetchval("SELECT count(*) FROM webhook_deliveries")
            return bool(found == count and not behind)

        await until(so, what="deliveries left")

    async def due_now(self) -> None:
        """Let the time pass until everything is due."""
        await self.pool.execute("UPDATE webhook_deliveries SET due_at = now()")

    async def attempts(self, endpoint: Endpoint) -> list[log.Attempt]:
        """Return what the log has of an endpoint, oldest first."""
        found = await log.attempts(
            self.pool, self.merchant_id, endpoint.id, below=UUID(int=(1 << 128) - 1), limit=1000
        )
        return found[::-1]


@pytest.fixture(scope="module")
async def database(cluster: Cluster, template: str) -> str:
    return await new_database(cluster.dsn, template)


@pytest.fixture
async def bench(database: str) -> AsyncIterator[Bench]:
    pool = await open_pool(database, size=3)
    async with receiving() as receiver:
        async with pool.acquire() as connection:
            merchant = await admin.create_merchant(connection, name=random_name())
        made = Bench(database, pool, receiver, merchant.merchant_id)
        yield made
        await pool.execute("DELETE FROM webhook_endpoints")
        await pool.execute("DELETE FROM webhook_deliveries")
        await made.feed.close()
        await pool.close()


async def test_an_event_reaches_each_endpoint_that_wants_it(bench: Bench) -> None:
    before = await bench.happen()
    await bench.endpoint("/all")
    await bench.endpoint("/refunds", types=["refund.succeeded"])
    (captured,) = await bench.happen()
    (refunded,) = await bench.happen(kind="refund.succeeded")
    async with bench.working():
        await bench.left()
    assert [got.id for got in bench.receiver.of("/refunds")] == [refunded]
    assert sorted(got.id for got in bench.receiver.of("/all")) == [captured, refunded]
    assert before[0] not in [got.id for got in bench.receiver.got]
    message = bench.receiver.of("/refunds")[0].json
    assert (message["type"], message["id"]) == ("refund.succeeded", refunded)
    assert (message["amount"], message["api_version"]) == (100, "v1")


async def test_an_event_of_a_customer_is_told_with_the_customer_as_it_was(bench: Bench) -> None:
    endpoint, _ = await bench.endpoint(types=["customer.created", "customer.updated"])
    asked = Asked(bench.merchant_id, Mode.TEST, "key", b"request")
    async with bench.pool.acquire() as connection:
        made, _ = await store.create(connection, asked, CustomerFields(name="Ada"))
        await store.update(
            *(connection, bench.merchant_id, Mode.TEST, made.id),
            store.CustomerChange(name="Eve"),
            None,
        )
    bench.receiver.answer = lambda got: 500 if got.json["type"] == "customer.created" else 200
    await bench.happen()  # numbers all events
    async with bench.working():
        await bench.arrived(1)
        await bench.left(2)
        bench.receiver.answer = lambda _: 200
        await bench.due_now()
        await bench.left()
    first, again, second = [got.json for got in bench.receiver.got]
    assert first == again
    assert first.keys() == {"type", "timestamp", "id", "api_version", "mode", "data"}
    assert first["data"]["id"] == ids.typed(ids.CUSTOMER, made.id)
    assert (first["data"]["name"], second["data"]["name"]) == ("Ada", "Eve")
    attempt = (await bench.attempts(endpoint))[0]
    sent = await sent_requests.sent_request(bench.pool, endpoint, attempt)
    assert json.loads(sent.body or "") == first


async def test_a_failed_event_holds_back_its_payments_later_ones_only(bench: Bench) -> None:
    endpoint, _ = await bench.endpoint()
    payment = ids.new_id()
    first, second, third = await bench.happen(3, payment=payment)
    (other,) = await bench.happen()
    bench.receiver.answer = lambda got: 500 if got.id == first else 200
    async with bench.working():
        await bench.left(3)
        assert {got.id for got in bench.receiver.got} == {first, other}
        await bench.happen(payment=payment)
        await bench.left(4)
        due = await bench.pool.fetch("SELECT due_at > now() AS later FROM webhook_deliveries")
        assert all(row["later"] for row in due)  # so no claim looks at them again and again
        bench.receiver.answer = lambda _: 200
        await bench.due_now()
        await bench.left()
    order = [got.id for got in bench.receiver.got if got.id != other]
    assert order[:4] == [first, first, second, third]
    assert len(order) == 5
    one, *_, again = [a for a in await bench.attempts(endpoint) if message(a) == first]
    assert (one.outcome, one.status, one.reason) == ("failed", 500, "the endpoint answered 500")
    assert (one.attempt, again.attempt, again.outcome) == (1, 2, "delivered")


def message(attempt: log.Attempt) -> str:
    return ids.typed(ids.EVENT, attempt.event_id)


async def test_after_ten_failures_an_event_is_parked_and_the_next_one_goes(bench: Bench) -> None:
    endpoint, _ = await bench.endpoint()
    first, second = await bench.happen(2, payment=ids.new_id())
    bench.receiver.answer = lambda got: 500 if got.id == first else 200
    async with bench.working() as worker:
        for tries in range(1, 11):
            await bench.arrived(tries)
            await until(lambda n=tries: count_of(bench, endpoint, n), what="recorded")
            if tries < 10:  # afterwards the second event may be under way already
                await bench.due_now()
            worker.wake()
        await bench.left(1)
        assert [got.id for got in bench.receiver.got] == [first] * 10 + [second]
        assert await bench.pool.fetchval("SELECT parked_at IS NOT NULL FROM webhook_deliveries")
        bench.receiver.answer = lambda _: 200
        await redelivery.redeliver_one(bench.pool, endpoint, UUID(first[4:]))
        worker.wake()
        await bench.left()
    assert bench.receiver.got[-1].id == first


async def test_what_a_bug_stops_is_parked_in_the_end_and_holds_up_no_other(bench: Bench) -> None:
    poisoned, _ = await bench.endpoint("/poisoned")
    await bench.endpoint("/works")
    sql = "UPDATE webhook_endpoints SET secret = $2 WHERE id = $1"
    await bench.pool.execute(sql, poisoned.id, b"1")  # nothing that could be decrypted
    await bench.happen()
    async with bench.working() as worker:
        await bench.arrived(1, "/works")
        for tries in range(1, 11):
            await until(lambda n=tries: count_of(bench, poisoned, n), what="recorded")
            await bench.due_now()
            worker.wake()
        await bench.left(1)
    assert bench.receiver.of("/poisoned") == []
    attempts = await bench.attempts(poisoned)
    assert [each.outcome for each in attempts] == ["failed"] * 9 + ["parked"]
    assert attempts[0].reason.startswith("EasyPay could not send it: ")


async def test_a_repeated_message_has_its_id_a_new_time_and_two_signatures(bench: Bench) -> None:
    """While a secret is being replaced, the message verifies with the old one and the new one."""
    endpoint, old = await bench.endpoint()
    (event,) = await bench.happen()
    bench.receiver.answer = lambda got: 500 if len(bench.receiver.got) == 1 else 200
    arrived_at: list[float] = []
    async with bench.working() as worker:
        (first,) = await bench.arrived(1)
        arrived_at.append(time.time())
        await until(lambda: count_of(bench, endpoint, 1), what="recorded")
        key = (bench.vault, bench.merchant_id, Mode.TEST, endpoint.id)
        async with bench.pool.acquire() as connection:
            _, new = await endpoints.rotate_secret(connection, *key)
        await until(lambda: later_than(int(first.headers["webhook-timestamp"])))
        await bench.due_now()
        worker.wake()
        _, second = await bench.arrived(2)
        arrived_at.append(time.time())
        await bench.left()
    assert first.id == second.id == event
    assert first.body == second.body
    stamps = [int(got.headers["webhook-timestamp"]) for got in (first, second)]
    assert stamps[0] < stamps[1]
    assert all(abs(at - stamp) < 5 for at, stamp in zip(arrived_at, stamps, strict=True))
    Webhook(old).verify(first.body, first.headers)
    for secret in (old, new):
        Webhook(secret).verify(second.body, second.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(first.body, first.headers)


async def test_a_secret_signs_until_its_overlap_ends_however_often_it_is_rotated(
    bench: Bench,
) -> None:
    """The reply with the second secret was lost, so the merchant has rotated once more."""
    endpoint, first = await bench.endpoint()
    key = (bench.vault, bench.merchant_id, Mode.TEST, endpoint.id)

    async def rotate(**more: Any) -> tuple[Endpoint, str]:
        async with bench.pool.acquire() as connection:
            return await endpoints.rotate_secret(connection, *key, **more)

    until_first, second = await rotate()
    until_both, third = await rotate(overlap_s=60)
    assert until_both.old_secret_until == until_first.old_secret_until
    await bench.happen()
    async with bench.working():
        (got,) = await bench.arrived(1)
        for secret in (first, second, third):
            Webhook(secret).verify(got.body, got.headers)
        _, fourth = await rotate()
        await bench.happen()
        _, got = await bench.arrived(2)
        for secret in (second, third, fourth):
            Webhook(secret).verify(got.body, got.headers)
        assert len(got.headers["webhook-signature"].split()) == endpoints.MOST_SECRETS
        _, last = await rotate(overlap_s=0)
        await bench.happen()
        *_, got = await bench.arrived(3)
    Webhook(last).verify(got.body, got.headers)
    assert len(got.headers["webhook-signature"].split()) == 1


async def later_than(second: int) -> bool:
    return time.time() >= second + 1


async def count_of(bench: Bench, endpoint: Endpoint, least: int) -> bool:
    return len(await bench.attempts(endpoint)) >= least


async def test_an_endpoint_that_hangs_holds_up_no_other(bench: Bench) -> None:
    hangs = asyncio.Event()

    async def answer(got: Got) -> int:
        if got.path == "/hangs":
            await hangs.wait()
        return 200

    bench.receiver.answer = answer
    await bench.endpoint("/hangs")
    await bench.endpoint("/works")
    for _ in range(10):
        await bench.happen(10, payment=ids.new_id())
    made = [(await bench.happen())[0] for _ in range(20)]
    async with bench.working(of_each=4):
        got = await bench.arrived(120, "/works")
        assert {each.id for each in got} >= set(made)
        assert len(bench.receiver.of("/hangs")) == 4
        hangs.set()
        await bench.left()
    assert len(bench.receiver.of("/hangs")) == 120


async def test_a_merchants_only_event_does_not_wait_for_anothers_backlog(bench: Bench) -> None:
    many, _ = await bench.endpoint("/many")
    await bench.pool.execute(
        "INSERT INTO webhook_deliveries (merchant_id, endpoint_id, event_id, mode, payment_id, seq,"
        " type, data, due_at) SELECT $1, $2, id, 'test', id, n, 'webhook.test', '{}',"
        " now() - interval '1 hour'"
        " FROM (SELECT n, gen_random_uuid() AS id FROM generate_series(1, 1000) AS n) AS made",
        *(bench.merchant_id, many.id),
    )
    async with bench.pool.acquire() as connection:
        other = await admin.create_merchant(connection, name=random_name())
    bench.merchant_id = other.merchant_id
    one, _ = await bench.endpoint("/one")
    await endpoints.send_test(bench.pool, one)
    async with bench.working():
        await bench.arrived(1, "/one")
        assert len(bench.receiver.of("/many")) < 200


async def test_gone_disables_an_endpoint_and_tells_the_others(bench: Bench) -> None:
    gone, _ = await bench.endpoint("/gone")
    await bench.endpoint("/told", types=["webhook_endpoint.disabled"])
    bench.receiver.answer = lambda got: 410 if got.path == "/gone" else 200
    await bench.happen()
    async with bench.working():
        (told,) = await bench.arrived(1, "/told")
        assert told.json["type"] == "webhook_endpoint.disabled"
        assert told.json["data"]["endpoint_id"] == ids.typed(ids.ENDPOINT, gone.id)
        await bench.happen()
        await bench.left(1)
        after = await endpoints.get(bench.pool, bench.merchant_id, Mode.TEST, gone.id)
        assert (after.state, after.reason) == ("disabled", "it answered 410 Gone")
        assert len(bench.receiver.of("/gone")) == 1
        # What it was still to be told has waited, the first event, too.
        bench.receiver.answer = lambda _: 200
        await endpoints.update(bench.pool, bench.merchant_id, Mode.TEST, gone.id, paused=False)
        await bench.due_now()
        await bench.left()
        assert len(bench.receiver.of("/gone")) == 2


async def test_an_endpoint_that_failed_for_five_days_is_disabled(bench: Bench) -> None:
    endpoint, _ = await bench.endpoint()
    bench.receiver.answer = lambda _: 500
    await bench.pool.execute("UPDATE webhook_endpoints SET failing_since = now() - interval '6 d'")
    await bench.happen()

    async def disabled() -> bool:
        found = await endpoints.get(bench.pool, bench.merchant_id, Mode.TEST, endpoint.id)
        return found.state == "disabled"

    async with bench.working():
        await until(disabled)


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_honoured(bench: Bench, status: int) -> None:
    await bench.endpoint()
    bench.receiver.answer = lambda _: (status, b"Retry-After: 600\r\n", b"slow down")
    await bench.happen()
    async with bench.working() as worker:
        await bench.arrived(1)
        await bench.left(1)
        wait_s = await until(
            lambda: bench.pool.fetchval(
                "SELECT extract(epoch FROM due_at - now())::float8 FROM webhook_deliveries"
                " WHERE reason IS NOT NULL"
            )
        )
        assert 590 < wait_s <= 600
        await bench.happen()
        worker.wake()
        await bench.left(2)
        assert len(bench.receiver.got) == 1  # nothing at all is sent to it for a while


async def test_a_pause_keeps_what_happens_and_sends_it_afterwards(bench: Bench) -> None:
    endpoint, _ = await bench.endpoint()
    await endpoints.update(bench.pool, bench.merchant_id, Mode.TEST, endpoint.id, paused=True)
    (event,) = await bench.happen()
    async with bench.working():
        await bench.left(1)
        await endpoints.update(bench.pool, bench.merchant_id, Mode.TEST, endpoint.id, paused=False)
        await bench.left()
    assert [got.id for got in bench.receiver.got] == [event]


async def test_a_redirect_is_a_failure_and_an_answer_is_kept_in_part(bench: Bench) -> None:
    endpoint, secret = await bench.endpoint()
    bench.receiver.answer = lambda _: (
        302,
        b"Location: http://127.0.0.1:1/\r\n",
        b"4111111111111111" + b"x" * 998 + b"4111111111111111" + b"x" * 5000,
    )
    await bench.happen()
    async with bench.working():
        await until(lambda: count_of(bench, endpoint, 1))
    (attempt,) = await bench.attempts(endpoint)
    assert (attempt.status, attempt.outcome) == (302, "failed")
    assert 1000 < len(attempt.answer) <= 1024
    assert "41111111" not in attempt.answer
    assert secret not in str(attempt)


async def test_a_worker_that_was_stopped_records_nothing(bench: Bench) -> None:
    """Its claim has ended, and another has delivered meanwhile."""
    endpoint, _ = await bench.endpoint()
    await bench.happen()
    held = asyncio.Event()

    async def answer(got: Got) -> int:
        if len(bench.receiver.got) == 1:
            await held.wait()
        return 200

    bench.receiver.answer = answer
    async with bench.working():
        await bench.arrived(1)
        await bench.due_now()  # the lease has ended
        await bench.arrived(2)
        await bench.left()
        held.set()
    assert [each.outcome for each in await bench.attempts(endpoint)] == ["delivered"]
    assert queue.LEASE_S > 15


async def test_events_of_a_span_are_sent_again_in_their_order(bench: Bench) -> None:
    endpoint, _ = await bench.endpoint()
    await bench.happen()
    async with bench.working():
        await bench.left()
        since = clock.now()
        made = await bench.happen(4, payment=ids.new_id())
        await bench.left()
        assert len(bench.receiver.got) == 5
        again = await redelivery.redeliver(bench.pool, endpoint, since=since, until=clock.now())
        assert again == 4
        await bench.left()
    assert [got.id for got in bench.receiver.got[5:]] == made


async def claimed(bench: Bench) -> list[Delivery]:
    """Fan out what happened, and claim it as a worker does."""
    fan_out, lane = FanOut(bench.dsn, limit_s=4.0), bench.lane(queue.CLAIM)
    while await fan_out.step() is not None:
        pass
    found = await queue.claim(lane, {}, of_each=16, most=1000)
    await fan_out.close()
    await lane.close()
    return found


async def test_a_failure_is_recorded_once_though_the_answer_was_lost(bench: Bench) -> None:
    """The database committed the group, and the worker does not know: it repeats the group."""
    endpoint, _ = await bench.endpoint()
    await bench.happen()
    await bench.happen()
    one, two = await claimed(bench)
    group = [
        queue.Told(one, ids.new_id(), clock.now(), 5, "failed", again_s=5.0, reason="no"),
        queue.Told(two, ids.new_id(), clock.now(), 5, "delivered", status=200),
    ]
    lane = bench.lane(queue.RECORD)
    assert len((await queue.record(lane, group)).ids) == 2
    assert (await queue.record(lane, group)).ids == set()
    await lane.close()
    assert await bench.pool.fetchval("SELECT failures FROM webhook_deliveries") == 1
    assert len(await bench.attempts(endpoint)) == 2


WAITS: Final = (
    "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
    " WHERE NOT l.granted AND a.datname = current_database()"
)


async def test_a_row_that_changes_in_this_moment_is_recorded_once(bench: Bench) -> None:
    """Somebody makes a delivery due again while its success is recorded: the lock comes after that
    change, which the statement itself does not see."""
    endpoint, _ = await bench.endpoint()
    await bench.happen()
    (one,) = await claimed(bench)
    lane = bench.lane(queue.RECORD)
    async with bench.pool.acquire() as other, other.transaction():
        await other.execute("UPDATE webhook_deliveries SET due_at = db_now()")
        told = [queue.Told(one, ids.new_id(), clock.now(), 5, "delivered", status=200)]
        recording = asyncio.create_task(queue.record(lane, told))
        await until(lambda: other.fetchval(WAITS), what="the statement waits for the row")
    assert len((await recording).ids) == 1
    await lane.close()
    assert await bench.pool.fetchval("SELECT count(*) FROM webhook_deliveries") == 0
    assert len(await bench.attempts(endpoint)) == 1


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many deliveries each claim found. Nothing is claimed because time has passed."""
    monkeypatch.setattr(delivery, "POLL_S", 60.0)
    found: list[int] = []
    claim = queue.claim

    async def counted(*given: Any, **more: Any) -> list[Delivery]:
        claimed = await claim(*given, **more)
        found.append(len(claimed))
        return claimed

    monkeypatch.setattr(queue, "claim", counted)
    return found


async def test_nothing_is_claimed_again_after_what_was_recorded(
    bench: Bench, claims: list[int]
) -> None:
    await bench.endpoint()
    async with bench.working():
        await until(lambda: has_claimed(claims, 1), what="the first claim")
        claims.clear()
        for count in range(1, 11):
            await bench.happen()
            await bench.arrived(count)
            await bench.left()
    assert claims == [1] * 10


async def test_a_claim_after_a_fan_out_asks_only_for_the_endpoints_that_it_was_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "POLL_S", 60.0)
    asked: list[list[UUID]] = []
    claim = queue.claim

    async def noted(*given: Any, only: Any = None, **more: Any) -> list[Delivery]:
        if only is not None:  # now and then one is of everything
            asked.append([each.endpoint_id for each in only])
        return await claim(*given, only=only, **more)

    monkeypatch.setattr(queue, "claim", noted)
    kinds = ("payment.captured", "payment.voided")
    both = {kind: (await bench.endpoint(types=[kind]))[0].id for kind in kinds}
    async with bench.working():
        for kind in kinds:
            await bench.happen(kind=kind)
        await bench.left()
        asked.clear()
        for kind in kinds * 5:
            await bench.happen(kind=kind)
            await bench.left()
    assert len(bench.receiver.got) == 12
    assert asked, "each claim was of everything"
    assert all(each in ([both[kinds[0]]], [both[kinds[1]]]) for each in asked), asked


async def test_attempts_are_recorded_together_unless_something_waits_for_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    record = queue.record

    async def noted(lane: Any, told: Any) -> queue.Recorded:
        groups.append(len(told))
        return await record(lane, told)

    monkeypatch.setattr(queue, "record", noted)
    await bench.endpoint()
    for _ in range(8):
        await bench.happen()
    monkeypatch.setattr(delivery, "_GATHER_S", 0.3)
    async with bench.working():
        await bench.left()
    assert groups == [8]
    monkeypatch.setattr(delivery, "_GATHER_S", 600.0)
    for _ in range(4):
        await bench.happen()
    async with bench.working(of_each=2):
        await bench.arrived(11)  # the third has waited for the place of one before


async def has_claimed(claims: list[int], times: int) -> bool:
    return len(claims) >= times


async def test_what_waits_behind_an_event_is_claimed_once_that_is_recorded(
    bench: Bench, claims: list[int]
) -> None:
    """So are further ones of an endpoint that could get no more, and of all of them."""
    await bench.endpoint()
    order = await bench.happen(3, payment=ids.new_id())
    async with bench.working():
        await bench.left()
    assert [got.id for got in bench.receiver.got] == order
    for bound in ({"of_each": 2}, {"most": 2}):
        for _ in range(5):
            await bench.happen()
        async with bench.working(**bound):
            await bench.left()
        assert max(claims) <= 2
        claims.clear()
    assert len(bench.receiver.got) == 13


async def test_what_is_fanned_out_while_an_earlier_event_is_recorded_is_claimed_after_that(
    bench: Bench, claims: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim still sees the earlier event, and the statement that records does not see the later
    one."""
    monkeypatch.setattr(recent, "ALL_EVERY_S", 600.0)
    payment, record, order = ids.new_id(), queue.record, list[str]()

    async def with_another_event(lane: Any, told: Any) -> queue.Recorded:
        if len(order) > 1:
            return await record(lane, told)
        async with bench.pool.acquire() as other, other.transaction():
            await other.execute("SELECT FROM webhook_deliveries FOR UPDATE")
            recording = asyncio.create_task(record(lane, told))
            await until(lambda: other.fetchval(WAITS), what="the statement waits for the row")
            claims.clear()
            order.extend(await bench.happen(payment=payment))
            await until(lambda: has_claimed(claims, 1), what="a claim that finds nothing")
            assert claims == [0]
        return await recording

    monkeypatch.setattr(queue, "record", with_another_event)
    await bench.endpoint()
    order += await bench.happen(payment=payment)
    async with bench.working():
        await bench.left()
    assert [got.id for got in bench.receiver.got] == order


async def test_what_waits_behind_an_event_that_is_recorded_during_a_claim_is_claimed_after_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim sees the earlier event still, and ends after the worker knows it to be recorded."""
    monkeypatch.setattr(recent, "ALL_EVERY_S", 600.0)
    claim, record, is_claimed = queue.claim, queue.record, asyncio.Event()
    of_claims: list[int] = []
    is_old = "SELECT due_at < now() - interval '0.5 s' FROM webhook_deliveries WHERE attempt = 0"

    async def is_recorded() -> bool:
        return not worker._told

    async def ending_late(*given: Any, **more: Any) -> list[Delivery]:
        found = await claim(*given, **more)
        of_claims.append(len(found))
        if sum(of_claims) == 2 and not is_claimed.is_set():
            is_claimed.set()
            await until(is_recorded, what="the worker knows that the first one is recorded")
        return found

    async def beside_a_claim(lane: Any, told: Any) -> queue.Recorded:
        if not is_claimed.is_set():
            await until(lambda: bench.pool.fetchval(is_old), what="the second one is older")
            order.extend(await bench.happen())
            await is_claimed.wait()
        return await record(lane, told)

    monkeypatch.setattr(queue, "claim", ending_late)
    monkeypatch.setattr(queue, "record", beside_a_claim)
    await bench.endpoint()
    order = await bench.happen(2, payment=ids.new_id())
    async with bench.working() as worker:
        await bench.left()
    first, second, other = order
    assert [got.id for got in bench.receiver.got] == [first, other, second]


async def test_what_waits_behind_an_event_that_a_dead_worker_claimed_is_claimed_after_it(
    bench: Bench, claims: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier event is due when the lease ends, long after the one behind it was."""
    monkeypatch.setattr(recent, "ALL_EVERY_S", 600.0)
    await bench.endpoint()
    order = await bench.happen(2, payment=ids.new_id())
    assert len(await claimed(bench)) == 1
    await bench.pool.execute(
        "UPDATE webhook_deliveries"
        " SET due_at = now() - CASE attempt WHEN 0 THEN interval '40 s' ELSE interval '0' END"
    )
    async with bench.working():
        await bench.left()
    assert [got.id for got in bench.receiver.got] == order
    assert max(claims) == 1


async def test_a_row_that_stays_locked_keeps_no_other_attempt_from_being_recorded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_AGAIN_S", 0.01)
    monkeypatch.setattr(delivery, "_GATHER_S", 0.3)
    endpoint, _ = await bench.endpoint()
    for _ in range(4):
        await bench.happen()
    record, groups = queue.record, list[int]()
    lock = "SELECT FROM webhook_deliveries WHERE event_id = $1 FOR UPDATE"
    async with bench.pool.acquire() as other:
        locked = other.transaction()
        await locked.start()

        async def beside_a_lock(lane: Any, told: Any) -> queue.Recorded:
            if not groups:
                await other.execute(lock, told[0].delivery.event_id)
            groups.append(len(told))
            return await record(lane, told)

        monkeypatch.setattr(queue, "record", beside_a_lock)
        async with bench.working(limit_s=0.5):
            await bench.left(1)
            await locked.rollback()
            await bench.left()
    assert groups[0] > 1, "one that is alone keeps no other waiting"
    assert [each.outcome for each in await bench.attempts(endpoint)] == ["delivered"] * 4


async def test_what_was_claimed_and_could_not_be_read_does_not_wait_for_its_lease(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "claim", partial(queue.claim, lease_s=3600.0))
    monkeypatch.setattr(delivery, "_AGAIN_S", 0.01)
    await bench.endpoint()
    async with bench.working():
        await bench.happen()
        await bench.left()
        ended = await bench.pool.fetchval(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'easypay webhook events' AND datname = current_database()"
        )
        assert ended
        await bench.happen()
        await bench.left()
    assert len(bench.receiver.got) == 2


async def test_what_a_parked_event_held_back_is_claimed_at_once(
    bench: Bench, claims: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "next_try_s", lambda *_: None)
    await bench.endpoint()
    first, second = await bench.happen(2, payment=ids.new_id())
    bench.receiver.answer = lambda got: 500 if got.id == first else 200
    async with bench.working():
        await bench.left(1)
    assert [got.id for got in bench.receiver.got] == [first, second]


SLOW_CLOCK: Final = """
    CREATE SCHEMA slow;
    CREATE FUNCTION slow.db_now() RETURNS timestamptz VOLATILE LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock_shared(7);
            RETURN public.db_now();
        END $$
"""


async def test_a_claim_leaves_what_changes_in_this_moment_to_the_next_one(bench: Bench) -> None:
    """Between the claim's snapshot and its lock somebody makes the delivery due again. The row has
    another place then, which the claim does not see: it takes nothing, and holds nothing."""
    await bench.endpoint()
    await bench.happen()
    fan_out = FanOut(bench.dsn, limit_s=4.0)
    assert await fan_out.step()
    await fan_out.close()
    settings = {**queue.LANE_SETTINGS, "search_path": "slow, public"}
    lane = Lane(bench.dsn, "test", queue.claim_statement, lookups=True, settings=settings)
    async with bench.pool.acquire() as other:
        await other.execute(SLOW_CLOCK)
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock(7)")
            claiming = asyncio.create_task(queue.claim(lane, {}, of_each=1, most=1))
            await until(lambda: other.fetchval(WAITS), what="the claim has begun")
            await other.execute("UPDATE webhook_deliveries SET due_at = db_now()")
        assert await claiming == []
        await other.execute("DROP SCHEMA slow CASCADE")
    await lane.close()
    (one,) = await claimed(bench)
    assert one.attempt == 1


async def test_the_purge_deletes_what_nobody_waits_for(bench: Bench) -> None:
    """However much there is before it that is kept."""
    paused, _ = await bench.endpoint("/paused")
    enabled, _ = await bench.endpoint("/enabled")
    await endpoints.update(bench.pool, bench.merchant_id, Mode.TEST, paused.id, paused=True)
    insert = """
        INSERT INTO webhook_deliveries (merchant_id, endpoint_id, event_id, mode, payment_id, seq,
            type, due_at, created_at, parked_at)
        SELECT $1, $2, gen_random_uuid(), 'test', gen_random_uuid(), 0, 'webhook.test', now(),
               now() - interval '40 d', now() - make_interval(days => $4)
          FROM generate_series(1, $3)
    """
    kept = ((paused.id, 6_000, None), (enabled.id, 1, 20))
    for endpoint_id, count, parked_days in (*kept, (enabled.id, 3, 40), (ids.new_id(), 2, None)):
        await bench.pool.execute(insert, bench.merchant_id, endpoint_id, count, parked_days)
    assert await log.purge(bench.pool) == 5
    assert await bench.pool.fetchval("SELECT count(*) FROM webhook_deliveries") == 6_001


async def test_what_waits_for_a_paused_endpoint_is_not_due(bench: Bench) -> None:
    endpoint, _ = await bench.endpoint()
    await bench.happen()
    async with bench.working() as worker:
        await bench.left()
        await endpoints.update(bench.pool, bench.merchant_id, Mode.TEST, endpoint.id, paused=True)
        await bench.happen()
        worker.wake()
        await bench.left(1)
    await bench.pool.execute("UPDATE webhook_deliveries SET due_at = now() - interval '1 h'")
    assert await work_list.depth(bench.pool, queue.DELIVERIES) == work_list.Depth(0, 1, 0, 0.0)
    await endpoints.update(bench.pool, bench.merchant_id, Mode.TEST, endpoint.id, paused=False)
    depth = await work_list.depth(bench.pool, queue.DELIVERIES)
    assert depth.ready == 1
    assert depth.oldest_s >= 3600


async def test_a_worker_with_another_key_uses_up_no_attempt(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint, _ = await bench.endpoint()
    (event,) = await bench.happen()
    right, bench.vault = bench.vault, Vault(new_encryption_key())
    async with bench.working():
        await until(lambda: bench.pool.fetchval("SELECT max(attempt) = 1 FROM webhook_deliveries"))
        await bench.left(1)
    assert "EASYPAY_ENCRYPTION_KEY" in caplog.text
    assert await bench.attempts(endpoint) == []
    bench.vault = right
    await bench.due_now()
    async with bench.working():
        await bench.left()
    assert [got.id for got in bench.receiver.got] == [event]


_COUNT: Final = "SELECT count(*) FROM webhook_deliveries"


async def test_a_backlog_that_takes_too_long_is_fanned_out_in_parts(bench: Bench) -> None:
    for _ in range(MOST_ENDPOINTS):
        await bench.endpoint()
    await bench.happen(500, payment=ids.new_id())
    fan_out = FanOut(bench.dsn, limit_s=0.2)
    failures = 0
    while failures < 200:  # a slow machine has many
        try:
            if await fan_out.step() is None:
                break
        except (asyncpg.QueryCanceledError, ConnectionLost):  # whichever limit comes first
            failures += 1
    await fan_out.close()
    assert await bench.pool.fetchval(_COUNT) == 500 * MOST_ENDPOINTS
    assert failures


async def test_a_stop_waits_for_what_is_being_claimed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, begun = queue.claim, asyncio.Event()

    async def slow(*arguments: Any, **more: Any) -> list[Delivery]:
        found = await claim(*arguments, **more)
        if found:
            begun.set()
            await asyncio.sleep(0.2)
        return found

    monkeypatch.setattr(queue, "claim", slow)
    await bench.endpoint()
    await bench.happen()
    async with bench.working():
        await begun.wait()
    await bench.left()


async def test_a_card_number_at_the_end_of_an_answer_is_not_kept(bench: Bench) -> None:
    endpoint, _ = await bench.endpoint()
    number = b"4111111111111111"
    bodies = [("é" * (size // 2)).encode() + b"\0" * (size % 2) + number for size in (1188, 1189)]
    bodies += [b"\0" * size + number for size in (1188, 4388)]
    for body in bodies:
        bench.receiver.answer = lambda _, text=body: (200, b"", text)
        await bench.happen()
        async with bench.working():
            await bench.left()
    for attempt in await bench.attempts(endpoint):
        assert "41111111" not in attempt.answer
        assert len(attempt.answer) <= 1024


async def test_events_sent_again_one_by_one_keep_their_order(bench: Bench) -> None:
    endpoint, _ = await bench.endpoint()
    payment, made = ids.new_id(), []
    for _ in range(3):
        made += await bench.happen(payment=payment)
        await asyncio.sleep(0.002)
    async with bench.working():
        await bench.left()
        async with bench.pool.acquire() as connection, connection.transaction():
            for event in reversed(made):
                await redelivery.redeliver_one(connection, endpoint, UUID(event[4:]))
        await bench.left()
    assert [got.id for got in bench.receiver.got[3:]] == made


async def test_an_event_that_is_sent_again_does_not_overtake_an_earlier_one(bench: Bench) -> None:
    """The earlier one waits for its next attempt, or is not fanned out yet."""
    endpoint, _ = await bench.endpoint()
    payment = ids.new_id()
    first, second = await bench.happen(2, payment=payment)
    bench.receiver.answer = lambda got: 500 if got.id == first else 200
    await redelivery.redeliver_one(bench.pool, endpoint, UUID(second[4:]))
    async with bench.working():
        await bench.left(2)
        await until(lambda: count_of(bench, endpoint, 1), what="the first has failed")
        await bench.pool.execute(
            "DELETE FROM webhook_deliveries WHERE event_id = $1", UUID(second[4:])
        )  # as if it had been delivered while the first one was parked
        await redelivery.redeliver_one(bench.pool, endpoint, UUID(second[4:]))
        await bench.left(2)
        bench.receiver.answer = lambda _: 200
        await bench.due_now()
        await bench.left()
    assert [got.id for got in bench.receiver.got] == [first, first, second]


async def test_an_event_of_another_type_can_be_sent_once_its_turn_has_come(bench: Bench) -> None:
    endpoint, _ = await bench.endpoint(types=["refund.succeeded"])
    (event,) = await bench.happen()
    with pytest.raises(ValidationFailed, match="its turn to be sent has not come yet"):
        await redelivery.redeliver_one(bench.pool, endpoint, UUID(event[4:]))
    async with bench.working() as worker:
        await bench.left()
        await redelivery.redeliver_one(bench.pool, endpoint, UUID(event[4:]))
        worker.wake()
        (got,) = await bench.arrived(1)
    assert got.id == event


async def test_a_span_that_is_not_fanned_out_yet_overtakes_nothing(bench: Bench) -> None:
    endpoint, _ = await bench.endpoint()
    payment = ids.new_id()
    (first,) = await bench.happen(payment=payment)
    await asyncio.sleep(0.002)
    since = clock.now()
    (second,) = await bench.happen(payment=payment)
    later = since + timedelta(hours=1)
    assert await redelivery.redeliver(bench.pool, endpoint, since=since, until=later) == 0
    async with bench.working():
        await bench.left()
    assert [got.id for got in bench.receiver.got] == [first, second]


async def test_a_plan_of_an_empty_table_serves_a_long_list(bench: Bench) -> None:
    """A worker that was started in a quiet hour meets 20,000 deliveries that wait."""
    endpoint, _ = await bench.endpoint()
    fan_out, lane = FanOut(bench.dsn, limit_s=4.0), bench.lane(queue.CLAIM)
    await bench.pool.execute("ANALYZE webhook_deliveries")
    await queue.claim(lane, {}, of_each=500, most=500)
    await bench.pool.execute(
        "INSERT INTO webhook_deliveries (merchant_id, endpoint_id, event_id, mode, payment_id, seq,"
        " type, due_at) SELECT $1, $2, gen_random_uuid(), 'test', gen_random_uuid(), 1,"
        " 'payment.captured', now() FROM generate_series(1, 20000)",
        *(bench.merchant_id, endpoint.id),
    )
    assert len(await queue.claim(lane, {}, of_each=500, most=500)) == 500
    await bench.happen(1_000)
    assert await fan_out.step() == [(bench.merchant_id, endpoint.id)]
    assert await bench.pool.fetchval(_COUNT) == 21_000
    await fan_out.close()
    await lane.close()


async def test_an_event_after_a_quiet_time_does_not_wait_for_the_next_claim(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_BUSY_FOR_S", 0.0)
    monkeypatch.setattr(delivery, "IDLE_POLL_S", 60.0)
    await bench.endpoint()
    await bench.happen()
    async with bench.working():
        await bench.left()
        await bench.happen()
        await bench.left()


async def test_the_fan_out_is_not_planned_for_each_step(bench: Bench) -> None:
    await bench.endpoint()
    fan_out = FanOut(bench.dsn, limit_s=4.0)
    for _ in range(3):
        await bench.happen()
        assert await fan_out.step()
    planned = await fan_out._lane._connection.fetchrow(
        "SELECT sum(generic_plans) AS once, sum(custom_plans) AS anew FROM pg_prepared_statements"
        " WHERE statement LIKE '%feed%'"
    )
    assert (planned["once"] >= 6, planned["anew"]) == (True, 0), planned
    await fan_out.close()


@pytest.mark.parametrize("told", [True, False])
async def test_a_server_that_knows_nothing_of_the_last_fan_out_is_fanned_out_to_again(
    bench: Bench, told: bool
) -> None:
    """After a failover, say, and though no other event happens. Behind a pooler nobody is told."""
    endpoint, _ = await bench.endpoint()
    fan_out = FanOut(bench.dsn, limit_s=4.0)
    await bench.happen()
    mark = await bench.pool.fetchval("SELECT last_seq FROM feed_readers WHERE name = 'webhooks'")
    assert await fan_out.step() == [(bench.merchant_id, endpoint.id)]
    await bench.pool.execute("DELETE FROM webhook_deliveries")
    await bench.pool.execute(f"UPDATE feed_readers SET last_seq = {mark} WHERE name = 'webhooks'")
    if told:
        await bench.pool.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'easypay webhooks' AND datname = current_database()"
        )
        with pytest.raises(ConnectionLost):
            await fan_out.step()
    else:
        assert await fan_out.step() is None
        fan_out._read_at = monotonic()  # ten seconds later
    assert await fan_out.step() == [(bench.merchant_id, endpoint.id)]
    assert await bench.pool.fetchval(_COUNT) == 1
    await fan_out.close()


async def test_without_endpoints_nothing_is_read(bench: Bench) -> None:
    endpoint, _ = await bench.endpoint()
    async with bench.pool.acquire() as connection:
        await endpoints.delete(connection, bench.merchant_id, Mode.TEST, endpoint.id)
    assert (
        await bench.pool.fetchval("SELECT count(*) FROM feed_readers WHERE name = 'webhooks'") == 0
    )


async def test_two_workers_deliver_each_event_once(bench: Bench) -> None:
    await bench.endpoint()
    async with bench.working(), bench.working():
        made = [each for _ in range(10) for each in await bench.happen(5, payment=ids.new_id())]
        await bench.left()
    assert sorted(got.id for got in bench.receiver.got) == sorted(made)


async def test_what_cannot_be_sent_is_not_counted_as_ready(bench: Bench) -> None:
    """Behind an earlier event of its payment, or of an endpoint that is paused."""

    async def depth() -> tuple[int, int, int]:
        found = await work_list.depth(bench.pool, DELIVERIES)
        assert (found.oldest_s > 0) == (found.ready > 0)
        return found.ready, found.waiting, found.parked

    endpoint, _ = await bench.endpoint()
    await bench.happen(3, payment=ids.new_id())
    await bench.happen()
    bench.receiver.answer = lambda _: 500
    async with bench.working():
        await bench.left(4)
        await until(lambda: count_of(bench, endpoint, 2))
    await bench.due_now()
    assert await depth() == (2, 2, 0)
    await endpoints.update(bench.pool, bench.merchant_id, Mode.TEST, endpoint.id, paused=True)
    assert await depth() == (0, 4, 0)
    await endpoints.update(bench.pool, bench.merchant_id, Mode.TEST, endpoint.id, paused=False)
    await bench.pool.execute("UPDATE webhook_deliveries SET parked_at = now() WHERE failures = 1")
    assert await depth() == (1, 1, 2)


async def test_the_log_shows_what_was_sent_byte_for_byte(bench: Bench) -> None:
    """The body is made again from the event; a secret is not needed and not shown."""
    endpoint, secret = await bench.endpoint()
    await bench.happen()
    await endpoints.send_test(bench.pool, endpoint)
    async with bench.working():
        await bench.left()
    for attempt, got in zip(
        sorted(await bench.attempts(endpoint), key=lambda attempt: attempt.event_id),
        sorted(bench.receiver.got, key=lambda got: got.id),
        strict=True,
    ):
        sent = await sent_requests.sent_request(bench.pool, endpoint, attempt)
        assert sent.body == got.body.decode()
        for name, value in sent.headers.items():
            assert got.headers[name.lower()] == value
        assert "signature" not in str(sent)
        assert secret not in str(sent)


async def test_what_was_told_of_another_endpoint_is_shown_until_it_is_delivered(
    bench: Bench,
) -> None:
    told, _ = await bench.endpoint("/told", types=[DISABLED])
    gone, _ = await bench.endpoint("/gone", types=["payment.captured"])
    bench.receiver.answer = lambda got: 410 if got.path == "/gone" else 500
    await bench.happen()
    async with bench.working():
        await until(lambda: count_of(bench, told, 1))
    (attempt,) = await bench.attempts(told)
    shown = await sent_requests.sent_request(bench.pool, told, attempt)
    assert shown.body is not None
    assert ids.typed(ids.ENDPOINT, gone.id) in shown.body
    await bench.pool.execute("DELETE FROM webhook_deliveries")
    assert (await sent_requests.sent_request(bench.pool, told, attempt)).body is None


async def test_a_stop_gives_back_what_is_under_way_and_waits_for_no_dead_database(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = asyncio.Event()

    async def answer(_: Got) -> int:
        await hangs.wait()
        return 204

    bench.receiver.answer = answer
    await bench.endpoint("/hangs")
    async with bench.working() as worker:
        for _ in range(8):
            await bench.happen()
        await bench.arrived(8, "/hangs")
        given_back: list[int] = []

        async def never_ends(_: Any, __: Any, later: list[Any]) -> None:
            given_back.append(len(later))
            await asyncio.Event().wait()

        monkeypatch.setattr(work_list, "postpone", never_ends)
        monkeypatch.setattr(delivery, "_GIVE_BACK_S", 0.1)
        await asyncio.wait_for(worker.stop(0.0), 30)
        assert given_back == [8]
        hangs.set()
