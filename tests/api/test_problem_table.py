"""Every problem behaves as the table says: its status, its Retry-After, whether the answer is kept
under the key, and how a repeat with the same key or a new one ends."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx
import pytest

from easypay import errors, ids
from easypay.api.docs.pages import problem_page
from easypay.api.retry_advice import problems
from easypay.problem_table import PROBLEMS
from harness import QUICKER, VISA, Gateway, Shop, Stack, card, free_port, until
from recorded.player import Player
from recorded.scenarios import CAPTURE, SALE

pytestmark = pytest.mark.over("recorded")

GOOD: Final[dict[str, Any]] = {"amount": 2500, "currency": "USD", "payment_method": card()}
ELSEWHERE: Final = {
    "archived": "an archived month; tests/api/test_archived_payments.py",
    "internal": "a bug; tests/api/test_http.py",
    "overloaded": "a full queue; tests/db/test_group_commit.py",
    "database_unavailable": "a dead database; tests/db/test_group_commit.py",
    "processor_unavailable": "a test of its own, below",
    "malformed_request": "raw bytes; tests/api/test_ambiguous_requests.py",
    "request_timeout": "raw bytes; tests/api/test_connection_limits.py",
    "head_too_large": "raw bytes; tests/api/test_connection_limits.py",
    "statistics_not_ready": "a feed that begins; tests/payments/test_statistics.py",
    "not_acceptable": "a GET; tests/api/test_export.py",
    "too_many_exports": "exports that run; tests/api/test_export.py",
    "too_many_uploads": "uploads that run; tests/batches/test_uploads.py",
    "too_many_queued": "a full queue; tests/payments/test_queued_payments.py",
    "invalid_signature": "a processor's call; tests/notifications/test_receiving.py",
    "too_many_connections": "raw bytes; tests/api/test_connection_limits.py",
}
"""Not provoked in the table's test, and why."""


class Tried:
    """A refused request, and the request that must succeed once the advice is followed."""

    def __init__(
        self,
        ask: Callable[[str], Awaitable[httpx.Response]],
        follow: Callable[[str], Awaitable[httpx.Response]] | None = None,
    ) -> None:
        self.ask = ask
        self.follow = follow or ask


