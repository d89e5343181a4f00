"""Authorize.Net's customer vault against the simulator, and against the real sandbox if
EASYPAY_SANDBOX_LOGIN_ID and EASYPAY_SANDBOX_TRANSACTION_KEY are set.

The judge is the simulator's own list of profiles: what an answer says is what is stored.
"""

import os
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import pytest
from msgspec.structs import replace

from easypay.processors.authorize_net.customer_vault import AuthorizeNetVault
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import (
    AcceptToken,
    Account,
    Address,
    Approved,
    Card,
    Deadline,
    Declined,
    Rejected,
    StoredMethod,
)
from easypay.processors.customer_vault import (
    FoundProfile,
    MethodIds,
    NoProfile,
    Stored,
    StoreRequest,
    VaultDone,
    VaultedMethod,
    VaultNotSent,
    VaultRefused,
    VaultUnknown,
    vault_of,
)
from easypay.settings import SANDBOX_URL
from harness import MASTERCARD, Simulator, mint_token, until

from .example_requests import VISA, authorize_net_account, login_of, payment, refund, soon, void
from .outcomes import expect
from .vault_requests import ADA, BANK, store, store_from, update, visa

NEW_PROFILE = "createCustomerProfileRequest"
NEW_METHOD = "createCustomerPaymentProfileRequest"


@pytest.fixture
def vault(processor: AuthorizeNet) -> AuthorizeNetVault:
    found = vault_of(processor)
    assert isinstance(found, AuthorizeNetVault)
    return found


class Books:
    """One account's vault as the simulator's own records show it."""

    def __init__(self, wire: Simulator, account: Account) -> None:
        self._wire = wire
        self._login = login_of(account)
        self._key = account.credentials["transaction_key"]

    async def profiles(self) -> list[dict[str, Any]]:
        return await self._wire.profiles(self._login)

    async def methods(self) -> list[str]:
        """Return the last four digits and the expiry of every method, in order."""
        return [
            f"{each['last4']} {each['expiry']}".strip()
            for profile in await self.profiles()
            for each in profile["payment_profiles"]
        ]

    async def fault(self, kind: str, method: str, **more: Any) -> None:
        await self._wire.fault(kind, self._login, method=method, **more)

    async def set(self, **settings: Any) -> None:
        await self._wire.post("/settings", login=self._login, **settings)

    async def minted(self, number: str) -> AcceptToken:
        """Return the token that a browser would get for this card."""
        opaque = await mint_token(self._wire, self._login, number, transaction_key=self._key)
        return AcceptToken(descriptor=opaque["data_descriptor"], value=opaque["data_value"])


@pytest.fixture
async def books(wire: Simulator, account: Account) -> AsyncIterator[Books]:
    yield Books(wire, account)
    await wire.clear_faults()


async def stored(vault: AuthorizeNetVault, request: StoreRequest) -> VaultedMethod:
    return expect(Stored, await vault.store(request, soon())).method


def filled(method: VaultedMethod) -> tuple[object, ...]:
    return method.type, method.last4, method.brand, method.exp_month, method.exp_year


VISA_SHOWN = ("card", "1111", "visa", 12, 2035)

# What every vault does, also the real one ------------------------------------------------------


@pytest.fixture(params=["simulator", pytest.param("sandbox", marks=pytest.mark.sandbox)])
def anywhere(request: pytest.FixtureRequest) -> Account:
    """An account at the simulator, and at the sandbox."""
    if request.param == "simulator":
        account = request.getfixturevalue("account")
        assert isinstance(account, Account)
        return account
    login = os.environ.get("EASYPAY_SANDBOX_LOGIN_ID")
    key = os.environ.get("EASYPAY_SANDBOX_TRANSACTION_KEY")
    if not login or not key:
        pytest.skip("EASYPAY_SANDBOX_LOGIN_ID and EASYPAY_SANDBOX_TRANSACTION_KEY are not set")
    return authorize_net_account(SANDBOX_URL, login, key)


