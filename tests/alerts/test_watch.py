"""Workers that judge themselves: each receiver is told once, whatever fails or competes."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from pydantic import ValidationError

from easypay import clock
from easypay.alerts import states, store
from easypay.alerts.history import Sample
from easypay.alerts.states import NOT_JUDGED, Message, State
from easypay.alerts.store import write
from easypay.alerts.watch import JUDGED, LEASE, AlertWatch, Times, scraped
from easypay.alerts.ways import Command, Mail, NotTold, Way, Webhook, exchange, tell
from easypay.command_line.data_dir import what_is_wrong
from easypay.db.embedded import Cluster
from easypay.db.pool import open_pool
from easypay.server.background import kept_running
from easypay.settings import Settings
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


@asynccontextmanager
async def _database_away(pool: Any, cluster: Cluster) -> AsyncIterator[None]:
    name = await pool.fetchval("SELECT current_database()")
    admin = await asyncpg.connect(cluster.dsn)
    await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
    )
    yield
    await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    await admin.close()


@pytest.mark.parametrize("others", [0, 1])
async def test_what_was_told_from_memory_ends_whoever_leads_afterwards(
    pool: Any, told: Any, cluster: Cluster, others: int
) -> None:
    url, took, _ = told
    metrics = Metrics()
    first = _watch(pool, metrics, Webhook(url))
    await first.round()
    async with _database_away(pool, cluster):
        metrics.parked = 1
        await first.round()
        assert took == [FIRING]
        metrics.parked = 0

    async def is_back() -> bool:
        try:
            await _end_lease(pool)  # it was away for longer
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    await until(is_back)
    all_of_them = [*(_watch(pool, metrics, Webhook(url)) for _ in range(others)), first]

    async def over() -> bool:
        for each in all_of_them:
            await each.round()
        return len(took) > 1

    await until(over)
    assert took == [FIRING, OVER]


async def test_a_clock_that_is_set_back_holds_up_no_end(
    pool: Any, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, took, _ = told
    metrics = Metrics()
    watch = _watch(pool, metrics, Webhook(url))
    metrics.parked = 1
    await watch.round()
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) - timedelta(hours=1))
    metrics.parked = 0
    await watch.round()
    assert took == [FIRING, OVER]
    metrics.parked = 1
    await watch.round()
    await _end_lease(pool)
    monkeypatch.undo()
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) - timedelta(hours=2))
    another = _watch(pool, metrics, Webhook(url))  # whose clock is an hour behind
    metrics.parked = 0
    await another.round()
    assert took == [FIRING, OVER] * 2


async def test_a_round_that_fails_beside_a_slow_receiver_does_not_end_the_watch(
    pool: Any, told: Any
) -> None:
    url, took, _ = told
    answer, bug = asyncio.Event(), asyncio.Event()
    met = asyncio.Event()
    metrics = Metrics()
    metrics.parked = 1

    async def slow(_: Any) -> object:
        await answer.wait()
        return {}

    async def source() -> list[Sample]:
        if bug.is_set():
            met.set()
            raise RuntimeError("for the test")
        return await metrics()

    async with serving(slow) as slow_url:
        silent = Webhook(slow_url)
        silent.name = "slow"
        times = msgspec.structs.replace(QUICK, wait_s=0.02)
        ways = (silent, Webhook(url))
        watch = AlertWatch(pool, [source], ways, rules=RULES, times=times)
        running = asyncio.create_task(kept_running("the alerts", watch.run))
        await until(lambda: _is(took == [FIRING]))
        bug.set()
        await met.wait()
        bug.clear()
        metrics.parked = 0
        await until(lambda: _is(took == [FIRING, OVER] or running.done()))
        assert took == [FIRING, OVER]
        answer.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _is(value: bool) -> bool:
    return value


async def test_a_receiver_with_an_impossible_address_stops_no_other_and_is_not_quoted(
    pool: Any, told: Any, caplog: pytest.LogCaptureFixture
) -> None:
    url, took, _ = told
    metrics = Metrics()
    metrics.parked = 1
    for path in ("s3cret\u00fc", "s3cret\x01"):
        impossible = Webhook(url + path)
        impossible.name = "impossible"
        took.clear()
        await pool.execute("DELETE FROM alert_states")
        await _end_lease(pool)
        await _watch(pool, metrics, impossible, Webhook(url)).round()
        assert took == [FIRING]
    assert "alerts cannot be told by impossible" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_wrong_address_of_a_webhook_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYPAY_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("EASYPAY_ENCRYPTION_KEY", ENCRYPTION_KEY)
    monkeypatch.setenv("EASYPAY_ALERTS_WEBHOOK", "https://chat.example/hooks/s3cret x")
    with pytest.raises(ValidationError) as raised:
        Settings()  # type: ignore[call-arg]  # from the environment
    said = what_is_wrong(raised.value)
    assert "EASYPAY_ALERTS_WEBHOOK" in said
    assert "s3cret" not in said


async def test_a_rule_whose_metric_nobody_shows_is_named_once_and_told_to_nobody(
    pool: Any, told: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, took, _ = told
    monkeypatch.setattr(states, "NOT_JUDGED_AFTER", timedelta(0))
    rules = [rule for rule in JUDGED if rule.name in ("EasyPayWorkParked", "EasyPayWorkWaits")]
    metrics = Metrics()
    watch = AlertWatch(pool, [metrics], [Webhook(url)], rules=rules, times=QUICK)
    for _ in range(2):
        await watch.round()
    assert caplog.text.count("nobody shows their metrics: EasyPayWorkWaits") == 1
    assert took == []
    assert await pool.fetchval("SELECT series FROM alert_states") == "EasyPayWorkWaits"

    async def shown() -> list[Sample]:
        labels = {"list": "webhooks", "instance": "here"}
        return [*await metrics(), ("easypay_work_age_seconds", labels, 0.0)]

    await _end_lease(pool)
    await AlertWatch(pool, [shown], [Webhook(url)], rules=rules, times=QUICK).round()
    assert await pool.fetchval("SELECT count(*) FROM alert_states") == 0


async def test_without_the_database_the_leader_goes_on_from_memory(
    pool: Any, told: Any, cluster: Cluster
) -> None:
    url, took, _ = told
    metrics = Metrics()
    watch = _watch(pool, metrics, Webhook(url))
    await watch.round()
    async with _database_away(pool, cluster):
        metrics.parked = 1
        for _ in range(2):
            await watch.round()
        assert took == [FIRING]

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


async def test_a_listener_that_sends_a_byte_now_and_then_is_left() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not reader.at_eof():
            writer.write(b"#")
            with suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await reader.read(1)
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(TimeoutError, match="it took longer"):
            await asyncio.to_thread(exchange, "GET", url, None, 0.3)


async def test_a_user_in_the_address_of_a_listener_is_sent_and_shown_nowhere() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        body = b"easypay_unknown_operations 3\n"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        at = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        samples = await scraped(f"http://scraper:s3cret@{at}/metrics")()
    assert {labels["instance"] for _, labels, _ in samples} == {at}
    assert [(name, value) for name, _, value in samples] == [
        ("up", 1.0),
        ("easypay_unknown_operations", 3.0),
    ]
    assert b"Basic c2NyYXBlcjpzM2NyZXQ=" in heads[0]


@asynccontextmanager
async def _mail_server(
    mails: list[bytes], offers: bytes = b"", lines: list[bytes] | None = None
) -> AsyncIterator[str]:
    """A mail server that takes everything, as far as RFC 5321 asks of one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            if lines is not None:
                lines.append(line)
            if line.upper().startswith(b"EHLO") and offers:
                writer.write(b"250-%s\r\n" % offers)
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
    for field in (b"\r\nDate: ", b"\r\nMessage-ID: <"):
        assert field in mails[0]