class Provoke:
    """One method for each problem, which provokes it as a shop would."""

    def __init__(self, shop: Shop, player: Player) -> None:
        self.shop = shop
        self.player = player

    def _pays(self, ask: Callable[[str], Awaitable[httpx.Response]]) -> Tried:
        return Tried(ask, lambda key: self.shop.post("/payments", GOOD, key=key))

    async def malformed_body(self) -> Tried:
        return self._pays(lambda key: self.shop.send("/payments", b'{"amount": 1', key=key))

    async def body_too_large(self) -> Tried:
        return self._pays(
            lambda key: self.shop.send("/payments", b'"' + b"x" * 70_000 + b'"', key=key)
        )

    async def unsupported_media_type(self) -> Tried:
        return self._pays(
            lambda key: self.shop.send("/payments", b"{}", key=key, kind="text/plain")
        )

    async def validation_failed(self) -> Tried:
        return self._pays(lambda key: self.shop.post("/payments", {**GOOD, "amount": 0}, key=key))

    async def idempotency_key_missing(self) -> Tried:
        return self._pays(lambda key: self.shop.client.post("/payments", json=GOOD))

    async def idempotency_key_invalid(self) -> Tried:
        return self._pays(lambda key: self.shop.post("/payments", GOOD, key="x" * 256))

    async def invalid_api_key(self) -> Tried:
        stranger = Shop(self.shop.merchant_id, "no", self.shop.login, self.shop.url)
        return self._pays(lambda key: stranger.post("/payments", GOOD, key=key))

    async def not_found(self) -> Tried:
        return self._pays(lambda key: self.shop.capture(f"pay_{uuid.uuid4().hex}", key=key))

    async def method_not_allowed(self) -> Tried:
        return self._pays(lambda key: self.shop.client.delete("/payments"))

    async def invalid_state(self) -> Tried:
        payment = (await self.shop.paid())["id"]
        return Tried(
            lambda key: self.shop.capture(payment, key=key),
            lambda key: self.shop.void(payment, key=key),
        )

    async def amount_exceeds_authorized(self) -> Tried:
        payment = (await self.shop.paid(capture="manual"))["id"]
        return Tried(
            lambda key: self.shop.capture(payment, 2501, key=key),
            lambda key: self.shop.capture(payment, 2500, key=key),
        )

    async def amount_exceeds_captured(self) -> Tried:
        payment = (await self.shop.paid())["id"]
        return Tried(
            lambda key: self.shop.refund(payment, 2501, key=key),
            lambda key: self.shop.refund(payment, 2500, key=key),
        )

    async def precondition_failed(self) -> Tried:
        payment = (await self.shop.paid())["id"]

        async def void(key: str, tag: str) -> httpx.Response:
            headers = {"idempotency-key": key, "if-match": tag}
            return await self.shop.client.post(
                f"/payments/{payment}/void", json={}, headers=headers
            )

        current = (await self.shop.client.get(f"/payments/{payment}")).headers["etag"]
        return Tried(lambda key: void(key, '"v9"'), lambda key: void(key, current))

    async def idempotency_key_reused(self) -> Tried:
        used = str(uuid.uuid4())
        await self.shop.paid(key=used)
        return self._pays(lambda key: self.shop.pay(1, key=used))

    async def request_in_progress(self) -> Tried:
        """The first request with the key is still in progress, because it is slow."""
        first: list[asyncio.Task[httpx.Response]] = []

        async def ask(key: str) -> httpx.Response:
            await self.player.slow(self.shop.login, ms=400)
            first.append(asyncio.create_task(self.shop.post("/payments", GOOD, key=key)))

            await self.shop.begins(key)
            return await self.shop.post("/payments", GOOD, key=key)

        async def follow(key: str) -> httpx.Response:
            await first[0]
            return await self.shop.post("/payments", GOOD, key=key)

        return Tried(ask, follow)

    def _answered(self, body: str) -> Tried:
        """The processor answers the next payment with this recorded body."""
        order = uuid.uuid4().hex[:20]
        self.player.script(order, body, kind=SALE)
        return self._pays(lambda key: self.shop.pay(key=key, order_reference=order))

    async def processor_rejected(self) -> Tried:
        return self._answered("refused_8")

    async def processor_not_set_up(self) -> Tried:
        return self._answered("refused_2001")

    async def processor_not_ready(self) -> Tried:
        return self._answered("refused_901")

    async def processor_account_refused(self) -> Tried:
        tried = self._answered("refused_login")
        return Tried(tried.ask)

    async def processor_invalid_state(self) -> Tried:
        """It has just settled at the processor: it is too late to void, so it is refunded."""
        payment = (await self.shop.paid())["id"]
        await self.player.post("/settle")
        return Tried(
            lambda key: self.shop.void(payment, key=key),
            lambda key: self.shop.refund(payment, 900, key=key),
        )

    async def already_settled(self) -> Tried:
        """The processor lets only what has settled be refunded in part."""
        payment = (await self.shop.paid())["id"]
        await self.player.post("/settle")
        assert (await self.shop.refund(payment, 100)).status_code == 201
        return Tried(
            lambda key: self.shop.void(payment, key=key),
            lambda key: self.shop.refund(payment, 900, key=key),
        )

    async def not_settled(self) -> Tried:
        payment = (await self.shop.paid())["id"]
        return Tried(
            lambda key: self.shop.refund(payment, 900, key=key),
            lambda key: self.shop.refund(payment, key=key),
        )

    async def not_executed(self) -> Tried:
        """A capture that was never sent, was not repeated in time, and was abandoned."""
        payment = await self.shop.paid(capture="manual")
        self.player.script(payment["processor"]["transaction_id"], "refused_login", kind=CAPTURE)

        async def ask(key: str) -> httpx.Response:
            if await kept_reply(self.shop, key) is None:
                begun = await self.shop.capture(payment["id"], key=key)
                assert begun.json()["code"] == "processor_account_refused"

            async def ended() -> int | None:
                return await kept_reply(self.shop, key)

            await until(ended, what="the capture is given up")
            return await self.shop.capture(payment["id"], key=key)

        return Tried(ask, lambda key: self.shop.capture(payment["id"], key=key))

    async def forbidden(self) -> Tried:
        raise AssertionError("needs a key of its own")

    async def duplicate_payment(self) -> Tried:
        raise AssertionError("needs a setting of the merchant")

    async def repeats_restored_payment(self) -> Tried:
        raise AssertionError("needs a restored database")


async def kept_reply(shop: Shop, key: str) -> int | None:
    """Return the status stored under the key; None if there is none."""
    use = await shop.client.get(f"/idempotency-keys/{key}")
    status: int | None = use.json()["reply_status"] if use.status_code == 200 else None
    return status


