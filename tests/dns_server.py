"""A DNS server of the tests' own, on loopback, over UDP and TCP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

Way = Literal["answer", "nxdomain", "servfail", "silent", "garbage", "truncated", "wrong id", "cut"]


class Records(NamedTuple):
    """What the server says about one name and type. No addresses: there are none (NODATA)."""

    addresses: tuple[str, ...] = ()
    ttl: int = 60
    way: Way = "answer"
    """`truncated`: the addresses come only over TCP. `cut`: it ends within the first of many."""


class DnsServer(asyncio.DatagramProtocol):
    """Answers by name and type; what is not in `records` does not exist."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], Records] = {}
        self.asked: list[str] = []
        """Each question: `A shop.example`, over TCP `A shop.example tcp`."""
        self.release: asyncio.Event | None = None
        """If it is set, answers wait for this event."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ("127.0.0.1", 0)

    def set(self, name: str, a: Records | None = None, aaaa: Records | None = None) -> None:
        """Set both types of a name; None: NODATA."""
        self.records[name, "A"] = a or Records()
        self.records[name, "AAAA"] = aaaa or Records()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        async def answer() -> None:
            if (reply := await self._reply(data, "")) is not None:
                self._transport.sendto(reply, addr)

        task = asyncio.create_task(answer())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def over_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        reply = await self._reply(await reader.readexactly(size), " tcp")
        if reply is not None:
            writer.write(len(reply).to_bytes(2, "big") + reply)
        writer.close()

    async def _reply(self, data: bytes, over: str) -> bytes | None:
        asked = dns.message.from_wire(data)
        (question,) = asked.question
        name, kind = question.name.to_text(omit_final_dot=True), question.rdtype.name
        self.asked.append(f"{kind} {name}{over}")
        if self.release is not None:
            await self.release.wait()
        records = self.records.get((name, kind), Records(way="nxdomain"))
        reply = dns.message.make_response(asked)
        way = records.way
        if way == "silent":
            return None
        if way == "garbage":
            return data[:2] + b"\xff" * 40
        if way == "servfail":
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif way == "nxdomain":
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif way == "truncated" and not over:
            reply.flags |= dns.flags.TC
        elif records.addresses:
            found = dns.rrset.from_text(question.name, records.ttl, "IN", kind, *records.addresses)
            reply.answer.append(found)
        if way == "wrong id":
            reply.id ^= 1
        wire = reply.to_wire()
        if way == "cut":
            first = reply.question[0].rdtype.to_bytes(2) + b"\x00\x01\x00\x00\x00\x3c\x00\x04"
            wire = wire[:6] + b"\x00\x64" + wire[8:] + b"\xc0\x0c" + first
        return wire

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._transport.close()


@asynccontextmanager
async def dns_serving() -> AsyncIterator[DnsServer]:
    """Yield a running server."""
    server = DnsServer()
    tcp = await asyncio.start_server(server.over_tcp, "127.0.0.1", 0)
    server.address = tcp.sockets[0].getsockname()
    await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: server, local_addr=server.address
    )
    try:
        yield server
    finally:
        server.close()
        tcp.close()