def later() -> Deadline:
    return Deadline(monotonic() + 20)


async def test_a_card_is_stored_shown_charged_changed_and_deleted(
    vault: AuthorizeNetVault, processor: AuthorizeNet, anywhere: Account
) -> None:
    request = store(anywhere, method=visa(cvc="900"), validate=True)
    kept = expect(Stored, await vault.store(request, later()))
    assert (filled(kept.method), kept.existed) == (VISA_SHOWN, False)

    async def shown() -> FoundProfile | None:
        found = await vault.find_profile(anywhere, request.reference, later())
        return found if isinstance(found, FoundProfile) else None

    found = expect(FoundProfile, await until(shown, within_s=70))  # it is hidden at first
    assert found.methods == [kept.method]
    ids = kept.method.ids
    assert found == await vault.show_profile(anywhere, ids.customer_profile_id, later())
    method = StoredMethod(
        customer_profile_id=ids.customer_profile_id, payment_profile_id=ids.payment_profile_id
    )
    expect(Approved, await processor.authorize(payment(anywhere, method=method), later()))
    expect(VaultDone, await vault.validate(anywhere, ids, "900", later()))
    change = update(anywhere, ids, exp_month=1, exp_year=2039, is_default=True)
    expect(VaultDone, await vault.update(change, later()))
    for gone in (False, True):
        assert await vault.delete_method(anywhere, ids, later()) == VaultDone(was_gone=gone)
    profile_id = ids.customer_profile_id
    empty = expect(FoundProfile, await vault.show_profile(anywhere, profile_id, later()))
    assert empty.methods == []
    for gone in (False, True):
        answer = await vault.delete_profile(anywhere, profile_id, later())
        assert answer == VaultDone(was_gone=gone)
    expect(NoProfile, await vault.show_profile(anywhere, profile_id, later()))
    expect(NoProfile, await vault.find_profile(anywhere, request.reference, later()))


async def test_unknown_ids_are_refused_in_words(
    vault: AuthorizeNetVault, processor: AuthorizeNet, anywhere: Account
) -> None:
    ids = MethodIds("1", "2")
    for answer, word in (
        (await vault.store(store(anywhere, customer_profile_id="1"), later()), "profile_not_found"),
        (await vault.update(update(anywhere, ids, exp_year=2040), later()), "method_not_found"),
        (await vault.validate(anywhere, ids, None, later()), "method_not_found"),
    ):
        refused = expect(VaultRefused, answer)
        assert (refused.word, refused.code) == (word, "E00040")
    method = StoredMethod(customer_profile_id="1", payment_profile_id="2")
    charged = await processor.authorize(payment(anywhere, method=method), later())
    assert expect(Rejected, charged).decline_code == "stored_method_not_found"


# Against the simulator's records ---------------------------------------------------------------


async def test_a_bank_account_and_a_token_are_stored(
    vault: AuthorizeNetVault, account: Account, books: Books
) -> None:
    profile = await stored(vault, store(account))
    add = store(account, customer_profile_id=profile.ids.customer_profile_id)
    bank = await stored(vault, replace(add, method=BANK, validate=True))
    assert filled(bank) == ("bank_account", "6789", None, None, None)
    token = await stored(vault, replace(add, method=await books.minted(MASTERCARD)))
    assert filled(token) == ("card", MASTERCARD[-4:], "mastercard", 12, 2035)
    found = await vault.show_profile(account, profile.ids.customer_profile_id, soon())
    assert expect(FoundProfile, found).methods == [profile, bank, token]
    assert await books.methods() == ["1111 2035-12", "6789", f"{MASTERCARD[-4:]} 2035-12"]


async def test_a_token_is_stored_and_described_although_it_is_not_shown_yet(
    vault: AuthorizeNetVault, account: Account, books: Books
) -> None:
    await books.set(profile_lag_ms=60_000)
    token = await books.minted(VISA)
    checked = await stored(vault, store(account, method=token, validate=True))
    assert (checked.last4, checked.brand, checked.exp_year) == ("1111", "visa", None)
    token = await books.minted(VISA)
    unchecked = await stored(vault, store(account, method=token))
    assert (unchecked.last4, unchecked.brand) == (None, None)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("kind", ["drop_reply", "truncate", "error_after", "garbage"])
