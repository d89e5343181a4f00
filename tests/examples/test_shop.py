"""The example shop charges an order once, whatever its customer does and whatever fails.

The test plays the browser: it mints a token as Accept.js does, and posts it as `page.js` does.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from easypay.webhooks.signing import headers, new_secret
from harness import (
    Gateway,
    Process,
    Shop,
    Simulator,
    Stack,
    audit,
    free_port,
    http_client,
    mint_token,
    until,
)

EXAMPLE = Path(__file__).parents[2] / "examples/shop"


class ExampleShop(Process):
    """The shop's process. A new process with the same folder has the same orders."""

    def __init__(
        self, folder: Path, merchant: Shop, simulator: Simulator, api: str, secret: str
    ) -> None:
        port = free_port()
        super().__init__(
            ["shop"],
            {
                "PYTHONPATH": str(EXAMPLE),
                "EASYPAY_URL": api,
                "EASYPAY_API_KEY": merchant.secret,
                "ACCEPT_JS_URL": f"{simulator.url}/v1/Accept.js",
                "ACCEPT_LOGIN_ID": merchant.login,
                "SHOP_DATABASE": str(folder / "shop.sqlite3"),
                "SHOP_PORT": str(port),
                "SHOP_WEBHOOK_SECRET": secret,
            },
            folder / "shop.log",
        )
        self.client = http_client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        self.merchant = merchant
        self.simulator = simulator

    async def ready(self) -> "ExampleShop":
        await self.serves(str(self.client.base_url))
        return self

    async def order(self) -> str:
        """Create an order and return its path."""
        path: str = (await self.client.post("/orders")).headers["location"]
        return path

    async def submit(self, order: str, *, attempt: int = 0) -> dict[str, Any]:
        """Submit the order's page with a new token."""
        token = await mint_token(self.simulator, self.merchant.login)
        answer = await self.client.post(
            f"{order}/pay",
            json={
                "attempt": attempt,
                "dataDescriptor": token["data_descriptor"],
                "dataValue": token["data_value"],
            },
        )
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    async def pay(self, order: str, *, attempt: int = 0) -> dict[str, Any]:
        """Submit the page and wait for EasyPay's first reply."""
        await self.submit(order, attempt=attempt)
        return await self.shows(order, lambda shown: shown["status"] != "sending")

    async def becomes(self, order: str, status: str) -> dict[str, Any]:
        return await self.shows(order, lambda shown: shown["status"] == status)

    async def shows(self, order: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the order's page shows what is wanted."""

        async def there() -> dict[str, Any] | None:
            shown: dict[str, Any] = (await self.client.get(f"{order}/status")).json()
            return shown if wanted(shown) else None

        found: dict[str, Any] = await until(there, what="the order's status")
        return found


Start = Callable[..., Any]


@pytest.fixture
async def merchant(shared_stack: Stack, gateway: Gateway) -> AsyncIterator[Shop]:
    """A merchant that may not send card numbers: a shop with Accept.js needs no more."""
    made = await shared_stack.shop(gateway, raw_cards=False)
    yield made
    await shared_stack.simulator.clear_faults()
    await made.client.aclose()


@pytest.fixture
async def start(
    tmp_path: Path, shared_stack: Stack, gateway: Gateway, merchant: Shop
) -> AsyncIterator[Start]:
    """Return a function that starts the shop, each time with the same orders."""
    started: list[ExampleShop] = []

    async def begin(api: str = gateway.url, secret: str = "") -> ExampleShop:
        assert isinstance(shared_stack.simulator, Simulator)
        started.append(ExampleShop(tmp_path, merchant, shared_stack.simulator, api, secret))
        return await started[-1].ready()

    yield begin
    for each in started:
        each.kill()
        await each.client.aclose()


async def fault(stack: Stack, merchant: Shop, **order: Any) -> None:
    """Order a fault for sales only: the shop mints tokens at the same address."""
    sale = "authCaptureTransaction"
    await stack.simulator.post("/faults", login=merchant.login, transaction_type=sale, **order)


async def test_a_double_click_is_charged_once(
    shared_stack: Stack, merchant: Shop, start: Start
) -> None:
    shop = await start()
    order = await shop.order()
    await asyncio.gather(shop.submit(order), shop.submit(order), shop.submit(order))
    paid = await shop.becomes(order, "captured")
    assert (paid["payable"], paid["unfinished"]) == (False, False)
    assert (await shop.submit(order, attempt=1))["status"] == "captured"
    assert len(await shared_stack.simulator.truth(login=merchant.login)) == 1
    assert await audit(shared_stack, merchant) == []


async def test_a_shop_killed_before_the_reply_charges_once(
    shared_stack: Stack, merchant: Shop, start: Start
) -> None:
    await fault(shared_stack, merchant, kind="latency", distribution="constant", ms=900)
    shop = await start()
    order = await shop.order()
    submitted = asyncio.create_task(shop.submit(order))

    async def charged() -> bool:
        return bool(await shared_stack.simulator.truth(login=merchant.login))

    await until(charged, what="the processor has charged the card")
    shop.kill()
    with pytest.raises(httpx.TransportError):
        await submitted
    again = await start()
    await again.submit(order)  # the customer, who saw an error, tries once more
    await again.becomes(order, "captured")
    assert len(await shared_stack.simulator.truth(login=merchant.login)) == 1
    assert await audit(shared_stack, merchant) == []


async def test_an_order_saved_before_the_request_could_be_sent_is_paid_after_a_restart(
    shared_stack: Stack, merchant: Shop, start: Start
) -> None:
    shop = await start(api=f"http://127.0.0.1:{free_port()}")
    order = await shop.order()
    shown = await shop.submit(order)
    assert (shown["status"], shown["unfinished"], shown["payable"]) == ("sending", True, False)
    shop.kill()
    again = await start()
    await again.becomes(order, "captured")
    assert len(await shared_stack.simulator.truth(login=merchant.login)) == 1


async def test_a_lost_reply_shows_processing_until_the_outcome_is_known(
    shared_stack: Stack, merchant: Shop, start: Start
) -> None:
    shop = await start()
    order = await shop.order()
    await fault(shared_stack, merchant, kind="drop_reply", count=1)
    shown = await shop.pay(order)
    assert (shown["status"], shown["payable"]) == ("processing", False)
    await shop.becomes(order, "captured")
    assert len(await shared_stack.simulator.truth(login=merchant.login)) == 1


async def test_a_webhook_tells_the_outcome_and_only_with_a_right_signature(
    shared_stack: Stack, merchant: Shop, start: Start
) -> None:
    """The shop asks once a minute only, so what it knows sooner it was told."""
    secret = new_secret()
    shop = await start(secret=secret)
    order = await shop.order()
    await fault(shared_stack, merchant, kind="drop_reply", count=1)
    shown = await shop.pay(order)
    assert shown["status"] == "processing"
    (payment,) = (await merchant.client.get("/payments")).json()["data"]
    paid = await merchant.becomes(payment["id"], "captured")

    async def send(payment: dict[str, Any], *, sent_at: float, signed_with: str = secret) -> int:
        body = json.dumps({"type": f"payment.{payment['status']}", "data": payment}).encode()
        signed = headers([signed_with], "evt_1", int(sent_at), body)
        return (await shop.client.post("/easypay", content=body, headers=signed)).status_code

    now = time.time()
    assert await send(paid, sent_at=now, signed_with=new_secret()) == 400
    assert await send(paid, sent_at=now - 3600) == 400
    assert (await shop.client.post("/easypay", content=b"{}")).status_code == 400
    assert (await shop.client.get(f"{order}/status")).json()["status"] == "processing"
    assert await send(paid, sent_at=now) == 200
    assert (await shop.client.get(f"{order}/status")).json()["status"] == "captured"
    assert await send(paid | {"status": "processing", "version": 1}, sent_at=now) == 200  # late
    assert (await shop.client.get(f"{order}/status")).json()["status"] == "captured"


async def test_a_webhook_that_overtakes_the_reply_lets_the_shop_ask(
    shared_stack: Stack, merchant: Shop, start: Start
) -> None:
    """It comes while the order is being sent: the payment's id is not known yet."""
    secret = new_secret()
    shop = await start(secret=secret)
    order = await shop.order()
    await fault(shared_stack, merchant, kind="late_reply", delay_ms=700, count=1)
    submitted = asyncio.create_task(shop.submit(order))
    await shared_stack.charges(merchant)
    event = {"order_reference": order.rpartition("/")[2], "id": "pay_1", "status": "captured"}
    body = json.dumps({"type": "payment.captured", "data": event}).encode()
    signed = headers([secret], "evt_1", int(time.time()), body)
    assert (await shop.client.post("/easypay", content=body, headers=signed)).status_code == 200
    await submitted
    await shop.becomes(order, "captured")
    assert len(await shared_stack.simulator.truth(login=merchant.login)) == 1


async def test_after_a_decline_another_card_pays(
    shared_stack: Stack, merchant: Shop, start: Start
) -> None:
    shop = await start()
    order = await shop.order()
    await shared_stack.simulator.post("/settings", login=merchant.login, cvv_reject=["P"])
    declined = await shop.pay(order)
    assert (declined["status"], declined["payable"]) == ("declined", True)
    await shared_stack.simulator.post("/settings", login=merchant.login, cvv_reject=[])
    late = await shop.pay(order)  # submits the page from before the decline
    assert late["status"] == "declined"
    paid = await shop.pay(order, attempt=declined["attempt"])
    assert paid["status"] == "captured"
    rows = await shared_stack.simulator.truth(login=merchant.login)
    assert [row["response_code"] for row in rows] == ["2", "1"]


async def test_a_token_the_processor_refuses_leaves_the_order_payable(start: Start) -> None:
    shop = await start()
    order = await shop.order()
    body = {"attempt": 0, "dataDescriptor": "COMMON.ACCEPT.INAPP.PAYMENT", "dataValue": "1" * 22}
    await shop.client.post(f"{order}/pay", json=body)
    refused = await shop.becomes(order, "refused")
    assert refused["payable"]
    assert (await shop.pay(order, attempt=refused["attempt"]))["status"] == "captured"


async def test_the_page_loads_accept_js_and_sends_no_card_field(
    start: Start, merchant: Shop, shared_stack: Stack
) -> None:
    shop = await start()
    page = await shop.client.get(await shop.order())
    assert f'src="{shop.simulator.url}/v1/Accept.js"' in page.text
    assert f'data-login-id="{merchant.login}"' in page.text
    assert " name=" not in page.text.partition("<body>")[2]
    assert "'unsafe-inline'" not in page.headers["content-security-policy"]
    assert shop.simulator.url in page.headers["content-security-policy"]
    assert (await shop.client.get("/orders/of-another/status")).status_code == 404
    assert (await shop.client.post(f"{page.url.path}/pay", content=b"[]")).status_code == 400
