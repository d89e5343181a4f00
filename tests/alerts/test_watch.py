"""Workers that judge themselves: each receiver is told once, whatever fails or competes."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from easypay import clock
from easypay.alerts.history import Sample
from easypay.alerts.states import Message, State
from easypay.alerts.store import write
from easypay.alerts.watch import JUDGED, LEASE, AlertWatch, Times, scraped
from easypay.alerts.ways import Command, Mail, NotTold, Way, Webhook
from easypay.db.embedded import Cluster
from easypay.db.pool import open_pool
from harness import new_database, run_easypay
from harness.processes import ENCRYPTION_KEY, free_port
from harness.waiting import until
from json_server import serving

QUICK = Times(every_s=0.05, over_after_s=0.0, wait_s=0.5, again_s=0.0, most_again_s=0.0)
RULES = [rule for rule in JUDGED if rule.name in ("EasyPayWorkParked", "EasyPayDown")]


class Metrics:
    """What the worker reads: so many parked jobs."""

    def __init__(self) -> None:
        self.parked = 0

    async def __call__(self) -> list[Sample]:
        labels = {"list": "webhooks", "state": "parked", "instance": "here"}
        return [("easypay_work_rows", labels, float(self.parked))]


@pytest.fixture(scope="module")
async def dsn(cluster: Cluster, template: str) -> str:
    return await new_database(cluster.dsn, template)


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Any]:
    made = await open_pool(dsn, size=4)
    await made.execute("DELETE FROM alert_states")
    await made.execute("DELETE FROM leases")
    yield made
    await made.close(1)


@pytest.fixture
async def told() -> AsyncIterator[tuple[str, list[str], list[int]]]:
    """Yield a receiver's address, what it took, and the statuses that it answers before 200."""
    took: list[str] = []
    statuses: list[int] = []

    def answer(sent: Any) -> object:
        if statuses:
            return statuses.pop(0), b""
        took.extend(f"{each['alert']} {each['where']} {each['state']}" for each in sent["alerts"])
        return {}

    async with serving(answer) as url:
        yield url, took, statuses


def _watch(pool: Any, metrics: Metrics, *ways: Way) -> AlertWatch:
    return AlertWatch(pool, [metrics], ways, rules=RULES, times=QUICK)


async def _end_lease(pool: Any) -> None:
    await pool.execute("UPDATE leases SET leased_until = db_now() WHERE name = $1", LEASE)


FIRING, OVER = "EasyPayWorkParked webhooks firing", "EasyPayWorkParked webhooks over"


async def test_a_restart_and_a_second_worker_tell_nothing_twice(pool: Any, told: Any) -> None:
    url, took, _ = told
    metrics = Metrics()
    first, second = (_watch(pool, metrics, Webhook(url)) for _ in range(2))
    metrics.parked = 1
    for _ in range(2):
        await asyncio.gather(first.round(), second.round())
    assert took == [FIRING]
    await _end_lease(pool)  # as after a kill
    third = _watch(pool, metrics, Webhook(url))
    await third.round()
    assert took == [FIRING], "the table says that it was told"
    metrics.parked = 0
    await third.round()
    assert took == [FIRING, OVER]
    assert await pool.fetchval("SELECT count(*) FROM alert_states") == 0


async def test_a_leader_that_was_stopped_tells_nothing_any_more(pool: Any, told: Any) -> None:
    url, took, _ = told
    metrics = Metrics()
    first, second = (_watch(pool, metrics, Webhook(url)) for _ in range(2))
    await first.round()
    await _end_lease(pool)
    metrics.parked = 1
    await second.round()
    assert took == [FIRING]
    # It was stopped after it had asked for the lease, and goes on.
    first._leads = lambda: asyncio.sleep(0, True)  # type: ignore[method-assign]
    await first.round()
    assert took == [FIRING], "its token is old: it may neither write nor tell"


async def test_a_receiver_that_fails_is_told_later_and_holds_up_no_other(
    pool: Any, told: Any, tmp_path: Path
) -> None:
    url, took, statuses = told
    statuses += [500, 503]
    command = tmp_path / "page"
    command.write_text(f"#!/bin/sh\ncat >> {tmp_path}/out\necho >> {tmp_path}/out\n")
    command.chmod(0o755)
    metrics = Metrics()
    metrics.parked = 3
    watch = _watch(pool, metrics, Webhook(url), Command(str(command)))
    await watch.round()
    await watch.round()
    assert took == []
    assert await pool.fetchval("SELECT told FROM alert_states") == ["command"]
    await watch.round()
    await watch.round()
    assert took == [FIRING]
    lines = (tmp_path / "out").read_text().splitlines()
    assert [json.loads(line)["alerts"][0]["state"] for line in lines] == ["firing"]


