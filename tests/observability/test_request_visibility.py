"""What an operator sees of a request: metrics, one log line, its timing, its trace."""

import json
import re
from pathlib import Path

import pytest

from harness import ADMIN_KEY, QUICK, VISA, Gateway, Shop, Stack, counted, http_client, until

KEY = {"authorization": f"Bearer {ADMIN_KEY}"}
TRACE = "0af7651916cd43dd8448eb211c80319c"


def lines(gateway: Gateway) -> list[dict[str, object]]:
    """Return the canonical log lines a gateway has written."""
    said = gateway.logs().splitlines()
    return [line for line in map(json.loads, said) if line["logger"] == "easypay.request"]


@pytest.fixture
async def watched(stack: Stack) -> tuple[Gateway, Gateway, Shop]:
    """Two processes that share their metrics, and a shop at the first one."""
    shared = str(stack.folder / "metrics")
    first = await stack.gateway(**QUICK, metrics_dir=shared)
    second = await stack.gateway(**QUICK, metrics_dir=shared)
    return first, second, await stack.shop(first)


async def test_metrics_of_two_processes_add_up_and_a_kill_loses_none(
    stack: Stack, watched: tuple[Gateway, Gateway, Shop]
) -> None:
    first, second, shop = watched
    for asker in (shop, shop.at(second.url)):
        for _ in range(5):
            assert (await asker.pay()).status_code == 201
        declined = await asker.pay(billing_address={"postal_code": "46282"})
        assert declined.json()["status"] == "declined"
    paid = {"http_route": "/api/v1/payments", "http_request_method": "POST"}
    duration = "http_server_request_duration_seconds_count"
    for url in (first.url, second.url):
        assert await counted(url, duration, **paid) == 12
        for outcome, count in (("approved", 10), ("declined", 2)):
            name = "easypay_payment_operations_total"
            assert await counted(url, name, operation="sale", outcome=outcome) == count
    assert await counted(first.url, "easypay_processes") == 2
    second.kill()
    assert await counted(first.url, duration, **paid) == 12
    assert await counted(first.url, "easypay_processes") == 1
    assert await counted(first.url, "easypay_own_time_seconds_count") == 12
    assert await counted(first.url, "easypay_group_size_sum", group="begin") == 12
    assert await counted(first.url, "db_client_operation_duration_seconds_count") >= 24
    assert await counted(first.url, "easypay_cache_requests_total", cache="api_keys") >= 6


async def test_late_charges_watched_operations_and_a_wrong_clock_are_shown(stack: Stack) -> None:
    """The wrong clock is the database's, which a test can move."""
    await stack.fetch(
        "INSERT INTO watched_operations (merchant_id, operation_id, payment_id, account, purpose,"
        "    since, until, next_look_at)"
        " SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '', 'absent', now(),"
        "    now() + interval '3 days', now() + interval '1 day' FROM generate_series(1, 3)"
    )
    await stack.fetch(
        "INSERT INTO late_charges SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(),"
        "    'test', 'sale', '1', 100, 'USD', state, NULL, 'seen', now(), now()"
        " FROM unnest('{returning,needs_person,needs_person,returned,closed}'::text[]) AS s(state)"
    )
    await stack.move_clock(90)
    gateway = await stack.gateway(**QUICK)

    async def told() -> bool:
        return await counted(gateway.url, "easypay_watched_operations") == 3

    await until(told, what="the vitals are read")
    for state, count in (("returning", 1), ("needs_person", 2)):
        assert await counted(gateway.url, "easypay_late_charges", state=state) == count
    assert await counted(gateway.url, "easypay_late_charges_found_total") == 0
    assert -91 < await counted(gateway.url, "easypay_clock_offset_seconds") < -89
    # Three months ahead, and what is left of this one.
    assert 88 < await counted(gateway.url, "easypay_partition_horizon_days") < 124
    said = [json.loads(line) for line in gateway.logs().splitlines()]
    (line,) = [each for each in said if "the clock of this host is" in each["message"]]
    assert line["level"] == "critical"
    assert "90 s behind the database's" in line["message"]


async def test_unknown_outcomes_show_their_number_and_age(stack: Stack) -> None:
    gateway = await stack.gateway(**QUICK | {"unknown_first_inquiry_s": "600"})
    shop = await stack.shop(gateway)
    await stack.simulator.fault("drop_reply", shop.login)
    assert (await shop.pay()).status_code == 202

    async def seen() -> bool:
        return await counted(gateway.url, "easypay_unknown_operations") == 1

    await until(seen, what="the unknown outcome is counted")
    assert await counted(gateway.url, "easypay_unknown_age_seconds") > 0
    unknown = {"operation": "sale", "outcome": "unknown"}
    assert await counted(gateway.url, "easypay_payment_operations_total", **unknown) == 1


