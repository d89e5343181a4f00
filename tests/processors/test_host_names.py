"""Which addresses a name has: by the time to live of each answer, and while the resolver fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import monotonic, process_time
from typing import Any

import dns.asyncresolver
import pytest

from dns_server import DnsServer, Records, Way, dns_serving
from easypay.processors import host_names
from easypay.processors.host_names import HostNames, NoAddress

NAME = "pay.example"
FOUR, OTHER_FOUR, SIX = "192.0.2.7", "192.0.2.8", "2001:db8::7"


class Clock:
    """The clock of the names, moved by a test."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return monotonic() + self.ahead_s


@asynccontextmanager
async def resolving(**options: Any) -> AsyncIterator[tuple[DnsServer, HostNames, Clock]]:
    clock = Clock()
    async with dns_serving() as server:
        names = HostNames(resolver=server.address, now=clock, **options)
        try:
            yield server, names, clock
        finally:
            await names.close()


async def found(names: HostNames) -> tuple[str, ...]:
    return (await names.addresses(NAME)).all


@pytest.mark.parametrize("ttl_s", [0, 1, 86_400])
async def test_an_answer_is_used_for_its_time_to_live(ttl_s: int) -> None:
    async with resolving() as (server, names, clock):
        server.set(NAME, Records((FOUR,), ttl_s), Records((SIX,), ttl_s))
        assert await found(names) == (SIX, FOUR), "both families in turn"
        clock.ahead_s += max(0, ttl_s - 0.5)
        assert await found(names) == (SIX, FOUR)
        assert len(server.asked) == (2 if ttl_s else 4), "one question for each family"
        server.set(NAME, Records((OTHER_FOUR,), ttl_s))
        clock.ahead_s += 0.6
        assert await found(names) == (OTHER_FOUR,)
        assert names.stale == 0


async def test_a_thousand_callers_cost_one_lookup() -> None:
    async with resolving() as (server, names, _):
        server.set(NAME, Records((FOUR,)))
        await asyncio.gather(*(found(names) for _ in range(1000)))
        assert sorted(server.asked) == [f"A {NAME}", f"AAAA {NAME}"]
        assert names.lookups == {"found": 1, "absent": 1}


