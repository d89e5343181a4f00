"""Payments with a stored payment method: the right account is charged once, and the shop is told
the truth, whatever the processor knows of the method."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from easypay import ids
from easypay.api.paging import newest_id
from easypay.api.reading import ReadingApi
from easypay.db.partitions import Months
from easypay.db.reading import Reading
from easypay.merchants.model import SCOPES
from easypay.merchants.vault import Box, Vault
from easypay.mode import Mode
from easypay.payments.lists import PAYMENTS, Lists, Span
from easypay.payments.queued_requests import QUEUE_KEY, open_request
from easypay.payments.requests import StoredPaymentMethod
from easypay.payments.views import ExpandedCustomer
from harness import (
    AMEX,
    ENCRYPTION_KEY,
    MASTERCARD,
    QUICK,
    Shop,
    Stack,
    all_known,
    assert_nothing_was_done,
    audit,
    card,
    connected,
    own_stack,
    payment_uuid,
    random_name,
    until,
)
from harness.forked import ForkedWorkers, forked_workers
from harness.stored import Stored, at_wire, stored_method

stack = own_stack(**QUICK)
AGES_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture
async def shop(stack: Stack) -> AsyncIterator[Shop]:
    made = await stack.shop(stack.only_gateway)
    yield made
    await stack.simulator.clear_faults()
    await made.client.aclose()


@pytest.fixture(scope="module")
async def workers(stack: Stack) -> AsyncIterator[ForkedWorkers]:
    async with forked_workers(stack, **QUICK) as workers:
        yield workers


@pytest.fixture
async def worker(workers: ForkedWorkers) -> AsyncIterator[Callable[[], Any]]:
    """Return a function that starts a worker for this test."""
    started = []

    async def start() -> None:
        started.append(await workers.start())

    yield start
    for each in started:
        each.send(signal.SIGTERM)
        await each.ends()


async def pay(shop: Shop, method: Stored, *, queue: bool = False, **over: Any) -> Any:
    key, cvc = over.pop("key", None), over.pop("cvc", None)
    named = method.pays() if cvc is None else method.pays(cvc=cvc)
    body = {"amount": 2500, "currency": "USD", "payment_method": named, **over}
    return await shop.post("/payments", body, key=key, queue=queue)


async def unknown_at_processor(stack: Stack, shop: Shop, times: int = 1_000_000) -> None:
    """Let the processor answer payments as if it did not know their method."""
    await stack.simulator.fault(
        "code_before",
        shop.login,
        code="E00040",
        method="createTransactionRequest",
        count=times,
    )


async def sent(stack: Stack, shop: Shop) -> list[dict[str, Any]]:
    """Return the transactions that the processor was asked for, oldest first."""
    params = {"login": shop.login, "method": "createTransactionRequest"}
    calls = (await stack.simulator.client.get("/calls", params=params)).json()["calls"]
    return [
        json.loads(call["request"])["createTransactionRequest"]["transactionRequest"]
        for call in reversed(calls)
    ]


async def charges(stack: Stack, shop: Shop) -> int:
    return len(await stack.simulator.truth(login=shop.login))


async def judged(stack: Stack, shop: Shop) -> None:
    sql = "SELECT count(*) FROM queued_operations WHERE merchant_id = $1"

    async def empty() -> bool:
        return await stack.value(sql, shop.merchant_id) == 0

    await until(empty, what="the queue is empty")
    await all_known(stack, shop)
    assert await audit(stack, shop) == []


# the life of a payment --------------------------------------------------------------------------


async def test_the_life_of_a_payment_with_a_stored_card(stack: Stack, shop: Shop) -> None:
    method = await stored_method(stack, shop)
    held = await pay(shop, method, capture="manual", cvc="907", key="order-1")
    assert held.status_code == 201, held.text
    payment = held.json()
    assert (payment["status"], payment["customer"]) == ("authorized", method.customer)
    assert payment["payment_method"] == {
        "type": "card", "brand": "visa", "last4": "1111", "exp_month": 12, "exp_year": 2035,
        "id": method.id,
    }  # fmt: skip
    again = await pay(shop, method, capture="manual", cvc="907", key="order-1")
    assert (again.content, again.headers["idempotency-replayed"]) == (held.content, "true")
    # The card code is no part of the request: it is kept in no form.
    other_code = await pay(shop, method, capture="manual", cvc="123", key="order-1")
    assert other_code.content == held.content
    (request,) = await sent(stack, shop)
    profile = request["profile"]
    assert profile["customerProfileId"] == method.customer_profile_id
    assert profile["paymentProfile"].keys() == {"paymentProfileId", "cardCode"}
    assert profile["paymentProfile"]["paymentProfileId"] == method.payment_profile_id
    assert {"payment", "billTo", "customer"}.isdisjoint(request)
    assert request["processingOptions"] == {"isStoredCredentials": True}

    captured = (await shop.capture(payment["id"])).json()
    assert captured["payment_method"]["id"] == method.id
    assert await shop.payment(payment["id"]) == captured
    assert await shop.all("/payments") == [captured]
    # The method is deleted, here and there. A refund goes by the last four digits.
    await at_wire(
        stack, shop.login, "deleteCustomerPaymentProfileRequest",
        customerProfileId=method.customer_profile_id,
        customerPaymentProfileId=method.payment_profile_id,
    )  # fmt: skip
    await set_state(stack, method, "deleted")
    await stack.simulator.post("/settle")
    refund = await shop.refund(payment["id"], 900)
    assert (refund.status_code, refund.json()["status"]) == (201, "succeeded"), refund.text
    # A repeat of a payment gets its reply, although the method is gone.
    assert (await pay(shop, method, capture="manual", key="order-1")).content == held.content
    gone = await pay(shop, method)
    assert (gone.status_code, codes(gone)) == (422, ["unusable_payment_method"])
    await judged(stack, shop)


async def test_payments_are_found_by_the_customer_who_paid_with_a_stored_method(
    stack: Stack, shop: Shop
) -> None:
    ada, eve = await stored_method(stack, shop), await stored_method(stack, shop, bank=True)
    paid = [(await pay(shop, ada, amount=amount)).json() for amount in (1100, 2200)]
    of_eve = (await pay(shop, eve)).json()
    await shop.paid(3300)

    async def listed() -> bool:
        of_each = [await shop.all("/payments", customer=each.customer) for each in (ada, eve)]
        return list(map(len, of_each)) == [2, 1]

    await until(listed, what="the search table has the payments")
    assert await shop.all("/payments", customer=ada.customer) == paid[::-1]
    (found,) = await shop.all("/payments", customer=ada.customer, amount_from="2000")
    assert found == paid[1]
    assert [each["id"] for each in await shop.all("/payments", customer=eve.customer)] == [
        of_eve["id"]
    ]
    nobody = ids.typed(ids.CUSTOMER, ids.new_id())
    assert await shop.all("/payments", customer=nobody) == []
    wrong = await shop.client.get("/payments", params={"customer": "ada"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "validation_failed")
    exporter = await stack.with_key(shop, scopes=SCOPES)
    exported = await exporter.client.get(
        "/payments/export", params={"customer": ada.customer}, headers={"accept": "text/csv"}
    )
    assert exported.status_code == 200, exported.text
    assert exported.text.count(ada.customer) == 2
    assert of_eve["id"] not in exported.text
    await exporter.client.aclose()


def codes(answer: Any) -> list[str]:
    return [field["code"] for field in answer.json()["errors"]]


async def set_state(stack: Stack, method: Stored, state: str) -> None:
    await stack.fetch("UPDATE payment_methods SET state = $2 WHERE id = $1", method.uuid, state)


async def test_a_stored_bank_account_is_paid_with_and_refunded(stack: Stack, shop: Shop) -> None:
    method = await stored_method(stack, shop, bank=True)
    paid = (await pay(shop, method)).json()
    assert (paid["payment_method"]["type"], paid["payment_method"]["brand"]) == (
        "bank_account", "echeck",
    )  # fmt: skip
    assert paid["status"] == "captured"
    (request,) = await sent(stack, shop)
    assert "processingOptions" not in request
    contradictions = (
        {"stored_credential": {"initiator": "customer"}},
        {"cvc": "123"},
    )
    for over in contradictions:
        assert codes(await pay(shop, method, **over)) == ["contradiction"]
    back = await shop.refund(paid["id"])
    assert back.json()["status"] == "succeeded"
    await judged(stack, shop)


async def test_what_does_not_fit_is_refused_before_anything_is_written(
    stack: Stack, shop: Shop
) -> None:
    method = await stored_method(stack, shop)
    amex = await stored_method(stack, shop, number=AMEX, brand="amex")
    other = await stack.shop(stack.only_gateway)
    other_mode = await stored_method(stack, shop)
    await stack.fetch("UPDATE payment_methods SET mode = 'live' WHERE id = $1", other_mode.uuid)
    refused = [
        (await pay(other, method), "unknown_payment_method"),
        (await pay(shop, other_mode), "unknown_payment_method"),
        (await pay(shop, method, billing_address={"postal_code": "98004"}), "contradiction"),
        (await pay(shop, method, cvc="1234"), "invalid_cvc"),
        (await pay(shop, amex, cvc="123"), "invalid_cvc"),
        (await pay(shop, method, stored_credential={
            "initiator": "customer", "reason": "no_show"}), "contradiction"),
        (await pay(shop, method, queue=True, cvc="123"), "cannot_be_queued"),
        (await shop.post("/payments", {
            "amount": 1, "currency": "USD",
            "payment_method": {"type": "stored", "stored": {"id": "pm_1"}}}), "invalid"),
    ]  # fmt: skip
    for answer, code in refused:
        assert answer.status_code == 422, answer.text
        assert codes(answer) == [code], answer.text
    for state, says in (("making", "not stored yet"), ("deleting", "deleted"), ("failed", "again")):
        await set_state(stack, method, state)
        answer = await pay(shop, method)
        assert codes(answer) == ["unusable_payment_method"]
        assert says in answer.json()["detail"]
    await assert_nothing_was_done(stack, shop)
    await assert_nothing_was_done(stack, other)
    await other.client.aclose()


# who starts the payment -------------------------------------------------------------------------


async def test_the_first_payment_s_network_id_goes_into_what_the_merchant_starts(
    stack: Stack, shop: Shop
) -> None:
    method = await stored_method(stack, shop)
    remembered = "SELECT network_transaction_id FROM payment_methods WHERE id = $1"
    declined = await pay(shop, method, amount=2501, stored_credential={
        "initiator": "merchant", "recurring": True})  # fmt: skip
    assert declined.status_code == 201
    first = declined.json()["processor"]["network_transaction_id"]
    assert first
    assert await stack.value(remembered, method.uuid) == first
    by_customer = (await pay(shop, method, stored_credential={"initiator": "customer"})).json()
    assert by_customer["processor"]["network_transaction_id"] != first
    assert await stack.value(remembered, method.uuid) == first, "the first one stays"
    later = {"initiator": "merchant", "reason": "delayed_charge"}
    assert (await pay(shop, method, amount=2502, stored_credential=later)).status_code == 201
    own = later | {"network_transaction_id": "OWN1", "reason": "no_show"}
    assert (await pay(shop, method, amount=2503, stored_credential=own)).status_code == 201
    told = [
        (request["processingOptions"], request.get("subsequentAuthInformation"))
        for request in await sent(stack, shop)
    ]
    assert told == [
        ({"isSubsequentAuth": True}, None),
        ({"isStoredCredentials": True}, None),
        (
            {"isSubsequentAuth": True},
            {"originalNetworkTransId": first, "reason": "delayedCharge"},
        ),
        (
            {"isSubsequentAuth": True},
            {"originalNetworkTransId": "OWN1", "reason": "noShow"},
        ),
    ]
    await judged(stack, shop)


# the processor does not know the method ---------------------------------------------------------


async def test_a_new_method_is_tried_again_until_the_processor_knows_it(
    stack: Stack, shop: Shop
) -> None:
    method = await stored_method(stack, shop, age_s=1)
    slow = await stack.gateway(**QUICK | {"processor_deadline_s": "8"})
    at_slow = shop.at(slow.url)
    await unknown_at_processor(stack, shop, times=2)
    paid = await pay(at_slow, method)
    assert (paid.status_code, paid.json()["status"]) == (201, "captured")
    assert len(await sent(stack, shop)) == 3
    assert await charges(stack, shop) == 1
    (operation,) = await shop.all(f"/payments/{paid.json()['id']}/operations")
    assert operation["attempt"] == 1
    slow.kill()
    await at_slow.client.aclose()
    await judged(stack, shop)


async def test_a_new_method_that_is_deleted_meanwhile_is_sent_no_more(
    stack: Stack, shop: Shop
) -> None:
    """The vault has not deleted it yet, so it would take the money."""
    method = await stored_method(stack, shop, age_s=1)
    keeper = await stack.with_key(shop, scopes=SCOPES)
    slow = await stack.gateway(**QUICK | {"processor_deadline_s": "8"})
    at_slow = shop.at(slow.url)
    await unknown_at_processor(stack, shop)
    paying = asyncio.create_task(pay(at_slow, method))

    async def asked() -> bool:
        return len(await sent(stack, shop)) > 0

    await until(asked, what="the processor was asked for the payment")
    deletes = "deleteCustomerPaymentProfileRequest"
    await stack.simulator.fault("reset_before", shop.login, method=deletes)
    assert (await keeper.client.delete(f"/payment_methods/{method.id}")).status_code == 204
    await stack.simulator.clear_faults()
    answer = await paying
    assert answer.status_code == 422, answer.text
    assert answer.json()["decline_code"] == "stored_method_not_found"
    assert await charges(stack, shop) == 0
    slow.kill()
    for each in (at_slow, keeper):
        await each.client.aclose()
    await judged(stack, shop)


@pytest.mark.parametrize("confirmed", [True, False])
async def test_a_method_is_not_charged_after_its_deletion_was_answered(
    stack: Stack, shop: Shop, confirmed: bool
) -> None:
    """Many payments begin while the method is deleted. If the vault has confirmed the deletion,
    none is charged after the answer; if not, none that is asked for after the answer."""
    method = await stored_method(stack, shop)
    keeper = await stack.with_key(shop, scopes=SCOPES)
    answers: list[Any] = []

    async def pays_on() -> None:
        while not answers or answers[-1].status_code == 201:
            answers.append(await pay(shop, method))

    payers = [asyncio.create_task(pays_on()) for _ in range(8)]

    async def busy() -> bool:
        return await charges(stack, shop) >= 12

    await until(busy, what="payments are made")
    if not confirmed:
        deletes = "deleteCustomerPaymentProfileRequest"
        await stack.simulator.fault("reset_before", shop.login, method=deletes)
    assert (await keeper.client.delete(f"/payment_methods/{method.id}")).status_code == 204
    if not confirmed:
        await asyncio.gather(*payers)
    charged = await charges(stack, shop)
    await asyncio.gather(*payers)
    late = await asyncio.gather(*(pay(shop, method) for _ in range(8)))
    assert {each.status_code for each in late} == {422}
    assert {code_of_field(each) for each in late} == {"unusable_payment_method"}
    assert {each.status_code for each in answers} == {201, 422}
    assert await charges(stack, shop) == charged
    assert [each.status_code for each in answers].count(201) == charged
    await keeper.client.aclose()
    await judged(stack, shop)


async def test_a_new_method_that_stays_unknown_is_left_to_a_worker(
    stack: Stack, shop: Shop, worker: Any
) -> None:
    method = await stored_method(stack, shop, age_s=1)
    await unknown_at_processor(stack, shop)
    answer = await pay(shop, method, key="order-1", cvc="907")
    assert (answer.status_code, answer.json()["status"]) == (202, "processing"), answer.text
    payment_id = answer.json()["id"]
    assert int(answer.headers["retry-after"]) >= 1
    (row,) = await stack.fetch(
        "SELECT place, sealed, expires_at - db_now() AS left, operation_id FROM queued_operations"
        " WHERE merchant_id = $1",
        shop.merchant_id,
    )
    assert row["place"] == 0
    assert 60 < row["left"].total_seconds() <= 180
    box = Box(Vault(ENCRYPTION_KEY).derive(QUEUE_KEY))
    kept = open_request(box, row["sealed"], row["operation_id"]).payment_method
    assert isinstance(kept, StoredPaymentMethod)
    assert (kept.stored.id, kept.stored.cvc) == (method.id, None), "a card code is never stored"
    again = await pay(shop, method, key="order-1")
    assert (again.status_code, again.json()["id"]) == (202, payment_id)

    async def listed() -> bool:
        found = await shop.all("/payments", status="processing")
        return [each["id"] for each in found] == [payment_id]

    await until(listed, what="the list of processing payments has it")
    # What is accepted for the payment meanwhile comes after it.
    queued = await shop.post(f"/payments/{payment_id}/refunds", {}, queue=True)
    assert queued.status_code == 202
    await worker()
    await until(lambda: tried_again(stack, shop), what="the worker has tried")
    assert await charges(stack, shop) == 0
    await stack.simulator.clear_faults()
    await shop.becomes(payment_id, "voided")  # the refund was made before it settled
    assert await charges(stack, shop) == 2
    operations = await shop.all(f"/payments/{payment_id}/operations")
    assert [(o["kind"], o["state"]) for o in operations] == [
        ("sale", "approved"), ("refund", "approved"),
    ]  # fmt: skip
    await judged(stack, shop)


async def tried_again(stack: Stack, shop: Shop) -> bool:
    sql = "SELECT count(*) FROM operations WHERE merchant_id = $1 AND attempt >= 3"
    return await stack.value(sql, shop.merchant_id) == 1


async def test_a_lost_answer_after_an_unknown_method_is_not_sent_again(
    stack: Stack, shop: Shop
) -> None:
    """The first answer proves that nothing began, the second is missing: money may have moved."""
    method = await stored_method(stack, shop, age_s=1)
    slow = await stack.gateway(**QUICK | {"processor_deadline_s": "4"})
    at_slow = shop.at(slow.url)
    await unknown_at_processor(stack, shop, times=1)
    await stack.simulator.fault("drop_reply", shop.login, method="createTransactionRequest")
    answer = await pay(at_slow, method)
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    await shop.becomes(answer.json()["id"], "captured")
    assert await charges(stack, shop) == 1
    assert len(await sent(stack, shop)) == 2
    slow.kill()
    await at_slow.client.aclose()
    await judged(stack, shop)


async def test_an_old_method_that_is_unknown_is_refused_and_looked_after(
    stack: Stack, shop: Shop
) -> None:
    method = await stored_method(stack, shop)
    await unknown_at_processor(stack, shop)
    refused = await pay(shop, method)
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (422, "processor_rejected")
    assert (problem["decline_code"], problem["processor_code"]) == (
        "stored_method_not_found", "E00040",
    )  # fmt: skip
    failed = await shop.payment(problem["payment_id"])
    assert (failed["status"], failed["customer"]) == ("failed", method.customer)
    assert len(await sent(stack, shop)) == 1
    sql = "SELECT count(*) FROM vault_work WHERE kind = 'method' AND id = $1"
    assert await stack.value(sql, method.uuid) == 1
    await stack.simulator.clear_faults()
    await judged(stack, shop)


async def test_a_method_that_was_deleted_at_the_processor_is_found_out(
    stack: Stack, shop: Shop, worker: Any
) -> None:
    """Stored, paid with at once, and deleted there by somebody: all through the API."""
    merchant = await stack.with_key(shop, scopes=SCOPES)
    await stack.simulator.post("/settings", login=shop.login, profile_lag_ms=300)
    customer = (await merchant.post("/customers", {"email": "ada@example.com"})).json()["id"]
    path = f"/customers/{customer}/payment_methods"
    made = await merchant.post(path, {"payment_method": card(), "validate": False})
    assert made.status_code == 201, made.text
    method_id = made.json()["id"]
    body = {"amount": 2500, "currency": "USD"}
    body |= {"payment_method": {"type": "stored", "stored": {"id": method_id}}}
    first = await merchant.post("/payments", body)
    assert first.status_code in (201, 202), first.text
    await worker()
    paid = await shop.becomes(first.json()["id"], "captured")
    assert (paid["customer"], paid["payment_method"]["id"]) == (customer, method_id)
    await stack.fetch(
        "UPDATE payment_methods SET stored_at = stored_at - interval '1 hour',"
        " created_at = created_at - interval '1 hour' WHERE merchant_id = $1",
        shop.merchant_id,
    )
    await stack.fetch(
        "UPDATE customer_profiles SET created_at = created_at - interval '1 hour'"
        " WHERE merchant_id = $1",
        shop.merchant_id,
    )
    ids_there = await stack.fetch(
        "SELECT customer_profile_id FROM payment_methods WHERE merchant_id = $1", shop.merchant_id
    )
    await at_wire(
        stack, shop.login, "deleteCustomerProfileRequest",
        customerProfileId=ids_there[0]["customer_profile_id"],
    )  # fmt: skip
    refused = await merchant.post("/payments", body)
    assert refused.json()["decline_code"] == "stored_method_not_found", refused.text

    async def gone() -> bool:
        return code_of_field(await merchant.post("/payments", body)) == "unusable_payment_method"

    await until(gone, what="the method counts as deleted")

    async def told() -> bool:
        events = await merchant.client.get("/events", params={"types": "payment_method.deleted"})
        return len(events.json()["data"]) == 1

    await until(told, what="the shop is told")
    left = "SELECT count(*) FROM vault_work WHERE merchant_id = $1"

    async def done() -> bool:
        return await stack.value(left, shop.merchant_id) == 0

    await until(done, what="nothing is left to do at the vault")
    await merchant.client.aclose()


def code_of_field(answer: Any) -> Any:
    errors = answer.json().get("errors") or [{}]
    return errors[0].get("code")


# queued payments --------------------------------------------------------------------------------


async def test_a_queued_payment_with_a_stored_method_is_sent_by_a_worker(
    stack: Stack, shop: Shop, worker: Any
) -> None:
    method = await stored_method(stack, shop)
    gone = await stored_method(stack, shop, number=MASTERCARD)
    unknown = await stored_method(stack, shop, number=AMEX, brand="amex")
    accepted = [
        (await pay(shop, each, queue=True, capture="manual")) for each in (method, gone, unknown)
    ]
    assert {answer.status_code for answer in accepted} == {202}
    paid, of_gone, of_unknown = (answer.json() for answer in accepted)
    assert (paid["status"], paid["customer"]) == ("pending", method.customer)
    assert paid["payment_method"]["id"] == method.id
    capture = await shop.post(f"/payments/{paid['id']}/capture", {"amount": 1000}, queue=True)
    assert capture.status_code == 202
    await set_state(stack, gone, "deleted")
    await at_wire(
        stack, shop.login, "deleteCustomerProfileRequest",
        customerProfileId=unknown.customer_profile_id,
    )  # fmt: skip
    await worker()
    captured = await shop.becomes(paid["id"], "captured")
    assert captured["captured_amount"] == 1000
    # The customer has deleted it: it is not charged any more, although that was accepted.
    failed = await shop.becomes(of_gone["id"], "failed")
    assert failed["decline_code"] == "stored_method_not_found"
    assert failed["processor"]["message"].startswith("The payment method was deleted")
    failed = await shop.becomes(of_unknown["id"], "failed")
    assert failed["processor"]["code"] == "E00040"
    sql = "SELECT count(*) FROM vault_work WHERE id = $1"
    assert await stack.value(sql, unknown.uuid) == 1
    reader = await stack.with_key(shop, scopes=("events:read",))
    await until(lambda: all_told(reader, 9), what="every event has its payment")
    await reader.client.aclose()
    await judged(stack, shop)


async def all_told(reader: Shop, count: int) -> bool:
    """Whether so many events came, each with its customer and method."""
    events = (await reader.client.get("/events", params={"limit": "50"})).json()["data"]
    assert all("customer" in e["data"] and "id" in e["data"]["payment_method"] for e in events)
    return len(events) == count


# the account that stored it ---------------------------------------------------------------------


async def test_a_method_is_charged_by_the_account_that_stored_it(stack: Stack, shop: Shop) -> None:
    method = await stored_method(stack, shop)
    login = random_name()
    await stack.simulator.post(
        "/accounts", login=login, transaction_key="simulated-key-1", currencies=["USD"]
    )
    await stack.set_account(shop, login=login)

    async def moved() -> bool:
        await shop.paid()
        return len(await stack.simulator.truth(login=login)) > 0

    await until(moved, what="new payments go to the other account")
    before = await charges(stack, shop)
    paid = await pay(shop, method)
    assert (paid.status_code, paid.json()["status"]) == (201, "captured"), paid.text
    assert await charges(stack, shop) == before + 1
    # So does its refund.
    assert (await shop.refund(paid.json()["id"])).json()["status"] == "succeeded"
    # Nothing left at the first try: the repeat stays with that account, too.
    async with stack.refusing():
        refused = await pay(shop, method, amount=2600, key="again")
        assert (refused.status_code, refused.json()["code"]) == (503, "processor_unavailable")
    again = await pay(shop, method, amount=2600, key="again")
    assert (again.status_code, again.json()["status"]) == (201, "captured"), again.text
    logins = await stack.value(
        "SELECT count(DISTINCT login_id) FROM payments WHERE payment_method_id = $1", method.uuid
    )
    assert logins == 1


# duplicates -------------------------------------------------------------------------------------


async def test_the_same_method_is_the_same_card(stack: Stack, shop: Shop) -> None:
    sql = "UPDATE merchants SET duplicates = 'reject' WHERE merchant_id = $1"
    await stack.fetch(sql, shop.merchant_id)
    by_card = await shop.post(
        "/payments", {"amount": 700, "currency": "USD", "payment_method": card()}
    )
    assert by_card.status_code == 201
    fingerprint = await stack.value(
        "SELECT card_fingerprint FROM payments WHERE id = $1", payment_uuid(by_card.json()["id"])
    )
    known = await stored_method(stack, shop, card_fingerprint=fingerprint)
    by_token = await stored_method(stack, shop)
    assert code_of(await pay(shop, known, amount=700)) == "duplicate_payment"
    assert (await pay(shop, by_token, amount=700)).status_code == 201, "its number is not known"
    assert code_of(await pay(shop, by_token, amount=700)) == "duplicate_payment"
    assert (await pay(shop, known, amount=800)).status_code == 201
    assert await charges(stack, shop) == 3


def code_of(answer: Any) -> Any:
    return answer.json().get("code")


# what is shown ----------------------------------------------------------------------------------


async def test_payments_are_shown_with_their_customers(stack: Stack, shop: Shop) -> None:
    methods = [await stored_method(stack, shop) for _ in range(3)]
    for n, method in enumerate([*methods, methods[0]]):
        assert (await pay(shop, method, amount=1000 + n)).status_code == 201
    await shop.paid()
    await stack.fetch(
        "UPDATE customers SET deleted_at = db_now(), email = NULL WHERE merchant_id = $1"
        " AND id = (SELECT customer_id FROM payment_methods WHERE id = $2)",
        *(shop.merchant_id, methods[2].uuid),
    )
    page = (await shop.client.get("/payments", params={"expand": "customer"})).json()["data"]
    shown = [payment.get("customer") for payment in page]
    assert shown[0] is None, "a card of nobody"
    assert [each["id"] for each in shown[1:]] == [methods[n].customer for n in (0, 2, 1, 0)]
    assert shown[1] == {
        "id": methods[0].customer, "reference": methods[0].customer[-12:],
        "email": "ada@example.com", "name": "Ada Byron", "description": None, "deleted": False,
    }  # fmt: skip
    assert (shown[2]["deleted"], shown[2]["email"]) == (True, None)
    one = await shop.client.get(f"/payments/{page[1]['id']}", params={"expand": "refunds,customer"})
    assert one.json()["customer"] == shown[1]
    assert one.json()["refunds"] == {"data": [], "has_more": False}


class Counting(Reading):
    """The connections for reading, which also count what they ran."""

    ran = 0

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        self.ran += 1
        return await super().fetch(sql, *arguments)


async def test_the_customers_of_a_page_take_one_statement(stack: Stack, shop: Shop) -> None:
    for n in range(4):
        paid = await pay(shop, await stored_method(stack, shop), amount=1000 + n)
        assert paid.status_code == 201
    reading = Counting(stack.dsn, connections=1, queue=9, limit_s=4, patience_s=5)
    months = Months()
    async with connected(stack.dsn) as connection:
        await months.load(connection)
    lists = Lists(reading, months)
    nobody: Any = None
    api = ReadingApi(
        payments=nobody, directory=nobody, places=nobody, months=months, cursors=nobody,
        key_days=30, is_draining=lambda: False,
    )  # fmt: skip
    caller: Any = SimpleNamespace(merchant_id=shop.merchant_id, mode="test")
    span = Span(shop.merchant_id, Mode.TEST, ids.lowest_id_at(AGES_AGO), newest_id())
    rows = await lists.page(PAYMENTS, span, 4)
    assert len(rows) == 4
    for expand, statements in ((["customer"], 1), (["refunds", "customer"], 2), ([], 0)):
        reading.ran = 0
        views = await api._payment_views(lists, caller, rows, expand)
        assert reading.ran == statements
        whole = [isinstance(view.customer, ExpandedCustomer) for view in views]
        assert whole == [bool(expand)] * 4
    await reading.close()


async def test_an_export_has_the_customer_and_the_method(stack: Stack, shop: Shop) -> None:
    method = await stored_method(stack, shop)
    paid = (await pay(shop, method)).json()
    exporter = await stack.with_key(shop, scopes=["payments:read", "payments:export"])
    lines = await exporter.client.get("/payments/export", headers={"accept": "application/jsonl"})
    assert json.loads(lines.text.splitlines()[0]) == paid
    cells = await exporter.client.get("/payments/export", headers={"accept": "text/csv"})
    head, row, _ = cells.text.splitlines()
    values = dict(zip(head.split(","), row.split(","), strict=True))
    assert (values["customer"], values["payment_method_id"]) == (method.customer, method.id)
    await exporter.client.aclose()
