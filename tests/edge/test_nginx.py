"""nginx of deploy/cdn before the gateway: what it may store, and what it must pass on untouched."""

import asyncio
import json
import re
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from easypay.api.routes import ROUTES
from easypay.db.embedded import Cluster
from harness import (
    QUICK,
    QUICKER,
    Shop,
    Simulator,
    Stack,
    audit,
    card,
    http_client,
    own_stack,
    payment_uuid,
    stack_over,
    until,
)
from harness.many_payments import copies_of
from harness.metrics import counted
from harness.nginx import HOST, Nginx

PAYMENTS = 20_000
"""About 16 MB as JSON lines: more than the sockets on the way hold."""
HEADERS = ("etag", "cache-control", "content-type", "content-encoding", "vary", "location")

stack = own_stack(**QUICK, export_share="1")


@pytest.fixture(scope="module")
async def nginx(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nginx]:
    folder = tmp_path_factory.mktemp("edge") / "nginx"
    running = Nginx(folder, f"127.0.0.1:{stack.only_gateway.port}")
    try:
        yield await running.ready()
    finally:
        running.kill()


@pytest.fixture
async def shop(stack: Stack) -> Shop:
    return await stack.shop(stack.only_gateway)


def pay(client: httpx.AsyncClient, key: str | None = None, **over: Any) -> Any:
    body = {"amount": 2500, "currency": "USD", "payment_method": card(), **over}
    return client.post(
        "/api/v1/payments", json=body, headers={"idempotency-key": key or str(uuid.uuid4())}
    )


def same(through: httpx.Response, directly: httpx.Response) -> None:
    """Fail unless nginx passed on what the gateway says."""
    assert through.status_code == directly.status_code
    assert through.content == directly.content
    for name in HEADERS:
        assert through.headers.get(name) == directly.headers.get(name), name


async def test_two_keys_never_see_each_others_payment(
    stack: Stack, shop: Shop, nginx: Nginx
) -> None:
    other = await stack.shop(stack.only_gateway)
    async with nginx.client(shop.secret) as mine, nginx.client(other.secret) as theirs:
        made = await pay(mine)
        assert made.status_code == 201
        path = f"/api/v1/payments/{made.json()['id']}"
        for _ in range(3):
            assert (await mine.get(path)).json()["id"] == made.json()["id"]
            assert (await theirs.get(path)).status_code == 404
            assert [each["id"] for each in (await mine.get("/api/v1/payments")).json()["data"]] == [
                made.json()["id"]
            ]
            assert (await theirs.get("/api/v1/payments")).json()["data"] == []
        async with nginx.client() as nobody:
            assert (await nobody.get(path)).status_code == 401


async def test_etags_and_304s_pass(shop: Shop, nginx: Nginx) -> None:
    """Whatever the gateway answers to a conditional request, directly and through nginx."""
    payment = await shop.paid(capture="manual")
    paths = [f"payments/{payment['id']}", "payments", "payments/stats", "refunds"]
    async with nginx.client(shop.secret) as client:
        for path in paths:
            for encoding in ("identity", "gzip, br, zstd"):
                asked = {"accept-encoding": encoding}
                directly = await shop.client.get(path, headers=asked)
                same(await client.get(f"/api/v1/{path}", headers=asked), directly)
                for tag in (directly.headers.get("etag", '"none"'), '"other"', "*"):
                    asked["if-none-match"] = tag
                    directly = await shop.client.get(path, headers=asked)
                    same(await client.get(f"/api/v1/{path}", headers=asked), directly)
        tag = (await client.get(f"/api/v1/payments/{payment['id']}")).headers["etag"]
        asked = {"if-none-match": tag}
        unchanged = await client.get(f"/api/v1/payments/{payment['id']}", headers=asked)
        assert (unchanged.status_code, unchanged.headers["etag"]) == (304, tag)
        path = f"/api/v1/payments/{payment['id']}/capture"
        for given, status in (('"v0"', 412), (tag, 201)):
            headers = {"idempotency-key": str(uuid.uuid4()), "if-match": given}
            assert (await client.post(path, json={}, headers=headers)).status_code == status


@pytest.mark.parametrize("http2", [True, False])
async def test_clients_of_both_versions_pay_over_tls(
    stack: Stack, shop: Shop, nginx: Nginx, http2: bool
) -> None:
    limits = httpx.Limits(max_connections=1 if http2 else 20)
    async with nginx.client(shop.secret, http2=http2, limits=limits) as client:
        answers = await asyncio.gather(*(pay(client, amount=1000 + n) for n in range(20)))
    assert {answer.http_version for answer in answers} == {"HTTP/2" if http2 else "HTTP/1.1"}
    assert [answer.status_code for answer in answers] == [201] * 20
    assert [answer.json()["amount"] for answer in answers] == [1000 + n for n in range(20)]
    assert await audit(stack, shop) == []


