"""Stored payment methods: a profile at the simulator, and the rows that mirror it."""

import uuid
from typing import Any

import msgspec

from easypay import ids
from harness.http import http_client
from harness.shop import VISA, Shop
from harness.stack import Stack

BANK = {
    "accountType": "checking",
    "routingNumber": "121042882",
    "accountNumber": "123456789",
    "nameOnAccount": "Ada Byron",
}
ADDRESS = {"firstName": "Ada", "lastName": "Byron", "zip": "98004"}


class Stored(msgspec.Struct, frozen=True):
    """A stored method, as the API names it, and the processor's ids of it."""

    id: str
    customer: str
    customer_profile_id: str
    payment_profile_id: str

    @property
    def uuid(self) -> uuid.UUID:
        found = ids.parse(ids.PAYMENT_METHOD, self.id)
        assert found is not None
        return found

    def pays(self, **more: Any) -> dict[str, Any]:
        """Return it as a payment's method."""
        return {"type": "stored", "stored": {"id": self.id, **more}}


async def at_wire(stack: Stack, login: str, method: str, **body: Any) -> dict[str, Any]:
    """Call the processor as the shop's account; return its answer."""
    auth = {"name": login, "transactionKey": "simulated-key-1"}
    async with http_client() as client:
        answer = await client.post(
            stack.simulator.wire, json={method: {"merchantAuthentication": auth, **body}}
        )
    found: dict[str, Any] = msgspec.json.decode(answer.content.decode("utf-8-sig"))
    assert found["messages"]["resultCode"] == "Ok", found
    return found


async def stored_method(
    stack: Stack,
    shop: Shop,
    *,
    number: str = VISA,
    bank: bool = False,
    mode: str = "test",
    age_s: float = 3600.0,
    **columns: Any,
) -> Stored:
    """Store a card or bank account for a new customer of the shop, `age_s` seconds ago. `columns`
    replaces columns of `payment_methods`."""
    payment = {"bankAccount": BANK}
    if not bank:
        payment = {"creditCard": {"cardNumber": number, "expirationDate": "2035-12"}}
    profile = {
        "merchantCustomerId": uuid.uuid4().hex[:20],
        "email": "ada@example.com",
        "paymentProfiles": [{"billTo": ADDRESS, "payment": payment}],
    }
    made = await at_wire(stack, shop.login, "createCustomerProfileRequest", profile=profile)
    (payment_profile_id,) = made["customerPaymentProfileIdList"]
    login = await _login_of(stack, shop, mode)
    found = Stored(
        ids.typed(ids.PAYMENT_METHOD, ids.new_id()),
        ids.typed(ids.CUSTOMER, ids.new_id()),
        made["customerProfileId"],
        payment_profile_id,
    )
    row = {
        "customer_profile_id": found.customer_profile_id,
        "payment_profile_id": found.payment_profile_id,
        "login_id": login,
        "processor": "authorize_net",
        "state": "active",
        "type": "bank_account" if bank else "card",
        "source": "bank_account" if bank else "card",
        "brand": None if bank else "visa",
        "last4": BANK["accountNumber"][-4:] if bank else number[-4:],
        "exp_month": None if bank else 12,
        "exp_year": None if bank else 2035,
        "card_fingerprint": None,
        "network_transaction_id": None,
        **columns,
    }
    await _insert(stack, shop, mode, found, row, age_s)
    return found


async def _login_of(stack: Stack, shop: Shop, mode: str) -> Any:
    """Return the account that takes the shop's payments, which it has once the gateway has read
    its key."""
    answer = await shop.client.get("/payments", params={"limit": "1"})
    assert answer.status_code == 200, answer.text
    return await stack.value(
        "SELECT id FROM processor_logins WHERE merchant_id = $1 AND mode = $2"
        " ORDER BY saved_at DESC LIMIT 1",
        *(shop.merchant_id, mode),
    )


async def _insert(
    stack: Stack, shop: Shop, mode: str, found: Stored, row: dict[str, Any], age_s: float
) -> None:
    customer_id = ids.parse(ids.CUSTOMER, found.customer)
    await stack.fetch(
        "INSERT INTO customers (merchant_id, mode, id, reference, email, name)"
        " VALUES ($1, $2, $3, $4, 'ada@example.com', 'Ada Byron')",
        *(shop.merchant_id, mode, customer_id, found.customer[-12:]),
    )
    names = ", ".join(row)
    places = ", ".join(f"${n}" for n in range(8, 8 + len(row)))
    await stack.fetch(
        "INSERT INTO payment_methods (merchant_id, mode, id, customer_id, profile_id,"
        f" idempotency_key, request_fingerprint, stored_at, {names})"
        f" VALUES ($1, $2, $3, $4, $5, $6, '', db_now() - make_interval(secs => $7), {places})",
        *(shop.merchant_id, mode, found.uuid, customer_id, ids.new_id(), found.id, age_s),
        *row.values(),
    )
