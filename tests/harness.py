"""The stack a test drives from outside: PostgreSQL, the simulator, gateway processes, shops.

Everything is real and runs as processes of its own. `audit` asks the database and the simulator's
truth table whether the money rules hold; it is the judge of every test here.
"""

import asyncio
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx

from easypay import ids
from easypay.db import migrate
from easypay.db.embedded import Cluster
from easypay.merchants import admin
from easypay.merchants.vault import Vault, new_encryption_key
from easypay.money import parse_decimal
from easypay.payments.model import CREATES, REVIEWS
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from recorded.player import Player

VISA = "4111111111111111"
MASTERCARD = "5424000000000015"
AMEX = "370000000000002"
CVC = "907"  # not one of the simulator's triggers
ADMIN_KEY = "ep_admin_for_tests_only"
ENCRYPTION_KEY = new_encryption_key()
QUICK = {
    # The resolver's schedule, fast enough for a test to watch it.
    "unknown_first_inquiry_s": "0.2",
    "unknown_interval_s": "0.2",
    "unknown_pass_gap_s": "0.3",
    "unknown_absent_after_s": "1.5",
    "not_sent_ends_after_s": "1.5",
    "review_interval_s": "0.3",
    "resolver_poll_s": "0.1",
    "processor_deadline_s": "1.0",
    "drain_s": "0.3",
}
QUICKER = QUICK | {
    "unknown_first_inquiry_s": "0.1",
    "unknown_interval_s": "0.1",
    "unknown_pass_gap_s": "0.1",
    "unknown_absent_after_s": "0.2",
    "not_sent_ends_after_s": "1.1",
    "review_interval_s": "0.1",
    "resolver_poll_s": "0.05",
}


_ports = itertools.cycle(random.sample(range(16_000, 32_000), 16_000))


def free_port() -> int:
    """A port that nobody has just now, and nobody else is given: below those that systems give to
    clients, so no connection takes it before its server does, and each once."""
    for port in _ports:
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a cycle does not end")


def card(number: str = VISA, **over: Any) -> dict[str, Any]:
    """A card payment method, as the API takes it."""
    details = {"number": number, "exp_month": 12, "exp_year": 2035, "cvc": CVC, **over}
    return {"type": "card", "card": details}


async def until(
    condition: Callable[[], Awaitable[Any]], *, within_s: float = 20, what: str = ""
) -> Any:
    """Wait until the condition gives something true, and return it."""
    ends = time.monotonic() + within_s
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < ends, f"not within {within_s} s: {what or condition}"
        await asyncio.sleep(0.02)


