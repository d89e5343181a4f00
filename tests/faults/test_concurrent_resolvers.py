"""Two processes that learn of one operation at once: one acts between the other's steps."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from easypay.db.pool import Pool, open_pool
from easypay.merchants.directory import Directory
from easypay.merchants.vault import Vault
from easypay.payments import resolver_rows, statements, store
from easypay.payments.absence_rules import Schedule
from easypay.payments.account_pass import AccountPass, Ended, Times
from easypay.payments.late_charges import LateCharges
from easypay.payments.model import PaymentKey
from easypay.payments.resolver import Resolver
from easypay.payments.statements import Recorder
from easypay.payments.watched_operations import Watching
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import Absent, Approved, Processors
from harness import (
    ENCRYPTION_KEY,
    QUICK,
    Shop,
    Stack,
    connected,
    payment_uuid,
    until_locked,
)

RARELY = QUICK | {"resolver_poll_s": "3600", "not_sent_ends_after_s": "600"}
"""Keeps the gateway's own resolver out of the test."""


class ActAfterQuery:
    """A pool that calls `act` after each query that contains `text` and returns rows."""

    def __init__(self, pool: Pool, text: str, act: Callable[[], Awaitable[object]]) -> None:
        self._pool, self._text, self._act = pool, text, act

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    async def fetch(self, sql: str, *arguments: object) -> Any:
        return await self._then(sql, await self._pool.fetch(sql, *arguments))

    async def fetchrow(self, sql: str, *arguments: object) -> Any:
        return await self._then(sql, await self._pool.fetchrow(sql, *arguments))

    async def _then(self, sql: str, rows: Any) -> Any:
        if self._text in sql and rows:
            await self._act()
        return rows


@asynccontextmanager
async def parts(stack: Stack) -> AsyncIterator[tuple[Pool, Recorder, Processors]]:
    """Yield the parts of a resolver, in this process."""
    pool = await open_pool(stack.dsn, size=4)
    committer = statements.group_committer(
        statements.RECORD_CHANGES,
        [statements.lane(statements.RECORD_CHANGES, stack.dsn)],
        month_of=lambda _: "",
        size=8,
        limit=None,
        patience_s=10,
    )
    processor = AuthorizeNet(connect_timeout_s=1)
    try:
        yield pool, Recorder(committer, pool, first_inquiry_s=0.1), {"authorize_net": processor}
    finally:
        await committer.close()
        await processor.close()
        await pool.close()


def account_pass(pool: Pool, recorder: Recorder, processors: Processors) -> AccountPass:
    late = LateCharges(pool=pool, recorder=recorder, processors=processors, call_deadline_s=1)
    return AccountPass(
        pool=pool,
        recorder=recorder,
        processors=processors,
        late=late,
        watching=Watching(pool=pool, processors=processors, late=late),
        schedule=Schedule(call_s=1, gap_s=1, absent_after_s=1),
        times=Times(1, 1, 1),
    )


async def never_left(stack: Stack) -> tuple[Shop, uuid.UUID]:
    """Return a shop whose payment was proven never sent, and its operation's id."""
    shop = await stack.shop(await stack.gateway(**RARELY))
    await stack.set_account(shop, transaction_key="no-such-key-here")
    answer = await shop.pay(2500)
    assert answer.status_code == 502, answer.text
    (row,) = await stack.fetch(
        "SELECT id, state FROM operations WHERE merchant_id = $1", shop.merchant_id
    )
    assert row["state"] == "not_sent"
    return shop, row["id"]


async def state_of(stack: Stack, shop: Shop) -> str:
    sql = "SELECT state FROM operations WHERE merchant_id = $1"
    return str(await stack.value(sql, shop.merchant_id))


async def reopen(stack: Stack, shop: Shop, operation_id: uuid.UUID) -> None:
    async with connected(stack.dsn) as connection:
        sql = "SELECT id FROM processor_logins WHERE merchant_id = $1"
        login = await connection.fetchval(sql, shop.merchant_id)
        operation = await store.find_operation(connection, shop.merchant_id, operation_id)
        assert operation is not None
        assert await store.reopen(connection, operation, login)