async def test_a_creation_whose_answer_was_lost_is_found_when_it_is_repeated(
    vault: AuthorizeNetVault, account: Account, books: Books, kind: str, told: bool
) -> None:
    await books.set(duplicate_ids_told=told)
    request = store(account)
    await books.fault(kind, NEW_PROFILE)
    expect(VaultUnknown, await vault.store(request, soon()))
    again = expect(Stored, await vault.store(request, soon()))
    assert (filled(again.method), again.existed) == (VISA_SHOWN, True)
    add = store(
        account,
        customer_profile_id=again.method.ids.customer_profile_id,
        method=visa(number=MASTERCARD),
    )
    await books.fault(kind, NEW_METHOD)
    expect(VaultUnknown, await vault.store(add, soon()))
    repeated = expect(Stored, await vault.store(add, soon()))
    assert (repeated.method.last4, repeated.existed) == (MASTERCARD[-4:], True)
    assert await books.methods() == ["1111 2035-12", f"{MASTERCARD[-4:]} 2035-12"]


async def test_a_creation_that_is_carried_out_late_makes_one_profile(
    vault: AuthorizeNetVault, account: Account, books: Books
) -> None:
    request = store(account)
    await books.fault("late_charge", NEW_PROFILE, delay_ms=1500)
    expect(NoProfile, await vault.find_profile(account, request.reference, soon()))
    expect(VaultUnknown, await vault.store(request, Deadline(monotonic() + 1)))
    await until(books.profiles, what="the late creation")
    assert expect(Stored, await vault.store(request, soon())).existed
    await books.fault("late_reply", NEW_METHOD, delay_ms=60_000)
    add = store(account, customer_profile_id=(await books.profiles())[0]["customer_profile_id"])
    add = replace(add, method=visa(number=MASTERCARD))
    expect(VaultUnknown, await vault.store(add, Deadline(monotonic() + 1)))
    assert expect(Stored, await vault.store(add, soon())).existed
    assert await books.methods() == ["1111 2035-12", f"{MASTERCARD[-4:]} 2035-12"]


async def test_a_repeated_creation_with_another_card_adds_it_to_the_profile(
    vault: AuthorizeNetVault, account: Account, books: Books
) -> None:
    request = store(account)
    await books.fault("drop_reply", NEW_PROFILE)
    expect(VaultUnknown, await vault.store(request, soon()))
    other = replace(request, method=visa(number=MASTERCARD))
    answer = expect(Stored, await vault.store(other, soon()))
    assert (answer.method.last4, answer.existed) == (MASTERCARD[-4:], False)
    assert len(await books.profiles()) == 1
    assert await books.methods() == ["1111 2035-12", f"{MASTERCARD[-4:]} 2035-12"]


async def test_a_used_token_of_a_lost_creation_is_never_taken_for_another_card(
    vault: AuthorizeNetVault, account: Account, books: Books
) -> None:
    token = await books.minted(VISA)
    request = store(account, method=token)
    await books.fault("drop_reply", NEW_PROFILE)
    expect(VaultUnknown, await vault.store(request, soon()))
    assert "token" in expect(VaultUnknown, await vault.store(request, soon())).reason
    found = await vault.find_profile(account, request.reference, soon())
    (method,) = expect(FoundProfile, found).methods
    assert filled(method) == VISA_SHOWN
    add = store(account, customer_profile_id=method.ids.customer_profile_id, method=token)
    assert expect(VaultRefused, await vault.store(add, soon())).word == "invalid_payment_token"


