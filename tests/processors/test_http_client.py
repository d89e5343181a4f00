"""What each network failure proves: never sent, or unknown. Over plain TCP and TLS, on both event
loops, against a server that counts the requests it gets."""

import asyncio
import contextlib
import signal
import socket
import ssl
import sys
import threading
from time import monotonic
from typing import Any

import pytest

from easypay.processors.authorize_net.connection import Reply
from easypay.processors.authorize_net.http_client import HttpClient
from easypay.processors.base import NotSent, Unknown

from .outcomes import expect
from .scripted_server import (
    ANSWER,
    BODY,
    CA,
    Act,
    Peer,
    Server,
    after_request,
    each_time,
    http,
    keep_answering,
    on_each_loop,
    serving,
    stall,
    trusting,
    within,
)


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


# Acts that end unknown: each reads the whole request first.


async def trickle(peer: Peer) -> None:
    await peer.request()
    for byte in http(b" " * 1000):
        await peer.send(bytes([byte]))
        await asyncio.sleep(0.02)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
stall_in_body = after_request(http()[:-5], "wait")
UNKNOWN = {
    "reset after request": after_request(b"", "reset"),
    "close after request": after_request(b""),
    "reset in headers": after_request(http()[:30], "reset"),
    "close in headers": after_request(http()[:30]),
    "reset in body": after_request(http()[:-5], "reset"),
    "truncated": after_request(http()[:-5]),
    "truncated chunks": after_request(CHUNKED + b"3\r\n{}\n\r\n"),
    "no length": after_request(OK + b"\r\n" + ANSWER),
    "stall": stall,
    "stall in body": stall_in_body,
    "trickle": trickle,
    "garbage": after_request(b"\x00\x01\x02 what?\r\n\r\n", "wait"),
    "bad chunk": after_request(CHUNKED + b"zz\r\n", "wait"),
    "two lengths": after_request(
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}\n", "wait"
    ),
    "huge body": after_request(http(b"x" * 300_000), "wait"),
    "endless headers": after_request(OK + (b"X-Name: %s\r\n" % (b"x" * 100)) * 10_000, "wait"),
    "upgrade": after_request(UPGRADE, "wait"),
}


@pytest.mark.parametrize("act", UNKNOWN.values(), ids=UNKNOWN)
@on_each_loop
async def test_once_sent_every_failure_is_unknown_and_is_not_sent_again(
    act: Act, tls: bool
) -> None:
    async with serving(act, tls, max_reply_bytes=100_000) as (server, client):
        began = monotonic()
        time_s = 0.5 if act in (stall, stall_in_body, trickle) else 10
        expect(Unknown, await client.post(server.url, BODY, within(time_s)))
        assert monotonic() - began < 3
        assert len(server.requests) == 1
        assert client._open == 0, "a failed connection must not be kept"


# Acts that end in a reply.


_CHUNKS = CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in ANSWER) + b"0\r\n\r\n"
REPLIES = {
    "keeps answering": (keep_answering, 1),
    "byte by byte": (each_time(http(), bytewise=True), 1),
    "chunked": (each_time(_CHUNKS, bytewise=True), 1),
    "interim answer first": (each_time(b"HTTP/1.1 100 Continue\r\n\r\n" + http()), 1),
    "says close": (after_request(http(ANSWER, "200 OK", "Connection: close")), 3),
    "closes without a word": (after_request(http()), 3),
    "answers twice": (each_time(http() + http(b"the other")), 3),
    "babbles after": (after_request(http() + b"\x00\x01 and so on", "wait"), 3),
}
"""The connections that three calls need."""


