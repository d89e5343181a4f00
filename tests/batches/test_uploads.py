"""An upload is checked line by line, kept as a whole or not at all, and is one batch however often
it comes."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from batches.batch_shop import (
    JSONL,
    as_jsonl,
    batch_of,
    batch_shop,
    results,
    unused_token,
    upload,
    uploaded,
)
from easypay import clock, ids
from easypay.batches import claims, removal, store
from easypay.batches.model import Batch
from easypay.batches.staging import Staging
from easypay.merchants.vault import Box
from easypay.mode import Mode
from harness import QUICK, Shop, Stack, card, connected, own_stack, until

stack = own_stack(**QUICK, batch_max_bytes="300000", batch_max_lines="500")
PAYMENT = ids.typed(ids.PAYMENT, ids.new_id())
VISA = "4111 1111 1111 1111"


@pytest.fixture(scope="module")
async def shop(stack: Stack) -> Shop:
    return await batch_shop(stack)


async def kept(stack: Stack, shop: Shop) -> tuple[int, int]:
    """Return how many batches and lines the database has of the shop."""
    sql = "SELECT count(*) FROM {} WHERE merchant_id = $1"
    batches, lines = [
        await stack.value(sql.format(table), shop.merchant_id)
        for table in ("batches", "batch_lines")
    ]
    return batches, lines


WRONG: dict[str, tuple[Any, str, str]] = {
    "an amount that is none": (unused_token(amount=0), "#/amount", "invalid"),
    "a field that there is not": (unused_token(colour="red"), "#/colour", "unknown_field"),
    "a currency that the account does not take": (
        unused_token(currency="EUR"),
        "#/currency",
        "currency_not_accepted",
    ),
    "a raw card": (unused_token(payment_method=card()), "#/payment_method/type", "cannot_be_kept"),
    "a card code": (
        unused_token(
            payment_method={"type": "stored", "stored": {"id": f"pm_{'0' * 32}", "cvc": "907"}}
        ),
        "#/payment_method/stored/cvc",
        "cannot_be_kept",
    ),
    "a card number in a text": (
        unused_token(description=f"paid with {VISA}"),
        "#/description",
        "card_number_in_text",
    ),
    "a card number in a reference": (
        unused_token(line_reference=VISA.replace(" ", "-")),
        "#",
        "card_number_in_text",
    ),
    "an operation that there is not": ({"operation": "charge"}, "#/operation", "invalid"),
    "no operation": ({"amount": 1}, "#/operation", "missing"),
    "an id that names no payment": (
        {"operation": "void", "payment": "pay_1"},
        "#/payment",
        "invalid",
    ),
    "a line that makes no payment": (
        {"operation": "void", "payment": {"line": 1}},
        "#/payment/line",
        "not_a_payment",
    ),
    "a key twice": (
        b'{"operation": "void", "payment": "%b", "payment": "%b"}\n'
        % (PAYMENT.encode(), PAYMENT.encode()),
        "#/payment",
        "duplicate_key",
    ),
    "an operation twice": (
        b'{"operation": "void", "operation": "capture", "payment": "%b"}\n' % PAYMENT.encode(),
        "#/operation",
        "duplicate_key",
    ),
    "an amount beside a payment": (
        {"operation": "capture", "payment": PAYMENT, "amount": "2500"},
        "#/amount",
        "invalid",
    ),
    "a payment that is neither": ({"operation": "void", "payment": 5}, "#/payment", "invalid"),
    "a line of a payment that is no number": (
        {"operation": "void", "payment": {"line": "1"}},
        "#/payment/line",
        "invalid",
    ),
    "lists within lists": (b"[" * 50_000 + b"\n", "#", "malformed_body"),
    "no JSON": (b'{"operation": "void",}\n', "#", "malformed_body"),
    "bad bytes": (b'{"operation": "void", "payment": "\xff"}\n', "#", "malformed_body"),
    "a list": (b"[1]\n", "#", "invalid"),
}


async def test_every_wrong_line_is_named_with_its_field_and_nothing_runs(
    stack: Stack, shop: Shop
) -> None:
    good = {"operation": "void", "payment": PAYMENT}
    content = as_jsonl([good, *(line for line, _, _ in WRONG.values()), good])
    answer = await upload(shop, content, key="wrong lines")
    assert answer.status_code == 201
    batch = answer.json()
    assert (batch["state"], batch["lines"], batch["wrong_lines"]) == ("invalid", 0, len(WRONG))
    errors = await results(shop, batch["id"], "errors")
    assert [(each["line"], each["field"], each["code"]) for each in errors] == [
        (number, field, code) for number, (_, field, code) in enumerate(WRONG.values(), 2)
    ]
    assert VISA not in json.dumps(errors)
    sql = "SELECT state, count(*) FROM batch_lines WHERE batch_id = $1 GROUP BY 1"
    batch_id = ids.parse(ids.BATCH, batch["id"])
    assert [tuple(row) for row in await stack.fetch(sql, batch_id)] == [("skipped", len(WRONG))]
    refused = await shop.post(f"/batches/{batch['id']}/start")
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
    # The same file may be right later. With the same key it is the same batch.
    again = await upload(shop, content, key="wrong lines")
    assert (again.status_code, again.json()["id"]) == (200, batch["id"])
    other = await upload(shop, content, on_error="skip", start="false")
    assert (other.status_code, other.json()["lines"], other.json()["state"]) == (201, 2, "ready")


async def test_a_csv_file_is_checked_as_its_json_would_be(shop: Shop) -> None:
    content = (
        "\ufeffoperation,amount,currency,payment_method.type,"
        "payment_method.accept_token.data_descriptor,payment_method.accept_token.data_value,"
        "metadata.cart,payment\r\n"
        'payment,2500,USD,accept_token,COMMON,"to""ken",c_1,\r\n'
        "payment,25.00,USD,accept_token,COMMON,token,c_2,\r\n"
        f"refund,100,,,,,,{PAYMENT}\r\n"
        "refund,100,USD,,,,,\r\n"
    ).encode()
    batch = (await upload(shop, content, kind="text/csv; charset=utf-8")).json()
    errors = await results(shop, batch["id"], "errors")
    assert [(each["line"], each["field"]) for each in errors] == [
        (3, "#/amount"),
        (5, "#/payment"),
        (5, "#/currency"),
    ]
    assert "such as 2500 for 25.00" in errors[0]["message"]
    shown = await shop.client.get(f"/batches/{batch['id']}/errors", headers={"accept": "text/csv"})
    assert shown.text.splitlines()[0] == "line,field,code,message"
    assert shown.text.splitlines()[-1] == "errors,3,,"


async def test_a_key_needs_the_scopes_of_its_lines(stack: Stack, shop: Shop) -> None:
    weak = await stack.with_key(shop, name="no refunds", scopes=["payments:write", "batches:write"])
    answer = await upload(weak, as_jsonl([{"operation": "refund", "payment": PAYMENT}]))
    assert answer.json()["state"] == "invalid"
    found = await results(shop, answer.json()["id"], "errors")
    assert [(each["field"], each["code"]) for each in found] == [("#/operation", "forbidden")]
    none = await stack.with_key(shop, name="none", scopes=["payments:read", "payments:write"])
    refused = await upload(none, b"")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


async def test_the_same_file_or_key_is_the_same_batch(stack: Stack) -> None:
    shop = await batch_shop(stack)
    content = as_jsonl([{"operation": "void", "payment": PAYMENT}])
    answers = await asyncio.gather(
        *(upload(shop, content, key=f"key {n}", start="false") for n in range(2))
    )
    assert sorted(each.status_code for each in answers) == [200, 201]
    assert len({each.json()["id"] for each in answers}) == 1
    assert await kept(stack, shop) == (1, 1)
    again = await upload(shop, content, key="key 3")  # it starts what was ready
    assert (again.status_code, again.json()["state"]) == (200, "running")
    used = next(each for each in answers if each.status_code == 201)
    key = used.request.headers["idempotency-key"]
    other = await upload(shop, content + b"\n", key=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert await kept(stack, shop) == (1, 1)


@pytest.mark.parametrize(
    ("content", "lines", "reason"),
    [
        (b"", 0, "no line that can be run"),
        (b"\n\n", 0, "no line"),
        (b"\r\n" * 501, 0, "more than 500 blank lines"),
        (b'{"operation":"void","payment":"%b"}\n' % PAYMENT.encode() * 501, 0, "more than 500"),
        (b"x" * 70_000, 0, "1 line is wrong"),
    ],
)
async def test_a_file_that_cannot_run_says_why(
    shop: Shop, content: bytes, lines: int, reason: str
) -> None:
    answer = await upload(shop, content)
    assert (answer.status_code, answer.json()["state"]) == (201, "invalid"), answer.text
    assert reason in answer.json()["reason"]


async def test_what_is_too_long_or_of_another_kind_is_refused(stack: Stack) -> None:
    shop = await batch_shop(stack)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"\n" * 10_000

    for content in (b"\n" * 300_001, endless()):
        answer = await upload(shop, content)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    for kind, code in (("application/json", 415), ("text/plain", 415)):
        assert (await upload(shop, b"", kind=kind)).status_code == code
    for query in ({"on_error": "x"}, {"at_once": "0"}, {"lines_per_second": "1.5"}, {"color": "1"}):
        assert (await upload(shop, b"", **query)).status_code == 422
    assert (await upload(shop, b"", name=VISA)).status_code == 422
    packed = await upload(shop, gzip.compress(as_jsonl([unused_token()])), coding="gzip")
    assert (packed.status_code, packed.json()["code"]) == (415, "unsupported_media_type")
    assert "without this header" in packed.json()["detail"]
    assert packed.json()["detail"].startswith("Content-Encoding ")
    assert await kept(stack, shop) == (0, 0)


@pytest.mark.parametrize("format", ["jsonl", "csv"])
async def test_others_have_their_turn_while_blank_lines_are_read(format: str) -> None:
    """A file of nothing else is read no further than to its most lines, and never for long."""
    most, turns = 20_000, 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def pieces() -> AsyncIterator[bytes]:  # that are there already
        for _ in range(100):
            yield b"\n" * 64 * 1024

    batch = Batch(
        ids.new_id(), ids.new_id(), Mode.TEST, "k", "", format, "refuse", "checking",
        *(None, None, 0, 0, 0, 0, 1, None, 128, 0.0, None, clock.now(), None, None),
    )  # fmt: skip
    limits = {"most_bytes": 1 << 30, "most_lines": most}
    staging = Staging(None, batch, lambda *_: [], Box(bytes(32)), **limits)
    meanwhile = asyncio.create_task(others())
    whole = await staging.read(pieces())
    meanwhile.cancel()
    assert whole.reason == "The file has more than 20,000 blank lines. Remove them."
    assert whole.bytes == 100 * 64 * 1024
    assert turns >= most / 100


async def test_of_an_upload_that_is_cut_nothing_stays(stack: Stack) -> None:
    shop = await batch_shop(stack)
    line = as_jsonl([{"operation": "void", "payment": PAYMENT}])
    seen = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield line * 100
        await seen.wait()
        raise ConnectionError("the shop's machine is switched off")

    cut = asyncio.create_task(upload(shop, half(), key="cut"))
    sql = "SELECT count(*) FROM batches WHERE merchant_id = $1 AND state = 'checking'"

    async def checked() -> bool:
        return bool(await stack.value(sql, shop.merchant_id))

    await until(checked, what="the upload has begun")
    running = await upload(shop, line, key="cut")
    assert (running.status_code, running.json()["code"]) == (409, "request_in_progress")
    seen.set()
    with pytest.raises(ConnectionError):
        await cut

    async def nothing() -> bool:
        return await kept(stack, shop) == (0, 0)

    await until(nothing, what="nothing is kept")
    assert (await upload(shop, line, key="cut", start="false")).status_code == 201


async def test_so_many_uploads_of_a_merchant_run_at_once(stack: Stack) -> None:
    shop = await batch_shop(stack)
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"\n"
        await go_on.wait()

    slow_ones = [asyncio.create_task(upload(shop, slow())) for _ in range(2)]

    async def both() -> bool:
        return await kept(stack, shop) == (2, 0)

    await until(both, what="two uploads are running")
    refused = await upload(shop, b"\n")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_uploads")
    go_on.set()
    assert [each.status_code for each in await asyncio.gather(*slow_ones)] == [201, 201]


async def test_nothing_of_another_merchant_or_mode_is_shown(stack: Stack, shop: Shop) -> None:
    batch = await uploaded(
        shop, [{"operation": "void", "payment": PAYMENT}], start="false", key="x"
    )
    other = await batch_shop(stack)
    for path in ("", "/results", "/errors"):
        answer = await other.client.get(f"/batches/{batch['id']}{path}", headers={"accept": JSONL})
        assert answer.status_code == 404, path
    for what in ("start", "pause", "resume", "cancel"):
        assert (await other.client.post(f"/batches/{batch['id']}/{what}")).status_code == 404
    assert (await batch_of(shop, batch["id"]))["state"] == "ready"
    assert await other.all("/batches") == []
    assert batch["id"] in [each["id"] for each in await shop.all("/batches")]


async def test_tokens_are_sealed_while_they_wait(stack: Stack) -> None:
    shop = await batch_shop(stack)
    await uploaded(shop, [unused_token(order_reference="o-1")], start="false")
    sql = "SELECT request, sealed FROM batch_lines WHERE merchant_id = $1"
    ((request, sealed),) = await stack.fetch(sql, shop.merchant_id)
    assert request is None
    assert b"o-1" not in sealed


async def test_a_batch_whose_upload_has_ended_is_never_removed_as_cut(stack: Stack) -> None:
    """The answer to the commit may be lost: then the gateway takes the upload for cut."""
    shop = await batch_shop(stack)
    line = {"operation": "void", "payment": PAYMENT}
    batch_id = ids.parse(ids.BATCH, (await uploaded(shop, [line], start="false"))["id"])
    assert batch_id is not None
    async with connected(stack.dsn) as connection:
        batch = await store.find(connection, shop.merchant_id, Mode.TEST, batch_id)
        await removal.forget(connection, batch)
    assert await kept(stack, shop) == (1, 1)


async def test_two_claims_at_once_take_no_more_than_a_batch_allows(stack: Stack) -> None:
    """A worker has counted what is under way, and another one claims before it locks the batch."""
    shop = await batch_shop(stack)
    lines = [{"operation": "void", "payment": PAYMENT} for _ in range(20)]
    batch = await uploaded(shop, lines, start="false", at_once="5")
    await shop.post(f"/batches/{batch['id']}/start")
    batch_id = ids.parse(ids.BATCH, batch["id"])
    others = "UPDATE batches SET turn_at = db_now() + interval '1 hour' WHERE id <> $1"
    await stack.fetch(others, batch_id)  # of other tests: they would be claimed
    slow = claims.CLAIM_NEXT.replace(
        "WHERE b.state", "WHERE pg_advisory_xact_lock_shared(4711)::text IS NOT NULL AND b.state", 1
    )
    async with (
        stack.sessions.session() as first,
        stack.sessions.session() as second,
        stack.sessions.session() as holder,
    ):
        await holder.execute("SELECT pg_advisory_lock(4711)")
        async with first.transaction():
            second_claim = asyncio.create_task(second.fetchrow(slow, 50, 30.0))
            waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

            async def counted() -> bool:
                return bool(await stack.value(waits) == 1)

            await until(counted, what="the second worker has counted")
            assert await claims.claim_next(first, most=50, lease_s=30.0) is not None
        await holder.execute("SELECT pg_advisory_unlock(4711)")
        assert await second_claim is None
    under_way = "SELECT sum(last_line - first_line + 1) FROM batch_groups WHERE batch_id = $1"
    assert await stack.value(under_way, batch_id) == 5