async def test_a_new_profile_is_unknown_for_a_while_and_its_charge_starts_nothing(
    vault: AuthorizeNetVault,
    processor: AuthorizeNet,
    account: Account,
    books: Books,
    wire: Simulator,
) -> None:
    await books.set(profile_lag_ms=60_000)
    request = store(account)
    await books.fault("drop_reply", NEW_PROFILE)
    expect(VaultUnknown, await vault.store(request, soon()))
    expect(NoProfile, await vault.find_profile(account, request.reference, soon()))
    unknown = expect(VaultUnknown, await vault.store(request, soon()))
    assert "does not show it yet" in unknown.reason
    other = await stored(vault, store(account))
    method = StoredMethod(
        customer_profile_id=other.ids.customer_profile_id,
        payment_profile_id=other.ids.payment_profile_id,
    )
    charged = await processor.authorize(payment(account, method=method), soon())
    refused = expect(Rejected, charged)
    assert (refused.code, refused.decline_code) == ("E00040", "stored_method_not_found")
    assert await wire.truth(login=login_of(account)) == []
    assert await vault.delete_method(account, other.ids, soon()) == VaultDone(was_gone=True)
    assert len(await books.methods()) == 2, "it is not gone: it was only not shown"
    await books.set(profile_lag_ms=0)
    assert expect(Stored, await vault.store(request, soon())).existed
    assert await vault.delete_method(account, other.ids, soon()) == VaultDone()
    expect(NoProfile, await vault.show_profile(account, "900000000", soon()))


async def test_the_eleventh_method_is_refused(
    vault: AuthorizeNetVault, account: Account, books: Books
) -> None:
    first = await stored(vault, store(account))
    add = store(account, customer_profile_id=first.ids.customer_profile_id)
    for year in range(2036, 2045):
        await stored(vault, replace(add, method=visa(exp_year=year)))
    refused = expect(VaultRefused, await vault.store(replace(add, method=BANK), soon()))
    assert (refused.word, refused.code, refused.retry) == ("profile_full", "E00042", "fix_data")
    assert expect(Stored, await vault.store(add, soon())).existed, "the first is there already"
    assert len(await books.methods()) == 10


async def test_alike_methods_are_not_confused_if_the_duplicate_names_no_id(
    vault: AuthorizeNetVault, account: Account, books: Books
) -> None:
    first = await stored(vault, store(account))
    profile_id = first.ids.customer_profile_id
    elsewhere = replace(ADA, line1="2 Dock St")
    second = store(account, customer_profile_id=profile_id, billing_address=elsewhere)
    assert (await stored(vault, second)).ids != first.ids
    assert expect(Stored, await vault.store(second, soon())).existed
    await books.set(duplicate_ids_told=False)
    refused = expect(VaultRefused, await vault.store(second, soon()))
    assert (refused.word, refused.code) == ("duplicate_method", "E00039")
    assert len(await books.methods()) == 2


@pytest.mark.parametrize(
    ("method", "address", "word", "decline_code"),
    [
        (visa(), Address(line1="1 St", postal_code="46282"), "card_declined", "generic_decline"),
        (visa(exp_year=2020), ADA, "expired_card", None),
        (visa(number="4111111111111112"), ADA, "invalid_card_number", None),
        (visa(number="41111111111"), ADA, "generic_error", None),
    ],
)
async def test_a_card_that_fails_its_check_is_not_stored(
    vault: AuthorizeNetVault,
    account: Account,
    books: Books,
    method: Card,
    address: Address,
    word: str,
    decline_code: str | None,
) -> None:
    request = store(account, method=method, billing_address=address, validate=True)
    first = await stored(vault, store(account))
    add = replace(request, customer_profile_id=first.ids.customer_profile_id)
    for each in (request, add):
        refused = expect(VaultRefused, await vault.store(each, soon()))
        assert (refused.word, refused.decline_code) == (word, decline_code)
        assert method.number not in repr(refused)
    assert await books.methods() == ["1111 2035-12"]


async def test_a_stored_card_that_the_issuer_declines_fails_its_validation(
    vault: AuthorizeNetVault, account: Account
) -> None:
    declined = Address(line1="1 St", postal_code="46282")
    method = await stored(vault, store(account, billing_address=declined))
    refused = expect(VaultRefused, await vault.validate(account, method.ids, None, soon()))
    assert (refused.word, refused.code, refused.retry) == ("card_declined", "2", "later")