@pytest.mark.parametrize(("act", "connections"), REPLIES.values(), ids=REPLIES)
@on_each_loop
async def test_a_whole_answer_is_a_reply_and_only_a_clean_connection_is_reused(
    act: Act, connections: int, tls: bool
) -> None:
    async with serving(act, tls) as (server, client):
        for _ in range(3):
            assert await client.post(server.url, BODY, within(2)) == Reply(200, ANSWER)
            while connections > 1 and client._open:  # let the close arrive
                await asyncio.sleep(0)
        assert [request[-len(BODY) :] for request in server.requests] == [BODY] * 3
        assert server.connections == connections


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (http(b"oops", "500 Internal Server Error"), Reply(500, b"oops")),
        (http(b"<html>", "200 OK", "Content-Type: text/html"), Reply(200, b"<html>")),
        (http(b"", "204 No Content"), Reply(204, b"")),
        (http(b"", "302 Found", "Location: http://elsewhere/"), Reply(302, b"")),
        (http(b"x" * 90_000), Reply(200, b"x" * 90_000)),
    ],
    ids=["500", "html", "204", "redirect", "large"],
)
@on_each_loop
async def test_any_status_and_body_is_a_reply(sent: bytes, expected: Reply, tls: bool) -> None:
    act = after_request(sent, "wait")
    async with serving(act, tls, max_reply_bytes=100_000) as (server, client):
        assert await client.post(server.url, BODY, within(2)) == expected
        assert len(server.requests) == 1


@on_each_loop
async def test_a_late_second_answer_ends_the_connection(tls: bool) -> None:
    async def answers_again_later(peer: Peer) -> None:
        await peer.request()
        await peer.send(http())
        await asyncio.sleep(0.02)
        await peer.send(http(b"the other"))
        await peer.gone()

    async with serving(answers_again_later, tls) as (server, client):
        assert await client.post(server.url, BODY, within(2)) == Reply(200, ANSWER)
        await asyncio.wait_for(server.closed_by_client.wait(), 30)
        assert await client.post(server.url, BODY, within(2)) == Reply(200, ANSWER)
        assert server.connections == 2


@on_each_loop
async def test_the_request_is_well_formed() -> None:
    async with serving(keep_answering) as (server, client):
        await client.post(server.url, BODY, within(2))
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert lines[0] == "POST /xml/v1/request.api HTTP/1.1"
        assert lines[1] == f"Host: localhost:{server.port}"
        assert "Content-Type: application/json" in lines
        assert lines[-1] == f"Content-Length: {len(BODY)}"
        assert body == BODY


# Never sent.


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid", "a" * 64 + ".example"])
@on_each_loop
async def test_no_connection_means_never_sent(host: str, tls: bool) -> None:
    client = HttpClient(ssl_context=trusting(), connect_timeout_s=0.5)
    url = f"{'https' if tls else 'http'}://{host}:{unused_port()}/"
    expect(NotSent, await client.post(url, BODY, within(2)))
    assert client._open == 0
    await client.close()


@pytest.mark.parametrize(
    "options",
    [{"ssl_context": None}, {"identity": "other.example"}],
    ids=["of unknown authority", "of another host"],
)
@on_each_loop
async def test_an_untrusted_certificate_means_never_sent(options: dict[str, Any]) -> None:
    """Without a context, the client trusts only the system's authorities."""
    async with serving(after_request(b""), True, **options) as (server, client):
        outcome = expect(NotSent, await client.post(server.url, BODY, within(2)))
        assert "CERTIFICATE_VERIFY_FAILED" in outcome.reason
        assert server.requests == []


async def greet_in_plain(peer: Peer) -> None:
    await peer.send(b"220 welcome\r\n")
    await peer.gone()


async def close_at_once(peer: Peer) -> None:
    pass


async def reset_at_once(peer: Peer) -> None:
    peer.reset()


@pytest.mark.parametrize(
    "act",
    [greet_in_plain, close_at_once, reset_at_once, Peer.gone],
    ids=lambda act: act.__name__,
)
@on_each_loop
async def test_a_failed_tls_handshake_means_never_sent(act: Act) -> None:
    async with serving(act, connect_timeout_s=0.25) as (server, client):
        began = monotonic()
        url = server.url.replace("http:", "https:")
        expect(NotSent, await client.post(url, BODY, within(5)))
        assert monotonic() - began < 3
        assert client._open == 0


@pytest.mark.parametrize("act", [close_at_once, reset_at_once], ids=lambda act: act.__name__)
@on_each_loop
async def test_a_connection_closed_at_once_is_not_mistaken_for_an_answer(
    act: Act, tls: bool
) -> None:
    async with serving(act, tls) as (server, client):
        assert isinstance(await client.post(server.url, BODY, within(2)), NotSent | Unknown)
        assert server.requests == []
        assert client._open == 0


