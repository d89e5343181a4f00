"""What an operator sees of payments in a tracing system: spans of a real gateway and worker."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from batches.batch_shop import SCOPES, becomes, payment_line, results, uploaded
from customers.shops import EVERYTHING, add_token, new_customer
from easypay.card_numbers import contains_card_number
from harness import (
    ADMIN_KEY,
    CVC,
    QUICK,
    VISA,
    Gateway,
    Shop,
    Stack,
    counted,
    http_client,
    own_stack,
    queued_payment,
    run_easypay,
    until,
)
from tracing.intake import Intake, attributes, taking
from tracing.waterfall import waterfall
from webhooks.receiver import receiving

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
PAY = "POST /api/v1/payments"
SERVER, INTERNAL, CLIENT, CONSUMER = 2, 1, 3, 5

stack = own_stack()


@pytest.fixture(scope="module")
async def intake() -> AsyncIterator[Intake]:
    async with taking() as made:
        yield made


@pytest.fixture(scope="module")
async def gateway(stack: Stack, intake: Intake) -> Gateway:
    """A gateway that keeps every trace."""
    return await stack.gateway(**QUICK, traces_url=intake.url, traces_rate="1")


@pytest.fixture(scope="module")
async def quiet(stack: Stack, intake: Intake) -> Gateway:
    """A gateway that keeps nothing ordinary, unless a client says so."""
    slow = {"traces_slow_s": "60", "traces_slow_own_s": "60"}
    over = QUICK | slow | {"traces_rate": "0", "traces_trust_parent": "true"}
    return await stack.gateway(**over, traces_url=intake.url)


@pytest.fixture(scope="module")
def worker(stack: Stack, intake: Intake) -> None:
    """A worker that keeps every trace."""
    over = {"traces_url": intake.url, "traces_rate": "1", "queue_poll_s": "0.05"}
    stack.worker(**over, webhook_private_networks="127.0.0.0/8")


@pytest.fixture
async def shop(stack: Stack, gateway: Gateway) -> AsyncIterator[Shop]:
    made = await stack.shop(gateway)
    yield made
    await stack.simulator.clear_faults()
    await made.client.aclose()


async def spans_of_payment(intake: Intake, payment: str, name: str = PAY) -> list[Any]:
    """Return the spans of the trace that made a payment."""

    async def found() -> list[Any]:
        own = [s for s in intake.named(name) if attributes(s).get("easypay.payment.id") == payment]
        return intake.of_trace(own[0].trace_id.hex()) if own else []

    spans: list[Any] = await until(found, within_s=30, what=f"a trace of {payment}")
    return spans


async def test_a_payment_is_a_request_with_a_begin_a_call_and_a_record(
    shop: Shop, intake: Intake, tmp_path: Path
) -> None:
    paid = await shop.paid()
    spans = await spans_of_payment(intake, paid["id"])
    # The gateway asks the database for the key and the account when it does not know them yet.
    spans = [span for span in spans if "db.query.summary" not in attributes(span)]
    assert [(s.name, s.kind) for s in spans] == [
        (PAY, SERVER),
        ("begin", INTERNAL),
        ("authorize_net sale", CLIENT),
        ("record", INTERNAL),
    ]
    request, begin, call, record = spans
    own_id = attributes(request)["easypay.request.id"]
    assert request.trace_id.hex() == own_id.removeprefix("req_"), "it is found without a search"
    for span in (begin, call, record):
        assert span.parent_span_id == request.span_id
        assert request.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= request.end_time_unix_nano
    assert begin.end_time_unix_nano <= call.start_time_unix_nano + 1_000_000
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/api/v1/payments",
        "http.response.status_code": 201,
        "url.scheme": "http",
        "easypay.request.id": attributes(request)["easypay.request.id"],
        "easypay.merchant.id": f"mer_{shop.merchant_id.hex}",
        "easypay.mode": "test",
        "easypay.payment.id": paid["id"],
        "easypay.operation.id": attributes(request)["easypay.operation.id"],
    }
    assert attributes(call) == {
        "easypay.processor": "authorize_net",
        "easypay.operation": "sale",
        "easypay.outcome": "approved",
    }
    groups = []
    for span, name in ((begin, "begin"), (record, "record")):
        (link,) = span.links
        (group,) = [s for s in intake.spans if s.span_id == link.span_id]
        assert (group.name, group.kind) == (f"group {name}", CLIENT)
        assert request.span_id in {member.span_id for member in group.links}
        groups.append(group)
    folder = Path(os.environ.get("EASYPAY_PICTURES", tmp_path))
    picture = folder / "waterfall.svg"
    picture.write_text(waterfall("One payment, as its spans arrived", spans, groups))
    texts = [each.text for each in ElementTree.parse(picture).iter() if each.tag.endswith("text")]
    assert {PAY, "begin", "record", "authorize_net sale", "group begin (linked)"} <= {*texts}


async def test_a_clients_trace_goes_on_in_ours_and_in_the_log(
    gateway: Gateway, shop: Shop, intake: Intake
) -> None:
    shop.client.headers["traceparent"] = f"00-{TRACE}-{PARENT}-00"
    paid = await shop.paid()
    request, *_ = await spans_of_payment(intake, paid["id"])
    assert request.trace_id.hex() == TRACE
    assert request.parent_span_id.hex() == PARENT
    assert f'"trace_id":"{TRACE}"' in gateway.logs()


async def test_an_unknown_outcome_is_an_error_of_the_call_and_its_inquiry_is_a_trace(
    stack: Stack, shop: Shop, intake: Intake
) -> None:
    await stack.simulator.fault("drop_reply", shop.login)
    answer = await shop.pay()
    assert answer.status_code == 202
    spans = await spans_of_payment(intake, answer.json()["id"])
    (call,) = [span for span in spans if span.name == "authorize_net sale"]
    assert call.status.code == 2
    assert attributes(call)["easypay.outcome"] == attributes(call)["error.type"] == "unknown"
    assert spans[0].status.code == 0, "the request itself did what it should"
    await shop.becomes(answer.json()["id"], "captured")

    async def asked() -> bool:
        return bool(intake.named("authorize_net pass") or intake.named("authorize_net inquiry"))

    await until(asked, within_s=30, what="the resolver's look is a trace")


async def test_a_trusted_client_decides_what_is_kept(
    stack: Stack, quiet: Gateway, intake: Intake
) -> None:
    shop = await stack.shop(quiet)
    ids = []
    for flags in ("00", "01"):
        shop.client.headers["traceparent"] = f"00-{TRACE}-{PARENT}-{flags}"
        ids.append((await shop.paid())["id"])
    dropped, kept = ids
    request, *_ = await spans_of_payment(intake, kept)
    assert request.parent_span_id.hex() == PARENT
    # What is kept leaves in the order of its end.
    shown = [attributes(span).get("easypay.payment.id") for span in intake.named(PAY)]
    assert dropped not in shown
    await shop.client.aclose()


async def test_errors_and_unknown_outcomes_are_kept_whatever_the_rate(
    stack: Stack, quiet: Gateway, intake: Intake
) -> None:
    shop = await stack.shop(quiet)
    paid = await shop.paid()
    await stack.simulator.fault("drop_reply", shop.login)
    unknown = (await shop.pay()).json()
    await spans_of_payment(intake, unknown["id"])
    async with stack.refusing():
        assert (await shop.pay()).status_code == 503

    async def failed() -> bool:
        shown = [attributes(span) for span in intake.named(PAY)]
        return 503 in [each["http.response.status_code"] for each in shown]

    await until(failed, within_s=30, what="the trace of what failed")
    shown = [attributes(span).get("easypay.payment.id") for span in intake.named(PAY)]
    assert paid["id"] not in shown, "it ended before the others"
    await shop.client.aclose()


async def test_queued_payments_and_webhooks_have_traces(
    stack: Stack, worker: None, shop: Shop, intake: Intake
) -> None:
    async with receiving() as receiver:
        merchant = f"mer_{shop.merchant_id.hex}"
        local = stack.env | {"EASYPAY_WEBHOOK_PRIVATE_NETWORKS": "127.0.0.0/8"}
        run_easypay("webhook", "create", merchant, receiver.url, "--json", **local)
        queued = (await queued_payment(stack, shop)).json()
        await shop.becomes(queued["id"], "captured")
        operation = (await shop.all(f"/payments/{queued['id']}/operations"))[0]["id"]

        async def arrived() -> list[Any]:
            return [
                span
                for span in intake.named("queued operation")
                if attributes(span)["easypay.operation.id"] == operation
            ]

        (job,) = await until(arrived, within_s=30, what="the job's trace")
        assert job.kind == CONSUMER
        assert job.trace_id.hex() == operation.removeprefix("op_"), "it is found without a search"
        assert attributes(job)["easypay.payment.id"] == queued["id"]
        spans = intake.of_trace(job.trace_id.hex())
        assert {"authorize_net sale", "record"} <= {span.name for span in spans}
        (request,) = [s for s in await spans_of_payment(intake, queued["id"]) if s.kind == SERVER]
        assert [link.span_id for link in job.links] == [request.span_id]

        async def told() -> list[Any]:
            event_ids = {got.id for got in receiver.got}
            return [
                span
                for span in intake.named("webhook delivery")
                if attributes(span)["easypay.event.id"] in event_ids
            ]

        delivered = (await until(told, within_s=30, what="the webhook's trace"))[0]
        assert attributes(delivered)["http.response.status_code"] == 204
        event_id = attributes(delivered)["easypay.event.id"]
        assert delivered.trace_id.hex() == event_id.removeprefix("evt_")
        assert attributes(delivered)["easypay.payment.id"] == queued["id"]
        assert attributes(delivered)["easypay.operation.id"] == operation
        headers = [got.headers["traceparent"] for got in receiver.got]
        assert f"00-{delivered.trace_id.hex()}-{delivered.span_id.hex()}-01" in headers


async def test_each_line_of_a_batch_has_a_trace(
    stack: Stack, worker: None, shop: Shop, intake: Intake
) -> None:
    made = await stack.with_key(shop, name="batches", scopes=SCOPES)
    lines = [await payment_line(stack, made, amount) for amount in (1500, 700)]
    batch = await uploaded(made, lines)
    await becomes(made, batch["id"], "done")
    done = {line["operation_id"]: line["payment_id"] for line in await results(made, batch["id"])}

    async def arrived() -> list[Any]:
        found = [
            span
            for span in intake.named("batch line")
            if attributes(span).get("easypay.batch.id") == batch["id"]
        ]
        return found if len(found) == len(lines) else []

    found = await until(arrived, within_s=30, what="a trace of each line")
    about = {}
    for line in found:
        shown = attributes(line)
        about[shown["easypay.operation.id"]] = shown["easypay.payment.id"]
        assert line.trace_id.hex() == shown["easypay.operation.id"].removeprefix("op_")
        names = [span.name for span in intake.of_trace(line.trace_id.hex())]
        assert names == ["batch line", "begin", "authorize_net sale", "record"]
        assert shown["easypay.work"] == "batch line"
    assert about == done
    await made.client.aclose()


async def test_a_call_to_the_processors_vault_is_a_span(
    stack: Stack, shop: Shop, intake: Intake
) -> None:
    keeper = await stack.with_key(shop, scopes=EVERYTHING)
    method = await add_token(stack, keeper, await new_customer(keeper))

    async def arrived() -> list[Any]:
        return intake.named("authorize_net vault_store")

    (call,) = await until(arrived, within_s=30, what=f"the storing of {method['id']}")
    (request,) = [span for span in intake.spans if span.span_id == call.parent_span_id]
    assert attributes(request)["http.route"] == "/api/v1/customers/{id}/payment_methods"
    await keeper.client.aclose()


async def test_a_statement_outside_a_group_is_a_span_of_the_request(
    shop: Shop, intake: Intake
) -> None:
    paid = await shop.paid()
    for path, route, summary in (
        ("/payments", "/payments", "SELECT payments"),
        (f"/payments/{paid['id']}/events", "/payments/{id}/events", "SELECT events"),
    ):
        answer = await shop.client.get(path)
        assert answer.status_code == 200, answer.text
        trace_id = answer.headers["request-id"].removeprefix("req_")

        async def arrived(trace_id: str = trace_id) -> list[Any]:
            return intake.of_trace(trace_id)

        request, *inner = await until(arrived, within_s=30, what=f"the trace of {path}")
        assert request.name == f"GET /api/v1{route}"
        span = next(each for each in inner if each.name == summary)
        assert (span.kind, span.parent_span_id) == (CLIENT, request.span_id)
        assert attributes(span) == {"db.system.name": "postgresql", "db.query.summary": summary}


async def test_the_metrics_name_a_trace_where_the_reader_understands_it(
    gateway: Gateway, shop: Shop, intake: Intake
) -> None:
    paid = await shop.paid()
    request, *_ = await spans_of_payment(intake, paid["id"])
    key = {"authorization": f"Bearer {ADMIN_KEY}"}
    openmetrics = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    async with http_client() as client:
        shown = await client.get(f"{gateway.url}/metrics", headers=key | {"accept": openmetrics})
        plain = await client.get(f"{gateway.url}/metrics", headers=key)
    assert shown.headers["content-type"].startswith("application/openmetrics-text")
    assert shown.text.endswith("# EOF\n")
    named = re.findall(r'^(\w+)_bucket\{.*\} \S+ # \{trace_id="([0-9a-f]{32})"\}', shown.text, re.M)
    assert ("http_server_request_duration_seconds", request.trace_id.hex()) in named
    assert "easypay_processor_call_duration_seconds" in {name for name, _ in named}
    assert "trace_id" not in plain.text
    assert plain.headers["content-type"].startswith("text/plain")
    assert await counted(gateway.url, "easypay_trace_spans_total", result="sent") > 0


async def test_nothing_of_a_card_or_a_person_leaves_in_a_trace(
    stack: Stack, shop: Shop, intake: Intake
) -> None:
    """The texts of a payment, its card and the merchant's key, against every byte that was sent."""
    secret = {
        "order_reference": "order-secretive",
        "description": "Two secretive chairs",
        "customer": {"reference": "c-secretive", "email": "ada@secretive.example"},
        "billing_address": {"last_name": "Lovelacia", "line1": "1 Secretive Street"},
        "metadata": {"note": "secretive"},
    }
    paid = await shop.paid(**secret)
    declined = await shop.pay(billing_address={"postal_code": "46282"})
    assert declined.json()["status"] == "declined"
    async with http_client() as client:
        await client.get(f"{shop.url}/secretive/{VISA}?card={VISA}")
    await spans_of_payment(intake, paid["id"])
    await spans_of_payment(intake, declined.json()["id"])
    raw = intake.raw.decode("latin-1")
    for text in (
        VISA,
        "secretive",
        "Lovelacia",
        "Secretive",
        shop.secret,
        shop.login,
        "46282",
        f"cvc{CVC}",
    ):
        assert text not in raw
    for span in intake.spans:
        shown = {name: str(value) for name, value in attributes(span).items()}
        for name, value in {"name": span.name, **shown}.items():
            assert name.endswith(".id") or not contains_card_number(value), (name, value)


async def test_payments_go_on_while_the_collector_hangs_and_a_stop_is_bounded(
    stack: Stack,
) -> None:
    async with taking() as hanging:
        hanging.answers = [None] * 1000
        over = QUICK | {"traces_url": hanging.url, "traces_rate": "1"}
        gateway = await stack.gateway(**over, shutdown_grace_s="2")
        shop = await stack.shop(gateway)
        for _ in range(20):
            await shop.paid()
        assert await asyncio.to_thread(gateway.terminate) == 0
        assert "Traceback" not in gateway.logs()
        await shop.client.aclose()
