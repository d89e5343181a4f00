"""Shops: what each wants, its requests and their keys, and every response it received.

A shop behaves well unless the plan calls it impatient: it repeats a request with the same key until
it knows the outcome, and takes a new key only for what has failed.
"""

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import httpx

from easypay.merchants import admin
from easypay.merchants.model import SCOPES
from easypay.merchants.vault import Vault
from easypay.problem_table import PROBLEMS, Row
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from faults.seeds.batches import SCOPES as BATCH_SCOPES
from faults.seeds.batches import Batches
from faults.seeds.plan import ODD_TEXTS, SHOPS, Happening
from faults.seeds.vault import Cards
from faults.seeds.world import World
from harness import AMEX, ENCRYPTION_KEY, MASTERCARD, VISA, card, random_name

_CARDS: Final = (VISA, MASTERCARD, AMEX)
_CLIENT_PATIENCE_S: Final = 1.2
_MOST_KEYS: Final = 4


@dataclass
class Answer:
    status: int
    body: bytes
    gate: int
    sent_at: float
    answered_at: float

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    @property
    def problem(self) -> Row | None:
        """Return its row in the table of problems, if it is a problem."""
        return None if self.status < 400 else PROBLEMS[self.json["code"]]


@dataclass
class Attempt:
    """One idempotency key and all responses to it."""

    key: str
    path: str
    body: bytes
    answers: list[Answer] = field(default_factory=list)
    lost: int = 0
    """Requests without a response."""

    @property
    def outcome(self) -> Answer | None:
        """Return the first response with a final outcome and 2xx."""
        return next((each for each in self.answers if each.status in (200, 201)), None)

    @property
    def last(self) -> Answer | None:
        return self.answers[-1] if self.answers else None

    @property
    def problem(self) -> Row | None:
        """Return the last response's row in the table of problems, if it is a problem."""
        return None if self.last is None else self.last.problem

    @property
    def is_refused(self) -> bool:
        """Return whether the last response is a problem that repeating will not change."""
        return self.problem is not None and self.problem.repeat != "same_key"


@dataclass
class Intent:
    """What a shop wants to happen once: one sale, one capture or one refund."""

    number: int
    kind: str
    shop: int
    asked: Happening
    amount: int | None
    attempts: list[Attempt] = field(default_factory=list)
    impatient_keys: int = 0
    payment: "Intent | None" = None
    """For a follow-up: the intent that made the payment."""

    @property
    def payment_id(self) -> str | None:
        """Return the newest payment that an attempt of this intent is known to have made."""
        for attempt in reversed(self.attempts):
            for answer in reversed(attempt.answers):
                if answer.status in (200, 201, 202):
                    found: str | None = answer.json.get("id")
                    return found
        return None


