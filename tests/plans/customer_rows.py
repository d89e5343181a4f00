"""Many customers with stored payment methods, and what the gateway and its workers ask of them."""

from typing import Any, Final
from uuid import UUID

from easypay import ids
from easypay.customers import (
    erasing_others,
    erasure_rows,
    event_purge,
    events,
    expiring,
    method_rows,
    paying,
    store,
    vault_work,
)
from easypay.customers.erasure import ERASURES
from easypay.customers.erasure_rows import ErasureRequest
from easypay.customers.method_rows import Begun
from easypay.customers.model import Asked, CustomerFields, Method, MethodKey, NewMethod
from easypay.db import work_list
from easypay.mode import MODE
from easypay.payments import stored_methods
from easypay.processors.base import AcceptToken
from easypay.processors.customer_vault import MethodIds, VaultedMethod
from plans.explain import Found, undone
from plans.world import World

_CUSTOMERS: Final = 5_000
_FILL: Final = """
    INSERT INTO customers (merchant_id, mode, id, reference, email, idempotency_key,
        request_fingerprint)
    SELECT $1, $2, lowest_id_at(now() - n * interval '1 minute'), 'C-' || n,
           'ada' || n || '@example.com', 'key ' || n, '\\x00'
      FROM generate_series(1, $3::int) AS n
"""
_FILL_PROFILES: Final = """
    INSERT INTO customer_profiles (merchant_id, mode, id, customer_id, login_id, processor,
        reference, customer_profile_id, state, methods, made_at)
    SELECT merchant_id, mode, id, id, $1, 'authorize_net', left(replace(id::text, '-', ''), 20),
           right(reference, -2), 'active', 2, now()
      FROM customers
"""
_FILL_METHODS: Final = """
    INSERT INTO payment_methods (merchant_id, mode, id, customer_id, profile_id, login_id,
        processor, customer_profile_id, payment_profile_id, state, type, source, brand, last4,
        exp_month, exp_year, idempotency_key, request_fingerprint, stored_at)
    SELECT p.merchant_id, p.mode, gen_random_uuid(), p.customer_id, p.id, p.login_id, p.processor,
           p.customer_profile_id, n::text, 'active', 'card', 'card', 'visa', '1111',
           1 + n, 2040 - (row_number() OVER () % 500 = 0)::int * 20, p.id || ' ' || n, '\\x00',
           now()
      FROM customer_profiles p, generate_series(1, 2) AS n
"""
_FILL_WORK: Final = """
    INSERT INTO vault_work (merchant_id, mode, kind, id, due_at)
    SELECT merchant_id, mode, 'method', id, now() + make_interval(secs => n - 900)
      FROM (SELECT *, row_number() OVER () AS n FROM payment_methods LIMIT 1000) AS m
"""
_FILL_EVENTS: Final = """
    INSERT INTO customer_events (merchant_id, mode, customer_id, event_id, data)
    SELECT merchant_id, mode, id, id, '{}' FROM customers
"""
_FILL_OLD_EVENTS: Final = """
    INSERT INTO customer_events (merchant_id, mode, customer_id, event_id, data)
    SELECT merchant_id, mode, id, lowest_id_at(now() - interval '500 days'), '{}'
      FROM customers LIMIT 300
"""
_FILL_ERASED: Final = """
    INSERT INTO erased_payments (merchant_id, mode, customer_id, payment_id)
    SELECT merchant_id, mode, id, gen_random_uuid() FROM customers
"""
_TABLES: Final = (
    *("customers", "customer_profiles", "payment_methods", "vault_work", "customer_events"),
    "erased_payments",
)


async def fill(w: World) -> None:
    """Give the merchant customers with two methods each, work at the vault, and events."""
    if await w.connection.fetchval("SELECT EXISTS (SELECT FROM customers)"):
        return
    await w.connection.execute(_FILL, w.merchant_id, w.mode, _CUSTOMERS)
    await w.connection.execute(_FILL_PROFILES, w.merchant_id)
    for sql in (_FILL_METHODS, _FILL_WORK, _FILL_EVENTS, _FILL_ERASED):
        await w.connection.execute(sql)
    for table in _TABLES:
        await w.connection.execute(f"ANALYZE {table}")


async def _customer(w: World) -> UUID:
    (found,) = await store.list_page(
        w.connection,
        w.merchant_id,
        MODE[w.mode],
        below=store.HIGHEST,
        limit=1,
        reference="C-99",
    )
    return found.id


async def _method(w: World) -> Method:
    customer_id = await _customer(w)
    found = await store.list_methods(
        w.connection, w.merchant_id, MODE[w.mode], customer_id, below=store.HIGHEST, limit=1
    )
    return found[0]


def _asked(w: World) -> Asked:
    return Asked(w.merchant_id, MODE[w.mode], ids.new_id().hex, b"\0")


_NEW: Final = NewMethod(
    source="accept_token", type="card", pay_with=AcceptToken(descriptor="x", value="x")
)


async def read_customer(w: World) -> None:
    customer_id = await _customer(w)
    async with w.pool.acquire() as measured:
        await store.get(measured, w.merchant_id, MODE[w.mode], customer_id)
        assert await paying.customers_of(measured, w.merchant_id, MODE[w.mode], [customer_id])


