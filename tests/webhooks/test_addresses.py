"""No webhook reaches a private address, however it is spelled and whatever its name said before."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from dns_server import DnsServer, Records, dns_serving
from easypay.webhooks.addresses import AllowedNames, is_allowed, networks, wrong_url
from easypay.webhooks.http_sender import KEPT_BYTES, HttpSender, NoAnswer, retry_after_s
from webhooks.receiver import receiving

PRIVATE = (
    *("127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "::", "10.0.0.1", "172.16.0.1", "172.31.9.9"),
    *("192.168.1.1", "169.254.169.254", "fe80::1", "100.64.0.1", "fd00::1", "fd00:ec2::254"),
    *("::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "::10.0.0.1"),
    *("224.0.0.1", "ff02::1", "255.255.255.255", "198.18.0.1", "192.0.2.1", "2001:db8::1"),
    *("fec0::1", "2001::1", "240.0.0.1", "fe80::1%eth0", "no address"),
    *("::ffff:0:10.0.0.1", "::ffff:0:127.0.0.1", "400::1", "4000::1", "5f00::1", "fe00::1"),
)
PUBLIC = ("8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808")


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_not_allowed(address: str) -> None:
    assert not is_allowed(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_allowed(address)


def test_an_operator_can_allow_a_network() -> None:
    allowed = networks(["10.1.0.0/16", "fd00::/8"])
    assert is_allowed("10.1.2.3", allowed)
    assert is_allowed("::ffff:10.1.2.3", allowed)
    assert is_allowed("fd00::1", allowed)
    assert not is_allowed("10.2.0.1", allowed)


@pytest.mark.parametrize(
    "url",
    [
        *("https://127.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://10.0.0.1"),
        *("https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/"),
        *("https://0x7f.1/", "https://[fd00::1]:8443/", "https://169.254.169.254/latest"),
        *("https://user:word@shop.example/", "ftp://shop.example/", "//shop.example", "shop"),
        *("https://shop.example:0/", "https://shop.example:99999/", "https://sh op.example/"),
        *("https://shop.example/\r\nX: y", "https://shöp.example/", "https://shop.example/#part"),
        *("https://shop.example/4111111111111111", "https://[v1.x]/", "https://[8.8.8.8]/"),
        *("https://a[2001:4860:4860::8888]b/", "https://[2001:4860:4860::8888]b:443/"),
        *("https://shop.example:/", "https://shop.example:0443/"),
        *("https://", "https://.example/", "https://-a.example/", "https://shop.example\\@x/", ""),
        *(
            "https://[fe80::1%25eth0]/",
            "https://shop.example./",
            f"https://shop.example/{2000 * 'a'}",
        ),
    ],
)
def test_a_bad_url_is_refused(url: str) -> None:
    assert wrong_url(url, live=False) is not None


def test_a_good_url_is_taken() -> None:
    for url in (
        *("https://shop.example/hooks?a=b", "https://8.8.8.8:8443/", "https://localhost/"),
        *("https://Shop.Example:443", "https://[2001:4860:4860::8888]:8443/"),
        "https://[2001:4860:4860::8888]?a",
    ):
        assert wrong_url(url, live=True) is None
    assert wrong_url("http://shop.example/", live=False) is None
    assert wrong_url("http://shop.example/", live=True) is not None


@pytest.fixture
async def dns() -> AsyncIterator[DnsServer]:
    async with dns_serving() as server:
        yield server


async def refused(sender: HttpSender, url: str) -> str:
    with pytest.raises(NoAnswer) as refusal:
        await sender.post(url, [], b"{}", limit_s=5)
    return str(refusal.value)


async def test_a_name_that_leads_to_a_private_address_is_refused(dns: DnsServer) -> None:
    dns.set("inside.example", Records(("127.0.0.1",)), Records(("::1",)))
    async with receiving() as receiver:
        port = receiver.url.rpartition(":")[2]
        sender = HttpSender(AllowedNames(resolver=dns.address))
        for host in ("inside.example", "localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "127.1"):
            await refused(sender, f"http://{host}:{port}/")
        told = await refused(sender, f"http://inside.example:{port}/")
        assert "not a public address" in told
        assert "127" not in told  # a merchant reads it, and is not told of the operator's network
        assert receiver.got == []
        await sender.close()


async def test_a_name_is_checked_again_when_it_changes(dns: DnsServer) -> None:
    """DNS rebinding: what was public a moment ago is private now."""
    dns.set("shop.example", Records(("127.0.0.1",), ttl=0), Records())
    async with receiving() as receiver, receiving("127.0.0.2") as inside:
        port = inside.url.rpartition(":")[2]
        allowed = AllowedNames(networks(["127.0.0.1/32"]), resolver=dns.address)
        sender = HttpSender(allowed)
        answer = await sender.post(
            f"http://shop.example:{receiver.url.rpartition(':')[2]}/", [], b"{}", limit_s=5
        )
        assert answer.status == 204
        dns.set("shop.example", Records(("127.0.0.2",), ttl=0), Records())
        assert "not a public" in await refused(sender, f"http://shop.example:{port}/")
        allowed.private = ()  # an open connection is checked, too
        await refused(sender, f"http://shop.example:{receiver.url.rpartition(':')[2]}/")
        assert inside.got == []
        assert len(receiver.got) == 1
        await sender.close()


async def test_an_endless_answer_is_cut_off() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
                await writer.drain()
        except ConnectionError:
            pass

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sender = HttpSender(AllowedNames(networks(["127.0.0.0/8"])))
    answer = await sender.post(f"http://127.0.0.1:{port}/", [], b"{}", limit_s=5)
    assert (answer.status, len(answer.body)) == (200, KEPT_BYTES)
    await sender.close()
    server.close()


async def test_a_silent_endpoint_has_a_time_limit() -> None:
    async with receiving() as receiver:
        receiver.answer = lambda _: asyncio.sleep(60)
        sender = HttpSender(AllowedNames(networks(["127.0.0.0/8"])))
        with pytest.raises(NoAnswer, match=r"no answer within 0\.2 s"):
            await sender.post(receiver.url, [], b"{}", limit_s=0.2)
        await sender.close()


async def test_a_connection_that_was_closed_meanwhile_is_replaced() -> None:
    async with receiving() as receiver:
        receiver.answer = lambda _: 204 if len(receiver.got) != 2 else None
        sender = HttpSender(AllowedNames(networks(["127.0.0.0/8"])))
        for _ in range(2):
            answer = await sender.post(receiver.url, [], b"{}", limit_s=5)
            assert answer.status == 204
        assert len(receiver.got) == 3  # the second arrived, and was sent again
        await sender.close()


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after_s(b"120") == 120
    assert retry_after_s(b"Wed, 21 Oct 2015 07:28:00 GMT") == 0
    for nonsense in (None, b"soon", b"-1", b"1e9", b"99999999999999"):
        assert retry_after_s(nonsense) is None


async def answered(*parts: bytes) -> tuple[int, bytes]:
    """Return what is made of an answer that ends with its connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sender = HttpSender(AllowedNames(networks(["127.0.0.0/8"])))
    port = server.sockets[0].getsockname()[1]
    try:
        answer = await sender.post(f"http://127.0.0.1:{port}/", [], b"{}", limit_s=5)
        return answer.status, answer.body
    finally:
        await sender.close()
        server.close()


async def test_an_answer_may_end_with_its_connection() -> None:
    """Servers that send no length close instead (RFC 9112, section 6.3)."""
    assert await answered(b"HTTP/1.0 200 OK\r\n\r\n", b"done") == (200, b"done")
    assert await answered(b"HTTP/1.1 410 Gone\r\n\r\n") == (410, b"")
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert await answered(early + b"HTTP/1.1 202 OK\r\n\r\n") == (202, b"")
    for cut_off in (b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nA: b\r\n", early):
        with pytest.raises(NoAnswer):
            await answered(cut_off)
