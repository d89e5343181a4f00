"""Answers are compressed as the client asks, and only those that may be."""

import asyncio
import gzip
import json
import uuid
import zlib
from typing import Any

import brotli
import pytest
import zstandard

from easypay.api.compression import BROTLI, CODINGS, GZIP, IDENTITY, LEAST, ZSTD, Stream, accepted
from harness import ADMIN_KEY, Gateway, Shop, Stack, card, http_client, payment_uuid, until
from harness.many_payments import copies_of
from raw import Line, dial, post

DECODERS: dict[bytes, Any] = {
    ZSTD: lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
    GZIP: gzip.decompress,
    BROTLI: brotli.decompress,
}


@pytest.fixture
async def listed(simulated: Stack, shop: Shop) -> Shop:
    """Return a shop with 100 payments."""
    payment = await shop.paid(metadata={"note": "x" * 100})
    await copies_of(simulated.dsn, payment_uuid(payment["id"]), 99)
    return shop


# What a client takes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "best"),
    [
        (None, IDENTITY),
        ("", IDENTITY),
        ("gzip", GZIP),
        ("x-gzip", GZIP),
        ("GZip ; Q=1.000", GZIP),
        ("gzip, deflate", GZIP),
        ("deflate", IDENTITY),
        ("gzip, deflate, br, zstd", ZSTD),
        ("br, gzip", GZIP),
        ("br", BROTLI),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", BROTLI),
        ("zstd;q=0.2, br;q=0.4, gzip;q=0.3", BROTLI),
        ("identity", IDENTITY),
        ("identity, gzip", GZIP),
        ("identity;q=0.9, gzip;q=0.5", IDENTITY),
        ("identity;q=0.5, *;q=0.5", GZIP),
        ("identity;q=0", IDENTITY),  # nothing else is taken either
        ("gzip;q=0", IDENTITY),
        ("zstd;q=0, gzip", GZIP),
        ("*", GZIP),
        ("*;q=0", IDENTITY),
        ("gzip;q=0, *", IDENTITY),
        ("*;q=0, br", BROTLI),
        ("gzip;q=0.001", GZIP),
        # What cannot be read is passed over:
        ("gzip;q=2", IDENTITY),
        ("gzip;q=0.1234, br", BROTLI),
        ("gzip;level=9", IDENTITY),
        ("gzip;q=nan, br", BROTLI),
        (",,, ;q=1, gzip", GZIP),
        ("\xff\x00=;;;q=, zstd", ZSTD),
    ],
)
def test_the_coding_is_the_one_that_the_client_likes_best(header: str | None, best: bytes) -> None:
    assert accepted(None if header is None else header.encode("latin-1")).best == best


def test_what_is_not_named_is_taken_or_not() -> None:
    everything = {*CODINGS, IDENTITY}
    for header, takes in (
        (None, everything),
        (b"", {IDENTITY}),
        (b"gzip", {GZIP, IDENTITY}),
        (b"*", everything),
        (b"*;q=0", set()),
        (b"identity;q=0, gzip", {GZIP}),
        (b"gzip;q=0, *", everything - {GZIP}),
    ):
        assert accepted(header).takes == takes, header


def test_a_small_body_stays_as_it_is_if_the_client_takes_it() -> None:
    for header, coding in ((b"gzip", IDENTITY), (b"gzip, identity;q=0", GZIP)):
        assert accepted(header).coding_for(LEAST - 1) == coding
        assert accepted(header).coding_for(LEAST) == GZIP


def test_each_piece_of_a_stream_can_be_read_when_it_arrives_and_a_cut_one_has_no_end() -> None:
    pieces = [b'{"id":"pay_%d"}\n' % n * 500 for n in range(5)]
    for coding in CODINGS:
        stream, so_far = Stream(coding), b""
        reader: Any = {
            ZSTD: lambda: zstandard.ZstdDecompressor().decompressobj(),
            GZIP: lambda: zlib.decompressobj(31),
            BROTLI: brotli.Decompressor,
        }[coding]()
        read = reader.process if coding == BROTLI else reader.decompress
        for piece in pieces:
            so_far = stream.piece(piece)
            assert read(so_far) == piece
        is_over = reader.is_finished if coding == BROTLI else lambda: reader.eof  # noqa: B023
        assert not is_over()
        assert read(stream.end(b"last")) == b"last"
        assert is_over()


# Over HTTP --------------------------------------------------------------------------------------