class Process:
    """A child process with its log in a file."""

    def __init__(self, arguments: list[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env={**os.environ, **env},
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        """Everything it wrote to its log."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """kill -9, and reap it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM, wait, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class Control:
    """The simulator's control surface, from the event loop that makes this."""

    def __init__(self, url: str) -> None:
        self.client = httpx.AsyncClient(base_url=f"{url}/simulator", timeout=30)

    async def truth(self, **filters: str) -> list[dict[str, Any]]:
        """The truth table's rows, oldest first."""
        answer = await self.client.get("/transactions", params=filters)
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()
        return rows

    async def post(self, path: str, **body: Any) -> Any:
        answer = await self.client.post(path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def slow(self, login: str, *, ms: int) -> None:
        """Every call of this account takes so long."""
        await self.post("/faults", kind="latency", distribution="constant", ms=ms, login=login)

    async def clear_faults(self) -> None:
        (await self.client.delete("/faults")).raise_for_status()


class Simulator(Process, Control):
    """The other side of the wire, and its truth."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.wire = f"{self.url}/xml/v1/request.api"
        Control.__init__(self, self.url)
        Process.__init__(
            self,
            [
                "authorizenet_simulator",
                "--port",
                str(self.port),
                "--state-file",
                str(folder / "simulator.log"),
            ],
            {},
            folder / "simulator.out",
        )

    async def ready(self) -> "Simulator":
        async def answers() -> bool:
            assert self.process.poll() is None, self.said()
            try:
                return (await self.client.get("/livez")).status_code == 200
            except httpx.TransportError:
                return False

        await until(answers, what="the simulator starts")
        return self


class Gateway(Process):
    """One gateway process."""

    def __init__(
        self,
        folder: Path,
        dsn: str,
        simulator: Simulator | Player,
        *,
        port: int | None = None,
        **over: str,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {
            "database_url": dsn,
            "encryption_key": ENCRYPTION_KEY,
            "admin_key": ADMIN_KEY,
            "authorize_net_test_url": simulator.wire,
            "authorize_net_live_url": simulator.wire,
            **over,
        }
        super().__init__(
            ["easypay", "serve", "--host", "127.0.0.1", "--port", str(self.port)],
            {f"EASYPAY_{name.upper()}": value for name, value in settings.items()},
            folder / f"gateway-{self.port}.log",
        )

    async def ready(self) -> "Gateway":
        async with httpx.AsyncClient(base_url=self.url, timeout=5) as client:

            async def answers() -> bool:
                assert self.process.poll() is None, self.said()
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(answers, what="the gateway starts")
        return self


class Shop:
    """A merchant with a key and a processor login of its own, and a client that uses them."""

    def __init__(self, merchant_id: uuid.UUID, secret: str, login: str, url: str) -> None:
        self.merchant_id = merchant_id
        self.secret = secret
        self.login = login
        self.client = httpx.AsyncClient(
            base_url=f"{url}/api/v1",
            headers={"authorization": f"Bearer {secret}"},
            timeout=30,
            limits=httpx.Limits(max_connections=200),
        )

    def at(self, url: str) -> "Shop":
        """The same shop, talking to another gateway process."""
        return Shop(self.merchant_id, self.secret, self.login, url)

    async def post(self, path: str, body: Any = None, *, key: str | None = None) -> httpx.Response:
        """A money POST. A fresh Idempotency-Key unless one is given."""
        headers = {"idempotency-key": key or str(uuid.uuid4())}
        return await self.client.post(path, json=body or {}, headers=headers)

    async def pay(
        self, amount: int = 2500, *, key: str | None = None, **over: Any
    ) -> httpx.Response:
        """POST /payments with a card."""
        body = {"amount": amount, "currency": "USD", "payment_method": card(), **over}
        return await self.post("/payments", body, key=key)

    async def paid(self, amount: int = 2500, **over: Any) -> dict[str, Any]:
        """A payment that must succeed."""
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

    async def payment(self, payment_id: str) -> dict[str, Any]:
        """GET one payment."""
        answer = await self.client.get(f"/payments/{payment_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def all(self, path: str) -> list[dict[str, Any]]:
        """Every row of a list, page by page."""
        rows: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            params = {"limit": "100"} | ({"cursor": cursor} if cursor else {})
            answer = await self.client.get(path, params=params)
            assert answer.status_code == 200, answer.text
            rows += answer.json()["data"]
            cursor = answer.json()["next_cursor"]
            if cursor is None:
                return rows

    async def becomes(
        self, payment_id: str, *statuses: str, within_s: float = 20
    ) -> dict[str, Any]:
        """Wait until a payment has one of these statuses."""

        async def there() -> dict[str, Any] | None:
            found = await self.payment(payment_id)
            return found if found["status"] in statuses else None

        found: dict[str, Any] = await until(
            there, within_s=within_s, what=f"{payment_id} becomes {' or '.join(statuses)}"
        )
        return found


def _amount(amount: int | None) -> dict[str, int]:
    return {} if amount is None else {"amount": amount}


class Stack:
    """A database of its own, the simulator or a player in its place, and the gateways a test
    starts."""

    def __init__(self, dsn: str, simulator: Simulator | Player, folder: Path) -> None:
        self.dsn = dsn
        self.simulator = simulator
        self.folder = folder
        self.processes: list[Process] = []

    async def gateway(self, *, port: int | None = None, **over: str) -> Gateway:
        """Start a gateway process on this stack's database and wait until it is ready."""
        started = Gateway(self.folder, self.dsn, self.simulator, port=port, **over)
        self.processes.append(started)
        return await started.ready()

    async def shop(
        self,
        gateway: Gateway,
        *,
        mode: str = "test",
        raw_cards: bool = True,
        currencies: tuple[str, ...] = ("USD",),
    ) -> Shop:
        """A new merchant whose processor login nobody else has."""
        login = f"t{uuid.uuid4().hex[:16]}"
        await self.simulator.post(
            "/accounts", login=login, transaction_key="simulated-key-1", currencies=list(currencies)
        )
        connection = await asyncpg.connect(self.dsn)
        try:
            merchant = await admin.create_merchant(
                connection, name=login, allow_raw_cards=raw_cards, currencies=currencies
            )
            await admin.set_processor_account(
                connection,
                Vault(ENCRYPTION_KEY),
                AUTHORIZE_NET,
                merchant.merchant_id,
                mode,
                {"login_id": login, "transaction_key": "simulated-key-1"},
            )
            _, secret = await admin.create_key(connection, merchant.merchant_id, mode=mode)
        finally:
            await connection.close()
        return Shop(merchant.merchant_id, secret, login, gateway.url)

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask this stack's database."""
        connection = await asyncpg.connect(self.dsn)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
            return rows
        finally:
            await connection.close()

    def stop(self) -> None:
        """Kill whatever this stack started and is still running."""
        for process in self.processes:
            process.kill()


@contextmanager
def stopping(stack: Stack) -> Iterator[Stack]:
    try:
        yield stack
    finally:
        stack.stop()


@asynccontextmanager
async def stack_over(
    cluster: Cluster, template: str, processor: Simulator, folder: Path, **settings: str
) -> AsyncIterator[Stack]:
    """A stack on a database of its own, with a gateway where its settings are given. What it
    started ends with the block."""
    dsn = await new_database(cluster.dsn, template)
    with stopping(Stack(dsn, processor, folder)) as stack:
        if settings:
            await stack.gateway(**settings)
        yield stack


async def new_database(server_dsn: str, template: str | None) -> str:
    """A database of its own on the server: a copy of the template, or empty. Returns its DSN."""
    name = f"t_{uuid.uuid4().hex[:16]}"
    connection = await asyncpg.connect(server_dsn)
    try:
        source = f" TEMPLATE {template} STRATEGY FILE_COPY" if template else ""
        await connection.execute(f"CREATE DATABASE {name}{source}")
    finally:
        await connection.close()
    return with_database(server_dsn, name)


def with_database(dsn: str, name: str) -> str:
    """The DSN with another database's name."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(path=f"/{name}"))


async def migrated(dsn: str) -> None:
    """The whole schema with this year's months."""
    from easypay import clock
    from easypay.db import partitions

    await migrate.migrate(dsn)
    connection = await asyncpg.connect(dsn)
    try:
        await partitions.ensure(connection, at=clock.now(), months_ahead=3)
    finally:
        await connection.close()


# The judge ---------------------------------------------------------------------------------------

_BY_PARENT = ("void", "capture")
"""What has no transaction of its own at the processor."""
_SUCCESS = {"1", "4"}
WIRE_TYPE = {
    "sale": "authCaptureTransaction",
    "authorize": "authOnlyTransaction",
    "capture": "priorAuthCaptureTransaction",
    "void": "voidTransaction",
    "refund": "refundTransaction",
}
"""A review leaves no row: what it decides is seen on the payment's own."""


async def audit(
    stack: Stack,
    shop: Shop,
    *,
    settled: bool = True,
    truth: list[dict[str, Any]] | None = None,
    nobody_needed: bool = False,
) -> list[str]:
    """Every broken money rule of one shop, in words; empty when all hold.

    `settled`: all outcomes should be known by now, so the processor's truth and ours must agree
    row by row. Without it, only rules that hold at every commit are asked. `truth`: the
    processor's rows, of a shop that has used more accounts than its own. `nobody_needed`: no late
    charge may wait for a person, either.
    """
    connection = await asyncpg.connect(stack.dsn)
    try:
        payments = {
            row["id"]: row
            for row in await connection.fetch(
                "SELECT * FROM payments WHERE merchant_id = $1", shop.merchant_id
            )
        }
        operations = await connection.fetch(
            "SELECT * FROM operations WHERE merchant_id = $1 ORDER BY id", shop.merchant_id
        )
        keys = await connection.fetch(
            "SELECT * FROM idempotency_keys WHERE merchant_id = $1", shop.merchant_id
        )
        events = await connection.fetch(
            "SELECT * FROM events WHERE merchant_id = $1", shop.merchant_id
        )
        late = {
            row["operation_id"]: row
            for row in await connection.fetch(
                "SELECT * FROM late_charges WHERE merchant_id = $1", shop.merchant_id
            )
        }
    finally:
        await connection.close()
    if truth is None:
        truth = await stack.simulator.truth(login=shop.login)
    wrong: list[str] = []

    by_payment: dict[Any, list[Any]] = {}
    for operation in operations:
        if operation["gives_back"] is None:  # what gives a late charge back is no part of its life
            by_payment.setdefault(operation["payment_id"], []).append(operation)
        if operation["payment_id"] not in payments:
            wrong.append(f"operation {operation['id']} has no payment")
    asked_for = [o for o in operations if o["gives_back"] is None]
    if len(keys) != len(asked_for):
        wrong.append(f"{len(keys)} keys but {len(asked_for)} operations that a shop asked for")
    if len({key["operation_id"] for key in keys}) != len(keys):
        wrong.append("two keys share an operation")
    finished = [o for o in operations if o["state"] not in ("in_flight", "unknown", "not_sent")]
    for operation in finished:
        count = sum(event["operation_id"] == operation["id"] for event in events)
        # What gives a late charge back has an event only when it is done: the shop asked nothing.
        told = operation["gives_back"] is None or operation["state"] == "approved"
        if told and count < 1:
            wrong.append(f"{operation['kind']} {operation['id']} has {count} events")

    for payment_id, payment in payments.items():
        mine = by_payment.get(payment_id, [])
        creates = [o for o in mine if o["kind"] in ("sale", "authorize")]
        if len(creates) != 1:
            wrong.append(f"{payment_id} has {len(creates)} creating operations")
            continue
        wrong += _check_payment(payment, mine, settled=settled)

    references = {o["reference"]: o for o in operations}
    ended = {"returned", "closed"} | (set() if nobody_needed else {"needs_person"})
    explained = {key for key, row in late.items() if row["state"] in ended}
    wrong += _check_truth(truth, references, explained, settled=settled)
    wrong += _check_late(truth, operations, late, events)
    return wrong


def _check_payment(payment: Any, mine: list[Any], *, settled: bool) -> list[str]:
    wrong: list[str] = []
    name = f"payment {payment['id']} ({payment['status']})"
    given_back = [o for o in mine if o["kind"] == "refund" and o["state"] == "approved"]
    refunded = sum(o["amount_minor"] for o in given_back if not o["voided"])
    undone = [o for o in given_back if o["voided"]]
    reserved = sum(
        o["amount_minor"]
        for o in mine
        if o["kind"] == "refund" and o["state"] in ("in_flight", "unknown", "not_sent", "held")
    )
    if refunded != payment["refunded_minor"]:
        wrong.append(f"{name}: refunds sum to {refunded}, it says {payment['refunded_minor']}")
    if reserved != payment["refund_reserved_minor"]:
        wrong.append(
            f"{name}: open refunds {reserved}, reserved {payment['refund_reserved_minor']}"
        )
    if refunded + reserved > payment["captured_minor"]:
        wrong.append(f"{name}: more refunded than captured")
    approved = {o["kind"]: o for o in mine if o["state"] == "approved"}
    if payment["status"] == "captured":
        taken = approved.get("sale") or approved.get("capture") or approved.get("approve")
        if taken is None or taken["amount_minor"] != payment["captured_minor"]:
            wrong.append(
                f"{name}: captured {payment['captured_minor']} without an operation for it"
            )
    undecided = any(o["state"] == "declined" for o in mine if o["kind"] in CREATES | REVIEWS)
    if payment["status"] == "voided" and not ("void" in approved or undone or undecided):
        wrong.append(f"{name}: voided without a void")
    if undone and (len(undone) > 1 or payment["status"] != "voided" or payment["captured_minor"]):
        wrong.append(f"{name}: a refund voided it, and money is left, or it did so twice")
    if any(o["voided"] for o in mine if o not in undone):
        wrong.append(f"{name}: something else than a refund says that it voided it")
    if payment["status"] in ("declined", "failed") and {"sale", "authorize"} & set(approved):
        wrong.append(f"{name}: its operation was approved")
    if settled and payment["active_operation"] is not None:
        wrong.append(f"{name}: still held by {payment['active_operation']}")
    if settled and payment["status"] == "processing":
        wrong.append(f"{name}: outcome still unknown")
    return wrong


def one_done_of_two(truth: list[dict[str, Any]], operations: Sequence[Any]) -> dict[str, str]:
    """Voids of one transaction (a whole refund before settlement is one), or captures of it for one
    amount, of which the processor did one and our rows name another: by the reference of the one
    done, that of the one named.

    The details of a transaction do not say which request voided or captured it. So where one that
    was called absent came late, and another of the same effect was open, an inquiry cannot tell the
    two apart. It is one effect on either side all the same: a second one done there, or a second
    one approved here, makes no such pair.
    """
    done = {row["invoice_number"] for row in truth if row["response_code"] in _SUCCESS}
    voids = {row["invoice_number"] for row in truth if row["type"] == WIRE_TYPE["void"]}
    by_effect: dict[Any, list[Any]] = {}
    for operation in operations:
        kind = operation["kind"]
        if kind == "refund" and (operation["voided"] or operation["reference"] in voids):
            kind = "void"
        if operation["parent_transaction_id"] is not None and kind in _BY_PARENT:
            amount = operation["amount_minor"] if kind == "capture" else None
            effect = (operation["parent_transaction_id"], kind, amount)
            by_effect.setdefault(effect, []).append(operation)
    pairs: dict[str, str] = {}
    for alike in by_effect.values():
        there = [o for o in alike if o["reference"] in done]
        here = [o for o in alike if o["state"] == "approved"]
        if len(there) != 1 or len(here) != 1 or there[0]["state"] != "absent":
            continue
        if here[0]["reference"] not in done and '"inquiry"' in (here[0]["evidence"] or ""):
            pairs[there[0]["reference"]] = here[0]["reference"]
    return pairs


def _check_truth(
    truth: list[dict[str, Any]], references: dict[str, Any], late: set[Any], *, settled: bool
) -> list[str]:
    """`late`: operations whose late charge came to its end; one that is not given back yet did
    not."""
    wrong: list[str] = []
    twins = one_done_of_two(truth, list(references.values()))
    done: dict[str, list[dict[str, Any]]] = {}
    for row in truth:
        if row["response_code"] in _SUCCESS:
            done.setdefault(row["invoice_number"], []).append(row)
    for reference, rows in done.items():
        operation = references.get(reference)
        if operation is None:
            wrong.append(f"the processor has {reference}, which we never asked for")
            continue
        kind = operation["kind"]
        taken_back = [row for row in rows if kind in CREATES and row["type"] == WIRE_TYPE["void"]]
        rows = [row for row in rows if row not in taken_back]
        if len(rows) != 1:
            wrong.append(f"the processor did {kind} {reference} {len(rows)} times")
            continue
        row = rows[0]
        # Of a pair, the details do not say which request was done, nor so as what.
        right_type = WIRE_TYPE["void" if operation["voided"] else kind]
        if row["type"] != right_type and reference not in twins:
            wrong.append(f"{reference} is a {kind}, the processor did {row['type']}")
        minor = parse_decimal(row["amount"], "USD").minor
        if kind != "void" and minor != operation["amount_minor"] and not taken_back:
            wrong.append(f"{reference}: {operation['amount_minor']} asked, {minor} done")
        if taken_back and operation["state"] == "approved":
            wrong.append(f"{reference} is approved, but was taken back at once")
        # What was held and then voided or left to expire took no money, whatever it says.
        over = kind in CREATES and row["status"] in ("voided", "expired")
        over = over or operation["id"] in late or reference in twins
        if settled and operation["state"] not in ("approved", "held") and not over:
            wrong.append(f"{reference} is {operation['state']}, but the processor did it")
    for reference, operation in references.items():
        by_review = operation["kind"] in REVIEWS
        explained = reference in done or reference in twins.values()
        if operation["state"] == "approved" and not explained and not by_review:
            wrong.append(f"{reference} is approved, but the processor never did it")
    return wrong


def _check_late(
    truth: list[dict[str, Any]], operations: list[Any], late: dict[Any, Any], events: list[Any]
) -> list[str]:
    """Every late charge has its events, and what says it was given back is gone there, too."""
    wrong: list[str] = []
    by_id = {o["id"]: o for o in operations}
    told = {(event["operation_id"], event["type"]) for event in events}
    for operation_id, row in late.items():
        operation = by_id[operation_id]
        name = f"late charge {operation['reference']}"
        if (operation_id, "late_charge.found") not in told:
            wrong.append(f"{name} has no event")
        if row["state"] != "returned":
            continue
        back = {
            o["reference"]: o
            for o in operations
            if o["gives_back"] == operation_id and o["state"] == "approved"
        }
        if len(back) != 1:
            wrong.append(f"{name} was given back by {len(back)} operations")
        if not all((o["id"], "late_charge.returned") in told for o in back.values()):
            wrong.append(f"{name} was given back without an event")
        left = 0
        for done in truth:
            if done["response_code"] not in _SUCCESS or done["status"] in ("voided", "expired"):
                continue
            minor = parse_decimal(done["amount"], "USD").minor
            if done["invoice_number"] == operation["reference"]:
                left += minor if done["type"] != WIRE_TYPE["void"] else 0
            elif done["invoice_number"] in back and done["type"] == WIRE_TYPE["refund"]:
                left -= minor
        if left:
            wrong.append(f"{name} says it was given back, and {left} is left at the processor")
    return wrong


def payment_uuid(shown: str) -> uuid.UUID:
    """The uuid inside `pay_…`."""
    found = ids.parse(ids.PAYMENT, shown)
    assert found is not None
    return found


async def mint_token(
    simulator: Simulator | Player, login: str, number: str = VISA
) -> dict[str, str]:
    """What Accept.js would give the browser for this card, at this shop's processor account."""
    body = {
        "securePaymentContainerRequest": {
            "merchantAuthentication": {"name": login, "transactionKey": "simulated-key-1"},
            "data": {
                "type": "TOKEN",
                "id": str(uuid.uuid4()),
                "token": {"cardNumber": number, "expirationDate": "122035", "cardCode": CVC},
            },
        }
    }
    async with httpx.AsyncClient() as client:
        answer = await client.post(simulator.wire, json=body)
    opaque = json.loads(answer.content.decode("utf-8-sig"))["opaqueData"]
    return {"data_descriptor": opaque["dataDescriptor"], "data_value": opaque["dataValue"]}
