"""Erasing a customer: nothing personal is left anywhere, and the books are as they were.

Every text that a shop can give about a customer has a mark in it. A dump of the whole database says
what is left.
"""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batches.batch_shop import as_jsonl, becomes, payment_line, results, upload, uploaded
from customers.shops import (
    EVERYTHING,
    OF_CALLS,
    add_card,
    is_stopped,
    new_customer,
    profiles,
)
from easypay import ids
from easypay.customers.erasing_batches import BUSY, UPLOADING
from easypay.customers.erasing_payments import COPYING
from easypay.customers.personal_data import COLUMNS, as_table
from harness import Shop, Stack, own_stack, run_easypay, until

CHARGE, UNSETTLED = "createTransactionRequest", "getUnsettledTransactionListRequest"
DELETE_PROFILE = "deleteCustomerProfileRequest"

stack = own_stack(**OF_CALLS)
pytestmark = pytest.mark.usefixtures("worker")


class Person:
    """A customer whose every text has a mark: `always` in what an erasure removes, `asked` in what
    it removes if references are to go."""

    def __init__(self) -> None:
        self.name = uuid.uuid4().hex[:6].translate(str.maketrans("0123456789", "ghijklmnop"))
        self.always, self.asked = f"m{self.name}", f"r{self.name}"
        self.customer: dict[str, Any] = {}
        self.method: dict[str, Any] = {}
        self.payments: list[dict[str, Any]] = []

    @property
    def id(self) -> str:
        found: str = self.customer["id"]
        return found

    def address(self) -> dict[str, str]:
        parts = ("first_name", "last_name", "company", "line1", "city", "state")
        return {each: f"{self.always} {each}" for each in parts} | {
            "postal_code": f"{self.always}9",
            "country": "US",
            "phone": "+1 555 0100",
        }

    def texts(self, n: int, **customer: Any) -> dict[str, Any]:
        """Return all texts of a payment."""
        mail = {"email": f"{self.always}@example.com", "ip_address": "192.0.2.77"}
        return {
            "order_reference": f"{self.asked} order {n}",
            "description": f"{self.asked} bought {n}",
            "statement_descriptor": f"{self.asked}",
            "metadata": {"gift": f"for {self.always}"},
            "billing_address": self.address(),
            "customer": mail | customer,
        }

    async def shops(self, keeper: Shop) -> None:
        """Become a customer, store a card and pay in every way."""
        self.customer = await new_customer(
            keeper,
            reference=f"{self.asked}",
            email=f"{self.always}@example.com",
            name=f"{self.always} Byron",
            description=f"likes {self.always}",
            metadata={"note": f"is {self.always}"},
        )
        self.method = await add_card(keeper, self.customer, billing_address=self.address())
        by_reference = self.texts(1, reference=self.asked)
        self.payments = [
            await keeper.paid(2500, **by_reference),
            await keeper.paid(1700, **self.texts(2, reference=self.asked), capture="manual"),
            await keeper.paid(3100, **self.texts(3, reference=self.asked)),
        ]
        declined = self.texts(4, reference=self.asked)
        declined["billing_address"] |= {"postal_code": "46282"}
        self.payments.append(await keeper.paid(900, **declined))
        await keeper.client.patch(f"/customers/{self.id}", json={"name": f"{self.always} Lovelace"})

        async def are_found() -> bool:
            found = await keeper.all("/payments", customer_reference=self.asked)
            return len(found) == len(self.payments)

        await until(are_found, what="the search table has the payments")

    def marks(self, text: str) -> tuple[int, int]:
        """Return how often `always` and `asked` are in a dump, as text and as bytes."""
        return tuple(  # type: ignore[return-value]
            text.count(mark) + text.count(mark.encode().hex()) for mark in (self.always, self.asked)
        )


async def dump(stack: Stack) -> str:
    """Return every row of every table as text."""
    tables = await stack.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p') AND NOT relispartition"
    )
    rows = [
        row["row"]
        for table in tables
        for row in await stack.fetch(f"SELECT t::text AS row FROM {table['relname']} t")
    ]
    return "\n".join(rows)