class Shops:
    """The shops of one seed, their intents and their clients."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.intents: dict[int, Intent] = {}
        self.merchants: list[uuid.UUID] = []
        self.logins: list[list[str]] = []
        self._secrets: list[str] = []
        self.bugs: list[str] = []
        """Responses that no shop should ever see."""
        self.batches = Batches(world, self._batch_key, self.logins)
        self.cards = Cards(world, self._secrets)

    async def open(self) -> None:
        connection = await asyncpg.connect(self._world.dsn)
        try:
            for number in range(SHOPS):
                merchant = await admin.create_merchant(
                    connection, name=f"shop {number}", allow_raw_cards=True, currencies=("USD",)
                )
                self.merchants.append(merchant.merchant_id)
                self.logins.append([])
                await self.new_account(number, connection)
                _, secret = await admin.create_key(
                    connection, merchant.merchant_id, mode="test", scopes=SCOPES
                )
                self._secrets.append(secret)
            if self._world.plan.has_vault:
                await self.cards.open(connection, self.merchants)
        finally:
            await connection.close()
        await self.batches.prepare()

    async def _batch_key(self, shop: int) -> str:
        connection = await asyncpg.connect(self._world.dsn)
        try:
            _, secret = await admin.create_key(
                connection, self.merchants[shop], mode="test", scopes=BATCH_SCOPES
            )
        finally:
            await connection.close()
        return secret

    async def new_account(self, shop: int, connection: Any) -> None:
        """Give this shop a new processor login, which takes its payments from now on."""
        login = random_name()
        simulator = self._world.servers.simulator
        await simulator.post("/accounts", login=login, transaction_key="simulated-key-1")
        await simulator.post("/settings", login=login, **self.settings)
        await admin.set_processor_account(
            connection,
            Vault(ENCRYPTION_KEY),
            AUTHORIZE_NET,
            self.merchants[shop],
            "test",
            {"login_id": login, "transaction_key": "simulated-key-1"},
        )
        self.logins[shop].append(login)

    @property
    def settings(self) -> dict[str, Any]:
        return {"reporting_lag_ms": self._world.plan.reporting_lag_ms, "held_above": "900.00"}

    # requests --------------------------------------------------------------------------------

    async def ask(self, happening: Happening) -> None:
        """Do what the plan lets a shop do."""
        args = happening.args
        if happening.kind == "upload":
            await self.batches.upload(happening)
        elif happening.kind == "move":
            await self.batches.move(happening)
        elif happening.kind == "look":
            await self._look(args["shop"], args["gate"])
            await self.cards.look(args["shop"], args["gate"])
        elif happening.kind in ("store", "forget"):
            await self.cards.ask(happening)
        elif happening.kind == "again":
            intent = self.intents.get(args["buy"])
            if intent is not None:
                await self._repeat(intent, args["gate"])
        elif happening.kind == "buy":
            if "stored" in args and self._stored(args["stored"]) is None:
                return  # the shop knows of no such card yet
            intent = Intent(args["intent"], "buy", args["shop"], happening, args["amount"])
            self.intents[intent.number] = intent
            await self._try(intent, args["gate"])
            if args["impatient"] and not self._knows(intent):
                intent.impatient_keys += 1
                await self._try(intent, args["gate"])
        else:
            bought = self.intents.get(args["buy"])
            if bought is None or bought.payment_id is None:
                return  # the shop knows of no payment yet
            intent = Intent(
                args["intent"], happening.kind, bought.shop, happening, args.get("amount")
            )
            intent.payment = bought
            self.intents[intent.number] = intent
            await self._try(intent, args["gate"])

    @staticmethod
    def _knows(intent: Intent) -> bool:
        last = intent.attempts[-1]
        return last.outcome is not None or last.is_refused

    async def _look(self, shop: int, gate: int) -> None:
        """Go through the intents: repeat open ones, send failed ones again with a new key."""
        for intent in [each for each in self.intents.values() if each.shop == shop]:
            last = intent.attempts[-1]
            if last.outcome is None and not last.is_refused:
                await self._repeat(intent, gate)
            if len(intent.attempts) < _MOST_KEYS and await self._has_failed(intent, gate):
                self._world.tell(f"intent {intent.number} ({intent.kind}) is tried with a new key")
                await self._try(intent, gate)

    async def _has_failed(self, intent: Intent, gate: int) -> bool:
        """Return whether the shop knows that its last attempt failed, so it may take a new key."""
        last = intent.attempts[-1]
        outcome = last.outcome
        if outcome is not None and outcome.json["status"] == "failed":
            return True
        if last.problem is not None and last.problem.repeat == "new_key":
            return True
        if intent.kind == "buy" and last.last is not None and last.last.status == 202:
            shown = await self.get(intent.shop, f"/payments/{last.last.json['id']}", gate)
            return shown is not None and shown["status"] == "failed"
        return False

    async def _try(self, intent: Intent, gate: int) -> None:
        if intent.kind == "buy":
            path, body = "/payments", self._buy_body(intent)
            if "stored" in intent.asked.args:
                named = {"id": self._stored(intent.asked.args["stored"])}
                body["payment_method"] = {"type": "stored", "stored": named}
        else:
            assert intent.payment is not None
            verb = {"refund": "refunds"}.get(intent.kind, intent.kind)
            path = f"/payments/{intent.payment.payment_id}/{verb}"
            body = {} if intent.amount is None else {"amount": intent.amount}
        key = f"intent-{intent.number}-{len(intent.attempts)}"
        intent.attempts.append(Attempt(key, path, json.dumps(body).encode()))
        await self._repeat(intent, gate)

    async def _repeat(self, intent: Intent, gate: int) -> None:
        await self.send(intent, intent.attempts[-1], gate)

    async def send(
        self, intent: Intent, attempt: Attempt, gate: int, patience_s: float = _CLIENT_PATIENCE_S
    ) -> Answer | None:
        """Send one request and record its response; return None if that was lost."""
        world = self._world
        world.is_calling()
        sent_at = time.monotonic()
        try:
            got = await world.client.post(
                f"{world.gates[gate].url}/api/v1{attempt.path}",
                content=attempt.body,
                headers={
                    "authorization": f"Bearer {self._secrets[intent.shop]}",
                    "idempotency-key": attempt.key,
                    "content-type": "application/json",
                },
                timeout=patience_s,
            )
        except httpx.HTTPError as error:
            attempt.lost += 1
            world.tell(f"{intent.kind} {attempt.key} at {gate}: {type(error).__name__}")
            return None
        answer = Answer(got.status_code, got.content, gate, sent_at, time.monotonic())
        attempt.answers.append(answer)
        result = answer.json.get("status") if answer.status < 300 else answer.json.get("code")
        world.tell(f"{intent.kind} {attempt.key} at {gate}: {answer.status} {result}")
        if answer.status == 500:
            self.bugs.append(f"{attempt.key} was answered 500: {answer.body.decode()[:300]}")
        return answer

    async def get(self, shop: int, path: str, gate: int) -> dict[str, Any] | None:
        """Read something; return None if the response was lost or is a problem."""
        try:
            got = await self._world.client.get(
                f"{self._world.gates[gate].url}/api/v1{path}",
                headers={"authorization": f"Bearer {self._secrets[shop]}"},
                timeout=_CLIENT_PATIENCE_S,
            )
        except httpx.HTTPError:
            return None
        if got.status_code == 500:
            self.bugs.append(f"GET {path} was answered 500: {got.text[:300]}")
        return got.json() if got.status_code == 200 else None

    def _stored(self, number: int) -> str | None:
        """Return the id of a stored card."""
        known = self.cards.all.get(number)
        return None if known is None else known.method_id

    @staticmethod
    def _buy_body(intent: Intent) -> dict[str, Any]:
        args = intent.asked.args
        text = ODD_TEXTS[args["text"]]
        body: dict[str, Any] = {
            "amount": args["amount"],
            "currency": "USD",
            "capture": args["capture"],
            "payment_method": card(
                _CARDS[args["card"]], cvc="9070" if args["card"] == 2 else "907"
            ),
        }
        if text:
            body |= {"description": text, "metadata": {"note": text}}
            body["order_reference"] = f"order {intent.number} {text}"[:60]
        if args["declined"]:
            body["billing_address"] = {"postal_code": "46282"}
        return body
