"""Requests that are answered at once and sent by a worker: each happens once, or says why not.

The gateway of these tests has no worker beside it unless the test starts one: so a test sees the
queue as long as it likes.
"""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from easypay import ids
from harness import (
    QUICK,
    Shop,
    Stack,
    all_known,
    assert_nothing_was_done,
    audit,
    card,
    connected,
    mint_token,
    own_stack,
    payment_uuid,
    queued_payment,
    until,
)
from harness.forked import ForkedWorker, ForkedWorkers, forked_workers

MOST, MOST_OF_MERCHANT = 1000, 100

stack = own_stack(**QUICK, queue_limit=str(MOST), queue_limit_per_merchant=str(MOST_OF_MERCHANT))


@pytest.fixture
async def shop(stack: Stack) -> AsyncIterator[Shop]:
    made = await stack.shop(stack.only_gateway)
    yield made
    await made.client.aclose()


@pytest.fixture(scope="module")
def clock_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file by which the worker's clock is shifted."""
    file = tmp_path_factory.mktemp("clock") / "clock"
    file.write_bytes(bytes(8))
    return file


@pytest.fixture
def behind(clock_file: Path) -> Iterator[None]:
    """Let the worker's clock be two seconds behind."""

    def shift(ms: int) -> None:
        with clock_file.open("r+b") as file:
            file.write(ms.to_bytes(8, "little", signed=True))

    shift(-2000)
    yield
    shift(0)


@pytest.fixture(scope="module")
async def workers(stack: Stack) -> AsyncIterator[ForkedWorkers]:
    async with forked_workers(stack, **QUICK) as workers:
        yield workers


@pytest.fixture(scope="module")
async def one_worker(workers: ForkedWorkers, clock_file: Path) -> ForkedWorker:
    started = await workers.start(clock_file=str(clock_file))
    started.send(signal.SIGSTOP)
    return started


@pytest.fixture
def worker(one_worker: ForkedWorker) -> Iterator[Callable[[], ForkedWorker]]:
    """Return a function that lets the worker run until the end of the test."""

    def start() -> ForkedWorker:
        one_worker.send(signal.SIGCONT)
        return one_worker

    yield start
    one_worker.send(signal.SIGSTOP)


async def judged(stack: Stack, shop: Shop) -> None:
    """Wait until everything of the shop has ended, and judge it."""
    await until(lambda: _queue_is_empty(stack, shop), what="the queue is empty")
    await all_known(stack, shop)
    assert await audit(stack, shop) == []


async def _queue_is_empty(stack: Stack, shop: Shop) -> bool:
    sql = "SELECT count(*) FROM queued_operations WHERE merchant_id = $1"
    return await stack.value(sql, shop.merchant_id) == 0


async def test_a_payment_is_accepted_at_once_and_sent_by_a_worker(
    stack: Stack, shop: Shop, worker: Any
) -> None:
    answer = await queued_payment(stack, shop, key="order-1", order_reference="order-1")
    assert answer.status_code == 202, answer.text
    assert answer.headers["preference-applied"] == "respond-async"
    payment = answer.json()
    assert (payment["status"], payment["version"]) == ("pending", 1)
    assert answer.headers["location"] == f"/api/v1/payments/{payment['id']}"
    assert int(answer.headers["retry-after"]) >= 1
    assert await shop.payment(payment["id"]) == payment
    assert await stack.simulator.truth(login=shop.login) == []
    (operation,) = await shop.all(f"/payments/{payment['id']}/operations")
    assert (operation["kind"], operation["state"]) == ("sale", "queued")

    async def listed() -> bool:
        return [each["id"] for each in await shop.all("/payments", status="pending")] == [
            payment["id"]
        ]

    await until(listed, what="the list of pending payments has it")
    page = await shop.client.get("/payments", params={"page": "1", "size": "1"})
    assert page.headers["x-total-count"] == "1"
    assert await audit(stack, shop, settled=False) == []

    worker()
    paid = await shop.becomes(payment["id"], "captured")
    assert paid["payment_method"]["last4"] == "1111"
    await assert_told_of_each_attempt(shop, payment["id"])
    assert len(await stack.simulator.truth(login=shop.login)) == 1
    await judged(stack, shop)