async def books(stack: Stack, shop: Shop) -> list[tuple[Any, ...]]:
    """Return what the books have of a shop's payments and operations."""
    payments = await stack.fetch(
        "SELECT id, status, amount_minor, authorized_minor, captured_minor, refunded_minor,"
        " currency, card_brand, card_last4, transaction_id, auth_code, created_at, updated_at"
        " FROM payments WHERE merchant_id = $1 ORDER BY id",
        shop.merchant_id,
    )
    operations = await stack.fetch(
        "SELECT id, kind, state, amount_minor, transaction_id, auth_code, reply_status, finished_at"
        " FROM operations WHERE merchant_id = $1 ORDER BY id",
        shop.merchant_id,
    )
    return [tuple(row) for row in (*payments, *operations)]


async def answered(stack: Stack, shop: Shop, mark: str, endpoint: uuid.UUID | None = None) -> None:
    """Let an endpoint have answered each of the shop's events with a mark."""
    await stack.fetch(
        "INSERT INTO webhook_attempts (id, merchant_id, endpoint_id, event_id, type, attempt,"
        " outcome, url, sent_at, took_ms, status, answer)"
        " SELECT (left(lowest_id_at(db_now())::text, 13)"
        " || right(gen_random_uuid()::text, 23))::uuid, merchant_id, $2, id, type, 1, 'delivered',"
        " 'https://x.example', db_now(), 5, 200, $3"
        " FROM events WHERE merchant_id = $1",
        *(shop.merchant_id, endpoint or uuid.uuid4(), f"thanks for {mark}"),
    )


SETTLED = """
    INSERT INTO settled_transactions (account, batch_id, transaction_id, kind, status,
        amount_minor, currency, settled_at, merchant_id, mode, payment_id, order_reference)
    SELECT '', '1', transaction_id, 'charge', 'settledSuccessfully', captured_minor, currency,
           db_now(), merchant_id, mode, id, order_reference
      FROM payments WHERE merchant_id = $1 AND status = 'captured'
"""
"""Lets the processor's books have a shop's captured payments."""


async def erase(shop: Shop, person: Person, **body: Any) -> dict[str, Any]:
    answer = await shop.client.post(f"/customers/{person.id}/erase", json=body)
    assert answer.status_code in (200, 202), answer.text
    found: dict[str, Any] = answer.json()
    return found


async def erased(shop: Shop, person: Person) -> dict[str, Any]:
    """Wait until a customer is erased. Return what is shown of it."""
    seen: list[Any] = []

    async def done() -> bool:
        answer = await shop.client.get(f"/customers/{person.id}")
        seen[:] = [answer.json()]
        return bool(answer.json()["erasure"]["state"] == "erased")

    await until(done, what=("erased", seen))
    found: dict[str, Any] = seen[0]
    return found


