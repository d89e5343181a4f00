"""A shared cache of several servers: a cluster, and a primary that sentinels replace."""

import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from easypay.cache.connection import CacheUnavailable, connect
from easypay.cache.url import Address, parse
from harness.cached_processes import Rows, processes
from harness.valkey import Valkey, joined, proxied, running, sentinel
from harness.waiting import until


async def test_a_cluster_has_each_value_on_one_server(
    tmp_path: Path, database: Any, rows: Rows
) -> None:
    clustered = ("--cluster-enabled", "yes", "--dir", str(tmp_path), "--cluster-config-file")
    with (
        running(tmp_path, *clustered, "one.conf") as one,
        running(tmp_path, *clustered, "two.conf") as two,
    ):
        await joined(one, two)
        async with processes(2, f"cluster://{one.address}", database) as (here, there):
            merchant = uuid.uuid4()
            names = [rows.name(merchant) for _ in range(40)]
            for name in names:
                assert await here.body(rows, name) == await there.body(rows, name)
            assert (here.queries, there.queries) == (40, 0)
            assert len(await one.keys()) > 5
            assert len(await two.keys()) > 5
            for name in names:
                rows.versions[name] = 2
                here.caches.delete(name)
            await here.told()

            async def all_new() -> bool:
                return not any(name in there.caches._near for name in names)

            await until(all_new, promised_s=2)
            for name in names:
                assert await there.body(rows, name) == rows.body(name)
            # One of the two is lost: its values come from the database.
            two.kill()
            for name in names:
                for each in (here, there):
                    assert await each.body(rows, name) == rows.body(name)


async def test_a_cluster_whose_servers_have_all_moved_is_found_again(
    tmp_path: Path, database: Any, rows: Rows
) -> None:
    """Only what the URL names has stayed: here a proxy, as a name in DNS would be."""
    clustered = ("--cluster-enabled", "yes", "--dir", str(tmp_path), "--cluster-config-file")
    with (
        running(tmp_path, *clustered, "old.conf") as old,
        running(tmp_path, *clustered, "new.conf") as new,
    ):
        await joined(old)
        await joined(new)
        async with proxied(old) as proxy:
            url = f"cluster://127.0.0.1:{proxy.port}"
            async with processes(1, url, database) as (here,):
                assert await here.body(rows, rows.name())
                proxy.leads_to(new)
                old.kill()

                async def is_left() -> bool:
                    return not here.shared.hears()

                await until(is_left, promised_s=5)
                await here.hears()
                name = rows.name()
                await here.body(rows, name)
                assert any(name.encode() in key for key in await new.keys())


@pytest.mark.parametrize("address", [Address("a" * 64 + ".test", 6379), Address("\0.test", 1)])
async def test_an_address_that_cannot_be_one_is_an_unavailable_server(address: Address) -> None:
    """A sentinel or a cluster may name anything: that must not end the task that connects."""
    with pytest.raises(CacheUnavailable):
        await connect(parse("redis://a.test"), address, lambda _: None, 1)


async def test_a_promoted_replica_brings_back_nothing(
    tmp_path: Path, database: Any, rows: Rows
) -> None:
    """The replica has a value that changes while it is being promoted."""
    with running(tmp_path, "--repl-diskless-sync-delay", "0") as primary:
        replica_of = ("--replicaof", f"127.0.0.1 {primary.port}")
        with running(tmp_path, *replica_of) as replica:

            async def follows() -> bool:
                return b"master_link_status:up" in await replica.ask("INFO", "replication")

            await until(follows)
            process, port = sentinel(tmp_path, primary)
            try:
                url = f"sentinel://127.0.0.1:{port}/easypay"
                async with processes(2, url, database) as both:
                    name = rows.name()
                    for each in both:
                        await each.read(rows, name)

                    async def replicated() -> bool:
                        return any(name.encode() in key for key in await replica.keys())

                    await until(replicated)
                    primary.kill()
                    rows.versions[name] = 2
                    both[0].caches.delete(name)

                    async def promoted() -> bool:
                        with suppress(CacheUnavailable):  # it cuts its connections meanwhile
                            return bool((await replica.ask("ROLE"))[0] == b"master")
                        return False

                    await until(promoted)
                    for each in both:
                        await each.hears()
                        assert await each.body(rows, name) == rows.body(name)
            finally:
                process.kill()
                process.wait()


async def test_a_primary_that_comes_back_brings_back_nothing(
    tmp_path: Path, database: Any, rows: Rows
) -> None:
    """Its replica was the primary meanwhile, and both have kept what was there before."""
    options = ("--repl-diskless-sync-delay", "0", "--dir", str(tmp_path))
    with running(tmp_path, *options) as first, running(tmp_path, *options) as second:
        await follows(second, first)
        async with proxied(first) as proxy, processes(2, proxy.url, database) as both:

            async def takes_over(new: Valkey, old: Valkey) -> None:
                await new.ask("REPLICAOF", "NO", "ONE")
                await follows(old, new)
                proxy.leads_to(new)
                proxy.cut()

                async def is_left() -> bool:
                    return not any(each.shared.hears() for each in both)

                await until(is_left, promised_s=5)
                for each in both:
                    await each.hears()

            name = rows.name()
            await both[0].read(rows, name)
            await takes_over(second, first)
            rows.versions[name] = 2
            both[0].caches.delete(name)
            await both[0].told()
            await takes_over(first, second)
            for each in both:
                assert await each.body(rows, name) == rows.body(name)


async def follows(replica: Valkey, primary: Valkey) -> None:
    """Make a server the replica of another, and wait until it has all that is there."""
    await replica.ask("REPLICAOF", "127.0.0.1", primary.port)

    async def is_up() -> bool:
        return b"master_link_status:up" in await replica.ask("INFO", "replication")

    await until(is_up)


@pytest.mark.parametrize(
    ("text", "kind", "addresses"),
    [
        ("redis://cache.test", "single", [Address("cache.test", 6379)]),
        ("rediss://u:p%40ss@cache.test:7000/2", "single", [Address("cache.test", 7000)]),
        ("unix:///run/cache.sock", "single", [Address(path="/run/cache.sock")]),
        (
            "cluster://a.test,b.test:7001",
            "cluster",
            [Address("a.test", 6379), Address("b.test", 7001)],
        ),
        ("sentinel://a.test,[::1]:9/m", "sentinel", [Address("a.test", 26379), Address("::1", 9)]),
    ],
)
def test_an_address_is_read(text: str, kind: str, addresses: list[Address]) -> None:
    url = parse(text)
    assert (url.kind, list(url.addresses)) == (kind, addresses)


def test_the_login_is_read_too() -> None:
    url = parse("rediss://shop:p%40ss@cache.test:7000/2")
    assert url.login() == ("shop", "p@ss")
    assert (url.tls, url.database) == (True, 2)
    assert parse("redis://:secret@cache.test").login() == ("default", "secret")
    assert parse("redis://cache.test").login() == ()


@pytest.mark.parametrize(
    "text",
    [
        "redis://shop:hunter2?x@a.test",
        "cluster://shop:hunter2/x@a.test",
        "sentinel://shop:hunter2/x@a.test/m",
    ],
)
def test_a_refusal_does_not_quote_the_password(text: str) -> None:
    with pytest.raises(ValueError, match="%2F") as refused:
        parse(text)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "text",
    ["http://a.test", "redis://", "redis://a.test,b.test", "redis://a.test/x", "sentinel://a.test"],
)
def test_an_address_that_says_too_little_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(text)