async def test_a_payment_whose_begin_took_too_long_is_not_sent_and_begun_again(
    stack: Stack, shop: Shop, worker: Any
) -> None:
    """Each attempt has its event."""
    payment = (await queued_payment(stack, shop)).json()["id"]
    waits = (
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock' AND query_start < clock_timestamp() - interval '1 s'"
    )
    async with connected(stack.dsn) as other, other.transaction():
        await other.execute(
            "SELECT FROM operations WHERE merchant_id = $1 FOR UPDATE", shop.merchant_id
        )
        worker()
        await until(lambda: stack.value(waits), what="no time is left for the call")
    await shop.becomes(payment, "captured")
    (operation,) = await shop.all(f"/payments/{payment}/operations")
    assert operation["attempt"] > 1
    await assert_told_of_each_attempt(shop, payment)
    assert len(await stack.simulator.truth(login=shop.login)) == 1
    await judged(stack, shop)


async def assert_told_of_each_attempt(shop: Shop, payment: str) -> None:
    """A slow machine may leave no time for the call, too."""
    (operation,) = await shop.all(f"/payments/{payment}/operations")
    begun = ["payment.processing"] * operation["attempt"]
    events = await shop.all(f"/payments/{payment}/events")
    assert [event["type"] for event in events] == ["payment.pending", *begun, "payment.captured"]


async def test_a_repeat_gives_the_present_state(stack: Stack, shop: Shop, worker: Any) -> None:
    token = await mint_token(stack.simulator, shop.login)
    method = {"type": "accept_token", "accept_token": token}
    body = {"amount": 2500, "currency": "USD", "payment_method": method}

    async def repeat(**over: Any) -> Any:
        return await shop.post("/payments", body | over, key="order-2", queue=True)

    first = await repeat()
    again = await repeat()
    assert (again.status_code, again.content) == (202, first.content)
    plain = await shop.post("/payments", body, key="order-2")
    assert (plain.status_code, plain.content) == (202, first.content)
    assert "preference-applied" not in plain.headers
    other = await repeat(amount=2600)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")

    worker()
    await shop.becomes(first.json()["id"], "captured")
    done = await repeat()
    assert (done.status_code, done.json()["status"]) == (201, "captured")
    assert done.headers["idempotency-replayed"] == "true"
    assert len(await stack.simulator.truth(login=shop.login)) == 1
    await judged(stack, shop)


async def test_a_card_number_or_a_bank_account_never_waits(stack: Stack, shop: Shop) -> None:
    bank = {
        "account_type": "checking",
        "routing_number": "121042882",
        "account_number": "123456789",
        "name_on_account": "Ada",
    }
    for method in (card(), {"type": "bank_account", "bank_account": bank}):
        body = {"amount": 2500, "currency": "USD", "payment_method": method}
        refused = await shop.post("/payments", body, queue=True)
        assert refused.status_code == 422
        (field,) = refused.json()["errors"]
        assert field["pointer"] == "#/payment_method/type"
        assert field["code"] == "cannot_be_queued"
    await assert_nothing_was_done(stack, shop)


async def test_the_token_is_stored_sealed_and_deleted_with_the_work(
    stack: Stack, shop: Shop, worker: Any
) -> None:
    token = await mint_token(stack.simulator, shop.login)
    method = {"type": "accept_token", "accept_token": token}
    body = {"amount": 2500, "currency": "USD", "payment_method": method}
    accepted = await shop.post("/payments", body, queue=True)
    assert accepted.status_code == 202
    (row,) = await stack.fetch(
        "SELECT sealed, q::text AS shown FROM queued_operations q WHERE merchant_id = $1",
        shop.merchant_id,
    )
    assert token["data_value"].encode() not in row["sealed"]
    assert token["data_value"] not in row["shown"]
    worker()
    await shop.becomes(accepted.json()["id"], "captured")
    await judged(stack, shop)


