"""No card number or card code is stored anywhere, after a day of everything that can happen.

Numbers are sent in every field, right or wrong. Then every table, every file of the database,
every log, the simulator's state and every response is searched.
"""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from breadth import TIMES
from easypay.card_numbers import contains_card_number
from easypay.db import embedded
from easypay.db.embedded import Cluster
from easypay.merchants.model import SCOPES
from easypay.processors.base import CvvMatch
from harness import (
    ADMIN_KEY,
    AMEX,
    MASTERCARD,
    QUICK,
    VISA,
    Shop,
    Simulator,
    Stack,
    all_known,
    audit,
    card,
    connected,
    migrated,
    mint_token,
)

CODES = {VISA: "913", MASTERCARD: "913", AMEX: "9137", "6011000000000012": "913"}
NUMBERS = (*CODES, "4007000000027", "38000000000006")
CODE = re.compile(rb'"(913|9137)"')
"""A card code as a JSON value. Bare digits would also match the milliseconds of a timestamp."""
CODE_NAME = re.compile(r"cvc|cvv|card_?code|security_?code|pin", re.IGNORECASE)
ALLOWED_NAMES = {"cvv_result", "cvv_word", "cvvresult", "cvvresultcode", "cardcoderesponse"}


def spelled(number: str) -> list[str]:
    """Return the number as people write it, alone and beside other digits."""
    groups = [number[at : at + 4] for at in range(0, len(number), 4)]
    return [number, " ".join(groups), "-".join(groups), f"{number} 12/35", f"7 {number} 913"]


def texts(place: int) -> list[str]:
    """Return what is put into the field at this place: every spelling, each of another number, so
    that all fields together get every spelling of every number. `make breadth` puts all of them
    into each field."""
    if TIMES:
        return [text for number in NUMBERS for text in spelled(number)]
    every = len(spelled(VISA))
    return [spelled(NUMBERS[(place + n) % len(NUMBERS)])[n] for n in range(every)]


NEEDLES = [text.encode() for number in NUMBERS for text in spelled(number)[:3]]


@dataclass
class Day:
    """What ran, and every response to anybody."""

    cluster: Cluster
    stack: Stack
    shop: Shop
    folder: Path
    bodies: list[tuple[str, bytes]] = field(default_factory=list)


@pytest.fixture(scope="module")
def verbose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run a PostgreSQL that logs every statement: an operator's worst setting."""
    settings = {"fsync": "off", "log_statement": "all", "log_min_duration_statement": "0"}
    with embedded.running(tmp_path_factory.mktemp("verbose"), settings=settings) as cluster:
        yield cluster


@pytest.fixture(scope="module")
async def day(verbose: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Day]:
    """Run the whole day once; the tests below search what it left behind."""
    folder = tmp_path_factory.mktemp("day")
    simulator = await Simulator(folder).ready()
    await migrated(verbose.dsn)
    try:
        with Stack(verbose.dsn, simulator, folder) as stack:
            gateway = await stack.gateway(**QUICK, log_level="DEBUG")
            day = Day(verbose, stack, await stack.shop(gateway), folder)

            async def keep(response: httpx.Response) -> None:
                body = await response.aread()
                headers = repr(response.headers.raw).encode()
                day.bodies.append((str(response.request.url), headers + body))

            keeper = await stack.with_key(day.shop, scopes=SCOPES)
            for client in (day.shop.client, keeper.client):
                client.event_hooks["response"].append(keep)
            await _good(day)
            await _faulty(day)
            await _bad(day)
            await all_known(stack, day.shop)
            assert await audit(stack, day.shop) == []
            await _stored(day, keeper)  # the processor validates a card by a transaction
            await _killed(day)
            for payment in await day.shop.all("/payments"):
                for child in ("operations", "events", "refunds"):
                    await day.shop.all(f"/payments/{payment['id']}/{child}")
            gateway.terminate()
            yield day
    finally:
        await simulator.client.aclose()
        simulator.kill()


