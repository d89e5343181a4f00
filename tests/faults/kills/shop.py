"""The shop of one round: its orders, its endpoints, and its reading of the feed."""

import asyncio
import json
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from easypay.clock import monotonic
from easypay.merchants import admin
from easypay.merchants.model import SCOPES
from easypay.merchants.vault import Vault
from easypay.problem_table import PROBLEMS
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from events.follower import Follower
from faults.kills.plan import MONEY, PATHS, FollowUp, Order
from faults.kills.world import World
from harness import ENCRYPTION_KEY, Shop, card, connected, mint_token, random_name
from webhooks.receiver import Got

_PATIENCE_S: Final = 45.0
"""How long the shop repeats a request that has no final answer."""
_CLIENT_S: Final = 2.0
_PAUSE_S: Final = 0.1


@dataclass
class Asked:
    """One request of the shop, with its key, and the final answer to it."""

    key: str
    path: str
    body: dict[str, Any]
    queued: bool
    status: int = 0
    answer: dict[str, Any] = field(default_factory=dict)
    sent: int = 0
    """How often it was sent."""

    @property
    def accepted(self) -> bool:
        return self.status in (200, 201, 202)


@dataclass
class Endpoint:
    """An endpoint of the shop. `types`: the events that it wants; all if empty."""

    id: uuid.UUID
    path: str
    secret: str
    types: tuple[str, ...]


