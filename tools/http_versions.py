"""Compare HTTP/1.1 with HTTP/2 to a processor: CPU of the client for each request, and latency.

    python tools/http_versions.py

A real nginx on loopback answers over TLS with a reply of the usual size. Rounds of the clients
take turns, so that a busy machine disturbs all of them alike. Needs nginx and `httpx[http2]`.
"""

import argparse
import asyncio
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import h2.config
import h2.connection
import h2.events
import httpx
import trustme
import uvloop

from easypay.clock import monotonic
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.authorize_net.http_client import HttpClient
from easypay.processors.base import Deadline

PORT: Final = 18_443
MANY: Final = httpx.Limits(max_keepalive_connections=128)
BODY: Final = b"x" * 900
REPLY: Final = "y" * 1_100
HEADERS: Final = [(":method", "POST"), (":scheme", "https"), (":path", "/xml/v1/request.api")]
Post = Callable[[], Awaitable[bool]]

CONFIGURATION: Final = """
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    keepalive_requests 10000000;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/certificate.pem;
        location / {{ return 200 "{reply}"; }}
    }}
}}
"""


class Http2(asyncio.Protocol):
    """The least that a client of ours would need: one connection, many streams."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.waiting: dict[int, asyncio.Future[bool]] = {}
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding=None, validate_inbound_headers=False)
        )
        self.h2.initiate_connection()
        self.transport.write(self.h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.waiting.pop(event.stream_id).set_result(True)
        if out := self.h2.data_to_send():
            self.transport.write(out)

    async def post(self) -> bool:
        number = self.h2.get_next_available_stream_id()
        done = self.waiting[number] = asyncio.get_running_loop().create_future()
        headers = [*HEADERS, (":authority", "localhost"), ("content-type", "application/json")]
        self.h2.send_headers(number, [*headers, ("content-length", str(len(BODY)))])
        self.h2.send_data(number, BODY, end_stream=True)
        self.transport.write(self.h2.data_to_send())
        return await done


def trusting(protocol: str) -> ssl.SSLContext:
    """Return a context of its own for each client: httpx changes the one that it gets."""
    context = ssl.create_default_context()
    CA.configure_trust(context)
    context.set_alpn_protocols([protocol])
    return context


async def clients(port: int) -> dict[str, Post]:
    """Return each client's way to send one request; True if the reply is right."""
    url = f"https://localhost:{port}/xml/v1/request.api"
    ours = HttpClient(ssl_context=trusting("http/1.1"), connect_timeout_s=20)
    usual = httpx.AsyncClient(verify=trusting("http/1.1"), limits=MANY, timeout=30)
    usual_2 = httpx.AsyncClient(verify=trusting("h2"), http2=True, http1=False, timeout=30)
    loop = asyncio.get_running_loop()
    _, lean_2 = await loop.create_connection(
        Http2, "127.0.0.1", port, ssl=trusting("h2"), server_hostname="localhost"
    )

    async def with_ours() -> bool:
        reply = await ours.post(url, BODY, Deadline(monotonic() + 30))
        return isinstance(reply, Reply) and len(reply.body) == len(REPLY)

    def with_httpx(client: httpx.AsyncClient, version: str) -> Post:
        async def post() -> bool:
            reply = await client.post(url, content=BODY)
            return reply.http_version == version and len(reply.content) == len(REPLY)

        return post

    return {
        "ours, HTTP/1.1": with_ours,
        "h2 alone, HTTP/2": lean_2.post,
        "httpx, HTTP/1.1": with_httpx(usual, "HTTP/1.1"),
        "httpx, HTTP/2": with_httpx(usual_2, "HTTP/2"),
    }


CA: Final = trustme.CA()


async def one_round(post: Post, in_flight: int, requests: int) -> tuple[float, list[float]]:
    """Return CPU seconds for each request of this process, and the latencies."""
    left = requests
    latencies: list[float] = []

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            begun = time.perf_counter()
            assert await post()
            latencies.append(time.perf_counter() - begun)

    cpu = time.process_time()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return (time.process_time() - cpu) / requests, latencies


async def compare(
    port: int, rounds: int, requests: int
) -> list[tuple[int, str, float, float, float]]:
    """Return rows: in flight, client, CPU in µs, p50 and p99 in ms; medians over the rounds."""
    posts = await clients(port)
    rows = []
    for in_flight in (1, 8, 64):
        cpu: dict[str, list[float]] = {name: [] for name in posts}
        times: dict[str, list[float]] = {name: [] for name in posts}
        for number in range(-1, rounds):
            for name, post in posts.items():
                seconds, latencies = await one_round(post, in_flight, requests)
                if number >= 0:  # the first warms up
                    cpu[name].append(seconds)
                    times[name] += latencies
        for name in posts:
            times[name].sort()
            p50, p99 = (times[name][int(len(times[name]) * part)] for part in (0.5, 0.99))
            rows.append((in_flight, name, statistics.median(cpu[name]) * 1e6, p50 * 1e3, p99 * 1e3))
    return rows


def wait_for(port: int) -> None:
    """Wait until something listens on the port, at most ten seconds."""
    for _ in range(1000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    sys.exit("nginx does not listen")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--port", type=int, default=PORT)
    asked = parser.parse_args()
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        sys.exit("nginx is not installed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        CA.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
            str(folder / "certificate.pem")
        )
        config = folder / "nginx.conf"
        config.write_text(CONFIGURATION.format(folder=folder, port=asked.port, reply=REPLY))
        server = subprocess.Popen([program, "-c", str(config), "-e", str(folder / "error.log")])  # noqa: S603
        try:
            wait_for(asked.port)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                rows = runner.run(compare(asked.port, asked.rounds, asked.requests))
        finally:
            server.terminate()
            server.wait()
    lines = [
        "| in flight | client | CPU a request | p50 | p99 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for in_flight, client, cpu, p50, p99 in rows:
        lines.append(f"| {in_flight} | {client} | {cpu:.0f} µs | {p50:.2f} ms | {p99:.2f} ms |")
    sys.stdout.write("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