async def test_the_documentation_is_stored_and_nothing_of_the_api_is(
    shop: Shop, nginx: Nginx
) -> None:
    async with nginx.client(shop.secret) as client:
        payment = (await pay(client, description="a secret of this shop")).json()
        for _ in range(2):
            for path in ("payments", f"payments/{payment['id']}", "payments/stats", "nothing"):
                answer = await client.get(f"/api/v1/{path}")
                assert "x-cache" not in answer.headers
            pages = [
                await client.get(path, headers={"accept-encoding": "identity"})
                for path in ("/docs", "/docs/payments", "/problems/not_found", "/openapi.json")
            ]
        assert [page.status_code for page in pages] == [200] * 4
        assert [page.headers["x-cache"] for page in pages] == ["HIT"] * 4
        assert all("public" in page.headers["cache-control"] for page in pages)
    stored = nginx.stored()
    assert all(page.content in stored for page in pages)
    for secret in (payment["id"], "a secret of this shop", shop.secret, shop.login):
        assert secret.encode() not in stored
    keys = set(re.findall(rb"\nKEY: (.+)\n", stored))
    assert {f"{HOST}{page.request.url.path}".encode() for page in pages} <= keys
    assert not [key for key in keys if b"/api" in key]


async def test_a_page_is_stored_in_each_coding_and_assets_for_good(
    stack: Stack, nginx: Nginx
) -> None:
    async with nginx.client() as client, http_client(base_url=stack.only_gateway.url) as direct:
        page = await direct.get("/docs")
        assets = set(re.findall(r"/docs/assets/[\w.-]+", page.text))
        assert assets
        for path in ("/docs", *assets):
            for coding in ("identity", "gzip", "br"):
                asked = {"accept-encoding": coding}
                for _ in range(2):
                    stored = await client.get(path, headers=asked)
                assert stored.headers["x-cache"] == "HIT"
                same(stored, await direct.get(path, headers=asked))
                if path in assets:
                    assert "immutable" in stored.headers["cache-control"]


async def test_every_page_that_may_be_stored_is_and_no_other(nginx: Nginx) -> None:
    async with nginx.client() as client:
        for route in ROUTES:
            method, path = route.call.split(" ")
            if method == "GET":
                answer = await client.get(path.replace("{", "").replace("}", ""))
                may_be_stored = path.startswith(("/docs", "/problems/", "/openapi.json"))
                assert ("x-cache" in answer.headers) == may_be_stored, path


async def test_administration_and_metrics_are_not_reachable(nginx: Nginx) -> None:
    async with nginx.client() as client:
        for path in ("admin/merchants", "/admin/merchants", "%61dmin/merchants", "x/../admin"):
            answer = await client.get(httpx.URL(f"https://127.0.0.1:{nginx.port}/api/v1/{path}"))
            assert answer.status_code == 404
            assert "request-id" not in answer.headers, "the gateway was not asked"
        for path in ("/metrics", "/readyz", "/api"):
            assert "request-id" not in (await client.get(path)).headers
        assert (await client.get("/livez")).text == "alive\n"


async def test_an_export_is_passed_on_as_it_comes(stack: Stack, shop: Shop, nginx: Nginx) -> None:
    payment = payment_uuid((await shop.paid())["id"])
    await copies_of(stack.dsn, payment, PAYMENTS - 1)
    exporter = await stack.with_key(shop, scopes=["payments:export"])
    running = stack.only_gateway.url, "easypay_exports_running"
    accept = {"accept": "application/jsonl", "accept-encoding": "identity"}
    async with nginx.client(exporter.secret) as client:
        async with client.stream("GET", "/api/v1/payments/export", headers=accept) as answer:
            pieces = answer.aiter_bytes()
            first = await anext(pieces)
            assert json.loads(first[: first.index(b"\n")])["id"]
            # The client reads no further: if nginx collected the answer the export would end.
            await asyncio.sleep(0.3)
            assert await counted(*running) == 1
            rest = b"".join([piece async for piece in pieces])
    *lines, last = (first + rest).rstrip(b"\n").split(b"\n")
    assert json.loads(last) == {"rows": PAYMENTS}
    assert len(lines) == PAYMENTS