async def test_nothing_personal_is_left_and_the_books_are_as_they_were(
    stack: Stack, keeper: Shop
) -> None:
    ada, eve = Person(), Person()
    await ada.shops(keeper)
    await answered(stack, keeper, ada.always)
    await eve.shops(keeper)
    await stack.fetch(SETTLED, keeper.merchant_id)
    stored = {"type": "stored", "stored": {"id": ada.method["id"]}}
    by_stored = ada.texts(5) | {"payment_method": stored, "billing_address": None}
    ada.payments.append(await keeper.paid(1250, **by_stored))
    assert (await keeper.refund(ada.payments[0]["id"])).status_code == 201
    key = "the same again"
    first = await keeper.pay(500, key=key, **ada.texts(6, reference=ada.asked))
    tags = [await _tag(keeper, each) for each in ada.payments]
    before, books_before = await dump(stack), await books(stack, keeper)
    assert min(*ada.marks(before), *eve.marks(before)) > 10

    told = await erase(keeper, ada, references=True)
    assert (told["state"], told["waiting_for"]) == ("erased", None), told

    after = await dump(stack)
    assert ada.marks(after) == (0, 0), [line for line in after.split("\n") if ada.name in line]
    assert "192.0.2.77" in after  # of the other customer
    assert eve.marks(after)[1] == eve.marks(before)[1]
    assert await books(stack, keeper) == books_before
    rows = {each["table"]: each["rows"] for each in told["erased"]}
    assert (rows["payments"], rows["customers"], rows["payment_methods"]) == (6, 1, 1)
    assert rows["settled_transactions"] == 2
    for payment, tag in zip(ada.payments, tags, strict=True):
        assert await _tag(keeper, payment) != tag
    shown = await keeper.payment(ada.payments[4]["id"])
    assert (shown["metadata"], shown["description"]) == ({}, None)
    assert (shown["amount"], shown["customer"]) == (1250, ada.id)
    again = await keeper.pay(500, key=key, **ada.texts(6, reference=ada.asked))
    assert again.json() == first.json() | {
        **dict.fromkeys(("order_reference", "description", "statement_descriptor")),
        "customer_reference": None,
        "metadata": {},
    }
    assert await keeper.all("/payments", customer_reference=ada.asked) == []
    assert len(await keeper.all("/payments", customer_reference=eve.asked)) == 4
    (profile,) = await profiles(stack, keeper)
    assert profile["payment_profiles"][0]["last4"] == "1111"  # the other customer's
    await _only_what_is_kept_is_shown(keeper, ada)
    assert "/erase" in stack.only_gateway.logs()
    for process in stack.processes:
        assert ada.name not in process.logs()


async def _tag(shop: Shop, payment: dict[str, Any]) -> str:
    return str((await shop.client.get(f"/payments/{payment['id']}")).headers["etag"])


async def _only_what_is_kept_is_shown(keeper: Shop, ada: Person) -> None:
    shown = (await keeper.client.get(f"/customers/{ada.id}")).json()
    nothing = ("reference", "email", "name", "description", "default_payment_method")
    assert {shown[name] for name in nothing} == {None}
    assert (shown["metadata"], shown["deleted"]) == ({}, True)
    assert shown["erasure"]["erased_at"] is not None
    kept = {each["table"]: each["why"] for each in shown["erasure"]["kept"]}
    assert "bookkeeping" in kept["payments"] or "processor" in kept["payments"]
    assert (await keeper.client.patch(f"/customers/{ada.id}", json={})).status_code == 404

    told: list[Any] = []

    async def all_told() -> bool:
        told[:] = [
            event
            for event in (await keeper.client.get("/events", params={"limit": "100"})).json()[
                "data"
            ]
            if event["type"].startswith(("customer.", "payment_method."))
            and ada.id in str(event) + str(event["data"])
        ]
        return any(event["type"] == "customer.erased" for event in told)

    await until(all_told, what=("events", told))
    assert ada.always not in str(told)


async def test_references_stay_unless_they_are_to_go(stack: Stack, keeper: Shop) -> None:
    ada = Person()
    await ada.shops(keeper)
    await erase(keeper, ada)
    shown = await erased(keeper, ada)
    assert shown["erasure"]["reference"] == ada.asked
    assert ada.marks(await dump(stack))[0] == 0
    found = await keeper.all("/payments", customer_reference=ada.asked)
    assert len(found) == 4
    assert {each["metadata"].get("gift") for each in found} == {None}
    assert all(each["description"].startswith(ada.asked) for each in found)
    await erase(keeper, ada, references=True)
    await erased(keeper, ada)
    assert ada.marks(await dump(stack)) == (0, 0)
    events = "SELECT count(*) FROM events WHERE merchant_id = $1 AND type = 'customer.erased'"
    assert await stack.value(events, keeper.merchant_id) == 1