@pytest.mark.parametrize("code", [code for code in PROBLEMS if code not in ELSEWHERE])
async def test_each_problem_behaves_as_the_table_says(
    shop: Shop, player: Player, shared_stack: Stack, code: str
) -> None:
    row, key = PROBLEMS[code], str(uuid.uuid4())
    if code == "forbidden":
        tried = await forbidden(shop, shared_stack)
    elif code == "duplicate_payment":
        tried = await duplicate_payment(shop, shared_stack)
    elif code == "repeats_restored_payment":
        tried = await repeats_restored_payment(shop, shared_stack)
    else:
        tried = await getattr(Provoke(shop, player), code)()
    answer = await tried.ask(key)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (row.status, code), answer.text
    assert (problem["title"], problem["type"]) == (row.title, f"/problems/{code}")
    wait = answer.headers.get("retry-after")
    assert (wait is None) == (row.retry_after_s is None)
    assert wait is None or int(wait) == row.retry_after_s
    if row.kept:
        assert await kept_reply(shop, key) == row.status
        again = await tried.ask(key)
        assert again.content == answer.content
        assert again.headers["idempotency-replayed"] == "true"
        assert problem["payment_id"].startswith("pay_")
    elif code != "request_in_progress":  # whose first request ends in a moment
        assert await kept_reply(shop, key) is None
    match row.repeat:
        case "same_key":
            followed = await tried.follow(key)
        case "new_key":
            followed = await tried.follow(str(uuid.uuid4()))
        case "no":
            assert (await tried.ask(key)).json()["code"] == code
            followed = await tried.follow(key)  # corrected: nothing is stored under the key
    assert followed.status_code == 201, followed.text


async def forbidden(shop: Shop, stack: Stack) -> Tried:
    """Use a key that may only read; follow the advice with the shop's own key."""
    reader = await stack.with_key(shop, scopes=["payments:read"])
    return Tried(
        lambda key: reader.post("/payments", GOOD, key=key),
        lambda key: shop.post("/payments", GOOD, key=key),
    )


async def duplicate_payment(shop: Shop, stack: Stack) -> Tried:
    """Pay for an order that was paid under another key, and then say that it is wanted."""
    sql = "UPDATE merchants SET duplicates = 'reject' WHERE merchant_id = $1"
    await stack.fetch(sql, shop.merchant_id)
    assert (await shop.post("/payments", GOOD)).status_code == 201
    return _wanted_all_the_same(shop)


async def repeats_restored_payment(shop: Shop, stack: Stack) -> Tried:
    """Pay for what a restore has brought back, and then say that it is wanted besides."""
    await stack.fetch(
        "INSERT INTO restored_operations (merchant_id, operation_id, mode, kind, transaction_id,"
        " amount_minor, currency, last4) VALUES ($1, $2, 'test', 'charge', '600', $3, $4, $5)",
        *(shop.merchant_id, ids.new_id(), GOOD["amount"], GOOD["currency"], VISA[-4:]),
    )
    return _wanted_all_the_same(shop)


def _wanted_all_the_same(shop: Shop) -> Tried:
    wanted = {"allow-duplicate": "true"}
    return Tried(
        lambda key: shop.post("/payments", GOOD, key=key),
        lambda key: shop.client.post(
            "/payments", json=GOOD, headers=wanted | {"idempotency-key": key}
        ),
    )


async def test_an_unreachable_processor_leaves_the_key_free(
    shared_stack: Stack, shop: Shop
) -> None:
    """The same key then pays at a gateway that can reach the processor."""
    row = PROBLEMS["processor_unavailable"]
    nowhere = f"http://127.0.0.1:{free_port()}/"
    lost: Gateway = await shared_stack.gateway(**QUICKER, authorize_net_test_url=nowhere)
    try:
        answer = await shop.at(lost.url).post("/payments", GOOD, key="again")
    finally:
        lost.kill()
    assert (answer.status_code, answer.json()["code"]) == (row.status, "processor_unavailable")
    assert answer.headers["retry-after"] == str(row.retry_after_s)
    assert await kept_reply(shop, "again") in (None, 201)  # 201: abandoned meanwhile
    assert (await shop.post("/payments", GOOD, key="again")).status_code == 201


@pytest.mark.parametrize("error", problems(), ids=lambda error: error.code)
def test_every_error_matches_its_row_and_its_page(
    error: type[errors.EasyPayError],
) -> None:
    row = PROBLEMS[error.code]
    assert (error.http_status, error.title) == (row.status, row.title)
    assert error("why").retry_after_s == row.retry_after_s
    page = (problem_page(error.code) or b"").decode()
    assert "Kept under the key?" in page
    assert str(row.status) in page
    assert row.kept <= (400 <= row.status < 500), "repeating a stored 5xx would be useless"
    assert (row.repeat == "same_key") == (row.retry_after_s is not None)


def test_every_row_has_an_error_class() -> None:
    assert {error.code for error in problems()} == set(PROBLEMS)