async def test_an_operation_repeated_while_being_ended_is_not_called_absent(stack: Stack) -> None:
    """Its key came again just after it was found not sent, so it is in flight."""
    shop, operation_id = await never_left(stack)
    await stack.fetch(
        "UPDATE unresolved_operations SET next_inquiry_at = db_now() WHERE merchant_id = $1",
        shop.merchant_id,
    )
    async with parts(stack) as (pool, recorder, processors):
        resolver = Resolver(
            pool=ActAfterQuery(pool, "ORDER BY i.nth", lambda: reopen(stack, shop, operation_id)),
            recorder=recorder,
            processors=processors,
            directory=Directory(
                pool, Vault(ENCRYPTION_KEY), {"authorize_net": AUTHORIZE_NET}, lease_s=1
            ),
            deadline_s=1,
            first_inquiry_s=1,
            interval_s=1,
            gap_s=1,
            absent_after_s=1,
            not_sent_s=1,
            review_interval_s=1,
            poll_s=1,
        )
        assert await resolver.end_not_sent() == 0
    assert await state_of(stack, shop) == "in_flight"


@pytest.mark.parametrize("meanwhile", ["in_flight", "not_sent"])
async def test_absence_of_a_first_try_does_not_end_a_second(stack: Stack, meanwhile: str) -> None:
    """The case was read in the first try, which was never sent; it may have been repeated since."""
    shop, operation_id = await never_left(stack)
    async with parts(stack) as (pool, recorder, processors):
        rounds = account_pass(pool, recorder, processors)
        await pool.execute(
            "WITH o AS (UPDATE operations SET state = 'in_flight' WHERE merchant_id = $1)"
            " UPDATE unresolved_operations SET not_sent = false WHERE merchant_id = $1",
            shop.merchant_id,
        )
        payment_id = await stack.value(
            "SELECT id FROM payments WHERE merchant_id = $1", shop.merchant_id
        )
        (case,) = await resolver_rows.cases_of_payment(pool, shop.merchant_id, payment_id)
        await pool.execute(
            "WITH o AS (UPDATE operations SET state = 'not_sent' WHERE merchant_id = $1)"
            " UPDATE unresolved_operations SET not_sent = true, account = $2"
            " WHERE merchant_id = $1",
            shop.merchant_id,
            bytes(32),
        )
        if meanwhile == "in_flight":
            await reopen(stack, shop, operation_id)
            sql = "SELECT account FROM unresolved_operations WHERE merchant_id = $1"
            kept = await stack.value(sql, shop.merchant_id)
            assert kept is None  # the second try may use another account
        operation, payment = (await resolver_rows.rows_of(pool, [case]))[case.id]
        absent = Ended(case, Absent(searched="all lists"), "absent")
        assert not await rounds.end(absent, operation, payment)
    assert await state_of(stack, shop) == meanwhile


@pytest.mark.parametrize("between", ["FROM payments", "FROM operations"])
async def test_an_operation_that_another_ends_while_it_is_read_stays_as_it_ended(
    stack: Stack, between: str
) -> None:
    """Its row and its payment's are read one after the other. Both processes found the charge."""
    shop = await stack.shop(await stack.gateway(**RARELY))
    await stack.simulator.fault("drop_reply", shop.login, method="createTransactionRequest")
    answer = await shop.pay(2500)
    assert answer.status_code == 202, answer.text
    payment_id = payment_uuid(answer.json()["id"])
    async with parts(stack) as (pool, recorder, processors):
        rounds = account_pass(pool, recorder, processors)
        (case,) = await resolver_rows.cases_of_payment(pool, shop.merchant_id, payment_id)
        found = Ended(case, Approved(transaction_id="60001"), "found")

        async def end() -> None:
            assert await rounds.end(found, *(await resolver_rows.rows_of(pool, [case]))[case.id])

        reader = ActAfterQuery(pool, between, end)
        operation, payment = (await resolver_rows.rows_of(reader, [case]))[case.id]
        assert await rounds.end(found, operation, payment)
    assert await state_of(stack, shop) == "approved"
    sql = "SELECT captured_minor FROM payments WHERE merchant_id = $1"
    assert await stack.value(sql, shop.merchant_id) == 2500


