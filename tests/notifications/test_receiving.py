"""A notification is checked, stored once and answered; what it says is not believed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from easypay.merchants.directory import Directory
from easypay.merchants.vault import Vault
from easypay.notifications.accounts import Signers, shown
from easypay.processors.registry import installed
from harness import ENCRYPTION_KEY, Gateway, Stack, until
from notifications.notified import SIGNATURE_KEY, Notified, event, notified, save_account, signed


@pytest.fixture
async def told(shared_stack: Stack, gateway: Gateway) -> AsyncIterator[Notified]:
    made = await notified(shared_stack, gateway)
    yield made
    await shared_stack.fetch("DELETE FROM notification_work WHERE account = $1", made.account)
    await made.close()


async def test_a_notification_is_stored_once_however_often_it_comes(told: Notified) -> None:
    body = event(transaction_id="60198", invoice="not one of ours: Ada L. 4111111111111111")
    answers = await asyncio.gather(*(told.tell(body) for _ in range(10)))
    assert {(each.status_code, each.content) for each in answers} == {(200, b'{"received":true}')}
    (row,) = await told.rows()
    assert (row["transaction_id"], row["reference"]) == ("60198", None)
    assert "4111" not in str(row)
    left = "SELECT count(*) FROM notification_work WHERE account = $1"
    assert await told.stack.value(left, told.account) == 1


async def test_a_forged_notification_leaves_nothing(told: Notified) -> None:
    body = event()
    wrong = (
        {},
        signed(body, "F" * 128),
        signed(body + b" "),
        {"x-anet-signature": "sha512=00"},
        {"authorization": f"Bearer {told.shop.secret}"},
    )
    for headers in wrong:
        answer = await told.client.post(told.url, content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_signature")
    assert await told.rows() == []


async def test_an_account_that_does_not_exist_looks_as_if_the_signature_were_wrong(
    told: Notified,
) -> None:
    body = event()
    forged = await told.client.post(told.url, content=body)
    places = (
        told.url[:-1] + ("0" if told.url[-1] != "0" else "1"),
        told.url.replace("authorize_net", "nobody"),
        f"{told.url[:-36]}x",
    )
    for url in places:
        answer = await told.client.post(url, content=body, headers=signed(body))
        assert answer.status_code == forged.status_code == 401
        assert answer.json()["detail"] == forged.json()["detail"]


async def test_the_way_there_is_named_by_nothing_of_the_merchant(told: Notified) -> None:
    (row,) = await told.stack.fetch(
        "SELECT id, account FROM processor_logins WHERE merchant_id = $1", told.shop.merchant_id
    )
    for secret in (told.shop.login, told.shop.merchant_id.hex, row["id"].hex, row["account"].hex()):
        assert secret not in told.url


async def test_what_cannot_be_understood_is_answered_with_200(told: Notified) -> None:
    """The signature is right. After ten failures the processor would send no more."""
    for body in (
        b"{",
        b"",
        event(transaction_id="0"),
        event("new.thing"),
        event(transaction_id="x"),
    ):
        assert (await told.tell(body)).status_code == 200
    assert await told.rows() == []


async def test_a_body_that_is_too_large_is_refused_unread(told: Notified) -> None:
    body = event(description="x" * 70_000)
    answer = await told.tell(body)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_a_new_key_counts_within_a_second_and_the_old_one_no_more(told: Notified) -> None:
    new = "FEDCBA9876543210" * 8
    await save_account(told.stack, told.shop, signature_key=new)

    async def changed() -> bool:
        return (await told.tell(event(), key=new)).status_code == 200

    await until(changed, promised_s=3)
    assert (await told.tell(event())).status_code == 401


async def test_saving_an_account_without_its_signature_key_keeps_it(told: Notified) -> None:
    await save_account(told.stack, told.shop)
    version = "SELECT version FROM configuration"
    before = await told.stack.value(version)
    await save_account(told.stack, told.shop)
    assert await told.stack.value(version) > before
    assert (await told.tell(event())).status_code == 200


class Counting:
    """A pool that counts what is fetched."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.fetched = 0

    async def fetch(self, *statement: Any) -> Any:
        self.fetched += 1
        return await self._pool.fetch(*statement)


async def test_a_wrong_signature_costs_no_statement(told: Notified) -> None:
    integrations, vault = installed({}), Vault(ENCRYPTION_KEY)
    async with asyncpg.create_pool(told.stack.dsn, min_size=1, max_size=2) as opened:
        pool = Counting(opened)
        directory = Directory(opened, vault, integrations, lease_s=1.0)
        watching = asyncio.create_task(directory.watch())
        signers = Signers(pool, vault, integrations, directory)
        body, place = event(), shown(told.account)
        right = {name.encode(): value.encode() for name, value in signed(body).items()}

        async def known() -> bool:
            return directory.version is not None

        await until(known)
        found = await signers.signed("authorize_net", place, body, right)
        assert found is not None
        assert found[0] == told.account
        for account in (place, "acc_" + "0" * 32):
            for _ in range(50):
                assert await signers.signed("authorize_net", account, body + b" ", right) is None
        assert pool.fetched == 1
        await save_account(told.stack, told.shop)  # a new version, and many wrong ones at once

        async def newer() -> bool:
            wrong = [signers.signed("authorize_net", place, b"", right) for _ in range(20)]
            assert await asyncio.gather(*wrong) == [None] * 20
            return pool.fetched > 1

        await until(newer, promised_s=3)
        assert pool.fetched == 2
        watching.cancel()


async def test_the_key_is_nowhere_in_the_clear(told: Notified) -> None:
    await told.tell(event())
    assert SIGNATURE_KEY not in told.stack.only_gateway.logs()
    sealed = await told.stack.fetch(
        "SELECT credentials FROM processor_logins WHERE merchant_id = $1"
        " UNION ALL SELECT credentials FROM processor_accounts WHERE merchant_id = $1",
        told.shop.merchant_id,
    )
    assert len(sealed) == 2
    assert all(SIGNATURE_KEY.encode() not in row["credentials"] for row in sealed)