async def test_easypay_alerts_lists_what_fires_and_what_cannot_be_judged(
    pool: Any, dsn: str
) -> None:
    now = datetime.now(UTC)
    before = now - timedelta(minutes=1)
    rows = [
        State("EasyPayWorkParked", "webhooks", before, now, 3.0, firing_at=now, told=["mail"]),
        State("EasyPayWorkWaits", "webhooks", now, now, 61.0),
        State("EasyPayKeyExpires", "", now, now, 1.0, firing_at=now, over_at=now),
        State(NOT_JUDGED, "EasyPayMonthsRunOut", now, now, 0.0, firing_at=now),
    ]
    await store.write(pool, rows, [])
    printed = run_easypay(
        "alerts", EASYPAY_DATABASE_URL=dsn, EASYPAY_ENCRYPTION_KEY=ENCRYPTION_KEY, COLUMNS="200"
    )
    assert printed.code == 0, printed.err
    lines = [line.split() for line in printed.out.splitlines() if "EasyPay" in line]
    assert [line[0] for line in lines] == ["EasyPayWorkParked", "EasyPayMonthsRunOut"]
    assert lines[0][1:3] == ["webhooks", "firing"]
    assert lines[1][1:3] == ["not", "judged"]


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


async def _run_test(**more: str) -> tuple[int, str]:
    environment = {
        "EASYPAY_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "EASYPAY_ENCRYPTION_KEY": ENCRYPTION_KEY,
    }
    words = ("alerts", "test", "--json")
    done = await asyncio.to_thread(partial(run_easypay, *words, **environment | more))
    return done.code, done.out


async def test_a_command_that_cannot_be_started_and_a_mail_server_that_is_away_say_so() -> None:
    message: list[Message] = []
    with pytest.raises(NotTold, match="FileNotFoundError"):
        await tell(Command("/nowhere/page"), message)
    with pytest.raises(NotTold, match="ConnectionRefusedError"):
        await tell(Webhook(f"http://127.0.0.1:{free_port()}/"), message)


async def test_a_command_learns_no_setting_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EASYPAY_ENCRYPTION_KEY", ENCRYPTION_KEY)
    page = tmp_path / "page"
    page.write_text(
        f"#!/bin/sh\nenv > {tmp_path}/env\nsleep 600 &\necho $! > {tmp_path}/pid\nwait\n"
    )
    page.chmod(0o755)
    with pytest.raises(NotTold, match="was killed"):
        await tell(Command(str(page), within_s=0.5), [])
    environment = (tmp_path / "env").read_text()
    assert "PATH=" in environment
    assert "EASYPAY_" not in environment
    sleeping = Path("/proc") / (tmp_path / "pid").read_text().strip() / "stat"

    async def is_gone() -> bool:
        return not sleeping.exists() or sleeping.read_text().split()[2] == "Z"

    await until(is_gone)


async def test_a_password_is_sent_over_tls_only() -> None:
    lines: list[bytes] = []
    async with _mail_server([], offers=b"AUTH PLAIN LOGIN", lines=lines) as smtp:
        mail = Mail(smtp.replace("//", "//user:s3cret@"), "pay@shop.example", ["ops@shop.example"])
        with pytest.raises(NotTold, match="it offers no TLS"):
            await tell(mail, [_message()])
    assert lines
    assert not any(line.startswith(b"AUTH") for line in lines)


def _message() -> Message:
    now = datetime.now(UTC)
    rule = RULES[0]
    return states.message(State(rule.key, "", now, now, 1.0, firing_at=now), rule)