async def test_a_late_charge_is_given_back_once_by_two_processes(stack: Stack) -> None:
    """The first one's lease expired while it worked, and another started."""
    shop = await stack.shop(await stack.gateway(**RARELY))
    paid = await shop.paid(2500)
    await stack.fetch(
        "WITH o AS (UPDATE operations SET state = 'absent', reply_status = NULL, reply_body = NULL"
        "   WHERE merchant_id = $1 RETURNING *)"
        ", p AS (UPDATE payments SET captured_minor = 0, status = 'voided' WHERE merchant_id = $1)"
        ", w AS (INSERT INTO watched_operations SELECT merchant_id, id, payment_id, $2, 'return',"
        "   now(), now() + interval '1 day', now() FROM o)"
        " INSERT INTO late_charges SELECT merchant_id, id, payment_id, mode, kind, $3,"
        "   amount_minor, currency, 'returning', NULL, 'seen', now(), now() FROM o",
        shop.merchant_id,
        bytes(32),
        paid["processor"]["transaction_id"],
    )
    account = AUTHORIZE_NET.account(
        "test", {"login_id": shop.login, "transaction_key": "simulated-key-1"}, stack.simulator.wire
    )
    gate = await asyncpg.connect(stack.dsn)
    await gate.execute(
        "CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM pg_advisory_xact_lock_shared(77); RETURN NEW; END $$;"
        " CREATE TRIGGER gate BEFORE INSERT ON operations"
        " FOR EACH ROW EXECUTE FUNCTION wait_at_gate();"
        " SELECT pg_advisory_lock(77)"
    )

    async with parts(stack) as (pool, recorder, processors):
        (case,) = await resolver_rows.watched_cases(
            pool, resolver_rows.AccountWork(bytes(32), old=True), 9
        )
        late = LateCharges(pool=pool, recorder=recorder, processors=processors, call_deadline_s=5)
        two = [asyncio.create_task(late.give_back_again(case, account)) for _ in range(2)]
        await until_locked(stack.dsn, sessions=2, what="both are about to write the operation")
        await gate.close()
        await asyncio.gather(*two)
    given_back = "SELECT state FROM operations WHERE merchant_id = $1 AND gives_back IS NOT NULL"
    assert await stack.value(given_back, shop.merchant_id) == "approved"
    late_charge = "SELECT state FROM late_charges WHERE merchant_id = $1"
    assert await stack.value(late_charge, shop.merchant_id) == "returned"


async def test_a_card_that_a_late_charge_shows_is_told_to_the_caches(stack: Stack) -> None:
    """The payment changes without an outcome being recorded."""
    shop, operation_id = await never_left(stack)
    (row,) = await stack.fetch(
        "WITH o AS (UPDATE operations SET state = 'absent' WHERE merchant_id = $1)"
        " UPDATE payments SET status = 'failed', card_last4 = NULL WHERE merchant_id = $1"
        " RETURNING id",
        shop.merchant_id,
    )
    told: list[PaymentKey] = []
    async with parts(stack) as (pool, recorder, processors):
        recorder.changed = told.append
        late = LateCharges(pool=pool, recorder=recorder, processors=processors, call_deadline_s=1)
        key = PaymentKey(shop.merchant_id, "test", row["id"])
        payment = await store.find_payment(pool, key)
        operation = await store.find_operation(pool, key.merchant_id, operation_id)
        assert payment is not None
        assert operation is not None
        charge = Approved(transaction_id="60001", card_last4="1111")
        assert not await late.found(operation, payment, charge, "seen")
        changed = await store.find_payment(pool, key)
    assert changed is not None
    assert (changed.card_last4, told) == ("1111", [key])
