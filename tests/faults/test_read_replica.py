"""A gateway with a real streaming replica: what is read there, and what happens if it is behind,
silent, gone or promoted. Payments never notice."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg
import httpx
import msgspec
import pytest

from easypay.api import batches
from easypay.api.paging import Cursors
from easypay.api.routes import ROUTES
from easypay.db import embedded
from easypay.db.connections import Wanted
from easypay.db.embedded import Cluster
from easypay.db.partitions import Months
from easypay.db.pool import make_pool, open_pool
from easypay.db.reading import Reading
from easypay.db.replica import PRIMARY_POSITION, Replica
from easypay.errors import ValidationFailed
from easypay.merchants.model import Caller
from easypay.merchants.vault import Vault
from easypay.payments.lists import Lists
from easypay.payments.read_places import Name, ReadPlace, ReadPlaces
from harness import (
    ENCRYPTION_KEY,
    Gateway,
    Shop,
    Simulator,
    Stack,
    connected,
    counted,
    migrated,
    new_database,
    payment_uuid,
    until,
)
from harness.replica import SETTINGS, StreamingReplica

LISTS = (
    "/payments",
    "/payments?order=oldest&expand=refunds",
    "/payments?page=1&size=5",
    "/payments?status=captured",
    "/refunds",
    "/payments/duplicates",
    "/payments/stats",
)
AS_OF = "read-as-of"
EXACT = {"cache-control": "no-cache"}
BEHIND_S = 1.0
"""How far the replica may be behind, by default."""
SLACK_S = 3.0
"""Tolerance for a busy machine."""


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with embedded.running(tmp_path_factory.mktemp("primary"), settings=SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def followed(
    primary: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StreamingReplica]:
    made = StreamingReplica(primary, tmp_path_factory.mktemp("replica"))
    try:
        yield made  # `stack` starts it
    finally:
        made.stop()


@pytest.fixture(scope="module")
async def stack(
    primary: Cluster,
    followed: StreamingReplica,
    simulator: Simulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stack]:
    """Run a gateway that leaves out a replica that is a second behind. It is there before the
    replica is."""
    dsn = await new_database(primary.tcp_dsn, None)
    await migrated(dsn)
    with Stack(dsn, simulator, tmp_path_factory.mktemp("replica_stack")) as made:
        gateway = await made.gateway(database_replica_url=followed.dsn(dsn))
        await gateway.logged("left out, and the primary is read instead: it cannot be asked")
        shop = await made.shop(gateway)

        async def are_counted() -> bool:
            return (await shop.client.get("/payments/stats")).status_code == 200

        await until(are_counted, what="the gateway knows that no earlier event is to be counted")
        await all_are_exact(shop)
        await shop.client.aclose()
        followed.start()
        yield made


@pytest.fixture(scope="module")
async def patient(stack: Stack, followed: StreamingReplica) -> Gateway:
    """Run a gateway that reads the replica however far it is behind."""
    return await stack.gateway(
        database_replica_url=followed.dsn(stack.dsn), database_replica_lag_s="600"
    )


@pytest.fixture
async def replica(followed: StreamingReplica, stack: Stack) -> AsyncIterator[StreamingReplica]:
    """Return the replica while it follows, and let it go on afterwards."""
    await followed.caught_up()
    yield followed
    followed.thaw()
    await followed.resume()


@pytest.fixture
async def shop(stack: Stack, replica: StreamingReplica) -> AsyncIterator[Shop]:
    """Return a shop at the gateway once that reads the replica."""
    made = await stack.shop(stack.only_gateway)
    await replica.caught_up()
    await reads_replica(made)
    yield made
    await made.client.aclose()


@pytest.fixture
async def waiting(stack: Stack, patient: Gateway, replica: StreamingReplica) -> AsyncIterator[Shop]:
    """Return a shop at the patient gateway once that reads the replica."""
    made = await stack.shop(patient)
    await replica.caught_up()
    await reads_replica(made)
    yield made
    await made.client.aclose()


async def got(shop: Shop, path: str, **headers: str) -> httpx.Response:
    answer = await shop.client.get(
        path, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    assert answer.status_code == 200, answer.text
    return answer


async def listed(shop: Shop, path: str = "/payments?limit=100", **headers: str) -> list[str]:
    return [each["id"] for each in (await got(shop, path, **headers)).json()["data"]]


async def reads_replica(shop: Shop, reads: bool = True) -> None:
    async def does() -> bool:
        return (AS_OF in (await got(shop, "/payments")).headers) is reads

    await until(does, what="the replica is read" if reads else "the replica is left out")


async def all_are_exact(shop: Shop) -> None:
    """Lists and statistics have a payment as soon as it is made."""
    payment = await shop.paid(4321)
    assert payment["id"] in await listed(shop)
    flows = (await got(shop, "/payments/stats")).json()["totals"][0]["flows"]
    assert flows["sold"]["count"] == len(await listed(shop))


async def test_lists_and_statistics_come_from_the_replica_and_what_has_an_id_does_not(
    stack: Stack, replica: StreamingReplica, shop: Shop
) -> None:
    url = stack.only_gateway.url
    payment = await shop.paid(key="order-1")
    refund = (await shop.refund(payment["id"])).json()
    await replica.caught_up()
    before = await counted(url, "easypay_reads_total", place="replica")
    for path in LISTS:
        assert AS_OF in (await got(shop, path)).headers, path
        assert AS_OF not in (await got(shop, path, **EXACT)).headers, path
    assert await counted(url, "easypay_reads_total", place="replica") == before + len(LISTS)
    one = f"/payments/{payment['id']}"
    for path in (
        *(one, f"{one}?expand=refunds", f"{one}/refunds", f"{one}/operations", f"{one}/events"),
        *(f"/refunds/{refund['id']}", f"/operations/op_{refund['id'][3:]}"),
        "/idempotency-keys/order-1",
    ):
        assert AS_OF not in (await got(shop, path)).headers, path
    sessions = {name.rstrip(" 123") for name in await replica.sessions("easypay")}
    assert sessions == {"easypay reading", "easypay questions", "easypay replica watch"}
    assert await counted(url, "easypay_replica_lag_seconds") < BEHIND_S
    assert await counted(url, "easypay_replica_in_use") == 1


async def test_what_has_an_id_and_what_decides_is_exact_while_lists_are_behind(
    replica: StreamingReplica, waiting: Shop
) -> None:
    shop = waiting
    old = await shop.paid(capture="manual")
    authorized = "/payments?status=authorized"

    async def is_found() -> bool:
        return await listed(shop, authorized, **EXACT) == [old["id"]]

    await until(is_found, what="the search table has it")
    await replica.caught_up()
    await replica.pause()
    first = await shop.pay(key="order-2")
    payment = first.json()
    assert (await shop.pay(key="order-2")).content == first.content, "the key is found"
    assert await shop.payment(payment["id"]) == payment
    refund = await shop.refund(payment["id"], key="refund-2")
    assert refund.status_code == 201
    assert (await shop.refund(payment["id"])).status_code == 409, "all is refunded"
    assert (await shop.capture(old["id"])).status_code == 201
    one = f"/payments/{payment['id']}"
    assert await listed(shop, f"{one}/refunds") == [refund.json()["id"]]
    assert len(await listed(shop, f"{one}/operations")) == 2
    assert (await got(shop, "/idempotency-keys/refund-2")).json()["state"] == "approved"
    assert await listed(shop) == [old["id"]], "the list is behind"
    assert await listed(shop, "/refunds") == []
    assert await listed(shop, authorized) == [old["id"]]
    assert await listed(shop, **EXACT) == [payment["id"], old["id"]]
    assert await listed(shop, "/refunds", **EXACT) == [refund.json()["id"]]
    totals = (await got(shop, "/payments/stats")).json()["totals"][0]["flows"]
    assert totals.keys() == {"authorized"}
    exact = (await got(shop, "/payments/stats", **EXACT)).json()["totals"][0]["flows"]
    assert exact.keys() == {"authorized", "captured", "sold", "undone"}


async def test_an_export_comes_from_the_replica_and_is_whole(
    stack: Stack, replica: StreamingReplica, waiting: Shop
) -> None:
    shop = await stack.with_key(waiting, scopes=["payments:write", "payments:export"])
    old = await shop.paid()
    await replica.caught_up()
    await replica.pause()
    new = await shop.paid()

    async def exported(**headers: str) -> tuple[bool, list[str]]:
        answer = await got(shop, "/payments/export", accept="application/jsonl", **headers)
        *payments, last = map(msgspec.json.decode, answer.text.splitlines())
        assert last == {"rows": len(payments)}
        return AS_OF in answer.headers, [each["id"] for each in payments]

    assert await exported() == (True, [old["id"]])
    assert await exported(**EXACT) == (False, [new["id"], old["id"]])
    await replica.resume()
    replica.freeze()
    assert await exported() == (False, [new["id"], old["id"]]), "the primary takes over"
    await shop.client.aclose()


async def test_pages_from_both_servers_neither_skip_nor_repeat(
    replica: StreamingReplica, waiting: Shop
) -> None:
    """The first page shows the newest, which the replica does not have. What lies behind them is as
    new, and a second page from the replica would begin far below."""
    shop = waiting
    for _ in range(3):
        await shop.paid()
    await replica.caught_up()
    await replica.pause()
    for _ in range(3):
        await shop.paid()
    everything = await listed(shop, **EXACT)
    assert len(everything) == 6
    first = (await got(shop, "/payments?limit=1", **EXACT)).json()
    second = await got(shop, f"/payments?limit=1&cursor={first['next_cursor']}")
    assert AS_OF not in second.headers, "the replica is older than the first page"
    await replica.resume()
    await replica.caught_up()
    third = await got(shop, f"/payments?limit=1&cursor={second.json()['next_cursor']}")
    assert AS_OF in third.headers
    await replica.pause()
    fourth = await got(shop, f"/payments?limit=5&cursor={third.json()['next_cursor']}")
    assert AS_OF in fourth.headers, "it goes on where it began"
    pages = [first, *(each.json() for each in (second, third, fourth))]
    assert [row["id"] for page in pages for row in page["data"]] == everything


async def test_pages_are_whole_while_payments_arrive_whichever_server_and_gateway_serves_each(
    stack: Stack, waiting: Shop
) -> None:
    """Newest first: every payment that was acknowledged by the first page's time is there once. And
    what the replica counts never shrinks."""
    exact = itertools.cycle((False, False, True))
    other = waiting.at(stack.only_gateway.url)
    shops = itertools.cycle((waiting, other))
    acknowledged: dict[str, datetime] = {}
    stop = asyncio.Event()

    async def pay() -> None:
        while not stop.is_set():
            payment = (await waiting.paid())["id"]
            acknowledged[payment] = await stack.value("SELECT clock_timestamp()")

    async def walk() -> None:
        found: list[str] = []
        known, cursor, as_of, places = set(acknowledged), "", None, set()
        while cursor is not None:
            path = f"/payments?limit=2{f'&cursor={cursor}' if cursor else ''}"
            answer = await got(next(shops), path, **(EXACT if next(exact) else {}))
            places.add(AS_OF in answer.headers)
            if not found:
                as_of = answer.headers.get(AS_OF)
            found += [row["id"] for row in answer.json()["data"]]
            cursor = answer.json()["next_cursor"]
        if as_of is not None:
            by = datetime.fromisoformat(as_of)
            known = {each for each in known if acknowledged[each] < by}
        assert len(found) == len(set(found)), "nothing is repeated"
        assert known <= set(found), "nothing is skipped"
        both.update(places)

    both: set[bool] = set()
    paying = [asyncio.create_task(pay()) for _ in range(2)]
    sold = 0
    for _ in range(5):
        await walk()
        answer = await got(other, "/payments/stats")
        if AS_OF in answer.headers and answer.json()["totals"]:
            now = answer.json()["totals"][0]["flows"]["sold"]["count"]
            assert now >= sold
            sold = now
    stop.set()
    await asyncio.gather(*paying)
    assert both == {True, False}, "both servers were read"
    await other.client.aclose()


async def test_oldest_first_ends_for_now_and_goes_on_later(
    replica: StreamingReplica, waiting: Shop
) -> None:
    shop = waiting
    for _ in range(3):
        await shop.paid()
    await replica.caught_up()
    await replica.pause()
    for _ in range(2):
        await shop.paid()
    everything = await listed(shop, "/payments?order=oldest", **EXACT)
    path = "/payments?order=oldest&limit=2"
    first = (await got(shop, path)).json()
    last = f"{path}&cursor={first['next_cursor']}"
    ended = (await got(shop, last)).json()
    assert (len(ended["data"]), ended["next_cursor"]) == (1, None), "all that the replica has"
    assert [row["id"] for row in first["data"] + ended["data"]] == everything[:3]
    await replica.resume()
    await replica.caught_up()
    rest = (await got(shop, last.replace("limit=2", "limit=5"))).json()
    assert [row["id"] for row in rest["data"]] == everything[2:]


async def test_a_cursor_that_does_not_say_what_its_page_saw_goes_on_at_the_primary(
    replica: StreamingReplica, waiting: Shop
) -> None:
    """Gateways without a replica make such cursors. While one is introduced, both kinds run."""
    for _ in range(3):
        await waiting.paid()
    await replica.caught_up()
    first, second, third = await listed(waiting, **EXACT)
    cursors = Cursors(Vault(ENCRYPTION_KEY).derive("cursors"))
    caller = Caller(
        merchant_id=waiting.merchant_id,
        mode="test",
        key_id=waiting.merchant_id,
        scopes=frozenset(),
        currencies=frozenset(),
        allow_raw_cards=False,
        expires_at=None,
        login=None,
    )
    made = cursors.write(payment_uuid(first), caller, "payments None None")
    answer = await got(waiting, f"/payments?limit=1&cursor={made}")
    assert AS_OF not in answer.headers
    assert answer.json()["data"][0]["id"] == second
    answer = await got(waiting, f"/payments?limit=1&cursor={answer.json()['next_cursor']}")
    assert AS_OF in answer.headers
    assert answer.json()["data"][0]["id"] == third


async def test_a_gateway_starts_and_serves_before_there_is_a_replica(shop: Shop) -> None:
    """The one of this file did."""
    assert AS_OF in (await got(shop, "/payments")).headers


async def test_a_replica_that_is_behind_is_left_out_and_comes_back(
    stack: Stack, replica: StreamingReplica, shop: Shop
) -> None:
    await replica.pause()
    payment = await shop.paid()
    left = time.monotonic()
    await reads_replica(shop, reads=False)
    assert time.monotonic() - left < BEHIND_S + SLACK_S
    assert payment["id"] in await listed(shop)
    await all_are_exact(shop)
    gateway = stack.only_gateway
    await gateway.logged("left out, and the primary is read instead: it is more than 1 s behind")

    async def shown() -> bool:
        in_use = await counted(gateway.url, "easypay_replica_in_use")
        return in_use == 0 and await counted(gateway.url, "easypay_replica_lag_seconds") > 1

    await until(shown, what="the metrics say that it is left out")
    await replica.resume()
    await reads_replica(shop)
    await gateway.logged("are read from the read replica again")


async def _times(shop: Shop) -> list[float]:
    """Read lists of every kind, one after another; return how long each took."""
    times = []
    for path in LISTS:
        begun = time.monotonic()
        await got(shop, path)
        times.append(time.monotonic() - begun)
    return times


async def test_a_replica_that_is_killed_delays_nobody_and_is_read_when_it_is_back(
    replica: StreamingReplica, shop: Shop
) -> None:
    replica.kill()
    assert max(await _times(shop)) < SLACK_S
    await all_are_exact(shop)
    replica.restart()
    await reads_replica(shop)


async def test_a_replica_that_is_silent_costs_a_reader_less_than_a_second(
    replica: StreamingReplica, shop: Shop
) -> None:
    """Its connections stay open and nothing answers. The first readers meet it and start over."""
    replica.freeze()
    begun = time.monotonic()
    await asyncio.gather(*(got(shop, path) for path in LISTS))
    assert time.monotonic() - begun < BEHIND_S + SLACK_S
    assert max(await _times(shop)) < SLACK_S
    await all_are_exact(shop)
    replica.thaw()
    await reads_replica(shop)


async def test_a_replica_that_was_promoted_is_left_out_until_it_follows_again(
    stack: Stack, replica: StreamingReplica, shop: Shop
) -> None:
    await replica.promote()
    await reads_replica(shop, reads=False)
    await all_are_exact(shop)
    await stack.only_gateway.logged("it is no standby: it was promoted, or never was one")
    replica.copy_anew()
    await replica.caught_up()
    await reads_replica(shop)


# The watch and the choice, without a gateway ------------------------------------------------------


@asynccontextmanager
async def watching(
    dsn: str, replica_dsn: str, *, limit_s: float = 600, for_each: int = 3
) -> AsyncIterator[tuple[ReadPlaces, Replica, list[str]]]:
    """Yield what chooses between two servers, and the places that it has chosen."""
    chosen: list[str] = []
    pool = await open_pool(dsn, size=1)
    state = Replica(replica_dsn, pool, limit_s=limit_s, for_each=for_each)
    primary, replica = (
        await _place("primary", dsn, "read-write"),
        await _place("replica", replica_dsn, "standby"),
    )
    watch = asyncio.create_task(state.run())
    try:
        yield ReadPlaces(primary, replica, state, chosen.append), state, chosen
    finally:
        watch.cancel()
        await asyncio.gather(primary.close(1), replica.close(1), pool.close())


async def _place(name: Name, dsn: str, wanted: Wanted) -> ReadPlace:
    reading = Reading(dsn, connections=1, queue=9, limit_s=4, patience_s=5, wanted=wanted)
    questions = await make_pool(dsn, size=1, wanted=wanted)
    return ReadPlace(
        name=name,
        dsn=dsn,
        wanted=wanted,
        reading=reading,
        lists=Lists(reading, Months()),
        questions=questions,
    )


async def _is_usable(state: Replica) -> None:
    async def is_usable() -> bool:
        return state.usable

    await until(is_usable, what="the replica is read")


async def _name_of(place: ReadPlace) -> str:
    await place.questions.fetchval("SELECT 1")
    return str(place.name)


async def test_another_database_and_a_primary_are_never_read(
    stack: Stack, replica: StreamingReplica, primary: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    for wrong, why in (
        (replica.dsn(primary.tcp_dsn), "it is another system or database"),
        (stack.dsn, "it is no standby"),
        ("postgresql://u:p@127.0.0.1:1/d", "it cannot be asked"),
    ):
        caplog.clear()
        async with watching(stack.dsn, wrong) as (places, state, chosen):

            async def said(why: str = why) -> bool:
                return why in caplog.text

            await until(said, what=why)
            assert not state.usable
            assert places.now() is places.primary
            assert await places.read(_name_of) == "primary"
            assert chosen == ["primary"]
        assert len(caplog.records) == 1, "it is said once"


async def test_too_few_connections_of_the_replica_are_told_and_it_is_read_all_the_same(
    stack: Stack, replica: StreamingReplica, caplog: pytest.LogCaptureFixture
) -> None:
    async with watching(stack.dsn, replica.dsn(stack.dsn), for_each=90) as (places, state, _):
        await _is_usable(state)
        assert await places.read(_name_of) == "replica"
    assert "the read replica has too few connections for all: it gives clients 97" in caplog.text


@pytest.mark.parametrize("ended", ["in a statement", "between two statements"])
async def test_a_reader_that_the_replicas_recovery_ends_reads_the_primary(
    stack: Stack, replica: StreamingReplica, ended: str
) -> None:
    """The primary truncates the table that is being read, and replaying that waits for nobody. A
    statement is cancelled; a transaction that rests between two loses its connection."""
    await stack.fetch("CREATE TABLE reread AS SELECT 1 AS n")
    await replica.caught_up()
    backend: list[int] = []
    gone = asyncio.Event()

    async def ask(place: ReadPlace) -> int:
        if place.name == "primary":
            return int(await place.questions.fetchval("SELECT count(*) FROM reread"))
        async with place.questions.acquire() as connection, connection.transaction():
            await connection.fetch("SELECT n FROM reread")
            backend.append(await connection.fetchval("SELECT pg_backend_pid()"))
            if ended == "between two statements":
                await gone.wait()
            return int(await connection.fetchval("SELECT count(pg_sleep(60)) FROM reread"))

    there = await asyncpg.connect(replica.dsn(stack.dsn))
    state_of = "SELECT state FROM pg_stat_activity WHERE pid = $1 AND query ~ $2"

    async def is_there() -> bool:
        wanted = (
            ("active", "pg_sleep") if ended == "in a statement" else ("idle in transaction", "")
        )
        return bool(backend) and wanted[0] == await there.fetchval(state_of, backend[0], wanted[1])

    async def is_gone() -> bool:
        return await there.fetchval(state_of, backend[0], "") is None

    try:
        async with replica.set(max_standby_streaming_delay="0"):
            async with watching(stack.dsn, replica.dsn(stack.dsn)) as (places, state, chosen):
                await _is_usable(state)
                reading = asyncio.create_task(places.read(ask))
                await until(is_there, what=ended)
                await stack.fetch("TRUNCATE reread")
                if ended == "between two statements":
                    await until(is_gone, what="recovery ends the connection")
                    gone.set()
                assert await reading == 0
                assert chosen == ["repeated"]
                assert await places.read(_name_of) == "replica", "it is not left out for that"
    finally:
        await there.close()
        await stack.fetch("DROP TABLE reread")


async def test_what_is_asked_wrongly_or_takes_too_long_is_not_asked_again(
    stack: Stack, replica: StreamingReplica
) -> None:
    asked: list[str] = []

    async def slow(place: ReadPlace) -> None:
        asked.append(place.name)
        async with place.questions.acquire() as connection:
            await connection.execute("SET statement_timeout = 50")
            try:
                await connection.fetch("SELECT pg_sleep(60)")
            finally:
                await connection.execute("RESET statement_timeout")

    async def refused(place: ReadPlace) -> None:
        asked.append(place.name)
        raise ValidationFailed("no")

    async with watching(stack.dsn, replica.dsn(stack.dsn)) as (places, state, chosen):
        await _is_usable(state)
        for ask, error in ((slow, asyncpg.QueryCanceledError), (refused, ValidationFailed)):
            with pytest.raises(error):
                await places.read(ask)
        assert (asked, chosen) == (["replica"] * 2, ["replica"] * 2)


async def test_readers_of_a_silent_replica_are_told_and_it_must_prove_itself_again(
    stack: Stack, replica: StreamingReplica
) -> None:
    async with watching(stack.dsn, replica.dsn(stack.dsn)) as (places, state, chosen):
        await _is_usable(state)
        assert places.now() is places.replica
        before = state.as_of
        reading = asyncio.create_task(places.read(_sleeps_on_the_replica))
        await until_running(replica)
        replica.freeze()
        begun = time.monotonic()
        assert await reading == "primary"
        assert time.monotonic() - begun < BEHIND_S + SLACK_S
        assert chosen == ["repeated"]
        assert not state.usable
        assert state.as_of is None
        replica.thaw()
        await _is_usable(state)
        assert before is not None
        assert state.as_of is not None
        assert state.as_of > before


async def test_a_replica_that_came_back_older_is_not_read_on_the_proof_of_before(
    stack: Stack, replica: StreamingReplica
) -> None:
    """It crashed, started again from its last restart point, and has not replayed the rest. The
    primary cannot be asked at that time, so nothing new is known."""
    async with connected(stack.dsn) as primary, connected(replica.dsn(stack.dsn)) as standby:
        await primary.execute("CREATE TABLE seen (n int); CHECKPOINT")
        await replica.caught_up()
        await standby.execute("CHECKPOINT")
    async with watching(stack.dsn, replica.dsn(stack.dsn)) as (places, state, chosen):

        async def count(place: ReadPlace) -> int:
            return int(await place.reading.fetchval("SELECT count(*) FROM seen"))

        async with connected(stack.dsn) as primary:
            await primary.execute("INSERT INTO seen VALUES (1)")
            written = await primary.fetchval(PRIMARY_POSITION)
        await replica.caught_up()

        async def is_proven() -> bool:
            return state.usable and state.replayed >= written

        await until(is_proven, what="the replica is proven to have it")
        assert (await places.read(count), chosen[-1]) == (1, "replica")
        async with state._primary.acquire(), replica.set(recovery_min_apply_delay="1h"):
            replica.kill()
            replica.restart()
            assert await count(places.all[1]) == 0
            assert (await places.read(count), chosen[-1]) == (1, "primary")
    async with connected(stack.dsn) as primary:
        await primary.execute("DROP TABLE seen")


async def _sleeps_on_the_replica(place: ReadPlace) -> str:
    if place.name == "replica":
        await place.reading.fetch("SELECT pg_sleep(2)")
    return place.name


async def until_running(replica: StreamingReplica) -> None:
    async def runs() -> bool:
        return bool(await replica.running("SELECT pg_sleep%"))

    await until(runs, what="the reader is on the replica")


def test_every_list_is_tested_here() -> None:
    one = "/api/v1/payments/{id}"
    lists = {
        route.path.removeprefix("/api/v1")
        for route in ROUTES
        if route.scope == "payments:read"
        and "{" not in route.path.removeprefix(one)
        and not route.path.startswith(one)
        and route.path != batches.PATH  # a shop decides by a batch's state: it is always exact
    }
    assert lists == {path.partition("?")[0] for path in LISTS}