async def test_operations_of_a_payment_wait_for_it_in_order(
    stack: Stack, shop: Shop, worker: Any
) -> None:
    held = (await queued_payment(stack, shop, capture="manual")).json()["id"]
    captured = await shop.post(f"/payments/{held}/capture", {"amount": 1000}, queue=True)
    voided = await shop.post(f"/payments/{held}/refunds", {}, queue=True)
    assert (captured.status_code, voided.status_code) == (202, 202)
    assert captured.json()["status"] == "pending"
    operation = captured.headers["location"]
    assert operation.startswith("/api/v1/operations/op_")
    assert voided.json()["status"] == "pending"
    assert voided.headers["location"] == f"/api/v1/refunds/{voided.json()['id']}"
    worker()
    await shop.becomes(held, "voided")  # the refund was made before the payment had settled
    shown = (await shop.client.get(f"{shop.url}{operation}")).json()
    assert (shown["state"], shown["amount"]) == ("approved", 1000)
    kinds = [(o["kind"], o["state"]) for o in await shop.all(f"/payments/{held}/operations")]
    assert kinds == [("authorize", "approved"), ("capture", "approved"), ("refund", "approved")]
    await judged(stack, shop)


async def test_a_capture_behind_a_declined_authorization_fails_clearly(
    stack: Stack, shop: Shop, worker: Any
) -> None:
    over = {"capture": "manual", "billing_address": {"postal_code": "46282"}}
    declined = (await queued_payment(stack, shop, **over)).json()["id"]
    path = f"/payments/{declined}/capture"
    assert (await shop.post(path, key="capture", queue=True)).status_code == 202
    worker()
    await shop.becomes(declined, "declined")

    async def ended() -> Any:
        answer = await shop.post(path, key="capture", queue=True)
        return answer if answer.status_code != 202 else None

    answer = await until(ended, what="the capture has ended")
    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state")
    assert "declined" in answer.json()["detail"]
    events = await shop.all(f"/payments/{declined}/events")
    types = [event["type"] for event in events]
    assert types == [
        *("payment.pending", "payment.processing", "payment.declined"),
        "capture.failed",
    ]
    at_once = await shop.post(path, queue=True)
    assert (at_once.status_code, at_once.json()["code"]) == (409, "invalid_state")
    await judged(stack, shop)


