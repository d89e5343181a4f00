"""`easypay processor register-webhooks`: set up once, tested before it is switched on, and noticed
when nothing comes."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from easypay import ids
from easypay.merchants.directory import Directory
from easypay.merchants.vault import Vault
from easypay.notifications import store
from easypay.notifications.watching import Watch
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.registry import installed
from harness import ENCRYPTION_KEY, Gateway, Stack, until
from harness.commands import run_easypay
from notifications.notified import KEY, SIGNATURE_KEY, Notified, event, notified, save_account


@pytest.fixture
async def told(shared_stack: Stack, gateway: Gateway) -> AsyncIterator[Notified]:
    made = await notified(shared_stack, gateway)
    yield made
    for table in ("notification_work", "account_webhooks"):
        await shared_stack.fetch(f"DELETE FROM {table} WHERE account = $1", made.account)
    await shared_stack.simulator.clear_faults()
    await made.close()


def command(told: Notified, *words: str) -> Any:
    """Run it for the shop; return its result."""
    merchant = ids.typed(ids.MERCHANT, told.shop.merchant_id)
    return run_easypay(
        *("processor", "register-webhooks", "--merchant", merchant, *words),
        **told.stack.env,
        EASYPAY_AUTHORIZE_NET_TEST_URL=told.stack.simulator.wire,
    )


async def test_it_is_set_up_once_and_sends(told: Notified) -> None:
    url = ("--url", told.shop.url, "--json")
    first = command(told, *url)
    assert first.code == 0, first.err
    made = json.loads(first.out)
    assert (made["state"], made["url"]) == ("active", told.url)
    again = json.loads(command(told, *url).out)
    assert (again["webhook_id"], again["state"]) == (made["webhook_id"], "active")
    assert json.loads(command(told, "--check", "--json").out)["state"] == "active"
    await told.shop.paid()

    async def came() -> bool:
        return len(await told.rows()) == 1

    await until(came)
    shown = first.out + first.err + again["url"]
    assert SIGNATURE_KEY not in shown
    assert KEY not in shown
    assert told.shop.login not in shown


async def test_what_the_processor_has_switched_off_is_noticed_and_mended(told: Notified) -> None:
    assert command(told, "--url", told.shop.url).code == 0
    await told.stack.simulator.post("/settings", login=told.shop.login, webhook_retry_s=[])
    await save_account(told.stack, told.shop, signature_key="F" * 128)  # so it gets no 200

    async def refused() -> bool:
        return (await told.tell(event(transaction_id="0"))).status_code == 401

    await until(refused, promised_s=3)
    await told.shop.paid()

    async def off() -> bool:
        return command(told, "--check").code == 1

    await until(off)
    assert "Switched off at the processor" in command(told, "--check").out
    failed = command(told, "--url", told.shop.url)
    assert failed.code == 1
    assert "the signature key that the merchant interface shows" in failed.err
    await save_account(told.stack, told.shop, signature_key=SIGNATURE_KEY)
    mended = command(told, "--url", told.shop.url)
    assert (mended.code, mended.out) == (0, f"The processor sends notifications to {told.url}\n")


async def test_an_account_without_a_signature_key_gets_one_clear_line(
    shared_stack: Stack, gateway: Gateway
) -> None:
    shop = await shared_stack.shop(gateway)
    async with shop.client:
        failed = command(Notified(shared_stack, shop, b""), "--url", gateway.url)
    assert failed.code == 1
    assert failed.err.startswith("easypay: The account has no signature key")
    assert "missing" in command(Notified(shared_stack, shop, b"")).err


async def test_a_missed_notification_is_noticed(
    told: Notified, caplog: pytest.LogCaptureFixture
) -> None:
    """Two came, one was lost, one is of another account of the merchant, and nobody waits for that
    of a decline."""
    stack, shop = told.stack, told.shop
    assert command(told, "--url", shop.url).code == 0
    await shop.paid(1000)
    await stack.simulator.fault("webhook_lose", shop.login)
    lost = await shop.paid(1100)
    await shop.paid(1200)
    other = (await stack.shop(stack.only_gateway)).login
    await stack.set_account(shop, login=other)

    async def moved() -> bool:
        await shop.paid(1300)
        return bool(await stack.simulator.truth(login=other))

    await until(moved)

    async def two_came() -> bool:
        return len(await told.rows()) >= 2

    await until(two_came)
    integrations = installed({"authorize_net.test": stack.simulator.wire})
    vault = Vault(ENCRYPTION_KEY)
    counted: list[tuple[str, int]] = []
    processor = AuthorizeNet()
    async with stack.sessions.session() as connection:
        directory = Directory(connection, vault, integrations, lease_s=1.0)
        watch = Watch(
            connection,
            directory,
            {"authorize_net": processor},
            lambda result, by: counted.append((result, by)),
            patience_s=-1.0,
        )
        assert await watch.step() == 1
        assert await watch.step() == 0, "nobody else looks just then"
        assert await store.counts(connection) == {"active": 1}
    await processor.close()
    came = len(await told.rows())
    assert counted == [("came", came), ("missed", 1)]
    row = await stack.fetch(
        "SELECT reference FROM operations WHERE merchant_id = $1 AND payment_id = $2",
        shop.merchant_id,
        ids.parse(ids.PAYMENT, lost["id"]),
    )
    assert row[0]["reference"] in caplog.text
    await stack.set_account(shop)
    found = json.loads(command(told, "--check", "--json").out)
    assert (found["looked_at"], found["missed"]) == (came + 1, 1)


async def test_old_notifications_are_forgotten(told: Notified) -> None:
    await told.tell(event())
    await told.tell(event())
    await told.stack.fetch(
        "UPDATE notifications SET received_at = db_now() - interval '15 days'"
        " WHERE ctid = (SELECT ctid FROM notifications WHERE account = $1 LIMIT 1)",
        told.account,
    )
    async with told.stack.sessions.session() as connection:
        assert await store.purge(connection) == 1
    assert len(await told.rows()) == 1