@pytest.mark.parametrize("http2", [True, False])
async def test_what_is_too_large_is_refused_by_the_gateway_and_then_by_nginx(
    shop: Shop, nginx: Nginx, http2: bool
) -> None:
    async with nginx.client(shop.secret, http2=http2) as client:
        # Just below the limit: it is read, and never written to a file (there is no directory).
        largest = await pay(client, metadata={"note": "x" * 64_000})
        assert largest.status_code == 422
        refused = [(70_000, True), (120_000, True)]
        if not http2:  # over HTTP/2 httpx reads no answer before its whole body is sent
            refused.append((300_000, False))
        for size, by_gateway in refused:
            answer = await pay(client, metadata={"note": "x" * size})
            assert answer.status_code == 413
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"] == "body_too_large"
            assert ("request-id" in answer.headers) == by_gateway
        many = {f"x-header-{number}": "x" * 1000 for number in range(20)}
        answer = await client.get("/api/v1/payments", headers=many)
        assert (answer.status_code, answer.json()["code"]) == (431, "head_too_large")


async def test_a_gateway_that_dies_mid_request_charges_once(
    cluster: Cluster, template: str, simulator: Simulator, tmp_path: Path
) -> None:
    """nginx sends a payment to no second gateway. The client repeats it with its key."""
    async with stack_over(cluster, template, simulator, tmp_path) as stack:
        dying, healthy = await asyncio.gather(
            stack.gateway(**QUICKER, failpoint="mid_send"), stack.gateway(**QUICKER)
        )
        shop = await stack.shop(healthy)
        nginx = Nginx(tmp_path / "nginx", f"127.0.0.1:{dying.port}", f"127.0.0.1:{healthy.port}")
        try:
            await nginx.ready()
            async with nginx.client(shop.secret) as client:
                lost = await pay(client, "the-order")
                assert (lost.status_code, lost.json()["code"]) == (502, "no_answer")
                assert lost.headers["retry-after"] == "1"
                assert dying.process.wait(5) == -signal.SIGKILL
                taken = "http_server_request_duration_seconds_count"
                at = {"http_request_method": "POST", "http_route": "/api/v1/payments"}
                assert await counted(healthy.url, taken, **at) == 0

                async def known() -> bool:
                    answer = await pay(client, "the-order")
                    return answer.status_code == 201 and answer.json()["status"] == "captured"

                await until(known, what="the repeat has the outcome of the first request")
                # A read goes to the next gateway by itself.
                reads = [await client.get("/api/v1/payments") for _ in range(4)]
                assert {read.status_code for read in reads} == {200}
            assert len(await simulator.truth(login=shop.login)) == 1
            assert await audit(stack, shop) == []
        finally:
            nginx.kill()


async def test_gateways_that_restart_one_after_another_refuse_nothing(tmp_path: Path) -> None:
    """nginx leaves out who failed lately; the second must not find that nobody is left."""
    posts = 0
    connections: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal posts
        connections.append(writer)
        with suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                posts += head.startswith(b"POST")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def asked(client: httpx.AsyncClient) -> set[int]:
        answers = [await client.post("/api/v1/payments") for _ in range(6)]
        answers += [await client.get("/api/v1/payments") for _ in range(6)]
        return {each.status_code for each in answers}

    servers = [await asyncio.start_server(answer, "127.0.0.1", 0) for _ in range(2)]
    ports = [each.sockets[0].getsockname()[1] for each in servers]
    nginx = Nginx(tmp_path / "nginx", *(f"127.0.0.1:{port}" for port in ports))
    try:
        await nginx.ready()
        async with nginx.client("a-key") as client:
            for which, port in enumerate(ports):
                servers[which].close()
                for writer in connections:
                    writer.close()
                assert await asked(client) == {200}
                servers[which] = await asyncio.start_server(answer, "127.0.0.1", port)
            assert await asked(client) == {200}
            assert posts == 3 * 6
            for server in servers:
                server.close()
            for writer in connections:
                writer.close()
            assert await asked(client) == {502}
    finally:
        nginx.kill()


async def test_the_gateway_is_told_the_clients_address_and_not_what_the_client_says(
    tmp_path: Path,
) -> None:
    heads: list[str] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    nginx = Nginx(tmp_path / "nginx", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        await nginx.ready()
        async with nginx.client("a-key") as client:
            said = {"x-forwarded-for": "8.8.8.8", "x-forwarded-proto": "http"}
            await client.get("/api/v1/payments", headers=said)
            await client.get("/docs", headers=said)
        api, page = heads
        for head in heads:
            assert "x-forwarded-for: 127.0.0.1\r\n" in head
            assert "8.8.8.8" not in head
            assert f"host: {HOST}\r\n" in head
        assert "authorization: bearer a-key" in api
        assert "a-key" not in page, "a page is the same for everybody"
    finally:
        nginx.kill()
        server.close()