async def test_a_list_arrives_whole_in_every_coding(gateway: Gateway, listed: Shop) -> None:
    """Once by a client that decodes, once byte by byte."""
    path = "/payments?limit=100"
    plain = await listed.client.get(path, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == "Authorization, Accept-Encoding"
    tags = {plain.headers["etag"]}
    for coding in CODINGS:
        name = coding.decode()
        answer = await listed.client.get(path, headers={"accept-encoding": name})
        assert answer.headers["content-encoding"] == name
        assert answer.content == plain.content
        assert answer.headers["vary"] == plain.headers["vary"]
        assert answer.headers["etag"] == f'{plain.headers["etag"][:-1]}-{name}"'
        tags.add(answer.headers["etag"])
        async with dial(gateway) as line:
            line.writer.write(_get(path, listed, f"Accept-Encoding: {name}"))
            _, headers, body = await line.answer()
            assert headers[b"content-encoding"] == coding
            assert len(body) == int(headers[b"content-length"]) < len(plain.content) / 4
            assert DECODERS[coding](body) == plain.content
            line.writer.write(
                _get(path, listed, f"Accept-Encoding: {name}").replace(b"GET", b"HEAD", 1)
                + _get(path, listed)
            )
            _, of_head = await line.head()
            assert _lasting(of_head) == _lasting(headers)
            assert (await line.answer())[2] == plain.content, "the HEAD had no body"
    assert len(tags) == 1 + len(CODINGS)


async def test_clients_who_share_a_read_get_each_their_coding(listed: Shop) -> None:
    """They ask at the same time; some have a copy, some ask for the head."""
    path = "/payments?limit=100"
    plain = await listed.client.get(path, headers={"accept-encoding": "identity"})

    async def asks(n: int) -> None:
        name = ("zstd", "gzip", "br", "identity")[n % 4]
        headers = {"accept-encoding": name}
        if n % 3 == 0:
            headers["if-none-match"] = plain.headers["etag"]
        method = "HEAD" if n % 5 == 0 else "GET"
        answer = await listed.client.request(method, path, headers=headers)
        assert answer.status_code == (304 if n % 3 == 0 else 200)
        if answer.status_code == 200:
            assert answer.headers.get("content-encoding", "identity") == name
            assert answer.content == (b"" if method == "HEAD" else plain.content)

    await asyncio.gather(*(asks(n) for n in range(60)))


async def test_what_clients_send_as_accept_encoding_never_fails(
    gateway: Gateway, listed: Shop
) -> None:
    path = "/payments?limit=100"
    for said, coding in (
        ("gzip;q=", None),
        (";;;,,,", None),
        ("*;q=0", None),
        ("identity;q=0", None),
        (", ".join(["deflate"] * 1000 + ["gzip"]), None),  # too many to be read
        (", ".join(["gzip;q=0.5"] * 900), b"gzip"),
        ("zstd" * 2000, None),
    ):
        async with dial(gateway) as line:
            line.writer.write(_get(path, listed, f"Accept-Encoding: {said}"))
            status, headers, body = await line.answer()
            assert status == b"HTTP/1.1 200 OK"
            assert headers.get(b"content-encoding") == coding, said[:40]
            decoded = body if coding is None else DECODERS[coding](body)
            assert len(json.loads(decoded)["data"]) == 100
    async with dial(gateway) as line:  # two lines are one list
        line.writer.write(_get(path, listed, "Accept-Encoding: br;q=0.1", "Accept-Encoding: zstd"))
        assert (await line.answer())[1][b"content-encoding"] == b"zstd"


async def test_pipelined_answers_in_several_codings_stay_apart(
    gateway: Gateway, listed: Shop
) -> None:
    path = "/payments?limit=100"
    async with dial(gateway) as line:
        line.writer.write(_get(path, listed))
        _, headers, plain = await line.answer()
        tag = headers[b"etag"].decode()
        line.writer.write(
            _get(path, listed, "Accept-Encoding: br")
            + _get(path, listed, f"If-None-Match: {tag}")
            + _get(path, listed, "Accept-Encoding: gzip")
            + _get("/payments?limit=1", listed, "If-None-Match: *")
            + _get(path, listed)
        )
        assert DECODERS[BROTLI]((await line.answer())[2]) == plain
        await _unchanged(line)
        assert DECODERS[GZIP]((await line.answer())[2]) == plain
        await _unchanged(line)
        assert (await line.answer())[2] == plain


async def test_money_secrets_and_errors_are_never_compressed(gateway: Gateway, shop: Shop) -> None:
    """They are longer than a list that is."""
    takes = {"accept-encoding": "zstd, br, gzip"}
    merchant = f"{gateway.url}/api/v1/admin/merchants"
    admin = takes | {"authorization": f"Bearer {ADMIN_KEY}"}
    long = {f"key{n}": "v" * 400 for n in range(5)}
    async with http_client() as client:
        paid = await shop.client.post(
            "/payments",
            json={
                "amount": 100,
                "currency": "USD",
                "payment_method": card(),
                "metadata": long,
            },
            headers=takes | {"idempotency-key": str(uuid.uuid4())},
        )
        made = await client.post(
            f"{merchant}/mer_{shop.merchant_id.hex}/keys",
            json={"mode": "test", "name": "n" * 40},
            headers=admin,
        )
        refused = await shop.client.get(f"/payments?{'x' * 2000}=1", headers=takes)
        keys = await client.get(f"{merchant}/mer_{shop.merchant_id.hex}/keys", headers=admin)
        merchants = await client.get(merchant, headers=admin)
        used = await shop.client.get(f"/idempotency-keys/{'k' * 200}", headers=takes)
    statuses = [each.status_code for each in (paid, made, refused, keys, merchants, used)]
    assert statuses == [201, 201, 422, 200, 200, 404]
    for answer in (paid, made, refused, keys, merchants, used):
        assert answer.headers["cache-control"] == "no-store"
        assert not {"content-encoding", "etag", "vary"} & answer.headers.keys()
        assert int(answer.headers["content-length"]) == len(answer.content)
    assert max(len(paid.content), len(merchants.content)) > LEAST
    # The same payment, when it is read:
    read = await shop.client.get(paid.headers["location"].removeprefix("/api/v1"), headers=takes)
    assert read.headers["content-encoding"] == "zstd"
    assert read.json() == paid.json()


async def test_pages_of_the_documentation_are_compressed_for_everyone(gateway: Gateway) -> None:
    async with http_client(base_url=gateway.url) as client:
        for path in ("/docs", "/docs/payments", "/openapi.json", "/problems/not_settled"):
            plain = await client.get(path, headers={"accept-encoding": "identity"})
            for coding in ("zstd", "br", "gzip"):
                answer = await client.get(path, headers={"accept-encoding": coding})
                assert answer.headers["content-encoding"] == coding
                assert answer.content == plain.content
                assert answer.headers["vary"] == "Accept-Encoding"
                assert int(answer.headers["content-length"]) < len(plain.content) / 2
                same = await client.get(
                    path,
                    headers={"accept-encoding": coding, "if-none-match": answer.headers["etag"]},
                )
                assert same.status_code == 304
                assert same.headers["cache-control"] == plain.headers["cache-control"]


async def test_the_log_and_the_metrics_say_what_was_sent(gateway: Gateway, listed: Shop) -> None:
    sizes = {}
    for coding in ("zstd", "identity"):
        answer = await listed.client.get("/payments?limit=100", headers={"accept-encoding": coding})
        sizes[coding] = (answer.headers["request-id"], int(answer.headers["content-length"]))
    head = await listed.client.head("/payments?limit=100", headers={"accept-encoding": "br"})
    sizes["br"] = (head.headers["request-id"], 0)
    for coding, (request_id, size) in sizes.items():

        async def line(wanted: str = request_id) -> dict[str, Any] | None:
            said = (each for each in gateway.logs().splitlines() if wanted in each)
            return next(map(json.loads, said), None)

        found = await until(line, what="the request is logged")
        assert found.get("bytes_out", 0) == size
        assert found.get("coding") == (None if coding == "identity" else coding)
    async with http_client() as client:
        text = await client.get(
            f"{gateway.url}/metrics", headers={"authorization": f"Bearer {ADMIN_KEY}"}
        )
    assert 'easypay_read_bytes_total{coding="zstd"}' in text.text


async def _unchanged(line: Line) -> None:
    status, headers = await line.head()
    assert status == b"HTTP/1.1 304 Not Modified"
    assert not {b"content-length", b"content-type", b"content-encoding"} & headers.keys()


def _get(path: str, shop: Shop, *lines: str) -> bytes:
    """Return a GET under /api/v1."""
    request = post(path, shop.secret, b"", *lines).replace(b"POST", b"GET", 1)
    return request.replace(b"Content-Type: application/json\r\n", b"").replace(
        b"Content-Length: 0\r\n", b""
    )


def _lasting(headers: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the headers that are the same each time."""
    changing = (b"request-id", b"server-timing", b"date")
    return {name: value for name, value in headers.items() if name not in changing}
