"""All measurements of one run, one after another, on a stack of its own.

Only rates and times of one run are compared. What a worker does is measured with one worker.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from easypay_bench import cpu, machine
from easypay_bench import stack as stacks
from easypay_bench.http_calls import call
from easypay_bench.performance_bars import per_payment_us, percentile
from easypay_bench.stack import Merchant, Stack
from easypay_bench.work import batches, feed, notified, ordinary, stored
from easypay_bench.work.bars import ENDPOINT, NO_ENDPOINT, STATEMENTS, Drained, Findings, Told
from easypay_bench.work.bursts import RATE, begun, beside_snapshot, emptied, value
from easypay_bench.work.programs import Came, Receivers, commit, mint, pay, receivers
from easypay_bench.work.sender import Sent
from easypay_bench.work.slow_answers import SlowAnswers, watched

PARTS: Final = ("queue", "accept", "notified", "stored", "feed", "webhooks", "snapshot", "batches")
"""What can be measured alone. The ordinary path is measured if there is a commit to compare."""
_ENDPOINTS: Final = 50
_SCOPES: Final = ("payments:write", "webhooks:manage")
_SETTINGS: Final = {"webhook_private_networks": "127.0.0.0/8"}
_NOTICED_S: Final = 1.2
"""After so long the leader of the feed knows whether anybody has an endpoint."""
_LAST_EVENTS_S: Final = 0.3
Say = Callable[[str], None]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much to measure. Times in seconds, rates per second."""

    parts: tuple[str, ...] = PARTS
    rounds: int = 3
    seconds: float = 10
    payments: int = 4_000
    """Of a burst."""
    stored_rounds: int = 60
    """So often as many payments by card and with a stored method follow each other."""
    stored_payments: int = 600
    stored_rate: float = 0
    """0: as fast as they are answered."""
    endpoints: int = _ENDPOINTS
    accept_rate: float = 500
    notified_rate: float = 200
    event_rate: float = 500
    feed_rate: float = 3_000
    batch_lines: int = 4_000
    """Of a batch that is run, and as many payments beside it."""
    upload_lines: tuple[int, ...] = (1_000, 1_000_000)
    snapshot_s: float = 60
    snapshot_rate: float = 150
    base: str = ""
    """The commit with which the ordinary path is compared; empty: none."""
    pairs: int = 7
    pair_s: float = 6
    quick: bool = False


QUICK: Final = Plan(
    rounds=1, seconds=0.4, payments=60, endpoints=3, accept_rate=100, notified_rate=50,
    event_rate=100, feed_rate=100, stored_rounds=1, stored_payments=60,
    snapshot_s=0.3, snapshot_rate=50, batch_lines=60, upload_lines=(1_000,),
    quick=True,
)  # fmt: skip
"""Shows only that everything works."""


def everything(plan: Plan, say: Say) -> Findings:
    """Measure. Raises StackFailed, ClusterError, LoadFailed."""
    facts = machine.facts()
    with tempfile.TemporaryDirectory(prefix="easypay-work-") as name:
        folder = Path(name)
        found = Findings(machine=facts, quick=plan.quick, base=plan.base)
        # First what can be wrong at once: nobody wants to learn it after minutes.
        base = ordinary.sources(plan.base, folder) if plan.base else None
        if plan.parts:
            with stacks.own(folder, settings=_SETTINGS, postgres=feed.COMMIT_TIMES) as stack:
                found = asyncio.run(_on(stack, plan, say, found))
        if base is not None:
            say(f"the ordinary path beside {plan.base}")
            pairs = ordinary.pairs(base, plan.pairs, plan.pair_s, folder, say)
            found = msgspec.structs.replace(found, ordinary=pairs)
    return found


