"""Stored payment methods in a seed: what shops store, forget and charge, and what the vault has.

A card is known by its year of expiry, which is its own. The worker that ends what was not answered
is the real one, inside this process, so that it can be told to look when the time is driven on.
"""

import asyncio
import json
import os
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final
from unittest import mock

import asyncpg
import httpx

from easypay import ids
from easypay.customers import store
from easypay.customers.model import Asked, CustomerFields
from easypay.mode import Mode
from easypay.settings import Settings
from easypay.worker.customers import stored_methods
from easypay.worker.process import parts_of
from faults.seeds.plan import SHOPS, Happening
from faults.seeds.world import SETTINGS, World
from harness import card

FIRST_YEAR: Final = 2030
_PATIENCE_S: Final = 1.2


@dataclass
class StoredCard:
    """A card that a shop wants to be stored once, and what it knows of it."""

    number: int
    shop: int
    method_id: str | None = None
    is_active: bool = False
    is_refused: bool = False
    is_to_go: bool = False
    is_gone: bool = False


class Cards:
    """The stored cards of one seed. Shops repeat each request with its key until it is answered."""

    def __init__(self, world: World, secrets: list[str]) -> None:
        self._world = world
        self._secrets = secrets
        self._customers: list[str] = []
        self.all: dict[int, StoredCard] = {}
        self.bugs: list[str] = []

    async def open(self, connection: asyncpg.Connection, merchants: list[uuid.UUID]) -> None:
        """Give each shop a customer."""
        for merchant_id in merchants:
            asked = Asked(merchant_id, Mode.TEST, "the customer", bytes(32))
            made, _ = await store.create(connection, asked, CustomerFields(reference="C-1"))
            self._customers.append(ids.typed(ids.CUSTOMER, made.id))

    async def ask(self, happening: Happening) -> None:
        """Do what the plan lets a shop do with stored cards."""
        args = happening.args
        if happening.kind == "store":
            wanted = StoredCard(args["card"], args["card"] % SHOPS)
            self.all[wanted.number] = wanted
            await self._store(wanted, args["gate"])
        elif args["card"] in self.all:
            known = self.all[args["card"]]
            known.is_to_go = True
            await self._forget(known, args["gate"])

    async def look(self, shop: int, gate: int, patience_s: float = _PATIENCE_S) -> None:
        """Repeat what has no answer yet."""
        for each in [each for each in self.all.values() if each.shop == shop]:
            if not each.is_active and not each.is_refused:
                await self._store(each, gate, patience_s)
            if each.is_to_go and not each.is_gone:
                await self._forget(each, gate, patience_s)

    async def _store(self, wanted: StoredCard, gate: int, patience_s: float = _PATIENCE_S) -> None:
        path = f"/customers/{self._customers[wanted.shop]}/payment_methods"
        body = {"payment_method": card(exp_year=FIRST_YEAR + wanted.number)}
        answer = await self._send("POST", path, wanted, gate, patience_s, body)
        if answer is None:
            return
        if answer.status_code in (200, 201, 202):
            wanted.method_id = answer.json()["id"]
            wanted.is_active = answer.status_code != 202
        elif answer.json()["code"] in ("not_executed", "not_found"):
            wanted.is_refused = True

    async def _forget(self, known: StoredCard, gate: int, patience_s: float = _PATIENCE_S) -> None:
        if known.is_refused:
            known.is_gone = True
        elif known.method_id is not None:
            path = f"/payment_methods/{known.method_id}"
            answer = await self._send("DELETE", path, known, gate, patience_s)
            known.is_gone = answer is not None and answer.status_code == 204

    async def _send(
        self,
        verb: str,
        path: str,
        of: StoredCard,
        gate: int,
        patience_s: float,
        body: dict[str, Any] | None = None,
    ) -> httpx.Response | None:
        world = self._world
        world.is_calling()
        headers = {"authorization": f"Bearer {self._secrets[of.shop]}"}
        if body is not None:
            headers["idempotency-key"] = f"card-{of.number}"
        try:
            answer = await world.client.request(
                *(verb, f"{world.gates[gate].url}/api/v1{path}"),
                json=body,
                headers=headers,
                timeout=patience_s,
            )
        except httpx.HTTPError as error:
            world.tell(f"{verb} card {of.number} at {gate}: {type(error).__name__}")
            return None
        world.tell(f"{verb} card {of.number} at {gate}: {answer.status_code}")
        if answer.status_code == 500:
            self.bugs.append(f"{verb} {path} was answered 500: {answer.text[:300]}")
        return answer


class Mending:
    """The worker of the list of what is left to do at the vault."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def start(self) -> "Mending":
        world = self._world
        wire = world.gates[0].wire
        settings = SETTINGS | {
            "database_url": world.dsn,
            "authorize_net_test_url": wire,
            "authorize_net_live_url": wire,
        }
        environment = {f"EASYPAY_{name.upper()}": value for name, value in settings.items()}
        with mock.patch.dict(os.environ, environment):
            self._parts = await parts_of(Settings())
        self._loop = stored_methods(self._parts, lambda _: None)
        self._running = asyncio.create_task(self._loop.run())
        return self

    def wake(self) -> None:
        """Look at the list now."""
        self._loop.wake()

    async def stop(self) -> None:
        await self._loop.stop(2.0)
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        for each in self._parts.processors.values():
            await each.close()
        await self._parts.pool.close(1.0)


async def judge_vault(
    world: World, cards: Cards, merchant_id: uuid.UUID, logins: list[str]
) -> list[str]:
    """Compare a shop's methods with those that the processor has of its accounts."""
    methods = await world.fetch(
        "SELECT * FROM payment_methods WHERE merchant_id = $1 ORDER BY id", merchant_id
    )
    there: dict[tuple[str, str], str] = {}
    for login in logins:
        url = f"{world.servers.simulator.url}/simulator/profiles"
        for profile in (await world.client.get(url, params={"login": login})).json():
            for each in profile["payment_profiles"]:
                place = (profile["customer_profile_id"], each["payment_profile_id"])
                there[place] = each["expiry"]
    wrong = []
    for row in methods:
        place = (row["customer_profile_id"], row["payment_profile_id"])
        name = f"method {row['id']} ({row['state']}, {row['exp_year']})"
        if row["state"] in ("making", "deleting"):
            wrong.append(f"{name} is not ended after everything")
        elif row["state"] == "active" and there.pop(place, None) is None:
            wrong.append(f"{name}: the processor does not have it")
    wrong += [f"the processor has a card that nobody has: {each}" for each in there.values()]
    states = {ids.typed(ids.PAYMENT_METHOD, row["id"]): row["state"] for row in methods}
    for each in cards.all.values():
        state = states.get(each.method_id or "", "unknown")
        if each.method_id in states and each.is_active:
            wanted = "deleted" if each.is_gone else "active"
            if state != wanted:
                wrong.append(f"card {each.number} was told to be {wanted} and is {state}")
    kept = Counter(row["exp_year"] for row in methods if row["state"] == "active")
    wrong += [f"the card of {year} is stored {n} times" for year, n in kept.items() if n > 1]
    (world.folder / "vault.json").write_text(json.dumps(list(map(str, there.items()))))
    return wrong
