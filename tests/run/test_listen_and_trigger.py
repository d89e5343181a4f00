"""`easypay listen` and `easypay trigger`: a shop that is being written is told of real events."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook
from typer.testing import CliRunner

from easypay import ids
from easypay.command_line.event_stories import STORIES, Stage
from easypay.command_line.main import app
from easypay.command_line.trial_shop import TrialFailed, TrialShop, simulator_at
from easypay.customers.expiring import tell_of_expiring
from easypay.merchants.model import SCOPES
from easypay.payments import authorization_expiry, resolver_rows
from easypay.payments.model import SETTLEMENT_TYPES
from easypay.webhooks.model import DISABLED, TYPES
from easypay.webhooks.signing import new_secret
from harness import QUICKER, Shop, Stack, connected, free_port, own_stack, payment_uuid, until
from harness.commands import run_easypay, running_easypay
from harness.forks import end_of
from settlement.books import read_books
from webhooks.receiver import Receiver, receiving

stack = own_stack(**QUICKER)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@asynccontextmanager
async def listening(stack: Stack, shop: Shop, *words: str) -> AsyncIterator[Any]:
    """Run `easypay listen --json` for a shop. Yield what reads its next line as JSON."""
    merchant = ids.typed(ids.MERCHANT, shop.merchant_id)
    whose = ("--merchant", merchant, "--url", shop.url)
    async with running_easypay("listen", "--json", *words, *whose, **stack.env) as running:
        program, printed = running

        async def line() -> Any:
            return json.loads(await asyncio.wait_for(printed.readline(), 30))

        yield line
        program.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(end_of(program), 20) == 130


async def test_events_are_forwarded_in_their_order_with_a_signature(
    stack: Stack, receiver: Receiver
) -> None:
    shop = await stack.shop(stack.only_gateway)
    feed = await stack.with_key(shop, scopes=["events:read"])
    await shop.paid()  # before: not forwarded

    async def is_in_the_feed() -> bool:
        return len((await feed.client.get("/events")).json()["data"]) == 1

    await until(is_in_the_feed)
    receiver.answer = lambda got: 500 if len(receiver.got) == 1 else 204
    forward = ("--forward-to", f"{receiver.url}/hooks?shop=1", "--print")
    async with listening(stack, shop, *forward) as line:
        secret = (await line())["secret"]
        held = await shop.paid(capture="manual")
        await shop.capture(held["id"])
        told = [await line() for _ in range(2)]
        assert [each["type"] for each in told] == ["payment.authorized", "payment.captured"]
        assert [each["status"] for each in told] == [500, 204], "a failure is shown, and no end"
    shown = (await feed.client.get("/events")).json()["data"][1:]
    for got, each, event in zip(receiver.got, told, shown, strict=True):
        body = Webhook(secret).verify(got.body, got.headers)
        assert body == each["body"]
        assert body["data"] == event["data"]
        assert (body["timestamp"], got.id) == (event["created_at"], event["id"])
        assert got.path == "/hooks?shop=1"
    keys = await stack.fetch(
        "SELECT revoked_at FROM api_keys WHERE merchant_id = $1 AND name = 'easypay listen'",
        shop.merchant_id,
    )
    assert [key["revoked_at"] is not None for key in keys] == [True]


async def test_only_wanted_types_are_forwarded_and_a_dead_program_is_named(stack: Stack) -> None:
    shop = await stack.shop(stack.only_gateway)
    await shop.paid()
    secret = new_secret()
    nobody = f"http://127.0.0.1:{free_port()}/"
    more = ("--types", "payment.declined", "--secret", secret)
    async with listening(stack, shop, "--forward-to", nobody, *more) as line:
        assert (await line())["secret"] == secret
        await shop.paid()
        await shop.paid(billing_address={"postal_code": "46282"})
        told = await line()
    assert (told["type"], told["status"]) == ("payment.declined", None)
    assert "refused" in told["reason"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("listen",), 2, "--forward-to"),
        (("listen", "--forward-to", "localhost:3000"), 2, "http://"),
        (("listen", "--print", "--secret", "whsec_short"), 2, "whsec_"),
        (
            ("listen", "--print", "--url", "http://127.0.0.1:1", "--api-key", "ep_live_sk_1"),
            1,
            "test mode only",
        ),
        (("listen", "--print"), 1, "easypay up"),
        (("trigger", "payment.paid"), 2, "--list"),
        (("trigger", "payment.captured"), 1, "easypay up"),
    ],
)
def test_what_cannot_be_is_refused_in_one_clear_line(
    tmp_path: Any, words: tuple[str, ...], status: int, said: str
) -> None:
    done = CliRunner().invoke(app, [*words, "--data-dir", str(tmp_path)])
    assert done.exit_code == status, done.output
    assert said in done.output.replace("\n", " ")


async def trial(stack: Stack) -> tuple[Shop, TrialShop]:
    few = await stack.shop(stack.only_gateway, raw_cards=False)
    await few.client.aclose()
    shop = await stack.with_key(few, scopes=SCOPES)
    made = TrialShop(
        api=shop.url,
        key=shop.secret,
        simulator=stack.simulator.url,
        login=shop.login,
        transaction_key="simulated-key-1",
    )
    return shop, made


async def happens(stack: Stack, name: str) -> None:
    """Let a story happen to a shop of its own, and its event with it."""
    shop, made = await trial(stack)
    loop = asyncio.get_running_loop()

    async def look_now(payment_id: str) -> None:
        async with connected(stack.dsn) as connection:
            await resolver_rows.look_now(connection, shop.merchant_id, payment_uuid(payment_id))

    def hurry(payment_id: str) -> None:
        asyncio.run_coroutine_threadsafe(look_now(payment_id), loop).result(20)

    async def tell_now() -> None:
        async with connected(stack.dsn) as connection:
            await tell_of_expiring(connection)

    def tell_of_cards() -> None:
        asyncio.run_coroutine_threadsafe(tell_now(), loop).result(20)

    def read_now() -> None:
        asyncio.run_coroutine_threadsafe(read_books(stack, shop), loop).result(20)

    async def remind_now(payment_id: str) -> None:
        async with connected(stack.dsn) as connection:
            await authorization_expiry.remind_now(connection, payment_uuid(payment_id))

    def remind(payment_id: str) -> None:
        asyncio.run_coroutine_threadsafe(remind_now(payment_id), loop).result(20)

    story = STORIES[name]
    stage = Stage(hurry, lambda: None, 4000, tell_of_cards, read_now, remind)

    def tell() -> list[str]:
        payment_id = story.tell(made, stage)
        if payment_id is None and story.type == DISABLED:
            return [story.type]
        if payment_id is None:  # of a customer or a batch: there it is only in the feed
            made.until(lambda: story.type in told(made), within_s=20, what=f"{story.type} is told")
            return told(made)
        made.has(payment_id, story.type, within_s=20)
        return made.types_of(payment_id)

    assert story.type in await asyncio.to_thread(tell), name
    await shop.client.aclose()


def told(shop: TrialShop) -> list[str]:
    return [event["type"] for event in shop.get("/events")["data"]]


async def test_every_event_can_be_triggered(stack: Stack) -> None:
    assert {story.type for story in STORIES.values()} == set(TYPES)
    worker = stack.worker(**QUICKER)
    await worker.logged("working on")
    settle = {"refund.succeeded", *SETTLEMENT_TYPES}
    same = {"held", "late_charge", "late_charge.found", "payment.pending", "capture.failed"}
    try:
        await asyncio.gather(*(happens(stack, name) for name in STORIES.keys() - settle - same))
        for name in sorted(settle):
            await happens(stack, name)
    finally:
        worker.kill()


async def test_the_command_triggers_only_at_a_simulator(stack: Stack) -> None:
    shop = await stack.shop(stack.only_gateway)
    merchant = ids.typed(ids.MERCHANT, shop.merchant_id)
    words = ("trigger", "payment.declined", "--merchant", merchant, "--url", shop.url, "--json")
    env = {**stack.env, "EASYPAY_AUTHORIZE_NET_TEST_URL": stack.simulator.wire}
    done = await asyncio.to_thread(lambda: run_easypay(*words, **env).data)
    assert done["events"] == ["payment.declined"]
    assert (await shop.payment(done["payment_id"]))["status"] == "declined"
    env["EASYPAY_AUTHORIZE_NET_TEST_URL"] = f"{shop.url}/xml/v1/request.api"
    refused = await asyncio.to_thread(run_easypay, *words, **env)
    assert (refused.code, "not at a simulator" in refused.err) == (1, True)
    assert simulator_at("https://processor.example/v2") is None


def test_a_trial_says_what_does_not_answer() -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    made = TrialShop(
        api=nobody, key="ep_test_sk_1", simulator=nobody, login="x", transaction_key="y"
    )
    with pytest.raises(TrialFailed, match="does not answer"):
        made.pay()
