"""Makes recorded_faults.json anew: a gateway, a worker and the simulator under fault after fault.

    PYTHONPATH=src:tests:tests/alerts:tests/notifications python -m record_faults [SCENE…]

It takes about two minutes, and a PostgreSQL of its own.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import msgspec
from notified import notified
from recordings import FILE, Recording, load, record

from easypay import ids
from easypay.db import embedded
from easypay.db.embedded import Cluster
from harness import QUICK, Shop, Stack, migrated, simulating, stack_over, with_database
from harness.commands import run_easypay
from harness.http import http_client
from harness.processes import ADMIN_KEY, Gateway
from harness.replica import StreamingReplica
from harness.shop import queued_payment
from harness.waiting import until

_DAY_S = 86_400
_CONNECTIONS = "300"


class Scene:
    """One stack, and the readings of its gateway."""

    def __init__(self, stack: Stack, gateway: Gateway, shop: Shop, cluster: Cluster) -> None:
        self.stack, self.gateway, self.shop, self.cluster = stack, gateway, shop, cluster
        self.found: list[Recording] = []

    async def text(self) -> str:
        async with http_client(headers={"authorization": f"Bearer {ADMIN_KEY}"}) as client:
            return (await client.get(f"{self.gateway.url}/metrics")).text

    async def value(self, metric: str) -> float:
        lines = [line for line in (await self.text()).splitlines() if line.startswith(metric)]
        return max((float(line.rsplit(" ", 1)[1]) for line in lines), default=0.0)

    async def until(self, metric: str, holds: Callable[[float], bool]) -> None:
        async def does() -> bool:
            return holds(await self.value(metric))

        await until(does, within_s=120, what=metric)

    async def pay(self, times: int) -> None:
        await asyncio.gather(*(self.shop.pay() for _ in range(times)))

    async def record(
        self,
        fault: str,
        rules: dict[str, dict[str, str]],
        begin: Callable[[], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
    ) -> None:
        rest = await self.text()
        await self.pay(20)
        before = await self.text()
        await begin()
        during = await self.text()
        await end()
        await self.pay(5)
        after = await self.text()
        for rule, where in rules.items():
            self.found.append(record(fault, rule, [rest, before, during, after], where))


async def _nothing() -> None:
    pass


async def lost_replies(scene: Scene) -> None:
    async def begin() -> None:
        await scene.stack.simulator.fault("drop_reply", scene.shop.login, count=5)
        await scene.pay(5)

    async def end() -> None:
        await scene.until("easypay_unknown_operations", lambda value: value == 0)

    await scene.record(
        "five replies of the processor are lost", {"EasyPayUnknownOutcomes": {}}, begin, end
    )


async def nobody_answers(scene: Scene) -> None:
    async def begin() -> None:
        async with scene.stack.refusing():
            await scene.pay(5)

    await scene.record(
        "the processor refuses connections", {"EasyPayProcessorUnreachable": {}}, begin, _nothing
    )


async def wrong_key(scene: Scene) -> None:
    async def begin() -> None:
        await scene.stack.set_account(scene.shop, transaction_key="no-such-key-here")

        async def refused() -> bool:
            return (await scene.shop.pay()).status_code == 502

        await until(refused)

    async def end() -> None:
        await scene.stack.set_account(scene.shop)

        async def taken() -> bool:
            return (await scene.shop.pay()).status_code == 201

        await until(taken)

    await scene.record(
        "a merchant's key was changed at the processor", {"EasyPayAccountRefused": {}}, begin, end
    )


@asynccontextmanager
async def database_away(scene: Scene) -> AsyncIterator[None]:
    admin = await asyncpg.connect(scene.cluster.dsn)
    name = await scene.stack.value("SELECT current_database()")
    await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
    await admin.execute(end, name)
    try:
        yield
    finally:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await admin.close()


async def no_database(scene: Scene) -> None:
    rest = await scene.text()
    await scene.pay(20)
    before = await scene.text()
    await scene.stack.simulator.slow(scene.shop.login, ms=500)
    began = [asyncio.create_task(scene.shop.pay()) for _ in range(3)]
    await asyncio.sleep(0.3)  # they are at the processor, which answers half a second later
    async with database_away(scene):
        await scene.pay(15)
        await asyncio.gather(*began)
        await scene.until("easypay_outcomes_unrecorded", lambda value: value > 0)
        pool = 'db_client_connection_count{db_client_connection_state="idle"}'
        await scene.until(pool, lambda value: value == 0)
        used = 'db_client_connection_count{db_client_connection_state="used"}'
        await scene.until(used, lambda value: value == 0)
        during = await scene.text()
    await scene.stack.simulator.clear_faults()
    await scene.until("easypay_outcomes_unrecorded", lambda value: value == 0)

    async def taken() -> bool:
        return (await scene.shop.pay()).status_code == 201

    await until(taken)
    await scene.until("db_client_connection_count", lambda value: value > 0)
    texts = [rest, before, during, await scene.text()]
    for rule in ("EasyPayDatabaseAway", "EasyPayOutcomesUnrecorded", "EasyPayErrorsBurn 14.4"):
        scene.found.append(record("the database goes away during payments", rule, texts))


async def clock_wrong(scene: Scene) -> None:
    async def begin() -> None:
        await scene.stack.move_clock(45)
        await scene.until("easypay_clock_offset_seconds", lambda value: value < -30)

    async def end() -> None:
        await scene.stack.move_clock(0)
        await scene.until("easypay_clock_offset_seconds", lambda value: value > -1)

    await scene.record("the host's clock is 45 s late", {"EasyPayClockWrong": {}}, begin, end)


async def months_end(scene: Scene) -> None:
    async def begin() -> None:
        left = await scene.value("easypay_partition_horizon_days")
        await scene.stack.move_clock((left - 20) * _DAY_S)
        await scene.until("easypay_partition_horizon_days", lambda value: value < 25)

    async def end() -> None:
        await scene.stack.move_clock(0)
        await scene.until("easypay_partition_horizon_days", lambda value: value > 25)

    await scene.record(
        "no new month was made until 20 days before the end",
        {"EasyPayMonthsRunOut": {}},
        begin,
        end,
    )


async def work_stands(scene: Scene) -> None:
    held = await asyncpg.connect(scene.stack.dsn)
    lock = held.transaction()
    age = 'easypay_work_age_seconds{list="queued payments"}'

    async def begin() -> None:
        await lock.start()
        answer = await queued_payment(scene.stack, scene.shop)
        assert answer.status_code == 202, answer.text
        # Claims need this lock; reading how much there is does not.
        await held.execute("LOCK TABLE queued_operations IN EXCLUSIVE MODE")
        await scene.stack.move_clock(90)
        await scene.until(age, lambda value: value > 60)

    async def end() -> None:
        await scene.stack.move_clock(0)
        await lock.rollback()
        await held.close()
        await scene.until(age, lambda value: value == 0)

    await scene.record(
        "no queued payment can be claimed",
        {"EasyPayWorkWaits": {"list": "queued payments"}}, begin, end,
    )  # fmt: skip


async def work_parked(scene: Scene) -> None:
    rows = 'easypay_work_rows{list="erasures",state="parked"}'
    merchant = scene.shop.merchant_id

    async def begin() -> None:
        await scene.stack.fetch(
            "INSERT INTO erasure_work (merchant_id, mode, customer_id, due_at, parked_at, reason)"
            " VALUES ($1, 'test', $1, now(), now(), 'for the recording')",
            merchant,
        )
        await scene.until(rows, lambda value: value > 0)

    async def end() -> None:
        await scene.stack.fetch("DELETE FROM erasure_work")
        await scene.until(rows, lambda value: value == 0)

    await scene.record(
        "an erasure was parked", {"EasyPayWorkParked": {"list": "erasures"}}, begin, end
    )


async def unknown_stays(scene: Scene) -> None:
    async def begin() -> None:
        simulator = scene.stack.simulator
        for method in ("getUnsettledTransactionListRequest", "getTransactionDetailsRequest"):
            await simulator.fault("maintenance", scene.shop.login, method=method, count=100_000)
        await simulator.fault("drop_reply", scene.shop.login)
        await scene.pay(1)
        await scene.stack.move_clock(1300)
        await scene.until("easypay_unknown_age_seconds", lambda value: value > 1200)

    async def end() -> None:
        await scene.stack.move_clock(0)
        await scene.stack.simulator.clear_faults()
        await scene.until("easypay_unknown_operations", lambda value: value == 0)

    await scene.record(
        "the processor's reports fail while an outcome is unknown",
        {"EasyPayUnknownOutcomesStay": {}}, begin, end,
    )  # fmt: skip


async def charged_late(scene: Scene) -> None:
    person = 'easypay_late_charges{state="needs_person"}'

    async def begin() -> None:
        charged = len(await scene.stack.simulator.truth(login=scene.shop.login))
        await scene.stack.simulator.fault("late_charge", scene.shop.login, delay_ms=8000)
        await scene.pay(1)
        await scene.until("easypay_watched_operations", lambda value: value > 0)
        await scene.stack.charges(scene.shop, charged + 1)
        await scene.stack.move_clock(700)  # when what is watched is looked for again
        await scene.until("easypay_late_charges_found_total", lambda value: value > 0)
        ahead = 700

        async def returned() -> bool:
            nonlocal ahead
            ahead += 60
            await scene.stack.move_clock(ahead)
            rows = await scene.stack.fetch("SELECT state FROM late_charges")
            return [row["state"] for row in rows] == ["returned"]

        await until(returned, within_s=60)
        # As if the merchant had wanted to look at it; the real reasons take days.
        await scene.stack.move_clock(0)
        await scene.stack.fetch("UPDATE late_charges SET state = 'needs_person'")
        await scene.until(person, lambda value: value > 0)

    async def end() -> None:
        await scene.stack.fetch("UPDATE late_charges SET state = 'returned'")
        await scene.until(person, lambda value: value == 0)

    await scene.record(
        "a charge comes after its payment has failed",
        {"EasyPayLateCharge": {}, "EasyPayLateChargeNeedsPerson": {}}, begin, end,
    )  # fmt: skip


async def books_not_read(scene: Scene) -> None:
    age = "easypay_reconciliation_age_seconds"

    async def begin() -> None:
        await scene.stack.simulator.fault(
            "maintenance", scene.shop.login, method="getSettledBatchListRequest", count=100_000
        )
        await scene.stack.move_clock(_DAY_S + 3600)
        failed = 'easypay_reconciliations_total{result="failed"}'
        await scene.until(failed, lambda value: value > 0)
        await scene.until(age, lambda value: value > _DAY_S)

    async def end() -> None:
        await scene.stack.simulator.clear_faults()
        await scene.stack.move_clock(0)
        await scene.until(age, lambda value: value < _DAY_S)

    await scene.record(
        "the processor does not give out an account's books for a day",
        {"EasyPayBooksNotRead": {}, "EasyPayBooksFail": {}}, begin, end,
    )  # fmt: skip


async def notifications_lost(scene: Scene) -> None:
    told = await notified(scene.stack, scene.gateway)
    registered = run_easypay(
        *("processor", "register-webhooks", "--url", scene.gateway.url),
        *("--merchant", ids.typed(ids.MERCHANT, told.shop.merchant_id)),
        **scene.stack.env,
        EASYPAY_AUTHORIZE_NET_TEST_URL=scene.stack.simulator.wire,
    )
    assert registered.code == 0, registered.err
    usual, scene.shop = scene.shop, told.shop

    async def begin() -> None:
        await scene.stack.simulator.fault("webhook_lose", told.shop.login, count=5)
        await scene.pay(5)
        await scene.stack.move_clock(1000)  # when they are waited for no longer
        missed = 'easypay_notifications_expected_total{result="missed"}'
        await scene.until(missed, lambda value: value >= 5)

    async def end() -> None:
        await scene.stack.move_clock(0)

    await scene.record(
        "five notifications of charges are lost", {"EasyPayNotificationsMissed": {}}, begin, end
    )
    scene.shop = usual
    await told.close()


async def no_worker(scene: Scene) -> None:
    worker = scene.stack.processes[-1]

    async def begin() -> None:
        worker.kill()

    async def end() -> None:
        worker.start()
        await scene.until("easypay_build_info", lambda value: value == 1)

        async def shown() -> bool:
            return "easypay_work_rows{" in await scene.text()

        await until(shown)

    await scene.record("the only worker is killed", {"EasyPayNoWorker": {}}, begin, end)


async def replica_behind(scene: Scene) -> None:
    lag = "easypay_replica_lag_seconds"
    usual = scene.gateway
    with tempfile.TemporaryDirectory() as folder:
        replica = StreamingReplica(
            scene.cluster, Path(folder) / "replica", max_connections=_CONNECTIONS
        ).start()
        url = replica.dsn(scene.stack.dsn)
        scene.gateway = await scene.stack.gateway(**QUICK, database_replica_url=url)
        await scene.until("easypay_replica_in_use", lambda value: value == 1)

        async def begin() -> None:
            await replica.pause()
            await scene.pay(1)  # without something new to replay it is not behind
            await scene.until(lag, lambda value: value > 30)

        async def end() -> None:
            await replica.resume()
            await scene.until(lag, lambda value: value < 0.5)

        await scene.record(
            "the read replica replays nothing for half a minute",
            {"EasyPayReplicaBehind": {}}, begin, end,
        )  # fmt: skip
        await asyncio.to_thread(scene.gateway.terminate)
        scene.gateway = usual
        replica.stop()


async def killed(scene: Scene) -> None:
    rest, before = await scene.text(), await scene.text()
    scene.gateway.kill()
    scene.gateway.start()
    await scene.gateway.ready()
    texts = [rest, before, None, await scene.text()]
    for rule in ("EasyPayDown", "EasyPayNoGateway"):
        scene.found.append(record("the gateway is killed", rule, texts))


SCENES = (
    lost_replies, nobody_answers, wrong_key, no_database, clock_wrong, months_end, work_stands,
    work_parked, unknown_stays, charged_late, books_not_read,
    notifications_lost, no_worker, replica_behind, killed,
)  # fmt: skip


async def main(names: Sequence[str]) -> None:
    """Play the scenes, or all, and write the file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with embedded.running(
            folder / "postgres", settings={"max_connections": _CONNECTIONS}
        ) as cluster:
            template = "easypay_template"
            admin = await asyncpg.connect(cluster.dsn)
            await admin.execute(f"CREATE DATABASE {template}")
            await admin.close()
            await migrated(with_database(cluster.dsn, template))
            async with (
                simulating(folder) as simulator,
                stack_over(cluster, template, simulator, folder) as stack,
            ):
                shared = {**QUICK, "metrics_dir": str(folder / "metrics")}
                gateway = await stack.gateway(**shared)
                worker = stack.worker(**shared)
                await worker.logged("working on")
                shop = await stack.shop(gateway)
                scene = Scene(stack, gateway, shop, cluster)
                await scene.pay(5)
                for play in SCENES:
                    if not names or play.__name__ in names:
                        print(play.__name__)
                        await play(scene)
                        keep(scene.found)


def keep(found: list[Recording]) -> None:
    """Write these recordings in place of older ones of the same rules."""
    kept = {each.rule: each for each in load()} | {each.rule: each for each in found}
    merged = [each for _, each in sorted(kept.items())]
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(merged), indent=1) + b"\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