async def test_references_that_are_copied_meanwhile_are_erased_afterwards(
    stack: Stack, keeper: Shop
) -> None:
    """A batch of the processor's books is being read, and its rows are not committed yet."""
    ada = Person()
    await ada.shops(keeper)
    lock = f"SELECT pg_advisory_xact_lock({COPYING}) FROM processor_logins WHERE merchant_id = $1"
    async with stack.sessions.session() as connection, connection.transaction():
        await connection.execute(lock, keeper.merchant_id)
        await connection.execute(SETTLED, keeper.merchant_id)
        told = await erase(keeper, ada, references=True)
        assert (told["state"], "payments" in told["waiting_for"]) == ("erasing", True), told
    await _soon(stack, keeper)
    await erased(keeper, ada)
    assert ada.marks(await dump(stack)) == (0, 0)


async def test_what_the_processor_does_not_answer_is_deleted_later(
    stack: Stack, keeper: Shop
) -> None:
    ada = Person()
    await ada.shops(keeper)
    await stack.simulator.post(
        "/faults", kind="reset_before", method=DELETE_PROFILE, login=keeper.login, count=2
    )
    told = await erase(keeper, ada, references=True)
    assert told["state"] == "erasing"
    assert "the processor" in told["waiting_for"]
    assert (await keeper.client.get(f"/payment_methods/{ada.method['id']}")).status_code == 404
    await stack.fetch(
        "UPDATE vault_work SET parked_at = db_now() WHERE merchant_id = $1", keeper.merchant_id
    )
    await _soon(stack, keeper)
    await erased(keeper, ada)
    assert await profiles(stack, keeper) == []
    assert ada.marks(await dump(stack)) == (0, 0)


async def _soon(stack: Stack, shop: Shop) -> None:
    """Let what is left to do be due."""
    for table in ("erasure_work", "vault_work"):
        sql = f"UPDATE {table} SET due_at = db_now() WHERE merchant_id = $1"
        await stack.fetch(sql, shop.merchant_id)


async def test_two_erasures_at_once_are_one(stack: Stack, keeper: Shop) -> None:
    ada = Person()
    await ada.shops(keeper)
    told = await asyncio.gather(*(erase(keeper, ada, references=True) for _ in range(3)))
    assert {each["id"] for each in told} == {ada.id}
    shown = await erased(keeper, ada)
    assert ada.marks(await dump(stack)) == (0, 0)
    rows = {each["table"]: each["rows"] for each in shown["erasure"]["erased"]}
    assert (rows["payments"], rows["customers"]) == (4, 1)
    events = "SELECT count(*) FROM events WHERE merchant_id = $1 AND type = 'customer.erased'"
    assert await stack.value(events, keeper.merchant_id) == 1


async def test_a_payment_whose_outcome_is_open_is_erased_once_it_is_known(
    stack: Stack, keeper: Shop
) -> None:
    ada = Person()
    await ada.shops(keeper)
    who = {"login": keeper.login}
    await stack.simulator.post("/faults", kind="reset_before", method=UNSETTLED, **who)
    await stack.simulator.post("/faults", kind="drop_reply", method=CHARGE, count=1, **who)
    answer = await keeper.pay(4400, **ada.texts(7, reference=ada.asked))
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    told = await erase(keeper, ada, references=True)
    assert told["state"] == "erasing"
    assert told["waiting_for"].startswith("1 of the customer's payments have something open")
    await stack.simulator.clear_faults()

    async def known() -> bool:
        return (await keeper.payment(answer.json()["id"]))["status"] == "captured"

    await until(known, what="the outcome")
    await _soon(stack, keeper)
    await erased(keeper, ada)
    assert ada.marks(await dump(stack)) == (0, 0)
    shown = await keeper.payment(answer.json()["id"])
    assert (shown["status"], shown["amount"], shown["description"]) == ("captured", 4400, None)