async def test_only_so_many_names_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merchants choose the hosts of their webhooks, again and again."""
    monkeypatch.setattr(host_names, "MOST_NAMES", 10)
    async with resolving() as (server, names, _):
        for n in range(50):
            server.set(f"shop{n}.example", Records((FOUR,)))
            await names.addresses(f"shop{n}.example")
        assert len(server.asked) == 100
        await names.addresses("shop49.example")
        assert len(server.asked) == 100
        await names.addresses("shop0.example")
        assert len(server.asked) == 102


@pytest.mark.parametrize("way", ["servfail", "garbage", "silent", "wrong id", "cut"])
async def test_while_the_resolver_fails_the_last_answer_is_used_for_a_limited_time(
    way: Way,
) -> None:
    async with resolving(stale_s=300) as (server, names, clock):
        server.set(NAME, Records((FOUR,), 10), Records((SIX,), 10))
        await found(names)
        server.set(NAME, Records(way=way), Records(way=way))
        clock.ahead_s += 309
        begun = monotonic()
        stale = await names.addresses(NAME)
        assert stale.all == (SIX, FOUR)
        assert monotonic() - begun < 0.6
        assert not stale.lack(OTHER_FOUR), "nothing is known now, so nothing is known to be gone"
        assert names.stale == 1
        clock.ahead_s += 2
        with pytest.raises((NoAddress, TimeoutError)):
            await asyncio.wait_for(found(names), 0.2)


async def test_after_a_failure_a_new_answer_is_used() -> None:
    async with resolving(stale_s=0) as (server, names, clock):
        server.set(NAME, Records((FOUR,), 10))
        await found(names)
        server.set(NAME, Records(way="servfail"), Records(way="servfail"))
        clock.ahead_s += 11
        with pytest.raises(NoAddress, match="no resolver answered"):
            await found(names)
        server.set(NAME, Records((OTHER_FOUR,)))
        clock.ahead_s += 2
        assert await found(names) == (OTHER_FOUR,)


async def test_an_answer_that_there_is_no_such_name_is_believed() -> None:
    async with resolving() as (server, names, clock):
        server.set(NAME, Records((FOUR,), 1))
        await found(names)
        server.records.clear()
        clock.ahead_s += 70
        with pytest.raises(NoAddress, match="DNS has none"):
            await found(names)
        asked = len(server.asked)
        with pytest.raises(NoAddress):
            await found(names)
        assert len(server.asked) == asked, "for a second nobody asks again"


async def test_a_name_without_an_address_is_asked_for_again_after_a_second() -> None:
    """A resolver that starts may answer so, without an error: no payment can be made meanwhile."""
    async with resolving() as (server, names, clock):
        server.set(NAME)
        with pytest.raises(NoAddress, match="DNS has none"):
            await found(names)
        server.set(NAME, Records((FOUR,)))
        clock.ahead_s += 1.1
        assert await found(names) == (FOUR,)
        clock.ahead_s += 30
        await found(names)
        assert server.asked.count(f"AAAA {NAME}") == 2, "no IPv6 is believed for longer"


@pytest.mark.parametrize(
    "text", [b"nameserver a-name\n", b"# caf\xe9\n", b"nameserver 127.0.0.1\nsearch a..b\n"]
)
async def test_a_bad_resolv_conf_is_a_resolver_that_does_not_answer(
    text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "resolv.conf"
    file.write_bytes(text)
    configured = partial(dns.asyncresolver.Resolver, str(file))
    monkeypatch.setattr(dns.asyncresolver, "Resolver", configured)
    names = HostNames()
    with pytest.raises(NoAddress, match="no resolver answered"):
        await found(names)
    assert names.lookups == {"failed": 2}


async def test_a_failing_resolver_is_asked_once_a_second() -> None:
    async with resolving() as (server, names, clock):
        server.set(NAME, Records(way="servfail"), Records(way="servfail"))
        for _ in range(20):
            with pytest.raises(NoAddress):
                await found(names)
        asked = len(server.asked)
        assert asked <= 2
        clock.ahead_s += 1.1
        with pytest.raises(NoAddress):
            await found(names)
        assert asked < len(server.asked) <= 2 * asked


@pytest.mark.parametrize("way", ["servfail", "silent", "garbage"])
async def test_a_family_that_the_resolver_does_not_answer_costs_a_moment(way: Way) -> None:
    async with resolving() as (server, names, _):
        server.set(NAME, Records((FOUR,)), Records(way=way))
        begun = monotonic()
        addresses = await names.addresses(NAME)
        assert monotonic() - begun < 0.4
        assert addresses.all == (FOUR,)
        assert addresses.lack(OTHER_FOUR)
        assert not addresses.lack(SIX), "it did not say that there is none"


async def test_a_slow_resolver_holds_up_nobody_who_has_older_addresses() -> None:
    async with resolving() as (server, names, clock):
        server.set(NAME, Records((FOUR,), 1))
        await found(names)
        server.release = asyncio.Event()
        server.set(NAME, Records((OTHER_FOUR,), 60))
        clock.ahead_s += 100
        assert await found(names) == (FOUR,)
        server.release.set()
        while names.lookups["found"] < 2:
            await asyncio.sleep(0.01)
        assert await found(names) == (OTHER_FOUR,), "the lookup went on"


async def test_a_lost_packet_is_asked_again_within_the_time_to_connect() -> None:
    async with resolving() as (server, names, _):
        server.set(NAME, Records((FOUR,), way="silent"))
        call = asyncio.create_task(found(names))
        while f"A {NAME}" not in server.asked:
            await asyncio.sleep(0.01)
        server.set(NAME, Records((FOUR,)))
        assert await asyncio.wait_for(call, 0.9) == (FOUR,)


async def test_an_answer_that_is_too_long_comes_over_tcp() -> None:
    async with resolving() as (server, names, _):
        many = tuple(f"192.0.2.{number}" for number in range(1, 60))
        server.set(NAME, Records(many, way="truncated"))
        assert sorted(await found(names)) == sorted(many)
        assert f"A {NAME} tcp" in server.asked


async def test_an_address_that_failed_is_tried_last_for_a_while() -> None:
    async with resolving() as (server, names, clock):
        server.set(NAME, Records((FOUR, OTHER_FOUR), 86_400), Records((SIX,), 86_400))
        usual = await found(names)
        names.try_last(SIX)
        assert await found(names) == (*usual[1:], SIX)
        names.try_last(usual[1])
        assert await found(names) == (usual[2], SIX, usual[1])
        clock.ahead_s += 61
        assert await found(names) == usual


async def test_addresses_and_the_hosts_file_need_no_dns(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("10.1.1.1 Simulator sim # the test's\n0:0::1 localhost\nnonsense other\n")
    async with resolving(hosts_file=hosts) as (server, names, _):
        for name, addresses in {
            "127.0.0.1": ("127.0.0.1",),
            "0:0::1": ("::1",),
            "simulator": ("10.1.1.1",),
            "SIM": ("10.1.1.1",),
            "localhost": ("::1",),
            "shop.localhost": ("127.0.0.1", "::1"),
        }.items():
            assert (await names.addresses(name)).all == addresses
        hosts.write_text("10.1.1.22 simulator\n")
        moved = await names.addresses("simulator")
        assert moved.all == ("10.1.1.22",)
        assert moved.lack("10.1.1.1")
        hosts.unlink()
        assert (await names.addresses("localhost")).all == ("127.0.0.1", "::1")
        assert server.asked == []


async def test_a_huge_hosts_file_costs_a_moment(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    blocked = "".join(f"0.0.0.0 tracker{n}.example\n" for n in range(100_000))
    many = "".join(f"10.1.{n // 250}.{n % 250} many\n" for n in range(5_000))
    hosts.write_bytes(
        b"\xff\x00 # \x0c 10.9.9.9 shop\n" + f"{blocked}10.1.1.1 shop\n{many}".encode()
    )
    names = HostNames(hosts_file=hosts)
    begun = process_time()
    assert (await names.addresses("shop")).all == ("10.1.1.1",)
    assert len((await names.addresses("many")).all) == 5_000
    assert process_time() - begun < 0.4


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example", "nobody.invalid"])
async def test_a_name_that_cannot_exist_has_no_address(name: str) -> None:
    async with resolving() as (_, names, _):
        with pytest.raises(NoAddress):
            await names.addresses(name)