async def _on(stack: Stack, plan: Plan, say: Say, found: Findings) -> Findings:
    """Measure everything that needs one stack: first what needs that nobody has an endpoint."""
    replace, parts = msgspec.structs.replace, plan.parts
    with stacks.shop(stack) as merchant:
        if "queue" in parts:
            drained = [await _drained(stack, merchant, plan, say) for _ in range(plan.rounds)]
            found = replace(found, drained=drained)
        if "accept" in parts:
            say(f"202 at {plan.accept_rate:g}/s")
            accepted, why = await _accepted(stack, merchant, plan)
            found = replace(
                found,
                accepted_ms=accepted.latency_ms,
                accepted_rate=plan.accept_rate,
                accepted_slow=why,
            )
        if "notified" in parts:
            say(f"notifications of the processor at {plan.notified_rate:g}/s")
            told, why = await notified.answered(stack, merchant, plan.notified_rate, plan.seconds)
            found = replace(
                found,
                notified_ms=told.latency_ms,
                notified_rate=plan.notified_rate,
                notified_slow=why,
            )
        if "stored" in parts:
            say("stored methods beside cards")
            of_stored = await stored.pairs(
                *(stack, merchant, plan.stored_rounds, plan.stored_payments, plan.stored_rate, say)
            )
            found = replace(found, stored=of_stored)
        if "feed" in parts:
            found = replace(found, feed=await _feed(stack, merchant, plan, say))
    if "batches" in parts:
        found = await _batches(stack, plan, say, found)
    if "webhooks" in parts:
        found = await _webhooks(stack, plan, say, found)
    if "snapshot" in parts:
        async with _listening(stack, 1) as (got, (merchant,)):
            held = await beside_snapshot(
                stack,
                merchant,
                got,
                payments=plan.payments,
                rounds=plan.rounds,
                rate=plan.snapshot_rate,
                held_s=plan.snapshot_s,
                say=say,
            )
            found = replace(found, snapshot=held)
    return found


async def _batches(stack: Stack, plan: Plan, say: Say, found: Findings) -> Findings:
    """Run batches with one worker, and upload long files that are not run."""
    runs, uploads = [], []
    with stacks.shop(stack, scopes=batches.SCOPES) as merchant:
        for _ in range(plan.rounds):
            runs.append(await batches.run(stack, merchant, plan.batch_lines))
            say(
                f"{runs[-1].waiting_per_s:,.0f} payments/s by requests that wait, "
                f"{runs[-1].batch_per_s:,.0f} by a batch"
            )
        for lines in plan.upload_lines:
            uploads.append(await batches.upload(stack, merchant, lines))
            say(
                f"{lines:,} lines uploaded in {uploads[-1].seconds:.1f} s, "
                f"the gateway grew by {uploads[-1].grown_mib:.0f} MiB"
            )
    return msgspec.structs.replace(found, batches=runs, uploads=uploads)


@asynccontextmanager
async def _listening(
    stack: Stack, count: int
) -> AsyncIterator[tuple[Receivers, Sequence[Merchant]]]:
    """Make merchants that have an endpoint each."""
    with ExitStack() as shops:
        merchants = [shops.enter_context(stacks.shop(stack, scopes=_SCOPES)) for _ in range(count)]
        async with receivers() as got:
            for merchant, url in zip(merchants, await got.open(count), strict=True):
                _endpoint(stack, merchant, url)
            try:
                yield got, merchants
            finally:
                for merchant in merchants:
                    _forget_endpoints(stack, merchant)


def _endpoint(stack: Stack, merchant: Merchant, url: str) -> None:
    path = f"{stack.api_url}/api/v1/webhook-endpoints"
    call("POST", path, {"url": url}, bearer=merchant.api_key)


def _forget_endpoints(stack: Stack, merchant: Merchant) -> str:
    """Delete a merchant's endpoints. Return the URL of the last; empty if there was none."""
    url = ""
    path = f"{stack.api_url}/api/v1/webhook-endpoints"
    for each in call("GET", path, bearer=merchant.api_key)["data"]:
        call("DELETE", f"{path}/{each['id']}", bearer=merchant.api_key)
        url = each["url"]
    return url