@pytest.mark.parametrize("point", ["erasure_begun", "erasure_group"])
async def test_a_gateway_that_is_killed_in_between_leaves_it_to_a_worker(
    stack: Stack, keeper: Shop, point: str
) -> None:
    ada = Person()
    await ada.shops(keeper)
    dying = await stack.gateway(failpoint=point, **OF_CALLS)
    there = keeper.at(dying.url)
    with pytest.raises(Exception):  # noqa: B017, PT011
        await there.client.post(f"/customers/{ada.id}/erase", json={"references": True})
    await there.client.aclose()
    await _soon(stack, keeper)
    await erased(keeper, ada)
    assert ada.marks(await dump(stack)) == (0, 0)
    assert await profiles(stack, keeper) == []


async def test_what_comes_while_a_customer_is_erased_is_erased_too(
    stack: Stack, keeper: Shop
) -> None:
    """Messages are under way when the erasure has looked at all answers, and are answered then."""
    ada = Person()
    await ada.shops(keeper)
    endpoint = await endpoint_of(stack, keeper)
    await answered(stack, keeper, ada.always, endpoint)
    erasing = await stack.gateway(failpoint="erasure_group stops", **OF_CALLS)
    there = keeper.at(erasing.url)
    asked = asyncio.create_task(erase(there, ada, references=True))
    await is_stopped(erasing)
    await answered(stack, keeper, ada.always, endpoint)
    os.kill(erasing.pid, signal.SIGCONT)
    told = await asked
    assert told["state"] == "erased", told
    assert ada.marks(await dump(stack)) == (0, 0)
    await answered(stack, keeper, ada.always, endpoint)  # the last message is answered afterwards
    sql = (
        "UPDATE customer_erasures SET begun_at = begun_at - interval '2 minutes',"
        " erased_at = erased_at - interval '2 minutes' WHERE merchant_id = $1"
    )
    await stack.fetch(sql, keeper.merchant_id)
    await _soon(stack, keeper)

    async def gone() -> bool:
        left = "SELECT count(*) FROM erased_payments WHERE merchant_id = $1"
        return ada.marks(await dump(stack)) == (0, 0) and (
            await stack.value(left, keeper.merchant_id) == 0
        )

    await until(gone, what="the last answer is erased")
    await there.client.aclose()


async def endpoint_of(stack: Stack, shop: Shop) -> uuid.UUID:
    """Give a shop an endpoint that no message is sent to."""
    endpoint = uuid.uuid4()
    await stack.fetch(
        "INSERT INTO webhook_endpoints (merchant_id, mode, id, url, state, secret, after_seq)"
        " VALUES ($1, 'test', $2, 'https://x.example', 'paused', '', 0)",
        *(shop.merchant_id, endpoint),
    )
    return endpoint


async def lines_of(stack: Stack, keeper: Shop, person: Person, n: int) -> list[dict[str, Any]]:
    """Return lines of a file about a person: by the stored card, by a token with the reference, and
    a refund of a payment."""
    named = person.texts(n, reference=person.asked) | {"line_reference": f"{person.asked} {n}"}
    stored = {"type": "stored", "stored": {"id": person.method["id"]}}
    by_card = named | {"operation": "payment", "amount": 1100 + n, "currency": "USD"}
    by_card |= {"payment_method": stored, "billing_address": None}
    refund = {"operation": "refund", "payment": person.payments[0]["id"], "amount": n}
    return [
        {name: value for name, value in by_card.items() if value is not None},
        await payment_line(stack, keeper, 1200 + n, **person.texts(n, reference=person.asked)),
        refund | {"line_reference": f"{person.asked} back {n}"},
    ]