async def list_customers(w: World) -> None:
    async with w.pool.acquire() as measured:
        for only in ({}, {"reference": "C-7"}, {"email": "ADA7@example.com"}):
            who: dict[str, Any] = {"below": store.HIGHEST, "limit": 101, **only}
            assert await store.list_page(measured, w.merchant_id, MODE[w.mode], **who)


async def create_customer(w: World) -> None:
    asked = _asked(w)
    async with w.pool.acquire() as measured:
        for _ in range(2):
            await store.create(measured, asked, CustomerFields(name="Ada"))


async def read_methods(w: World) -> None:
    method = await _method(w)
    who = (w.merchant_id, MODE[w.mode])
    async with w.pool.acquire() as measured:
        await paying.payable_method(measured, *who, method.id)
        assert await paying.payment_methods_of(measured, *who, [method.id])


async def methods_of_payments(w: World) -> list[stored_methods.MethodKey]:
    """Return the methods of many payments that begin at once, some of them unknown."""
    found = await w.connection.fetch(
        "SELECT id FROM payment_methods WHERE merchant_id = $1 AND mode = $2 LIMIT 40",
        *(w.merchant_id, w.mode),
    )
    wanted = [row[0] for row in found] + [ids.new_id() for _ in range(10)]
    return [stored_methods.MethodKey(w.merchant_id, MODE[w.mode], each) for each in wanted]


async def purge_objects(w: World) -> Found:
    await w.connection.execute(_FILL_OLD_EVENTS)
    found = await w.explainer.explain(lambda: event_purge.purge_objects(w.pool, days=400))
    await event_purge.purge_objects(w.pool, days=400)
    return found


async def erase_new_answers(w: World) -> Found:
    who = (w.merchant_id, MODE[w.mode], await _customer(w))
    asked = ErasureRequest("ada", "asked by letter", references=True)
    async with undone(w.connection):
        await erasure_rows.begin(w.connection, *who, asked, 0.0)
        erasure = await erasure_rows.find(w.connection, *who)
        assert erasure is not None
    lowest = erasure_rows.LOWEST
    return await w.explainer.explain(
        lambda: erasing_others.erase_new_answers(w.connection, erasure, "C-99", lowest)
    )


async def store_method(w: World) -> None:
    customer_id = await _customer(w)
    async with w.pool.acquire() as measured:
        rest = (customer_id, w.merchant_id, "authorize_net", _NEW, 30.0)
        begun = await method_rows.begin_once(measured, _asked(w), *rest)
        assert isinstance(begun, Begun)
        key = MethodKey(w.merchant_id, MODE[w.mode], begun.method.id)
        assert begun.profile.customer_profile_id is not None
        vaulted = MethodIds(begun.profile.customer_profile_id, ids.new_id().hex)
        found = VaultedMethod(ids=vaulted, type="card", last4="1111")
        await method_rows.known_ids(measured, begun.method)
        await method_rows.record_stored(measured, key, found)
        await method_rows.delete(measured, *(w.merchant_id, MODE[w.mode], key.id, None, 30.0))
        await method_rows.record_deleted(measured, key)


async def delete_customer(w: World) -> None:
    async with w.pool.acquire() as measured:
        made, _ = await store.create(measured, _asked(w), CustomerFields(name="Ada"))
        who = (w.merchant_id, MODE[w.mode])
        begun = await method_rows.begin_once(
            measured, _asked(w), made.id, w.merchant_id, "authorize_net", _NEW, 30.0
        )
        assert isinstance(begun, Begun)
        found = VaultedMethod(ids=MethodIds(ids.new_id().hex, "1"), type="card", last4="1111")
        await method_rows.record_stored(measured, MethodKey(*who, begun.method.id), found)
        _, (profile,) = await store.delete(measured, *who, made.id, None, 30.0)
        await method_rows.record_profile_gone(measured, *who, profile)


async def claim_vault_work(w: World) -> None:
    async with w.pool.acquire() as measured:
        assert await work_list.claim(measured, vault_work.VAULT_WORK, most=8, lease_s=30.0)


async def begin_erasure(w: World) -> None:
    async with w.pool.acquire() as measured:
        made, _ = await store.create(measured, _asked(w), CustomerFields(name="Ada"))
        who = (w.merchant_id, MODE[w.mode], made.id)
        asked = ErasureRequest("ada", "asked by letter", references=True)
        await erasure_rows.begin(measured, *who, asked, 0.0)
        (work, *_) = await work_list.claim(measured, ERASURES, most=4, lease_s=60.0)
        await work_list.finish(measured, ERASURES, [(work.key, work.attempt)])


async def tell_of_expiring(w: World) -> None:
    async with w.pool.acquire() as measured:
        assert await expiring.tell_of_expiring(measured)


async def objects_of_events(w: World) -> None:
    customer_id = await _customer(w)
    async with w.pool.acquire() as measured:
        row = await measured.fetchrow(
            "SELECT event_id FROM customer_events WHERE merchant_id = $1 AND customer_id = $2",
            *(w.merchant_id, customer_id),
        )
        assert await measured.fetch(events.OBJECTS, [w.merchant_id], [customer_id], [row[0]])