async def test_metrics_need_the_admin_key_from_every_address(
    watched: tuple[Gateway, Gateway, Shop],
) -> None:
    url = f"{watched[0].url}/metrics"
    async with http_client() as client:
        for headers in (
            {},
            {"via": "1.1 proxy"},
            {"x-real-ip": "127.0.0.1"},
            {"host": "localhost"},
        ):
            assert (await client.get(url, headers=headers)).status_code == 401
            assert (await client.get(url, headers=headers | KEY)).status_code == 200


async def test_no_label_holds_text_from_a_client(watched: tuple[Gateway, Gateway, Shop]) -> None:
    first, _, shop = watched
    payment = (await shop.pay()).json()["id"]
    await shop.payment(payment)
    await shop.client.get(f"/no/such/{VISA}")
    await shop.client.request("DELETE", f"/payments/{payment}")
    async with http_client() as client:
        text = (await client.get(f"{first.url}/metrics", headers=KEY)).text
    assert payment not in text
    assert VISA not in text
    missed = {"http_route": "none", "http_response_status_code": "404"}
    assert await counted(first.url, "http_server_request_duration_seconds_count", **missed) == 1


async def test_an_answer_states_its_timing_to_its_merchant_only(shop: Shop) -> None:
    answer = await shop.pay()
    times = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"]))
    assert list(times) == ["auth", "begin", "processor", "record", "total"]
    parts = sum(float(ms) for name, ms in times.items() if name != "total")
    assert 0 < parts <= float(times["total"])
    read = await shop.client.get(f"/payments/{answer.json()['id']}")
    assert re.fullmatch(r"auth;dur=[\d.]+, total;dur=[\d.]+", read.headers["server-timing"])
    stranger = await shop.client.get("/payments", headers={"authorization": "Bearer ep_test_x"})
    assert stranger.status_code == 401
    assert "server-timing" not in stranger.headers


async def test_each_request_logs_one_line_with_its_trace(
    watched: tuple[Gateway, Gateway, Shop],
) -> None:
    first, _, shop = watched
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    answer = await shop.client.get("/payments", headers=headers)
    ours = answer.headers["traceparent"]
    assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-01", ours)
    assert "b7ad6b7169203331" not in ours, "the gateway makes its own span"
    paid = await shop.pay(key="order-1")
    await shop.pay(key="order-1")

    async def written() -> bool:
        return len(lines(first)) >= 3

    await until(written)
    listed, created, again = lines(first)[-3:]
    assert listed["trace_id"] == TRACE
    assert listed["request_id"] == answer.headers["request-id"]
    assert (listed["route"], listed["status"], listed["mode"]) == ("/api/v1/payments", 200, "test")
    assert created["payment_id"] == paid.json()["id"] == again["payment_id"]
    assert again["replayed"] is True
    assert 0 < created["processor_ms"] < created["duration_ms"]  # type: ignore[operator]


@pytest.mark.parametrize(
    "header",
    ["", "00-abc", f"ff-{TRACE}-b7ad6b7169203331-01", f"00-{'0' * 32}-b7ad6b7169203331-01",
     f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-b7ad6b7169203331-01"],
)  # fmt: skip
async def test_an_invalid_trace_header_is_ignored(shop: Shop, header: str) -> None:
    answer = await shop.client.get("/payments", headers={"traceparent": header})
    assert answer.status_code == 200
    assert "traceparent" not in answer.headers


async def test_a_card_number_in_a_trace_is_masked_in_the_log(
    watched: tuple[Gateway, Gateway, Shop],
) -> None:
    first, _, shop = watched
    trace = f"{VISA}f1b2c3d4e5f6a7b8"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    assert (await shop.client.get("/payments", headers=headers)).status_code == 200
    await until(lambda: _has_line(first))
    assert VISA not in first.logs()


async def _has_line(gateway: Gateway) -> bool:
    return any(line["route"] == "/api/v1/payments" for line in lines(gateway))


async def test_the_processor_gets_the_trace_of_the_payment(stack: Stack, tmp_path: Path) -> None:
    """A listener in the processor's place records the trace header it gets."""
    import asyncio

    heads: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}/xml/v1/request.api"
    gateway = await stack.gateway(
        **QUICK | {"unknown_first_inquiry_s": "600"}, authorize_net_test_url=url
    )
    shop = await stack.shop(gateway)
    body = {
        "amount": 100, "currency": "USD",
        "payment_method": {"type": "card", "card": {"number": VISA, "exp_month": 12,
                                                    "exp_year": 2035, "cvc": "907"}},
    }  # fmt: skip
    headers = {"idempotency-key": "t", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    answer = await shop.client.post("/payments", json=body, headers=headers)
    assert answer.status_code == 202, "without a reply the outcome is unknown"
    assert b"traceparent: 00-" + TRACE.encode() in heads[0]
    server.close()
