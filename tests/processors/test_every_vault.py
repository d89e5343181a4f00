"""What every customer vault must satisfy. A new one adds its stand to `WITH_A_VAULT`."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from easypay.processors.base import Account, Approved, Processor, Rejected, StoredMethod
from easypay.processors.customer_vault import (
    CustomerVault,
    FoundProfile,
    MethodIds,
    NoProfile,
    Stored,
    VaultDone,
    VaultedMethod,
    VaultNotSent,
    VaultRefused,
    VaultUnknown,
    vault_of,
)
from easypay.processors.integration import ClientOptions
from second_processor.client import SECOND

from .example_requests import VISA, payment, soon
from .outcomes import expect
from .test_every_processor import NOWHERE, STANDS, Stand
from .vault_requests import store, store_from, update, visa

WITH_A_VAULT = ("authorize_net",)
NOBODY = MethodIds("1", "2")


@pytest.fixture(params=WITH_A_VAULT)
def stand(request: pytest.FixtureRequest) -> Stand:
    return STANDS[request.param](request)


@pytest.fixture
async def processor(stand: Stand) -> AsyncIterator[Processor]:
    made = stand.integration.make(ClientOptions())
    yield made
    await made.close()


@pytest.fixture
def vault(processor: Processor) -> CustomerVault:
    found = vault_of(processor)
    assert found is not None
    return found


async def test_another_processor_has_none() -> None:
    made = SECOND.make(ClientOptions())
    assert vault_of(made) is None
    await made.close()


def charging(method: VaultedMethod) -> StoredMethod:
    return StoredMethod(
        customer_profile_id=method.ids.customer_profile_id,
        payment_profile_id=method.ids.payment_profile_id,
    )


async def shown(vault: CustomerVault, account: Account, profile_id: str) -> list[VaultedMethod]:
    return list(expect(FoundProfile, await vault.show_profile(account, profile_id, soon())).methods)


async def test_a_card_is_stored_found_charged_and_deleted(
    vault: CustomerVault, processor: Processor, stand: Stand
) -> None:
    request = store(stand.account)
    kept = expect(Stored, await vault.store(request, soon()))
    method = kept.method
    assert (method.type, method.last4, method.exp_month, method.exp_year, kept.existed) == (
        *("card", "1111", 12, 2035),
        False,
    )
    found = await vault.find_profile(stand.account, request.reference, soon())
    assert expect(FoundProfile, found).methods == [method]
    sale = payment(stand.account, method=charging(method))
    assert expect(Approved, await processor.authorize(sale, soon())).card_last4 == "1111"
    for gone in (False, True):
        answer = await vault.delete_method(stand.account, method.ids, soon())
        assert answer == VaultDone(was_gone=gone)
    again = payment(stand.account, method=charging(method))
    expect(Rejected, await processor.authorize(again, soon()))
    profile_id = method.ids.customer_profile_id
    assert await shown(vault, stand.account, profile_id) == []
    for gone in (False, True):
        answer = await vault.delete_profile(stand.account, profile_id, soon())
        assert answer == VaultDone(was_gone=gone)
    expect(NoProfile, await vault.find_profile(stand.account, request.reference, soon()))


async def test_a_lost_creation_is_found_and_a_repeated_one_stores_nothing_twice(
    vault: CustomerVault, stand: Stand
) -> None:
    request = store(stand.account)
    await stand.lose_next_reply()
    expect(VaultUnknown, await vault.store(request, soon()))
    found = await vault.find_profile(stand.account, request.reference, soon())
    (method,) = expect(FoundProfile, found).methods
    assert await vault.store(request, soon()) == Stored(method=method, existed=True)
    profile_id = method.ids.customer_profile_id
    add = replace(request, customer_profile_id=profile_id, method=visa(exp_year=2036))
    await stand.lose_next_reply()
    expect(VaultUnknown, await vault.store(add, soon()))
    again = expect(Stored, await vault.store(add, soon()))
    assert again.existed
    assert await shown(vault, stand.account, profile_id) == [method, again.method]


async def test_a_payments_method_is_stored_and_changed(
    vault: CustomerVault, processor: Processor, stand: Stand
) -> None:
    paid = expect(Approved, await processor.authorize(payment(stand.account), soon()))
    request = store_from(stand.account, paid.transaction_id)
    kept = expect(Stored, await vault.store_from_transaction(request, soon())).method
    assert kept.last4 == "1111"
    change = update(stand.account, kept.ids, exp_month=1, exp_year=2040)
    expect(VaultDone, await vault.update(change, soon()))
    (after,) = await shown(vault, stand.account, kept.ids.customer_profile_id)
    assert (after.ids, after.last4, after.exp_month, after.exp_year) == (kept.ids, "1111", 1, 2040)
    sale = payment(stand.account, method=charging(after))
    expect(Approved, await processor.authorize(sale, soon()))


async def test_what_is_unknown_is_refused_and_what_cannot_be_sent_is_not_sent(
    vault: CustomerVault, stand: Stand
) -> None:
    account = stand.account
    change = update(account, NOBODY, exp_year=2040)
    assert expect(VaultRefused, await vault.update(change, soon())).word == "method_not_found"
    checked = await vault.validate(account, NOBODY, None, soon())
    assert expect(VaultRefused, checked).word == "method_not_found"
    add = store(account, customer_profile_id="1")
    refused = expect(VaultRefused, await vault.store(add, soon()))
    assert refused.word == "profile_not_found"
    assert VISA not in repr(refused) + repr(add)
    nowhere = replace(account, url=NOWHERE)
    for answer in (
        await vault.store(store(nowhere), soon()),
        await vault.find_profile(nowhere, "r-1", soon()),
        await vault.delete_method(nowhere, NOBODY, soon()),
    ):
        assert expect(VaultNotSent, answer).account_refusal is None


async def test_a_refused_account_stores_nothing_and_the_credentials_are_blamed(
    vault: CustomerVault, stand: Stand
) -> None:
    *_, secret = stand.account.credentials
    wrong = replace(stand.account, credentials={**stand.account.credentials, secret: "wrong"})
    request = store(wrong)
    refusal = expect(VaultNotSent, await vault.store(request, soon())).account_refusal
    assert refusal is not None
    found = await vault.find_profile(stand.account, request.reference, soon())
    expect(NoProfile, found)