async def test_an_update_changes_what_it_names_and_keeps_the_rest(
    vault: AuthorizeNetVault, processor: AuthorizeNet, account: Account, books: Books
) -> None:
    method = await stored(vault, store(account))
    await changed(vault, account, method, is_default=True)
    assert (await shown(vault, account, method)).is_default
    after = await changed(vault, account, method, exp_month=1, exp_year=2040)
    assert (after.exp_month, after.exp_year, after.is_default) == (1, 2040, True)
    declined = Address(line1="1 St", postal_code="46282")
    after = await changed(vault, account, method, billing_address=declined)
    assert (after.exp_month, after.exp_year, after.is_default) == (1, 2040, True)
    refused = expect(VaultRefused, await vault.validate(account, method.ids, None, soon()))
    assert refused.word == "card_declined", "the new address counts"
    assert await books.methods() == ["1111 2040-01"]
    profile_id = method.ids.customer_profile_id
    bank = await stored(vault, store(account, customer_profile_id=profile_id, method=BANK))
    await changed(vault, account, bank, is_default=True)
    assert not (await shown(vault, account, method)).is_default
    await changed(vault, account, bank, is_default=False)
    assert not (await shown(vault, account, bank)).is_default


async def changed(
    vault: AuthorizeNetVault, account: Account, method: VaultedMethod, **change: Any
) -> VaultedMethod:
    expect(VaultDone, await vault.update(update(account, method.ids, **change), soon()))
    return await shown(vault, account, method)


async def shown(vault: AuthorizeNetVault, account: Account, method: VaultedMethod) -> VaultedMethod:
    found = await vault.show_profile(account, method.ids.customer_profile_id, soon())
    return next(each for each in expect(FoundProfile, found).methods if each.ids == method.ids)


async def test_an_update_that_cannot_read_the_method_starts_nothing(
    vault: AuthorizeNetVault, account: Account, books: Books
) -> None:
    method = await stored(vault, store(account))
    await books.fault("busy", "getCustomerPaymentProfileRequest")
    change = update(account, method.ids, exp_year=2040)
    expect(VaultNotSent, await vault.update(change, soon()))
    await books.fault("drop_reply", "updateCustomerPaymentProfileRequest")
    expect(VaultUnknown, await vault.update(change, soon()))
    assert await books.methods() == ["1111 2040-12"]


async def test_a_transactions_method_is_stored_and_found_again(
    vault: AuthorizeNetVault, processor: AuthorizeNet, account: Account, books: Books
) -> None:
    paid = expect(Approved, await processor.authorize(payment(account), soon()))
    request = store_from(account, paid.transaction_id, email="ada@example.test")
    await books.fault("drop_reply", "createCustomerProfileFromTransactionRequest")
    expect(VaultUnknown, await vault.store_from_transaction(request, soon()))
    for told in (True, False):
        await books.set(duplicate_ids_told=told)
        again = expect(Stored, await vault.store_from_transaction(request, soon()))
        assert (filled(again.method), again.existed) == (VISA_SHOWN, True)
    await books.set(duplicate_ids_told=True)
    other = expect(Approved, await processor.authorize(payment(account, method=BANK), soon()))
    into = replace(
        request,
        transaction_id=other.transaction_id,
        customer_profile_id=again.method.ids.customer_profile_id,
    )
    added = expect(Stored, await vault.store_from_transaction(into, soon()))
    assert (added.method.type, added.method.last4, added.existed) == ("bank_account", "6789", False)
    assert await books.methods() == ["1111 2035-12", "6789"]