@pytest.mark.parametrize("queue", [False, True])
async def test_a_void_ends_what_was_not_sent_without_a_call(
    stack: Stack, shop: Shop, worker: Any, queue: bool
) -> None:
    payment = (await queued_payment(stack, shop, key="order-5")).json()["id"]
    capture = await shop.post(f"/payments/{payment}/capture", key="behind", queue=True)
    assert capture.status_code == 202
    voided = await shop.post(f"/payments/{payment}/void", key="void", queue=queue)
    assert (voided.status_code, voided.json()["status"]) == (201, "voided")
    again = await shop.post(f"/payments/{payment}/void", key="void", queue=queue)
    assert (again.status_code, again.content) == (201, voided.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert (await shop.payment(payment)) == voided.json()
    worker()
    await judged(stack, shop)
    assert await stack.simulator.truth(login=shop.login) == []
    kinds = [(o["kind"], o["state"]) for o in await shop.all(f"/payments/{payment}/operations")]
    assert kinds == [("sale", "cancelled"), ("capture", "cancelled"), ("void", "approved")]


async def test_a_void_and_a_worker_at_once_agree(stack: Stack, shop: Shop, worker: Any) -> None:
    """Whoever is first decides. No payment is both sent and cancelled."""
    worker()
    payments = [(await queued_payment(stack, shop)).json()["id"] for _ in range(12)]
    answers = await asyncio.gather(*(shop.void(payment) for payment in payments))
    assert {answer.status_code for answer in answers} <= {201, 409}, [a.text for a in answers]
    await judged(stack, shop)


async def test_a_token_that_expires_in_the_queue_is_not_sent(
    stack: Stack, shop: Shop, worker: Any
) -> None:
    payment = (await queued_payment(stack, shop, key="order-6")).json()["id"]
    await stack.fetch(
        "UPDATE queued_operations SET expires_at = db_now() + interval '0.5 s'"
        " WHERE merchant_id = $1",
        shop.merchant_id,
    )  # less than a call may take
    worker()
    failed = await shop.becomes(payment, "failed")
    assert failed["decline_code"] == "expired_payment_token"
    assert failed["processor"]["message"].startswith("The token expired")
    assert await stack.simulator.truth(login=shop.login) == []
    await judged(stack, shop)


async def test_a_token_that_another_payment_has_used_fails_clearly(
    stack: Stack, shop: Shop, worker: Any
) -> None:
    """The processor is asked whether this payment has used it, and has not."""
    token = await mint_token(stack.simulator, shop.login)
    method = {"type": "accept_token", "accept_token": token}
    body = {"amount": 2500, "currency": "USD", "payment_method": method}
    one, other = [(await shop.post("/payments", body, queue=True)).json()["id"] for _ in range(2)]
    worker()
    ended = [await shop.becomes(each, "captured", "failed") for each in (one, other)]
    assert {each["status"] for each in ended} == {"captured", "failed"}
    assert {each["decline_code"] for each in ended} == {None, "invalid_payment_token"}
    assert len(await stack.simulator.truth(login=shop.login)) == 1
    await judged(stack, shop)


async def test_a_request_that_cannot_be_read_holds_up_no_other_and_ends(
    stack: Stack, shop: Shop, worker: Any
) -> None:
    poisoned = (await queued_payment(stack, shop)).json()["id"]
    sealed = "UPDATE queued_operations SET sealed = $2 WHERE merchant_id = $1"
    await stack.fetch(sealed, shop.merchant_id, b"1")  # nothing that could be decrypted
    others = [(await queued_payment(stack, shop)).json()["id"] for _ in range(5)]
    worker()
    for each in others:
        await shop.becomes(each, "captured")
    await stack_until(stack, shop, "reason IS NOT NULL")
    await stack.fetch(
        "UPDATE queued_operations SET expires_at = db_now(), due_at = db_now()"
        " WHERE merchant_id = $1",
        shop.merchant_id,
    )
    failed = await shop.becomes(poisoned, "failed")
    assert failed["decline_code"] == "expired_payment_token"
    assert len(await stack.simulator.truth(login=shop.login)) == 5
    await judged(stack, shop)


async def test_nothing_that_never_left_is_lost(stack: Stack, shop: Shop, worker: Any) -> None:
    payment = (await queued_payment(stack, shop)).json()["id"]
    async with stack.refusing():
        running = worker()
        await stack_until(stack, shop, "attempt >= 2 AND reason IS NOT NULL")
        assert running.is_alive
    await shop.becomes(payment, "captured")
    (operation,) = await shop.all(f"/payments/{payment}/operations")
    assert operation["attempt"] >= 2
    assert len(await stack.simulator.truth(login=shop.login)) == 1
    await judged(stack, shop)


async def stack_until(stack: Stack, shop: Shop, condition: str) -> None:
    """Wait until the shop's only row in the queue fits."""
    sql = f"SELECT count(*) FROM queued_operations WHERE merchant_id = $1 AND {condition}"

    async def fits() -> bool:
        return await stack.value(sql, shop.merchant_id) == 1

    await until(fits, what=condition)


async def test_two_workers_send_everything_once(
    stack: Stack, shop: Shop, worker: Any, workers: ForkedWorkers
) -> None:
    keys = [str(uuid.uuid4()) for _ in range(60)]
    worker()
    other = await workers.start()
    answers = await asyncio.gather(*(queued_payment(stack, shop, key=key) for key in keys))
    assert {answer.status_code for answer in answers} == {202}
    await judged(stack, shop)
    assert len(await stack.simulator.truth(login=shop.login)) == 60
    assert {p["status"] for p in await shop.all("/payments")} == {"captured"}
    other.send(signal.SIGTERM)
    assert await other.ends() == 0, other.logs()


async def test_a_read_waits_until_the_payment_is_not_pending(
    stack: Stack, shop: Shop, worker: Any
) -> None:
    payment = (await queued_payment(stack, shop)).json()["id"]
    early = await shop.client.get(f"/payments/{payment}", params={"wait": "0.2"})
    assert (early.status_code, early.json()["status"]) == (200, "pending")
    waiting = asyncio.create_task(shop.client.get(f"/payments/{payment}", params={"wait": "10"}))
    worker()
    assert (await waiting).json()["status"] in ("processing", "captured")
    for bad in ("-1", "61", "long", "nan"):
        refused = await shop.client.get(f"/payments/{payment}", params={"wait": bad})
        assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    await judged(stack, shop)


async def test_a_client_that_leaves_waits_no_more(stack: Stack, shop: Shop) -> None:
    """Its place among those that wait is free at once, and the log has its request."""
    payment = (await queued_payment(stack, shop)).json()["id"]
    leaves = shop.client.get(f"/payments/{payment}", params={"wait": "30"})
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(leaves, 0.3)
    merchant = ids.typed(ids.MERCHANT, shop.merchant_id)

    async def is_logged() -> bool:
        lines = stack.only_gateway.logs().splitlines()
        return any(merchant in line and '"status":499' in line for line in lines)

    await until(is_logged, what="the request has ended")
    assert (await shop.void(payment)).status_code == 201


async def test_a_word_that_only_a_newer_version_knows_is_no_bug(stack: Stack, shop: Shop) -> None:
    paid = await shop.paid()
    (operation,) = await shop.all(f"/payments/{paid['id']}/operations")
    number = ids.parse(ids.OPERATION, operation["id"])
    checked = "ALTER TABLE operations {} CONSTRAINT operation_state{}"
    (rule,) = await stack.fetch(
        "SELECT pg_get_constraintdef(oid) AS rule FROM pg_constraint"
        " WHERE conname = 'operation_state' AND conrelid = 'operations'::regclass"
    )
    await stack.fetch(checked.format("DROP", ""))
    state = "UPDATE operations SET state = $2 WHERE id = $1"
    await stack.fetch(state, number, "waits_for_ghosts")
    for path in (f"/operations/{operation['id']}", f"/payments/{paid['id']}/operations"):
        answer = await shop.client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert "waits_for_ghosts" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) >= 1
    await stack.fetch(state, number, "approved")
    await stack.fetch(checked.format("ADD", f" {rule['rule']}"))
    assert (await shop.client.get(f"/operations/{operation['id']}")).status_code == 200