async def _drained(stack: Stack, merchant: Merchant, plan: Plan, say: Say) -> Drained:
    """Return how fast as many payments are sent by requests that wait and from the queue."""
    tokens, count = await mint(stack, merchant, 2 * plan.payments), plan.payments
    meter = stack.meter()
    before = meter.read()
    await pay(stack, [merchant], count, tokens=tokens)
    waiting = cpu.spent(before, meter.read())
    waiting_per_s = await value(stack.database_url, RATE, merchant.id, count)
    await pay(stack, [merchant], count, tokens=tokens, queued=True)
    with stacks.worker(stack) as pid:
        await begun(stack, merchant)
        meter = cpu.Meter(
            {"worker": cpu.processes([pid]), "postgres": stack.meter().parts["postgres"]}
        )
        before = meter.read()
        await emptied(stack)
        queued = cpu.spent(before, meter.read())
    queued_per_s = await value(stack.database_url, RATE, merchant.id, count)
    say(f"{waiting_per_s:,.0f} payments/s by requests that wait, {queued_per_s:,.0f} queued")
    return Drained(
        waiting_per_s,
        queued_per_s,
        per_payment_us(waiting["gateway"], count),
        per_payment_us(waiting["postgres"], count),
        per_payment_us(queued["worker"], count),
        per_payment_us(queued["postgres"], count),
    )


async def _accepted(stack: Stack, merchant: Merchant, plan: Plan) -> tuple[Sent, SlowAnswers]:
    """Return how long a 202 takes while a worker sends what is queued, and why slow ones did."""
    count = int(plan.accept_rate * plan.seconds)
    tokens = await mint(stack, merchant, count + 1)
    with stacks.worker(stack):
        await pay(stack, [merchant], 1, tokens=tokens, queued=True)
        await emptied(stack)
        async with watched(stack, "enqueue") as watch:
            sent = await pay(
                stack, [merchant], count, rate=plan.accept_rate, tokens=tokens, queued=True
            )
            why = watch.explain(count, sent.slow)
        await emptied(stack)
    return sent, why


async def _feed(stack: Stack, merchant: Merchant, plan: Plan, say: Say) -> dict[str, feed.FeedRun]:
    """Return the feed at a rate, while nobody waits for events and while somebody does. The
    endpoint is of another merchant, so nothing is delivered."""
    found = {}
    for who in (NO_ENDPOINT, ENDPOINT):
        with stacks.shop(stack, scopes=_SCOPES) as other:
            if who == ENDPOINT:
                _endpoint(stack, other, "http://127.0.0.1:1/nobody")
            await asyncio.sleep(_NOTICED_S)
            async with feed.watched(stack.database_url) as run:
                await pay(stack, [merchant], int(plan.feed_rate * plan.seconds),
                          rate=plan.feed_rate)  # fmt: skip
                await asyncio.sleep(_LAST_EVENTS_S)
            run.seconds -= _LAST_EVENTS_S
            found[who] = run
            if who == ENDPOINT:
                found[STATEMENTS] = await _feed_beside_statements(stack, merchant, plan)
            _forget_endpoints(stack, other)
    for who, run in found.items():
        say(f"feed, {who}: {run.events} events in {run.seconds:.1f} s, {run.looks} looks")
    return found


async def _feed_beside_statements(stack: Stack, merchant: Merchant, plan: Plan) -> feed.FeedRun:
    """Return the feed at a rate beside the gateway's statements alone. The gateway itself only
    leads. With the committer's warm-up the feed is as busy as under a gateway."""
    meter = stack.meter()
    count = int(plan.feed_rate * plan.seconds)
    async with AsyncExitStack() as watching:
        watched = feed.watched(stack.database_url, by_commits=True)

        async def start() -> tuple[feed.FeedRun, dict[str, float]]:
            await asyncio.sleep(_LAST_EVENTS_S)
            return await watching.enter_async_context(watched), meter.read()

        (run, before), taken = await commit(stack, merchant, count, plan.feed_rate, start)
        spent = cpu.spent(before, meter.read())
        await asyncio.sleep(_LAST_EVENTS_S)
    run.seconds = taken.seconds
    run.cores = {
        name: used_s / taken.seconds
        for name, used_s in {**spent, "the statements' Python": taken.cpu_s}.items()
    }
    return run