async def _good(day: Day) -> None:
    """Make every outcome that a card can have."""
    shop, simulator = day.shop, day.stack.simulator
    for number, code in CODES.items():
        await shop.paid(payment_method=card(number, cvc=code))
    await shop.pay(payment_method=card(cvc="913"), billing_address={"postal_code": "46282"})
    await simulator.post("/settings", login=shop.login, held_above="900.00")
    await shop.pay(95_000, payment_method=card(cvc="913"))
    token = await mint_token(simulator, shop.login, MASTERCARD)
    await shop.paid(payment_method={"type": "accept_token", "accept_token": token})
    held = await shop.paid(payment_method=card(AMEX, cvc="9137"), capture="manual")
    await shop.capture(held["id"], 900)
    await simulator.post("/settle")
    assert (await shop.refund(held["id"], 100)).status_code == 201


async def _faulty(day: Day) -> None:
    """Make a response fail in every way."""
    for kind, number in zip(
        ("drop_reply", "error_after", "truncate", "garbage", "reset_before", "busy", "late_reply"),
        NUMBERS * 2,
        strict=False,
    ):
        payments = "createTransactionRequest"
        await day.stack.simulator.fault(kind, day.shop.login, delay_ms=1300, method=payments)
        method = card(number, cvc=CODES.get(number, "913"))
        answer = await day.shop.pay(payment_method=method)
        assert answer.status_code == 202, (kind, answer.text)
    for number in NUMBERS:  # a processor bug that repeats the request
        await day.shop.pay(1, payment_method=card(number, cvc=CODES.get(number, "913")))


WRONG: list[Callable[[str], dict[str, Any]]] = [
    lambda text: {"order_reference": text},
    lambda text: {"description": f"for {text}."},
    lambda text: {"customer_reference": text},
    lambda text: {"statement_descriptor": text},
    lambda text: {"customer": {"reference": text}},
    lambda text: {"customer": {"email": f"{text}@example.com"}},
    lambda text: {"customer": {"ip_address": text}},
    lambda text: {"metadata": {"note": f"card {text}"}},
    lambda text: {"metadata": {text: "note"}},
    lambda text: {text: "an unknown field"},
    lambda text: {"currency": text},
    lambda text: {"capture": text},
    lambda text: {"amount": text},
    lambda text: {"amount": int(re.sub(r"\D", "", text))},
    lambda text: {"payment_method": text},
    lambda text: {"payment_method": {"type": text}},
    lambda text: {"payment_method": {"type": "accept_token", "accept_token": {"data_value": text}}},
    lambda text: {"payment_method": card(text, exp_year=2001)},
    lambda text: {"payment_method": card(VISA, cvc=text)},
    lambda text: {"payment_method": card(VISA, exp_month=text)},
    *(
        lambda text, name=name: {"billing_address": {name: text}}
        for name in ("first_name", "last_name", "company", "line1", "city", "phone",
                     "state", "postal_code", "country")
    ),
]  # fmt: skip
"""Bodies with a text in a place where no card number may be."""


async def _bad(day: Day) -> None:
    """Send card numbers in every wrong place: refused, and not stored."""
    shop = day.shop
    for place, wrong in enumerate(WRONG):
        for text in texts(place):
            body = wrong(text)
            answer = await shop.pay(**body)
            assert 400 <= answer.status_code < 500, (body, answer.status_code, answer.text)

    send = shop.client.request
    for text in dict.fromkeys(texts(0) + texts(3)):
        key = {"idempotency-key": "raw"}
        answers = [
            await shop.pay(key=text),
            await send("POST", "/payments", content=f'{{"amount": {text}', headers=key),
            await send("POST", "/payments", content=text, headers=key | _JSON),
            await send("POST", "/payments", content=f'"{text}"', headers=key | _JSON),
            await send("POST", "/payments", content=text * 5000, headers=key | _JSON),
            await send("GET", f"/payments/{text}"),
            await send("GET", f"/idempotency-keys/{text}"),
            await send("GET", "/payments", params={"cursor": text}),
            await send("GET", "/payments", params={"limit": text}),
            await send("GET", "/payments", params={text: "1"}),
            await send("GET", "/payments", params={"created_from": text}),
            await send("GET", "/payments", headers={"authorization": f"Bearer {text}"}),
            await send("PUT", f"/{text}"),
        ]
        assert all(400 <= answer.status_code < 500 for answer in answers), text
    admin = {"authorization": f"Bearer {ADMIN_KEY}"}
    for number in NUMBERS:
        for body in (
            {"name": number},
            {"name": "shop", "currencies": [number]},
            {"name": "shop", number: True},
            {"name": "shop", "allow_raw_cards": number},
        ):
            answer = await send("POST", "/admin/merchants", json=body, headers=admin)
            assert 400 <= answer.status_code < 500, answer.text