async def answers_then_stalls(peer: Peer) -> None:
    await peer.request()
    await peer.send(http())
    await peer.request()
    await peer.gone()


@pytest.mark.parametrize(("first_s", "second_s"), [(1, 1.3), (60, 0.5)])
@on_each_loop
async def test_each_call_of_a_connection_has_its_own_time(first_s: float, second_s: float) -> None:
    """One timer serves all calls of a connection, whether the later one has more time or less."""
    async with serving(answers_then_stalls) as (server, client):
        assert await client.post(server.url, BODY, within(first_s)) == Reply(200, ANSWER)
        begun = monotonic()
        unknown = expect(Unknown, await client.post(server.url, BODY, within(second_s)))
        assert monotonic() - begun > second_s - 0.05, (
            "the first call's timer did not end the second"
        )
        assert unknown.reason == "no complete answer in time"
        assert server.connections == 1


@pytest.mark.parametrize("left_s", [0.19, 0, -5])
@on_each_loop
async def test_a_call_after_its_deadline_is_not_started(left_s: float) -> None:
    async with serving(keep_answering) as (server, client):
        expect(NotSent, await client.post(server.url, BODY, within(left_s)))
        assert server.connections == 0


@on_each_loop
async def test_a_refused_connection_is_tried_again(tls: bool) -> None:
    server = Server(keep_answering, tls)
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))  # bound but not listening: refused
    server.port = sock.getsockname()[1]
    client = HttpClient(ssl_context=trusting())
    call = asyncio.create_task(client.post(server.url, BODY, within(2)))
    await asyncio.sleep(0.005)
    await server.listen(sock)
    assert await call == Reply(200, ANSWER)
    assert len(server.requests) == 1
    await client.close()
    await server.close()


@on_each_loop
async def test_a_close_the_event_loop_has_not_read_is_noticed_before_writing(tls: bool) -> None:
    """The server closes after each answer, and the event loop gets no turn to notice it."""
    listener = socket.create_server(("127.0.0.1", 0))
    hung_up = threading.Event()
    requests: list[bytes] = []

    def serve() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        CA.issue_cert("localhost").configure_cert(context)
        for _ in range(5):
            connection, _ = listener.accept()
            with context.wrap_socket(connection, server_side=True) if tls else connection as peer:
                requests.append(peer.recv(65536))
                peer.sendall(http())
            hung_up.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    client = HttpClient(ssl_context=trusting())
    url = f"{'https' if tls else 'http'}://localhost:{listener.getsockname()[1]}/"
    for _ in range(5):
        assert await client.post(url, BODY, within(2)) == Reply(200, ANSWER)
        assert hung_up.wait(2)
        hung_up.clear()
    assert len(requests) == 5
    await client.close()
    thread.join(2)
    listener.close()


@on_each_loop
async def test_an_invalid_address_is_refused() -> None:
    for url in ("ftp://host/", "http://", "host/path", "http://host/a b"):
        with pytest.raises(ValueError, match="not an http or https address"):
            await HttpClient().post(url, BODY, within(1))


# The pool.


@on_each_loop
async def test_the_number_of_open_connections_is_limited(tls: bool) -> None:
    async with serving(keep_answering, tls, connections=3) as (server, client):
        posts = [client.post(server.url, BODY, within(5)) for _ in range(60)]
        assert await asyncio.gather(*posts) == [Reply(200, ANSWER)] * 60
        assert server.connections <= 3
        assert len(server.requests) == 60


@on_each_loop
async def test_waiting_for_a_connection_ends_at_the_deadline_as_never_sent() -> None:
    async with serving(stall, connections=1) as (server, client):
        first = asyncio.create_task(client.post(server.url, BODY, within(0.5)))
        await server.asked.wait()
        outcome = await client.post(server.url, BODY, within(0.3))
        assert outcome == NotSent(reason="every connection was busy")
        expect(Unknown, await first)
        assert len(server.requests) == 1


async def first_stalls(peer: Peer) -> None:
    await (stall if peer.server.connections == 1 else keep_answering)(peer)