async def test_a_transaction_that_cannot_be_stored_is_refused_in_words(
    vault: AuthorizeNetVault, processor: AuthorizeNet, account: Account, books: Books
) -> None:
    held = expect(Approved, await processor.authorize(payment(account, capture=False), soon()))
    expect(Approved, await processor.void(void(account, held.transaction_id), soon()))
    answer = await vault.store_from_transaction(store_from(account, held.transaction_id), soon())
    refused = expect(VaultRefused, answer)
    assert (refused.word, refused.code) == ("transaction_voided", "E00101")
    no = payment(account, billing_address=Address(postal_code="46282"))
    declined = expect(Declined, await processor.authorize(no, soon())).transaction_id
    assert declined is not None
    for transaction_id, word in (
        (declined, "transaction_not_storable"),
        ("77", "transaction_not_found"),
    ):
        answer = await vault.store_from_transaction(store_from(account, transaction_id), soon())
        assert expect(VaultRefused, answer).word == word
    into = store_from(account, held.transaction_id, customer_profile_id="5")
    expect(VaultRefused, await vault.store_from_transaction(into, soon()))
    assert await books.profiles() == []


@pytest.mark.parametrize(("kind", "left"), [("code_after", 0), ("code_before", 1)])
async def test_a_deletion_answered_as_unknown_counts_as_done_and_says_so(
    vault: AuthorizeNetVault, account: Account, books: Books, kind: str, left: int
) -> None:
    method = await stored(vault, store(account))
    await books.fault(kind, "deleteCustomerPaymentProfileRequest", code="E00040")
    answer = await vault.delete_method(account, method.ids, soon())
    assert answer == VaultDone(was_gone=True)
    assert len(await books.methods()) == left


async def test_what_a_subscription_uses_is_not_deleted(
    vault: AuthorizeNetVault, account: Account, books: Books
) -> None:
    method = await stored(vault, store(account))
    for code in ("E00105", "E00106", "E00107"):
        await books.fault("code_before", "deleteCustomerPaymentProfileRequest", code=code)
        refused = expect(VaultRefused, await vault.delete_method(account, method.ids, soon()))
        assert (refused.word, refused.code) == ("tied_to_subscription", code)


async def test_a_charge_is_refunded_after_its_method_was_deleted(
    vault: AuthorizeNetVault, processor: AuthorizeNet, account: Account, wire: Simulator
) -> None:
    kept = await stored(vault, store(account))
    method = StoredMethod(
        customer_profile_id=kept.ids.customer_profile_id,
        payment_profile_id=kept.ids.payment_profile_id,
    )
    sale = expect(Approved, await processor.authorize(payment(account, method=method), soon()))
    await wire.post("/settle")
    assert await vault.delete_profile(account, kept.ids.customer_profile_id, soon()) == VaultDone()
    request = refund(account, sale.transaction_id)
    expect(Approved, await processor.refund_or_void(request, soon()))


async def test_one_card_may_be_stored_for_two_customers(
    vault: AuthorizeNetVault, account: Account, books: Books
) -> None:
    one, other = [await stored(vault, store(account)) for _ in range(2)]
    assert one.ids.customer_profile_id != other.ids.customer_profile_id
    assert len(await books.profiles()) == 2


async def test_refused_credentials_start_nothing(
    vault: AuthorizeNetVault, account: Account, books: Books
) -> None:
    wrong = authorize_net_account(account.url, login_of(account), "wrong")
    ids = MethodIds("1", "2")
    for answer in (
        await vault.store(store(wrong), soon()),
        await vault.store_from_transaction(store_from(wrong, "1"), soon()),
        await vault.find_profile(wrong, "x", soon()),
        await vault.show_profile(wrong, "1", soon()),
        await vault.update(update(wrong, ids), soon()),
        await vault.validate(wrong, ids, None, soon()),
        await vault.delete_method(wrong, ids, soon()),
        await vault.delete_profile(wrong, "1", soon()),
    ):
        refusal = expect(VaultNotSent, answer).account_refusal
        assert refusal is not None
        assert refusal.code == "E00007"
    await books.set(switched_off=["cim"])
    refused = expect(VaultRefused, await vault.store(store(account), soon()))
    assert refused.word == "account_not_set_up"
