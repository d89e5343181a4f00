"""Customers and stored payment methods over HTTP: what a shop sees, and what the vault has."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from typer.testing import CliRunner

from customers.shops import EVERYTHING, add_card, add_token, card_body, new_customer, profiles
from easypay import clock, ids
from easypay.command_line.main import app
from easypay.customers.expiring import tell_of_expiring
from harness import Gateway, Shop, Stack, connected, mint_token, until


@pytest.fixture
async def keeper(shared_stack: Stack, shop: Shop) -> AsyncIterator[Shop]:
    """Return the shop with a key that may do everything."""
    made = await shared_stack.with_key(shop, scopes=EVERYTHING)
    yield made
    await made.client.aclose()


async def test_a_card_is_stored_by_token_shown_listed_and_deleted(
    shared_stack: Stack, keeper: Shop
) -> None:
    customer = await new_customer(keeper, reference="C-1", email="ada@example.com")
    method = await add_token(shared_stack, keeper, customer)
    shown = {"state": "active", "type": "card", "brand": "visa", "last4": "1111"}
    assert method | shown | {"default": True, "exp_month": 12, "exp_year": 2035} == method
    path = f"/payment_methods/{method['id']}"
    assert (await keeper.client.get(path)).json() == method
    assert await keeper.all(f"/customers/{customer['id']}/payment_methods") == [method]
    now = (await keeper.client.get(f"/customers/{customer['id']}")).json()
    assert now["default_payment_method"] == method["id"]
    (profile,) = await profiles(shared_stack, keeper)
    assert [each["last4"] for each in profile["payment_profiles"]] == ["1111"]
    assert (await keeper.client.delete(path)).status_code == 204
    assert (await keeper.client.get(path)).status_code == 404
    assert await keeper.all(f"/customers/{customer['id']}/payment_methods") == []
    (profile,) = await profiles(shared_stack, keeper)
    assert profile["payment_profiles"] == []
    assert (await keeper.client.delete(path)).status_code == 204  # the answer may be lost


async def test_a_repeat_gets_the_same_method_and_another_request_is_refused(
    shared_stack: Stack, keeper: Shop
) -> None:
    customer = await new_customer(keeper)
    path, key = f"/customers/{customer['id']}/payment_methods", str(uuid.uuid4())
    token = await mint_token(shared_stack.simulator, keeper.login)
    body = {"payment_method": {"type": "accept_token", "accept_token": token}}
    both = await asyncio.gather(*(keeper.post(path, body, key=key) for _ in range(2)))
    again = await keeper.post(path, body, key=key)
    assert {answer.json()["id"] for answer in (*both, again)} == {again.json()["id"]}
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    other = await keeper.post(path, body | {"validate": True}, key=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    (profile,) = await profiles(shared_stack, keeper)
    assert len(profile["payment_profiles"]) == 1


async def test_a_repeat_gets_the_method_although_the_request_is_not_allowed_any_more(
    shared_stack: Stack, keeper: Shop
) -> None:
    customer, key = await new_customer(keeper), str(uuid.uuid4())
    path = f"/customers/{customer['id']}/payment_methods"
    first = await keeper.post(path, card_body(), key=key)
    assert first.status_code == 201, first.text
    sql = "UPDATE merchants SET allow_raw_cards = false WHERE merchant_id = $1"
    await shared_stack.fetch(sql, keeper.merchant_id)
    now = await shared_stack.with_key(keeper, scopes=EVERYTHING)  # its first use reads the setting
    assert (await now.post(path, card_body())).status_code == 422
    again = await now.post(path, card_body(), key=key)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true"), again.text
    assert again.json() == first.json()
    other = await now.post(path, card_body(exp_year=2033), key=key)
    assert other.json()["code"] == "idempotency_key_reused"
    await now.client.aclose()


async def test_two_customers_at_once_cannot_have_one_reference(keeper: Shop) -> None:
    answers = await asyncio.gather(
        *(keeper.post("/customers", {"reference": "C-1"}) for _ in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 422, 422, 422]
    made = next(answer.json() for answer in answers if answer.status_code == 201)
    for answer in answers:
        if answer.status_code == 422:
            (field,) = answer.json()["errors"]
            assert field["code"] == "reference_taken"
            assert made["id"] in field["detail"] or "another customer" in field["detail"]
    assert (await keeper.client.delete(f"/customers/{made['id']}")).status_code == 204
    await new_customer(keeper, reference="C-1")


async def test_one_key_at_once_makes_one_customer(keeper: Shop) -> None:
    key, body = str(uuid.uuid4()), {"reference": "C-2", "metadata": {"b": "1", "a": "2"}}
    answers = await asyncio.gather(*(keeper.post("/customers", body, key=key) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = await keeper.post("/customers", {"reference": "C-3"}, key=key)
    assert other.json()["code"] == "idempotency_key_reused"


async def test_a_customer_is_changed_only_in_the_version_that_was_seen(keeper: Shop) -> None:
    made = await new_customer(keeper, name="Ada", email="Ada@Example.com", metadata={"tier": "1"})
    path = f"/customers/{made['id']}"
    tag = (await keeper.client.get(path)).headers["etag"]
    changed = await keeper.client.patch(path, json={"name": None}, headers={"if-match": tag})
    assert (changed.status_code, changed.json()["name"]) == (200, None)
    assert changed.json()["metadata"] == {"tier": "1"}
    late = await keeper.client.patch(path, json={"name": "Eve"}, headers={"if-match": tag})
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    for query in ({"email": "ada@example.com"}, {"limit": "1"}):
        found = (await keeper.client.get("/customers", params=query)).json()["data"]
        assert [each["id"] for each in found] == [made["id"]]
    assert (await keeper.client.get("/customers", params={"reference": "no"})).json()["data"] == []


async def test_a_list_goes_on_where_the_page_before_ended(keeper: Shop) -> None:
    made = [(await new_customer(keeper, name=str(n)))["id"] for n in range(3)]
    page = (await keeper.client.get("/customers", params={"limit": "2"})).json()
    rest = await keeper.client.get(
        "/customers", params={"limit": "2", "cursor": page["next_cursor"]}
    )
    assert [each["id"] for each in page["data"] + rest.json()["data"]] == made[::-1]
    assert not rest.json()["has_more"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "ada"}, "#/email"),
        ({"name": "4111111111111111"}, "#/name"),
        ({"description": "two\nlines"}, "#/description"),
        ({"metadata": {"note": "card 4111 1111 1111 1111"}}, "#/metadata/note"),
        ({"reference": ""}, "#/reference"),
        ({"colour": "red"}, "#/colour"),
    ],
)
async def test_a_bad_customer_is_refused(keeper: Shop, body: Any, field: str) -> None:
    answer = await keeper.post("/customers", body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, field)


@pytest.mark.parametrize("name", ["reference", "email"])
async def test_a_list_by_a_text_that_no_customer_can_have_is_refused(
    keeper: Shop, name: str
) -> None:
    answer = await keeper.client.get(f"/customers?{name}=a%00b")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"?{name}")


async def test_another_merchants_customer_is_not_found(
    shared_stack: Stack, gateway: Gateway, shop: Shop, keeper: Shop
) -> None:
    customer = await new_customer(keeper)
    method = await add_card(keeper, customer)
    of_other = await shared_stack.shop(gateway)
    stranger = await shared_stack.with_key(of_other, scopes=EVERYTHING)
    live = await shared_stack.with_key(keeper, mode="live", scopes=EVERYTHING)
    for client in (stranger, live):
        assert await client.all("/customers") == []
        for verb, path in (
            ("GET", f"/customers/{customer['id']}"),
            ("PATCH", f"/customers/{customer['id']}"),
            ("DELETE", f"/customers/{customer['id']}"),
            ("GET", f"/customers/{customer['id']}/payment_methods"),
            ("GET", f"/payment_methods/{method['id']}"),
            ("PATCH", f"/payment_methods/{method['id']}"),
            ("DELETE", f"/payment_methods/{method['id']}"),
            ("POST", f"/payment_methods/{method['id']}/validate"),
        ):
            body = {} if verb in ("PATCH", "POST") else None
            answer = await client.client.request(verb, path, json=body)
            assert answer.status_code == 404, (verb, path, answer.text)
        await client.client.aclose()
    assert (await shop.client.get("/customers")).status_code == 403
    await of_other.client.aclose()


async def test_the_eleventh_method_goes_into_another_profile(
    shared_stack: Stack, keeper: Shop
) -> None:
    customer = await new_customer(keeper)
    made = [await add_card(keeper, customer, exp_year=2031 + n) for n in range(11)]
    assert {each["state"] for each in made} == {"active"}
    sizes = [len(each["payment_profiles"]) for each in await profiles(shared_stack, keeper)]
    assert sorted(sizes) == [1, 10]
    assert len(await keeper.all(f"/customers/{customer['id']}/payment_methods")) == 11
    assert (await keeper.client.delete(f"/customers/{customer['id']}")).status_code == 204
    assert await profiles(shared_stack, keeper) == []


async def test_many_methods_at_once_are_all_stored(shared_stack: Stack, keeper: Shop) -> None:
    customer = await new_customer(keeper)
    made = await asyncio.gather(*(add_card(keeper, customer, exp_year=2031 + n) for n in range(4)))
    assert len({each["id"] for each in made}) == 4
    stored = [
        method["expiry"]
        for profile in await profiles(shared_stack, keeper)
        for method in profile["payment_profiles"]
    ]
    assert sorted(stored) == [f"{2031 + n}-12" for n in range(4)]


async def test_a_card_that_the_customer_has_already_is_the_same_method(
    shared_stack: Stack, keeper: Shop
) -> None:
    customer = await new_customer(keeper)
    first = await add_card(keeper, customer)
    again = await keeper.post(f"/customers/{customer['id']}/payment_methods", card_body())
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    assert len(await keeper.all(f"/customers/{customer['id']}/payment_methods")) == 1
    (profile,) = await profiles(shared_stack, keeper)
    assert len(profile["payment_profiles"]) == 1


async def test_a_method_is_stored_from_a_payment_but_not_from_a_voided_one(
    shared_stack: Stack, keeper: Shop
) -> None:
    customer = await new_customer(keeper)
    paid, voided = await keeper.paid(), await keeper.paid(capture="manual")
    assert (await keeper.void(voided["id"])).status_code == 201
    path = f"/customers/{customer['id']}/payment_methods"
    method = await keeper.post(path, of_payment(paid))
    assert (method.status_code, method.json()["last4"]) == (201, "1111")
    assert (method.json()["source"], method.json()["payment_id"]) == ("payment", paid["id"])
    refused = await keeper.post(path, of_payment(voided), key="voided")
    assert (refused.status_code, refused.json()["code"]) == (422, "processor_rejected")
    assert "The payment was voided" in refused.json()["detail"]
    again = await keeper.post(path, of_payment(voided), key="voided")
    assert (again.status_code, again.json()["detail"]) == (422, refused.json()["detail"])
    nothing = await keeper.post(path, of_payment({"id": f"pay_{'0' * 32}"}))
    assert nothing.json()["errors"][0]["code"] == "not_found"


async def test_the_expiry_the_address_and_the_default_can_be_changed(
    shared_stack: Stack, keeper: Shop
) -> None:
    customer = await new_customer(keeper)
    first = await add_card(keeper, customer)
    second = await add_card(keeper, customer, exp_year=2033)
    path = f"/payment_methods/{second['id']}"
    tag = (await keeper.client.get(path)).headers["etag"]
    change = {"exp_month": 11, "exp_year": 2036, "billing_address": {"postal_code": "98004"}}
    changed = await keeper.client.patch(path, json=change, headers={"if-match": tag})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["exp_month"], changed.json()["exp_year"]) == (11, 2036)
    assert changed.json()["billing_address"]["postal_code"] == "98004"
    late = await keeper.client.patch(path, json=change, headers={"if-match": tag})
    assert late.status_code == 412
    (profile,) = await profiles(shared_stack, keeper)
    assert [each["expiry"] for each in profile["payment_profiles"]] == ["2035-12", "2036-11"]
    default = await keeper.client.patch(path, json={"default": True})
    assert default.json()["default"]
    assert not (await keeper.client.get(f"/payment_methods/{first['id']}")).json()["default"]
    for wrong in ({"exp_month": 1}, {"default": False}):
        assert (await keeper.client.patch(path, json=wrong)).status_code == 422
    past = await keeper.client.patch(path, json={"exp_month": 1, "exp_year": 2020})
    assert past.status_code == 422, past.text
    assert [(each["pointer"], each["code"]) for each in past.json()["errors"]] == [
        ("#/exp_year", "expired_card")
    ]
    assert (await keeper.client.get(path)).json()["exp_year"] == 2036


async def test_a_card_is_validated_before_it_is_stored_and_later(
    shared_stack: Stack, keeper: Shop
) -> None:
    customer = await new_customer(keeper)
    path = f"/customers/{customer['id']}/payment_methods"
    declined = card_body(billing_address=ADDRESS | {"postal_code": "46282"}, validate=True)
    refused = await keeper.post(path, declined)
    assert (refused.status_code, refused.json()["code"]) == (422, "processor_rejected")
    assert refused.json()["detail"].startswith("The issuer declined the card.")
    assert await keeper.all(path) == []
    good = await add_card(keeper, customer, billing_address=ADDRESS, validate=True)
    said = await keeper.client.post(f"/payment_methods/{good['id']}/validate", json={"cvc": "907"})
    assert said.json()["valid"] is True, said.text


async def test_tokens_only_means_that_no_number_is_taken(
    shared_stack: Stack, gateway: Gateway
) -> None:
    careful = await shared_stack.shop(gateway, raw_cards=False)
    keeper = await shared_stack.with_key(careful, scopes=EVERYTHING)
    customer = await new_customer(keeper)
    refused = await keeper.post(f"/customers/{customer['id']}/payment_methods", card_body())
    assert refused.json()["errors"][0]["code"] == "raw_cards_not_allowed"
    assert (await add_token(shared_stack, keeper, customer))["state"] == "active"
    for each in (careful, keeper):
        await each.client.aclose()


async def test_everything_that_happens_is_told_in_its_order(
    shared_stack: Stack, keeper: Shop
) -> None:
    customer = await new_customer(keeper)
    method = await add_card(keeper, customer)
    await keeper.client.patch(
        f"/payment_methods/{method['id']}", json={"exp_month": 1, "exp_year": 2034}
    )
    await keeper.client.patch(f"/customers/{customer['id']}", json={"name": "Ada"})
    paid = await keeper.paid()
    await keeper.client.delete(f"/customers/{customer['id']}")
    told: list[Any] = []

    async def all_told() -> bool:
        told[:] = (await keeper.client.get("/events")).json()["data"]
        return len(told) == 7

    await until(all_told, what=("events", told))
    assert sorted(event["type"] for event in told) == sorted(
        [
            *("customer.created", "payment_method.created", "payment_method.updated"),
            *("customer.updated", "payment.captured", "payment_method.deleted", "customer.deleted"),
        ]
    )
    by_type = {event["type"]: event for event in told}
    created = by_type["payment_method.created"]
    assert created["data"] | {"default": True} == method
    assert (created["payment_id"], created["status"], created["amount"]) == (None, None, None)
    assert by_type["customer.created"]["data"] == customer
    assert by_type["customer.deleted"]["data"]["deleted"]
    assert by_type["payment.captured"]["data"]["id"] == paid["id"]
    of_customer = [event["type"] for event in told if event["type"] != "payment.captured"]
    assert of_customer[:4] == [
        *("customer.created", "payment_method.created", "payment_method.updated"),
        "customer.updated",
    ]


async def test_a_card_that_expires_soon_is_told_of_once(shared_stack: Stack, keeper: Shop) -> None:
    customer = await new_customer(keeper)
    soon = await add_card(keeper, customer)
    await add_card(keeper, customer, exp_year=2036)
    sql = "UPDATE payment_methods SET exp_year = $2, exp_month = 1 WHERE id = $1"
    await shared_stack.fetch(sql, uuid.UUID(soon["id"][3:]), clock.now().year)
    async with connected(shared_stack.dsn) as connection:
        await tell_of_expiring(connection)
        await tell_of_expiring(connection)
    rows = await shared_stack.fetch(
        "SELECT c.data FROM events e JOIN customer_events c ON c.event_id = e.id"
        " WHERE e.merchant_id = $1 AND e.type = 'payment_method.expiring'",
        keeper.merchant_id,
    )
    assert [json.loads(row["data"])["id"] for row in rows] == [soon["id"]]
    renewed = {"exp_month": 1, "exp_year": clock.now().year + 5}
    answer = await keeper.client.patch(f"/payment_methods/{soon['id']}", json=renewed)
    assert answer.status_code == 200, answer.text
    told = "SELECT expiring_told_at FROM payment_methods WHERE id = $1"
    assert await shared_stack.value(told, uuid.UUID(soon["id"][3:])) is None


async def test_methods_may_be_read_from_the_cache_and_are_fresh_after_a_change(
    shared_stack: Stack, keeper: Shop
) -> None:
    customer = await new_customer(keeper)
    path = f"/customers/{customer['id']}/payment_methods"
    old = {"cache-control": "max-age=60"}
    assert (await keeper.client.get(path, headers=old)).json()["data"] == []

    async def is_cached() -> bool:
        """On a busy machine the answer before may be too old by then."""
        again = await keeper.client.get(path, headers=old)
        assert again.json()["data"] == []
        return again.headers.get("age") == "0"

    await until(is_cached, what="the list comes from the cache")
    method = await add_card(keeper, customer)
    assert (await keeper.client.get(path, headers=old)).json()["data"] == [method]
    # The customer's id is no payment's, even for a client who calls it one.
    as_payment = await keeper.client.get(f"/payments/pay_{customer['id'][4:]}", headers=old)
    assert as_payment.status_code == 404
    reader = await shared_stack.with_key(keeper, scopes=["payments:read"])
    assert (await reader.client.get(path, headers=old)).status_code == 403
    await reader.client.aclose()


async def test_an_operator_sees_and_deletes_what_a_shop_has_stored(
    shared_stack: Stack, keeper: Shop
) -> None:
    merchant = ids.typed(ids.MERCHANT, keeper.merchant_id)

    async def easypay(*words: str) -> Any:
        words = ("customer", *words, "--json")
        done = await asyncio.to_thread(CliRunner().invoke, app, words, env=shared_stack.env)
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    customer = await easypay("create", merchant, "--reference", "C-9", "--email", "ada@example.com")
    method = await add_card(keeper, customer)
    assert [each["id"] for each in (await easypay("list", merchant))["data"]] == [customer["id"]]
    shown = await easypay("show", customer["id"])
    assert shown["default_payment_method"] == method["id"]
    words = ("customer", "show", customer["id"])
    told = await asyncio.to_thread(CliRunner().invoke, app, words, env=shared_stack.env)
    assert "email: ada@example.com" in told.output
    assert "erasure" not in told.output, "it was not erased"
    assert (await easypay("methods", customer["id"]))["data"] == [method]
    await easypay("delete-method", method["id"])
    assert (await keeper.client.get(f"/payment_methods/{method['id']}")).status_code == 404
    await easypay("delete", customer["id"])
    assert (await easypay("list", merchant))["data"] == []
    left = "SELECT kind FROM vault_work WHERE merchant_id = $1 ORDER BY kind"
    rows = await shared_stack.fetch(left, keeper.merchant_id)
    assert [row["kind"] for row in rows] == ["method", "profile"]  # for a worker


async def test_no_card_number_and_no_card_code_is_stored(shared_stack: Stack, keeper: Shop) -> None:
    customer = await new_customer(keeper)
    await add_card(keeper, customer, billing_address=ADDRESS)
    await keeper.post(f"/customers/{customer['id']}/payment_methods", bank_body())
    for table in (
        *("customers", "customer_profiles", "payment_methods", "vault_work", "customer_events"),
        *("events", "idempotency_keys"),
    ):
        rows = await shared_stack.fetch(
            f"SELECT t::text AS row FROM {table} t WHERE merchant_id = $1", keeper.merchant_id
        )
        text = "\n".join(row["row"] for row in rows)
        for secret in ("4111111111111111", "123456789012", "121042882", '"907"'):
            assert secret not in text, table


ADDRESS = {"first_name": "Ada", "line1": "12 Analytical Way", "postal_code": "98004"}


def bank_body() -> dict[str, Any]:
    return {
        "payment_method": {
            "type": "bank_account",
            "bank_account": {
                "account_type": "checking",
                "routing_number": "121042882",
                "account_number": "123456789012",
                "name_on_account": "Ada Byron",
            },
        }
    }


def of_payment(payment: dict[str, Any]) -> dict[str, Any]:
    return {"payment_method": {"type": "payment", "payment": payment["id"]}}