@on_each_loop
async def test_a_failed_call_passes_its_slot_to_a_waiting_call() -> None:
    async with serving(first_stalls, connections=1) as (server, client):
        first = asyncio.create_task(client.post(server.url, BODY, within(0.6)))
        await server.asked.wait()
        second = await client.post(server.url, BODY, within(3))
        expect(Unknown, await first)
        assert second == Reply(200, ANSWER)


@on_each_loop
async def test_a_cancelled_caller_closes_its_connection_and_frees_its_slot(tls: bool) -> None:
    async with serving(first_stalls, tls, connections=1) as (server, client):
        call = asyncio.create_task(client.post(server.url, BODY, within(10)))
        await server.asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(server.closed_by_client.wait(), 30)
        assert await client.post(server.url, BODY, within(2)) == Reply(200, ANSWER)
        assert len(server.requests) == 2


@on_each_loop
async def test_cancelling_waiting_calls_loses_no_slot() -> None:
    release = asyncio.Event()

    async def answer_when_released(peer: Peer) -> None:
        while True:
            await peer.request()
            await release.wait()
            await peer.send(http())

    async with serving(answer_when_released, connections=2) as (server, client):
        posts = [client.post(server.url, BODY, within(10)) for _ in range(40)]
        calls = [asyncio.create_task(each) for each in posts]
        while len(server.requests) < 2:
            await asyncio.sleep(0)
        release.set()
        for number, call in enumerate(calls):  # at every stage of getting a connection
            if number % 2:
                call.cancel()
            await asyncio.sleep(0)
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(
            result == Reply(200, ANSWER) or isinstance(result, asyncio.CancelledError)
            for result in results
        )
        after = [client.post(server.url, BODY, within(2)) for _ in range(10)]
        assert await asyncio.gather(*after) == [Reply(200, ANSWER)] * 10
        assert client._open <= 2
        assert server.most_open <= 3  # one may still be closing
        await client.close()
        assert client._open == 0


@on_each_loop
async def test_another_host_takes_over_the_slot_of_an_idle_connection() -> None:
    async with (
        serving(keep_answering, connections=1) as (one, client),
        serving(keep_answering) as (other, _),
    ):
        for server in (one, other, one, other):
            assert await client.post(server.url, BODY, within(2)) == Reply(200, ANSWER)
        assert client._open == 1


@on_each_loop
async def test_an_idle_connection_is_closed_before_the_server_closes_it() -> None:
    async with serving(after_request(http(), "wait"), idle_s=0.05) as (server, client):
        await client.post(server.url, BODY, within(2))
        await asyncio.wait_for(server.closed_by_client.wait(), 30)
        assert client._open == 0


@on_each_loop
async def test_closing_ends_calls_in_flight_as_unknown_and_later_ones_as_never_sent(
    tls: bool,
) -> None:
    async with serving(stall, tls, connections=1) as (server, client):
        sent = asyncio.create_task(client.post(server.url, BODY, within(10)))
        await server.asked.wait()
        waiting = asyncio.create_task(client.post(server.url, BODY, within(10)))
        await asyncio.sleep(0)
        await client.close()
        expect(Unknown, await sent)
        expect(NotSent, await waiting)
        expect(NotSent, await client.post(server.url, BODY, within(10)))
        assert len(server.requests) == 1


KILLED_MID_SEND = """
import asyncio, json, os, signal, sys, time
import uvloop
from easypay.processors.authorize_net.http_client import HttpClient
from easypay.processors.base import Deadline

async def main():
    client = HttpClient(after_write=lambda: os.kill(os.getpid(), signal.SIGKILL))
    await client.post(sys.argv[1], sys.argv[2].encode(), Deadline(time.monotonic() + 5))

loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
with asyncio.Runner(loop_factory=loops[sys.argv[3]]) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_process_killed_after_the_write_has_sent_the_whole_request(loop: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = Server(stall, False)
        await server.listen()
        stack.callback(server.server.close)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED_MID_SEND, server.url, BODY.decode(), loop
        )
        assert await asyncio.wait_for(process.wait(), 20) == -signal.SIGKILL
        await asyncio.wait_for(server.asked.wait(), 30)
        await asyncio.wait_for(server.closed_by_client.wait(), 30)
        assert len(server.requests) == 1
        assert server.requests[0].endswith(BODY)