async def _stored(day: Day, keeper: Shop) -> None:
    """Store cards for a customer: good ones, with and without an answer, and in wrong places."""
    customer = (await keeper.post("/customers", {"email": "ada@example.com"})).json()["id"]
    path = f"/customers/{customer}/payment_methods"
    for number, code in CODES.items():
        made = await keeper.post(path, {"payment_method": card(number, cvc=code)})
        assert made.status_code == 201, made.text
    method = f"/payment_methods/{made.json()['id']}"
    await keeper.client.post(f"{method}/validate", json={"cvc": "913"})
    for kind in ("drop_reply", "error_after", "garbage", "reset_before"):
        adding = "createCustomerPaymentProfileRequest"
        await day.stack.simulator.fault(kind, keeper.login, method=adding)
        body = {"payment_method": card(NUMBERS[-1], exp_year=2036, cvc="913")}
        assert (await keeper.post(path, body)).status_code < 500
    for text in texts(0):
        answers = [
            *[
                await keeper.post("/customers", {name: text})
                for name in ("reference", "name", "description", "email", text)
            ],
            await keeper.post("/customers", {"metadata": {"note": f"card {text}"}}),
            await keeper.post("/customers", {}, key=text),
            await keeper.client.patch(f"/customers/{customer}", json={"name": text}),
            await keeper.client.patch(method, json={"billing_address": {"line1": text}}),
            await keeper.client.patch(method, json={"exp_year": text}),
            await keeper.client.post(f"{method}/validate", json={"cvc": text}),
            await keeper.post(path, {"payment_method": card(text, exp_year=2001)}),
            await keeper.post(path, {"payment_method": {"type": "payment", "payment": text}}),
            await keeper.client.get(f"/customers/{text}"),
        ]
        for answer in answers:
            assert 400 <= answer.status_code < 500, (answer.request.url, answer.text)
    await keeper.client.get("/customers", params={"reference": VISA})
    await keeper.client.aclose()


_JSON = {"content-type": "application/json"}


async def _killed(day: Day) -> None:
    """Kill a process that has a card in its memory."""
    gateway = await day.stack.gateway(**QUICK, failpoint="after_reply")
    with pytest.raises(httpx.TransportError):
        await day.shop.at(gateway.url).pay(payment_method=card(AMEX, cvc="9137"))
    await asyncio.to_thread(gateway.process.wait)


def found_in(data: bytes) -> list[str]:
    """Return which numbers are in the bytes: only their last four digits, since this is printed."""
    return [f"…{needle[-4:].decode()}" for needle in NEEDLES if needle in data]


def json_strings(value: Any) -> Iterator[tuple[str, str]]:
    """Yield every (key, string) of a JSON value; a list's items have the list's key."""
    pairs = value.items() if isinstance(value, dict) else (("", item) for item in value)
    for key, item in pairs:
        if isinstance(item, dict | list):
            yield key, ""
            yield from json_strings(item)
        else:
            yield key, item if isinstance(item, str) else ""