async def test_lines_of_files_are_erased_whatever_became_of_their_batch(
    stack: Stack, keeper: Shop
) -> None:
    ada, eve = Person(), Person()
    await ada.shops(keeper)
    await eve.shops(keeper)

    async def file(n: int, **query: str) -> str:
        lines = await lines_of(stack, keeper, ada, n) + await lines_of(stack, keeper, eve, n)
        return str((await uploaded(keeper, lines, **query))["id"])

    refused = [*await lines_of(stack, keeper, ada, 1), {"operation": "nonsense"}]
    assert (await uploaded(keeper, refused))["state"] == "invalid"
    done, ready, cancelled = [await file(n, start="false") for n in (2, 3, 4)]
    await keeper.post(f"/batches/{done}/start")
    await becomes(keeper, done, "done")
    assert (await keeper.post(f"/batches/{cancelled}/cancel")).status_code == 200
    told = await erase(keeper, ada, references=True)
    assert (told["state"], told["waiting_for"]) == ("erased", None), told
    after = await dump(stack)
    assert ada.marks(after) == (0, 0), [line for line in after.split("\n") if ada.name in line]
    rows = {each["table"]: each["rows"] for each in told["erased"]}
    assert rows["batch_lines"] >= 3 + 2 + 2
    sealed = "SELECT count(*) FROM batch_lines WHERE batch_id = $1 AND sealed IS NOT NULL"
    counts = [await stack.value(sealed, ids.parse(ids.BATCH, each)) for each in (done, cancelled)]
    assert counts == [0, 0]
    shown = await results(keeper, done)
    kept = [each["line_reference"] for each in shown]
    assert kept == [None] * 3 + [f"{eve.asked} 2", None, f"{eve.asked} back 2"]
    # What waits can still be run: the deleted card is refused, all else goes on.
    await keeper.post(f"/batches/{ready}/start")
    await becomes(keeper, ready, "done")
    ends = [each["outcome"] for each in await results(keeper, ready)]
    assert ends[0] == "validation_failed"
    assert ends[1] == ends[3] == ends[4] == "captured"


async def test_lines_of_a_batch_that_runs_are_erased_and_all_others_are_charged_once(
    stack: Stack, keeper: Shop
) -> None:
    ada = Person()
    await ada.shops(keeper)
    before = len(await stack.simulator.truth(login=keeper.login))
    lines = []
    for n in range(20):
        mine = (await lines_of(stack, keeper, ada, n))[0]
        lines += [mine | {"line_reference": str(n)}, await payment_line(stack, keeper, 100 + n)]
    batch = await uploaded(keeper, lines, lines_per_second="10")
    await stack.charges(keeper, before + 6)
    told = await erase(keeper, ada, references=True)
    assert {each["table"]: each["rows"] for each in told["erased"]}["batch_lines"] >= 1
    await becomes(keeper, batch["id"], "done")
    ends = [each["outcome"] for each in await results(keeper, batch["id"])]
    assert ends[1::2] == ["captured"] * 20
    assert set(ends[0::2]) == {"captured", "validation_failed"}
    charged = await stack.simulator.truth(login=keeper.login)
    assert len(charged) == before + ends.count("captured")
    await _soon(stack, keeper)
    await erased(keeper, ada)
    after = await dump(stack)
    assert ada.marks(after) == (0, 0), [line for line in after.split("\n") if ada.name in line]


async def test_a_line_that_is_locked_and_a_file_that_still_comes_are_waited_for(
    stack: Stack, keeper: Shop
) -> None:
    ada = Person()
    await ada.shops(keeper)
    first, *others = await lines_of(stack, keeper, ada, 5)
    batch = await uploaded(keeper, [first], start="false")
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield as_jsonl([first] * 1_000)
        await go_on.wait()
        yield as_jsonl(others)

    lock = "SELECT FROM batch_lines WHERE batch_id = $1 FOR UPDATE"
    uploading = asyncio.create_task(upload(keeper, slow(), start="false"))
    parts = "SELECT count(*) > 0 FROM batch_lines WHERE merchant_id = $1 AND line > 1"

    async def comes() -> bool:
        return bool(await stack.value(parts, keeper.merchant_id))

    await until(comes, what="the first part of the file is written")
    async with stack.sessions.session() as connection, connection.transaction():
        await connection.execute(lock, ids.parse(ids.BATCH, batch["id"]))
        told = await erase(keeper, ada, references=True)
        assert told["waiting_for"] == BUSY, told
    await _waits_for(stack, keeper, UPLOADING)
    go_on.set()
    assert (await uploading).status_code == 201
    await _waits_for(stack, keeper, None)
    await erased(keeper, ada)
    after = await dump(stack)
    assert ada.marks(after) == (0, 0), [line for line in after.split("\n") if ada.name in line]