class RoundShop:
    """One shop, whose clients pay at any gateway that answers and repeat what is not answered."""

    def __init__(self, world: World, number: int, shops: list[Shop]) -> None:
        self._world = world
        self.number = number
        self.shops = shops
        """The same shop at each gateway."""
        self.asked: list[Asked] = []
        self.bugs: list[str] = []
        """What no shop should ever see."""
        self.endpoints: list[Endpoint] = []
        self.follower = Follower(shops)
        self._following: asyncio.Task[None] | None = None
        self._turn = 0

    @property
    def merchant_id(self) -> uuid.UUID:
        return self.shops[0].merchant_id

    @property
    def login(self) -> str:
        return self.shops[0].login

    async def open(self) -> None:
        """Create the endpoints, and begin to follow the feed."""
        for path in PATHS:
            types = MONEY if path == PATHS[-1] else ()
            at = f"/{self.number}{path}"
            answer = await self.shops[0].client.post(
                "/webhook-endpoints", json={"url": self._world.receiver.url + at, "types": types}
            )
            assert answer.status_code == 201, answer.text
            made = answer.json()
            endpoint_id = uuid.UUID(made["endpoint"]["id"].partition("_")[2])
            self.endpoints.append(Endpoint(endpoint_id, at, made["secret"], tuple(types)))
        self._following = asyncio.create_task(self.follower.run())

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        for each in self.shops:
            await each.client.aclose()

    def follows(self) -> None:
        """Raise what ended the reading of the feed, if it has ended."""
        if self._following is not None and self._following.done():
            self._following.result()

    def got(self, endpoint: Endpoint) -> list[Got]:
        """Return what has arrived at an endpoint."""
        return self._world.receiver.of(endpoint.path)

    @property
    def payments(self) -> list[Asked]:
        """Return the requests for payments that were accepted."""
        return [each for each in self.asked if each.path == "/payments" and each.accepted]

    # orders ---------------------------------------------------------------------------------------

    async def order(self, order: Order) -> None:
        """Order once, and do what follows as far as it is allowed."""
        method = card()
        if order.queued:
            token = await mint_token(self._world.simulator, self.login)
            method = {"type": "accept_token", "accept_token": token}
        body: dict[str, Any] = {
            "amount": order.amount,
            "currency": "USD",
            "capture": order.capture,
            "payment_method": method,
        }
        if order.declined:
            body["billing_address"] = {"postal_code": "46282"}
        paid = await self.ask(f"order-{order.number}", "/payments", body, queued=order.queued)
        if not paid.accepted:
            return
        for nth, each in enumerate(order.follow_ups):
            if not order.at_once:
                await self._outcome(paid.answer["id"])
            await self._follow_up(order, f"order-{order.number}-{nth}", each, paid.answer["id"])

    async def _follow_up(self, order: Order, key: str, what: FollowUp, payment_id: str) -> None:
        verb = {"refund": "refunds"}.get(what.kind, what.kind)
        amount = None if what.part is None else max(1, int(order.amount * what.part))
        body = {} if amount is None or what.kind == "void" else {"amount": amount}
        await self.ask(key, f"/payments/{payment_id}/{verb}", body, queued=what.queued)

    async def _outcome(self, payment_id: str) -> None:
        """Wait a little for a payment's outcome."""
        ends = monotonic() + 1.0
        while monotonic() < ends:
            with suppress(httpx.TransportError):
                answer = await self._any().client.get(f"/payments/{payment_id}")
                if answer.status_code == 200:
                    if answer.json()["status"] not in ("pending", "processing"):
                        return
                elif answer.status_code != 503:
                    self.bugs.append(f"{payment_id} was accepted; GET: {answer.status_code}")
                    return
            await asyncio.sleep(0.05)

    def _any(self) -> Shop:
        self._turn += 1
        return self.shops[self._turn % len(self.shops)]

    async def ask(self, key: str, path: str, body: dict[str, Any], *, queued: bool) -> Asked:
        """Repeat a request with its key until its answer is final."""
        asked = Asked(key, path, body, queued)
        self.asked.append(asked)
        ends = monotonic() + _PATIENCE_S
        while monotonic() < ends:
            asked.sent += 1
            try:
                answer = await self._any().post(path, body, key=key, queue=queued)
            except httpx.TransportError:
                await asyncio.sleep(_PAUSE_S)
                continue
            asked.status, asked.answer = answer.status_code, answer.json()
            if asked.status < 300:
                return asked
            if asked.status == 500:
                self.bugs.append(f"{key} was answered 500: {answer.text[:300]}")
            if PROBLEMS[asked.answer["code"]].repeat != "same_key":
                return asked
            await asyncio.sleep(_PAUSE_S)
        self.bugs.append(f"{key} has no final answer within {_PATIENCE_S:g} s: {asked.answer}")
        return asked

    async def repeated(self, asked: Asked) -> list[str]:
        """Repeat an accepted request at every gateway. Return what is wrong with the answers."""
        answers = [
            await each.post(asked.path, asked.body, key=asked.key, queue=asked.queued)
            for each in self.shops
        ]
        first = answers[0]
        if any((a.status_code, a.content) != (first.status_code, first.content) for a in answers):
            return [f"{asked.key} is answered differently by two gateways"]
        is_payment = asked.path == "/payments" and first.status_code < 300
        if is_payment and first.json()["id"] != asked.answer["id"]:
            return [f"{asked.key} was {asked.answer['id']}, and is now {json.dumps(first.json())}"]
        return []


async def open_shop(world: World, number: int) -> RoundShop:
    """Create a merchant with a processor login of its own, endpoints and a key for everything."""
    login = random_name()
    await world.simulator.post("/accounts", login=login, transaction_key="simulated-key-1")
    async with connected(world.stack.dsn) as connection:
        merchant = await admin.create_merchant(
            connection, name=login, allow_raw_cards=True, currencies=("USD",)
        )
        _, secret = await admin.create_key(
            connection, merchant.merchant_id, mode="test", scopes=SCOPES
        )
        await admin.set_processor_account(
            connection,
            Vault(ENCRYPTION_KEY),
            AUTHORIZE_NET,
            merchant.merchant_id,
            "test",
            {"login_id": login, "transaction_key": "simulated-key-1"},
        )
    shops = [Shop(merchant.merchant_id, secret, login, each.url) for each in world.gateways]
    for each in shops:
        each.client.timeout = httpx.Timeout(_CLIENT_S)
    made = RoundShop(world, number, shops)
    await made.open()
    return made
