"""A shop: its cards, its requests to a gateway, and waiting for a payment's status."""

import json
import secrets
import string
import uuid
from typing import Any

import httpx

from easypay import ids
from harness.http import http_client
from harness.processes import Simulator
from harness.waiting import until
from recorded.player import Player

VISA = "4111111111111111"
MASTERCARD = "5424000000000015"
AMEX = "370000000000002"
CVC = "907"  # triggers no special reply of the simulator


def random_name(length: int = 16) -> str:
    """Return a name for a merchant or an account. It has only letters: now and then, digits look
    like a card number, which names may not have."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(length))


def card(number: str = VISA, **over: Any) -> dict[str, Any]:
    """Return a card payment method in the API's form."""
    details = {"number": number, "exp_month": 12, "exp_year": 2035, "cvc": CVC, **over}
    return {"type": "card", "card": details}


class Shop:
    """A merchant with a key and a processor login of its own, and a client that uses them."""

    def __init__(self, merchant_id: uuid.UUID, secret: str, login: str, url: str) -> None:
        self.merchant_id = merchant_id
        self.secret = secret
        self.login = login
        self.url = url
        self.client = http_client(
            base_url=f"{url}/api/v1",
            headers={"authorization": f"Bearer {secret}"},
            timeout=30,
            limits=httpx.Limits(max_connections=200),
        )

    def at(self, url: str) -> "Shop":
        """Return the same shop as a client of another gateway process."""
        return Shop(self.merchant_id, self.secret, self.login, url)

    async def post(
        self, path: str, body: Any = None, *, key: str | None = None, queue: bool = False
    ) -> httpx.Response:
        """Send a money POST, with a new Idempotency-Key unless one is given. `queue`: let it be
        answered at once and sent by a worker."""
        headers = {"idempotency-key": key or str(uuid.uuid4())}
        headers |= {"prefer": "respond-async"} if queue else {}
        return await self.client.post(path, json=body or {}, headers=headers)

    async def send(
        self, path: str, content: Any, *, key: str | None = None, kind: str = "application/json"
    ) -> httpx.Response:
        """Send a money POST with these bytes or this text as its body."""
        headers = {"content-type": kind, "idempotency-key": key or str(uuid.uuid4())}
        return await self.client.post(path, content=content, headers=headers)

    async def pay(
        self, amount: int = 2500, *, key: str | None = None, **over: Any
    ) -> httpx.Response:
        """POST /payments with a card."""
        body = {"amount": amount, "currency": "USD", "payment_method": card(), **over}
        return await self.post("/payments", body, key=key)

    async def paid(self, amount: int = 2500, **over: Any) -> dict[str, Any]:
        """Make a payment that must succeed."""
        answer = await self.pay(amount, **over)
        assert answer.status_code == 201, answer.text
        payment: dict[str, Any] = answer.json()
        return payment

    async def capture(
        self, payment_id: str, amount: int | None = None, *, key: str | None = None
    ) -> httpx.Response:
        return await self.post(f"/payments/{payment_id}/capture", _amount(amount), key=key)

    async def void(self, payment_id: str, *, key: str | None = None) -> httpx.Response:
        return await self.post(f"/payments/{payment_id}/void", key=key)

    async def refund(
        self, payment_id: str, amount: int | None = None, *, key: str | None = None
    ) -> httpx.Response:
        return await self.post(f"/payments/{payment_id}/refunds", _amount(amount), key=key)

    async def ask(
        self, kind: str, payment_id: str | None, *, key: str, **over: Any
    ) -> httpx.Response:
        """An operation of this kind: a sale or authorization of 25.00; of a payment a capture of
        20.00, a void, a refund of 9.00, or a refund of all of it (`undo`)."""
        if kind in ("sale", "authorize"):
            capture = "automatic" if kind == "sale" else "manual"
            return await self.pay(key=key, capture=capture, **over)
        path, amount = {
            "capture": ("capture", 2000),
            "void": ("void", None),
            "refund": ("refunds", 900),
            "undo": ("refunds", None),
        }[kind]
        return await self.post(f"/payments/{payment_id}/{path}", _amount(amount), key=key)

    async def payment(self, payment_id: str) -> dict[str, Any]:
        """GET one payment."""
        answer = await self.client.get(f"/payments/{payment_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def all(self, path: str, **filters: Any) -> list[dict[str, Any]]:
        """Return every row of a list, page by page."""
        assert "?" not in path, "httpx would drop it for the parameters"
        rows: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            params = filters | {"limit": "100"} | ({"cursor": cursor} if cursor else {})
            answer = await self.client.get(path, params=params)
            assert answer.status_code == 200, answer.text
            rows += answer.json()["data"]
            cursor = answer.json()["next_cursor"]
            if cursor is None:
                return rows

    async def begins(self, key: str) -> None:
        """Wait until a request with this key has begun."""

        async def begun() -> bool:
            return (await self.client.get(f"/idempotency-keys/{key}")).status_code == 200

        await until(begun, what=f"{key} is in use")

    async def becomes(
        self, payment_id: str, *statuses: str, within_s: float = 45
    ) -> dict[str, Any]:
        """Wait until a payment has one of these statuses."""

        async def has_status() -> dict[str, Any] | None:
            found = await self.payment(payment_id)
            return found if found["status"] in statuses else None

        found: dict[str, Any] = await until(
            has_status, within_s=within_s, what=f"{payment_id} becomes {' or '.join(statuses)}"
        )
        return found


async def queued_payment(
    stack: Any, shop: Shop, *, key: str | None = None, amount: int = 2500, **over: Any
) -> httpx.Response:
    """POST /payments with a new token, to be queued."""
    token = await mint_token(stack.simulator, shop.login)
    body = {
        "amount": amount,
        "currency": "USD",
        "payment_method": {"type": "accept_token", "accept_token": token},
        **over,
    }
    return await shop.post("/payments", body, key=key, queue=True)


async def pay_at(url: str, secret: str, *, key: str | None = None) -> httpx.Response:
    """Pay as a client who has only a gateway's address and an API key."""
    shop = Shop(uuid.UUID(int=0), secret, "", url)
    async with shop.client:
        return await shop.pay(key=key)


def _amount(amount: int | None) -> dict[str, int]:
    return {} if amount is None else {"amount": amount}


def payment_uuid(shown: str) -> uuid.UUID:
    """Return the UUID in a `pay_…` id."""
    found = ids.parse(ids.PAYMENT, shown)
    assert found is not None
    return found


async def mint_token(
    simulator: Simulator | Player,
    login: str,
    number: str = VISA,
    *,
    transaction_key: str = "simulated-key-1",
    bank: dict[str, str] | None = None,
) -> dict[str, str]:
    """Return the token that Accept.js would give the browser for this card and account, or for a
    bank account in its form."""
    token = {"token": {"cardNumber": number, "expirationDate": "122035", "cardCode": CVC}}
    body = {
        "securePaymentContainerRequest": {
            "merchantAuthentication": {"name": login, "transactionKey": transaction_key},
            "data": {
                "type": "TOKEN",
                "id": str(uuid.uuid4()),
                **(token if bank is None else {"bankToken": bank}),
            },
        }
    }
    async with http_client() as client:
        answer = await client.post(simulator.wire, json=body)
    opaque = json.loads(answer.content.decode("utf-8-sig"))["opaqueData"]
    return {"data_descriptor": opaque["dataDescriptor"], "data_value": opaque["dataValue"]}