async def _waits_for(stack: Stack, shop: Shop, what: str | None) -> None:
    sql = "SELECT waiting_for FROM customer_erasures WHERE merchant_id = $1"

    async def waits() -> bool:
        await _soon(stack, shop)
        return bool(await stack.value(sql, shop.merchant_id) == what)

    await until(waits, what=("the erasure waits for", what))


async def test_payments_of_whoever_has_the_reference_now_are_left_alone(
    stack: Stack, keeper: Shop
) -> None:
    ada = Person()
    await ada.shops(keeper)
    assert (await keeper.client.delete(f"/customers/{ada.id}")).status_code == 204
    await new_customer(keeper, reference=ada.asked)
    kept = await keeper.paid(700, customer={"reference": ada.asked}, description="of the next")
    await erase(keeper, ada, references=True)
    await erased(keeper, ada)
    assert (await keeper.payment(kept["id"]))["description"] == "of the next"

    async def listed() -> bool:
        return len(await keeper.all("/payments", customer_reference=ada.asked)) == 1

    await until(listed, what="the next customer's payment in the list")
    assert ada.marks(await dump(stack))[0] == 0


async def test_the_command_line_begins_and_shows_an_erasure(stack: Stack, keeper: Shop) -> None:
    ada = Person()
    await ada.shops(keeper)
    why = ("--because", "asked by letter", "--references", "--yes", "--json")
    begun = await asyncio.to_thread(
        partial(run_easypay, "customer", "erase", ada.id, *why, **stack.env)
    )
    assert begun.code == 0, begun
    assert msgspec.json.decode(begun.out)["references"] is True
    await erased(keeper, ada)
    shown = await asyncio.to_thread(partial(run_easypay, "customer", "show", ada.id, **stack.env))
    assert "state: erased" in shown.out
    assert ada.marks(await dump(stack) + shown.out) == (0, 0)
    entries = "SELECT count(*) FROM audit_entries WHERE subject = $1 AND action LIKE 'customer.%'"
    assert await stack.value(entries, ada.id) == 2


async def test_erasing_needs_a_scope_of_its_own_and_an_own_customer(
    stack: Stack, keeper: Shop
) -> None:
    ada = Person()
    ada.customer = await new_customer(keeper)
    writer = await stack.with_key(keeper, scopes=("customers:read", "customers:write"))
    live = await stack.with_key(keeper, mode="live", scopes=EVERYTHING)
    path = f"/customers/{ada.id}/erase"
    assert (await writer.client.post(path)).status_code == 403
    assert (await live.client.post(path)).status_code == 404
    assert (
        await keeper.client.post(f"/customers/{ids.typed('cus', uuid.uuid4())}/erase")
    ).status_code == 404
    for each in (writer, live):
        await each.client.aclose()


def test_the_page_shows_what_an_erasure_removes() -> None:
    page = (Path(__file__).parents[2] / "docs/customers.md").read_text()
    assert as_table() in page, "put personal_data.as_table() into docs/customers.md"


async def test_every_column_of_text_is_named(stack: Stack) -> None:
    rows = await stack.fetch(
        "SELECT c.relname AS table_name, a.attname AS column_name FROM pg_class c"
        " JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
        " AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped"
        " AND format_type(a.atttypid, NULL) ~ 'text|json|bytea|char|xml'"
    )
    named = [(each.table, column) for each in COLUMNS for column in each.columns]
    there = {(row["table_name"], row["column_name"]) for row in rows}
    assert len(named) == len(set(named))
    assert set(named) - there == set()
    assert there - set(named) == set(), "say in personal_data.py what an erasure does with these"
