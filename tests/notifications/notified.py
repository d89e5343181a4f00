"""A shop whose account signs notifications, and those who tell of it: the processor, or a test."""

import hmac
import uuid
from base64 import b64encode
from typing import Any

import httpx
import msgspec

from easypay.merchants import admin
from easypay.merchants.vault import Vault
from easypay.mode import Mode
from easypay.notifications.accounts import shown
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from easypay.processors.authorize_net.notifications import EVENTS
from harness import Gateway, Shop, Stack, http_client, until
from harness.processes import ENCRYPTION_KEY

SIGNATURE_KEY = "0123456789ABCDEF" * 8
KEY = "simulated-key-1"


class Notified:
    """A shop on a stack, the address of its account's notifications, and what came of them."""

    def __init__(self, stack: Stack, shop: Shop, account: bytes) -> None:
        self.stack = stack
        self.shop = shop
        self.account = account
        self.url = f"{shop.url}/api/v1/processors/authorize_net/notifications/{shown(account)}"
        self.client = http_client(timeout=30, limits=httpx.Limits(max_connections=32))

    async def close(self) -> None:
        await self.client.aclose()
        await self.shop.client.aclose()

    async def listen(self, url: str | None = None) -> str:
        """Let the simulator send the account's notifications to the gateway, or to a URL. Return
        the webhook's id."""
        async with http_client() as client:
            answer = await client.post(
                f"{self.stack.simulator.url}/rest/v1/webhooks",
                json={"url": url or self.url, "eventTypes": list(EVENTS), "status": "active"},
                headers={"authorization": _basic(self.shop.login)},
            )
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["webhookId"]
        return found

    async def tell(self, body: bytes, *, key: str = SIGNATURE_KEY) -> httpx.Response:
        """Send a signed notification."""
        return await self.client.post(self.url, content=body, headers=signed(body, key))

    async def rows(self) -> list[Any]:
        """Return what is stored of the account's notifications, oldest first."""
        return await self.stack.fetch(
            "SELECT * FROM notifications WHERE account = $1 ORDER BY received_at", self.account
        )

    async def followed(self) -> None:
        """Wait until no notification of the account is left to follow."""

        async def nothing() -> bool:
            left = "SELECT count(*) FROM notification_work WHERE account = $1"
            return bool(await self.stack.value(left, self.account) == 0)

        await until(nothing, what="every notification is followed")

    async def wants_books(self) -> bool:
        """Whether the account's books are to be read before their hour."""
        rows = await self.stack.fetch(
            "SELECT wanted_at FROM account_books WHERE account = $1", self.account
        )
        return [row["wanted_at"] is not None for row in rows] == [True]


async def notified(stack: Stack, gateway: Gateway, key: str = SIGNATURE_KEY) -> Notified:
    """Return a new shop whose account has a signature key, here and at the simulator."""
    shop = await stack.shop(gateway)
    await stack.simulator.post(
        "/accounts",
        login=shop.login,
        transaction_key=KEY,
        currencies=["USD"],
        signature_key=SIGNATURE_KEY,
    )
    await save_account(stack, shop, signature_key=key)
    assert (await shop.client.get("/payments")).status_code == 200  # the account is known by it
    account = await stack.value(
        "SELECT account FROM processor_logins WHERE merchant_id = $1", shop.merchant_id
    )
    await stack.fetch(
        "INSERT INTO account_books (account, read_until) VALUES ($1, db_now())"
        " ON CONFLICT DO NOTHING",
        account,
    )
    made = Notified(stack, shop, account)

    async def accepted() -> bool:
        test = event(transaction_id="0")  # stores nothing
        return (await made.tell(test, key=key)).status_code == 200

    await until(accepted, what="the gateway knows the key")
    return made


async def save_account(stack: Stack, shop: Shop, **more: str) -> None:
    """Save the shop's credentials again, with more of them."""
    credentials = {"login_id": shop.login, "transaction_key": KEY, **more}
    async with stack.sessions.session() as connection:
        await admin.set_processor_account(
            connection,
            Vault(ENCRYPTION_KEY),
            AUTHORIZE_NET,
            shop.merchant_id,
            Mode.TEST,
            credentials,
        )


def event(
    happened: str = "authcapture.created",
    *,
    transaction_id: str = "60198282518",
    reference: str | None = None,
    invoice: str | None = None,
    notification_id: str | None = None,
    **more: Any,
) -> bytes:
    """Return the body of a notification of a payment."""
    payload = {
        "responseCode": 1,
        "authCode": "ABC123",
        "avsResponse": "Y",
        "authAmount": 25.0,
        **({} if reference is None else {"merchantReferenceId": reference}),
        **({} if invoice is None else {"invoiceNumber": invoice}),
        "entityName": "transaction",
        "id": transaction_id,
        **more,
    }
    return msgspec.json.encode(
        {
            "notificationId": notification_id or str(uuid.uuid4()),
            "eventType": f"net.authorize.payment.{happened}",
            "eventDate": "2026-11-30T08:00:00.2500000Z",
            "webhookId": "849eb87e-078a-4169-a34b-c0bded5019a8",
            "payload": payload,
        }
    )


def signed(body: bytes, key: str = SIGNATURE_KEY) -> dict[str, str]:
    """Return the header that signs a body."""
    return {"x-anet-signature": f"sha512={hmac.digest(key.encode(), body, 'sha512').hex().upper()}"}


def _basic(login: str) -> str:
    return f"Basic {b64encode(f'{login}:{KEY}'.encode()).decode()}"