async def test_an_event_with_a_status_of_a_newer_version_is_told_without_its_payment(
    stack: Stack, shop: Shop
) -> None:
    reader = await stack.with_key(shop, scopes=("events:read", "payments:read"))
    known, unknown = await shop.paid(), await shop.paid()
    await stack.fetch(
        "UPDATE events SET status = 'haunted' WHERE payment_id = $1", payment_uuid(unknown["id"])
    )

    async def told() -> Any:
        found = (await reader.client.get("/events")).json()["data"]
        return {each["payment_id"]: each for each in found} if len(found) == 2 else None

    events = await until(told, what="two events")
    assert events[known["id"]]["data"] == known
    assert events[unknown["id"]]["status"] == "haunted"
    assert events[unknown["id"]]["data"] is None
    await reader.client.aclose()


async def test_each_event_shows_the_payment_as_reads_did(
    stack: Stack, shop: Shop, worker: Any
) -> None:
    reader = await stack.with_key(shop, scopes=("events:read", "payments:read"))
    accepted = (await queued_payment(stack, shop)).json()
    worker()
    captured = await shop.becomes(accepted["id"], "captured")

    async def told() -> Any:
        found = (await reader.client.get("/events")).json()["data"]
        return found if len(found) == 3 else None

    pending, processing, last = await until(told, what="three events")
    assert pending["data"] == accepted
    assert (processing["data"]["status"], processing["data"]["version"]) == ("processing", 2)
    assert last["data"] == captured
    await reader.client.aclose()
    await judged(stack, shop)


@pytest.mark.usefixtures("behind")
async def test_a_clock_that_is_behind_disturbs_no_order(
    stack: Stack, shop: Shop, worker: Any
) -> None:
    """Events are in the order in which they happened, and each shows the payment as it was."""
    reader = await stack.with_key(shop, scopes=("events:read", "payments:read"))
    held = (await queued_payment(stack, shop, capture="manual")).json()
    path = f"/payments/{held['id']}/capture"
    assert (await shop.post(path, {"amount": 1000}, queue=True)).status_code == 202
    worker()
    captured = await shop.becomes(held["id"], "captured")

    async def told() -> Any:
        found = (await reader.client.get("/events")).json()["data"]
        return found if len(found) == 4 else None

    events = await until(told, what="four events")
    types = ["payment.pending", "payment.processing", "payment.authorized", "payment.captured"]
    assert [event["type"] for event in events] == types
    assert [event["data"]["version"] for event in events] == [1, 2, 3, 4]
    assert (events[0]["data"], events[-1]["data"]) == (held, captured)
    own = await shop.all(f"/payments/{held['id']}/events")
    assert [event["type"] for event in own] == types
    await reader.client.aclose()
    await judged(stack, shop)