async def test_a_receiver_that_does_not_answer_holds_up_no_round(pool: Any, told: Any) -> None:
    url, took, _ = told
    open_gate = asyncio.Event()

    async def slow(_: Any) -> object:
        await open_gate.wait()
        return {}

    metrics = Metrics()
    metrics.parked = 1
    async with serving(slow) as slow_url:
        silent = Webhook(slow_url)
        silent.name = "slow"
        watch = _watch(pool, metrics, silent, Webhook(url))
        await watch.round()
        assert took == [FIRING]
        open_gate.set()

        async def knows() -> bool:
            await watch.round()
            told_ = await pool.fetchval("SELECT told FROM alert_states")
            return sorted(told_) == ["slow", "webhook"]

        await until(knows)
    assert took == [FIRING]


async def test_without_the_database_the_leader_goes_on_from_memory(
    pool: Any, told: Any, cluster: Cluster
) -> None:
    url, took, _ = told
    metrics = Metrics()
    watch = _watch(pool, metrics, Webhook(url))
    await watch.round()
    name = await pool.fetchval("SELECT current_database()")
    admin = await asyncpg.connect(cluster.dsn)
    await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
    )
    metrics.parked = 1
    for _ in range(2):
        await watch.round()
    assert took == [FIRING]
    await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    await admin.close()

    async def written() -> bool:
        await watch.round()
        return bool(await pool.fetchval("SELECT told = '{webhook}' FROM alert_states"))

    await until(written)
    assert took == [FIRING]


async def test_a_gateway_that_does_not_answer_the_scrape_is_down(pool: Any, told: Any) -> None:
    url, took, _ = told
    nobody = f"http://127.0.0.1:{free_port()}/metrics"
    down = [rule for rule in JUDGED if rule.name == "EasyPayDown"]
    at_once = [msgspec.structs.replace(rule, lasts="0s") for rule in down]
    watch = AlertWatch(pool, [scraped(nobody)], [Webhook(url)], rules=at_once, times=QUICK)
    await watch.round()
    assert took == [f"EasyPayDown {nobody.split('/')[2]} firing"]


@asynccontextmanager
async def _mail_server(mails: list[bytes]) -> AsyncIterator[str]:
    """A mail server that takes everything, as far as RFC 5321 asks of one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            if line.upper().startswith(b"DATA"):
                writer.write(b"354 go on\r\n")
                mails.append(await reader.readuntil(b"\r\n.\r\n"))
            writer.write(b"250 here\r\n" if b"QUIT" not in line.upper() else b"221 bye\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_easypay_alerts_test_says_what_each_way_did(told: Any, tmp_path: Path) -> None:
    url, took, _ = told
    command = f"{sys.executable} -c 'raise SystemExit(3)'"
    mails: list[bytes] = []
    async with _mail_server(mails) as smtp:
        status, out = await _run_test(
            EASYPAY_ALERTS_WEBHOOK=url,
            EASYPAY_ALERTS_SMTP=smtp,
            EASYPAY_ALERTS_MAIL_FROM="pay@shop.example",
            EASYPAY_ALERTS_MAIL_TO="ops@shop.example",
            EASYPAY_ALERTS_COMMAND=command,
        )
    ends = {each["way"]: (each["told"], each["why"]) for each in json.loads(out)["data"]}
    assert ends == {
        "webhook": (True, ""),
        "mail": (True, ""),
        "command": (False, "it ended with status 3"),
    }
    assert status == 1
    assert took == ["EasyPayTest  firing"]
    assert b"Subject: EasyPay [firing] EasyPayTest" in mails[0]


async def test_people_see_what_fires_and_whom_it_was_told(pool: Any, dsn: str) -> None:
    environment = {"EASYPAY_DATABASE_URL": dsn, "EASYPAY_ENCRYPTION_KEY": ENCRYPTION_KEY}
    assert await _said("alerts", "list", **environment) == ["Nothing is firing."]
    now = clock.now()
    parked = State(RULES[-1].key, "webhooks", now, now, 3.0, firing_at=now, told=["mail"])
    await write(pool, [parked], [])
    (line,) = [each for each in await _said("alerts", "list", **environment) if "webhooks" in each]
    assert {"mail", "3.0", RULES[-1].name} <= set(line.split())
    told = await _said("alerts", "test", EASYPAY_ALERTS_COMMAND="cat", **environment)
    assert any({"command", "yes"} <= set(line.split()) for line in told)


async def _said(*words: str, **environment: str) -> list[str]:
    done = await asyncio.to_thread(partial(run_easypay, *words, **environment))
    assert done.code == 0, done.err
    return done.out.splitlines()


async def _run_test(**more: str) -> tuple[int | None, bytes]:
    environment = os.environ | {
        "EASYPAY_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "EASYPAY_ENCRYPTION_KEY": ENCRYPTION_KEY,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "easypay", "alerts", "test", "--json"),
        env=environment | more,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return process.returncode, out


async def test_a_command_that_cannot_be_started_and_a_mail_server_that_is_away_say_so() -> None:
    message: list[Message] = []
    with pytest.raises(NotTold, match="FileNotFoundError"):
        await Command("/nowhere/page").tell(message)
    with pytest.raises(NotTold, match="ConnectionRefusedError"):
        await Webhook(f"http://127.0.0.1:{free_port()}/").tell(message)
    assert Mail.name == "mail"