async def _webhooks(stack: Stack, plan: Plan, say: Say, found: Findings) -> Findings:
    """Deliver to many endpoints: all that waited; at a rate; and at that rate while one hangs."""
    fast: list[Told] = []
    at_rate: list[Told] = []
    one_hangs: list[Told] = []
    async with _listening(stack, plan.endpoints) as (got, merchants):
        for _ in range(plan.rounds):
            await pay(stack, list(merchants), plan.payments)
            fast.append(await _all_that_waited(stack, got, plan.payments))
            at_rate.append(await _at_rate(stack, got, merchants, plan))
            one_hangs.append(await _while_one_hangs(stack, got, merchants, plan))
            say(
                f"{fast[-1].per_s:,.0f} deliveries/s; p99 {_p99(at_rate[-1]):.0f} ms, "
                f"{_p99(one_hangs[-1]):.0f} ms while one endpoint hangs"
            )
    return msgspec.structs.replace(found, fast=fast, at_rate=at_rate, one_hangs=one_hangs)


def _p99(told: Told) -> float:
    return percentile(told.late_ms, 0.99)


async def _all_that_waited(stack: Stack, got: Receivers, count: int) -> Told:
    """Start a worker, and let it deliver as many as wait."""
    with stacks.worker(stack) as pid:
        meter = _meter(stack, got, pid)
        await got.until(1)
        before = meter.read()
        await got.until(count)
        spent = cpu.spent(before, meter.read())
        came = await got.take()
        await emptied(stack)
    return _told(came, spent)


async def _at_rate(
    stack: Stack,
    got: Receivers,
    merchants: Sequence[Merchant],
    plan: Plan,
    hangs: int | None = None,
) -> Told:
    """Deliver the events of payments that are taken at a rate. One endpoint may hang."""
    count = int(plan.event_rate * plan.seconds)
    of_hanging = 0 if hangs is None else len(range(hangs, count, len(merchants)))
    with stacks.worker(stack) as pid:
        # Once it has delivered something, the worker has started and looks often.
        await pay(stack, list(merchants), len(merchants))
        await got.until(len(merchants) - (hangs is not None))
        await got.take()
        meter = _meter(stack, got, pid)
        before = meter.read()
        await pay(stack, list(merchants), count, rate=plan.event_rate)
        await got.until(count - of_hanging)
        spent = cpu.spent(before, meter.read())
        came = await got.take()
        if hangs is None:
            await emptied(stack)
    return _told(came, spent, but=-1 if hangs is None else hangs)


async def _while_one_hangs(
    stack: Stack, got: Receivers, merchants: Sequence[Merchant], plan: Plan
) -> Told:
    """Do the same while the first endpoint hangs. Then it is made anew, without what waits."""
    await got.hang(0)
    try:
        return await _at_rate(stack, got, merchants, plan, 0)
    finally:
        await got.hang(None)
        url = _forget_endpoints(stack, merchants[0])
        _endpoint(stack, merchants[0], url)
        await got.take()


def _meter(stack: Stack, got: Receivers, worker: int) -> cpu.Meter:
    return cpu.Meter(
        {
            "worker": cpu.processes([worker]),
            "postgres": lambda: cpu.family_s(stack.postmaster_pid),
            "receivers": cpu.processes([got.pid]),
        }
    )


def _told(came: Came, spent: Mapping[str, float], *, but: int = -1) -> Told:
    count = len(came.late_ms)
    return Told(
        deliveries=count,
        per_s=count / came.seconds,
        late_ms=came.of(but=but),
        repeats=came.repeats,
        worker_us=per_payment_us(spent["worker"], count),
        postgres_us=per_payment_us(spent["postgres"], count),
        receivers_us=per_payment_us(spent["receivers"], count),
    )