@pytest.mark.parametrize("queue", [False, True])
async def test_a_void_that_ends_what_waits_is_seen_at_once(
    stack: Stack, shop: Shop, queue: bool
) -> None:
    """Also by those who allow an old answer, and before the feed has told of it."""
    old = {"cache-control": "max-age=60"}
    for _ in range(5):
        payment = (await queued_payment(stack, shop)).json()["id"]
        seen = await shop.client.get(f"/payments/{payment}", headers=old)
        assert seen.json()["status"] == "pending"
        assert (await shop.post(f"/payments/{payment}/void", queue=queue)).status_code == 201
        seen = await shop.client.get(f"/payments/{payment}", headers=old)
        assert seen.json()["status"] == "voided"


async def fill(stack: Stack, merchant_id: uuid.UUID, rows: int) -> None:
    """Fill the queue with rows that are never due."""
    await stack.fetch(
        "INSERT INTO queued_operations (merchant_id, operation_id, payment_id, mode, kind,"
        " expires_at, due_at) SELECT $1, gen_random_uuid(), gen_random_uuid(), 'test', 'sale',"
        " 'infinity', 'infinity' FROM generate_series(1, $2)",
        merchant_id,
        rows,
    )


async def test_the_length_of_the_queue_is_bounded(stack: Stack, shop: Shop, worker: Any) -> None:
    token = await mint_token(stack.simulator, shop.login)
    method = {"type": "accept_token", "accept_token": token}
    body = {"amount": 2500, "currency": "USD", "payment_method": method}
    first = await shop.post("/payments", body, key="order", queue=True)
    assert first.status_code == 202
    payment = first.json()["id"]
    other = await stack.shop(stack.only_gateway)
    full = {
        (429, "too_many_queued"): (shop.merchant_id, MOST_OF_MERCHANT),
        (503, "overloaded"): (uuid.uuid4(), MOST),
    }
    for refusal, (merchant_id, rows) in full.items():
        await fill(stack, merchant_id, rows)

        async def refused(refusal: Any = refusal) -> Any:
            answer = await queued_payment(stack, shop)
            if answer.status_code == 202:
                assert (await shop.void(answer.json()["id"])).status_code == 201
                return None
            return answer if (answer.status_code, answer.json()["code"]) == refusal else None

        answer = await until(refused, what="the queue is full")
        assert int(answer.headers["retry-after"]) >= 1
        capture = await shop.post(f"/payments/{payment}/capture", queue=True)
        assert (capture.status_code, capture.json()["code"]) == refusal
        again = await shop.post("/payments", body, key="order", queue=True)
        assert (again.status_code, again.content) == (202, first.content)
        at_once = await shop.paid()
        assert at_once["status"] == "captured"
        elsewhere = await queued_payment(stack, other)
        assert elsewhere.status_code == (202 if refusal[0] == 429 else 503)

    await stack.fetch("DELETE FROM queued_operations WHERE due_at = 'infinity'")
    voided = await shop.post(f"/payments/{payment}/void", queue=True)
    assert voided.status_code == 201

    async def accepts() -> bool:
        return (await queued_payment(stack, shop)).status_code == 202

    await until(accepts, what="there is room again")
    worker()
    await judged(stack, shop)
    await judged(stack, other)
    await other.client.aclose()


@pytest.mark.parametrize(
    ("prefer", "queued"),
    [
        (["respond-async"], True),
        (["wait=5", "Respond-Async"], True),
        (['return=minimal, respond-async; because="I am in a hurry"'], True),
        (['note="do, respond-async, please"'], False),
        (["respond-asynchronously, wait=5"], False),
        ([""], False),
    ],
)
async def test_the_preference_may_be_spelled_in_every_allowed_way(
    stack: Stack, shop: Shop, prefer: list[str], queued: bool
) -> None:
    token = await mint_token(stack.simulator, shop.login)
    method = {"type": "accept_token", "accept_token": token}
    headers = [("idempotency-key", "order"), *(("prefer", each) for each in prefer)]
    body = {"amount": 2500, "currency": "USD", "payment_method": method}
    answer = await shop.client.post("/payments", json=body, headers=headers)
    assert (answer.status_code == 202) == queued, answer.text
    assert ("preference-applied" in answer.headers) == queued
    if queued:
        assert (await shop.void(answer.json()["id"])).status_code == 201
    assert await audit(stack, shop) == []