def assert_clean_json(where: str, value: Any) -> None:
    if not isinstance(value, dict | list):
        return
    for key, text in json_strings(value):
        in_a_word = key == "cvv" and text in ("", *CvvMatch)  # the result, not the code
        named = CODE_NAME.search(key) and key.lower() not in ALLOWED_NAMES and not in_a_word
        assert not named, f"{where} has a member {key}"
        assert not contains_card_number(text), f"{where}: {key}"
        assert text not in CODES.values(), f"{where}: a card code in {key}"


async def test_no_response_repeats_a_card(day: Day) -> None:
    assert len(day.bodies) > 300
    for url, data in day.bodies:
        assert found_in(data) == [], url[-40:]
        body = data[data.index(b"]") :]
        if b"{" in body:
            assert_clean_json("an answer", json.loads(body[body.index(b"{") :]))


async def test_no_table_holds_a_card(day: Day) -> None:
    async with connected(day.stack.dsn) as connection:
        columns = await connection.fetch(
            "SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns c"
            "  JOIN information_schema.tables t USING (table_schema, table_name)"
            " WHERE t.table_schema = 'public' AND t.table_type = 'BASE TABLE'"
            "   AND c.data_type <> 'xid8'"  # a transaction number can be 913 by chance
        )
        assert len({column["table_name"] for column in columns}) >= 10
        seen = 0
        for table, column, kind in columns:
            assert not CODE_NAME.search(column) or column in ALLOWED_NAMES, (table, column)
            as_text = f"encode({column}, 'escape')" if kind == "bytea" else f"{column}::text"
            rows = await connection.fetch(
                f"SELECT {as_text} AS content FROM {table} WHERE {column} IS NOT NULL"
            )
            for row in rows:
                seen += 1
                content = row["content"]
                assert found_in(content.encode()) == [], (table, column)
                assert content not in CODES.values(), (table, column)
                if kind in ("text", "jsonb", "ARRAY"):
                    assert not contains_card_number(content), (table, column)
                if kind == "jsonb":
                    assert_clean_json(f"{table}.{column}", json.loads(content))
        assert seen > 1000


async def test_no_file_of_the_database_holds_a_card(day: Day) -> None:
    """Searches heap, indexes, write-ahead log and the server log as bytes."""
    async with connected(day.stack.dsn) as connection:
        await connection.execute("CHECKPOINT")
        (marker,) = await connection.fetchrow("SELECT reference FROM operations LIMIT 1")
    with_marker = 0
    for path in sorted(day.cluster.home.rglob("*")):
        if path.is_file() and not path.is_socket():
            data = path.read_bytes()
            with_marker += marker.encode() in data
            assert found_in(data) == [], path.name
            assert not CODE.search(data), path.name
    assert with_marker >= 2, "the search finds the marker in the heap and in the log"


async def test_no_log_and_no_state_file_holds_a_card(day: Day) -> None:
    paths = [path for path in sorted(day.folder.rglob("*")) if path.is_file()]
    assert {"simulator.log", "simulator.out"} < {path.name for path in paths}
    assert sum(path.name.startswith("gateway-") for path in paths) == 2
    for path in paths:
        data = path.read_bytes()
        assert found_in(data) == [], path.name
        assert not CODE.search(data), path.name
        for line in data.splitlines():
            if line.startswith(b"{"):
                assert_clean_json(path.name, json.loads(line))


def test_a_random_uuid_is_not_taken_for_a_card_number() -> None:
    """One in 2,000 would look like one; merchants use them as keys and references."""
    assert not any(contains_card_number(str(uuid.uuid4())) for _ in range(20_000))
    assert not any(contains_card_number(uuid.uuid4().hex) for _ in range(20_000))


@pytest.mark.parametrize(
    "number", ["4111111111111111\n", "\u0664" + "\u0661" * 15, "４" + "1" * 15]
)
async def test_a_card_number_must_be_plain_digits(shop: Shop, number: str) -> None:
    """Digits of other scripts and line ends are refused as a field error, not an error 500."""
    answer = await shop.pay(payment_method=card(number))
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert contains_card_number(f"in a text: {number}")
