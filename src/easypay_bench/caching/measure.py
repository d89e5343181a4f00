"""All measurements of one run: the kinds of reads in turn, without a shared cache and with one.

Only reads within one run are compared. Every round asks each kind for a second, over as many
connections each, and every other round in the reverse order, so that a machine that gets slower
meets all kinds alike.
"""

import http.client
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from easypay.api.compression import CODINGS, compressed
from easypay.api.conditional import version_tag
from easypay.cache import embedded
from easypay_bench import compressing, cpu, load, machine, stack
from easypay_bench.caching import told
from easypay_bench.caching.bars import SHARED, Findings, Round, Setup
from easypay_bench.http_calls import StackFailed, call
from easypay_bench.load import Job, LoadFailed
from easypay_bench.payment_request import PATH, orders
from easypay_bench.performance_bars import per_payment_us
from easypay_bench.stack import Merchant, Stack

CONNECTIONS: Final = 16
_QUICK_CONNECTIONS: Final = 2
"""Of each kind when all are asked for at once."""
_QUICK_TRIES: Final = 10
"""How often a kind is asked for that got no answer, as on a very busy machine."""
LEAVE: Final[Mapping[str, str]] = {"Cache-Control": "max-age=60"}
_TAG: Final[Mapping[str, str]] = {"If-None-Match": version_tag(2).decode()}
"""Every payment that was taken at once has this version."""
_DIFFERENT: Final = 1_000
_IDS: Final = 100
_KEPT_WITHIN_S: Final = 10.0
_START_WITHIN_S: Final = 10.0
_LONGER_THAN_UNTOLD_S: Final = 1.1


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much to measure."""

    pairs: int = 9
    seconds: float = 1
    changes: int = 200
    """How many are timed until another gateway knows of them."""
    pay_s: float = 3
    """How long payments are taken that are read afterwards."""
    alone: bool = True
    """Whether to measure without a shared cache, too."""
    quick: bool = False


QUICK: Final = Plan(pairs=1, seconds=1, changes=4, pay_s=0.2, alone=False, quick=True)
"""Shows only that everything works."""


class Read(msgspec.Struct, frozen=True):
    """One kind of reads: the paths are asked for in turn."""

    paths: Sequence[str]
    headers: Mapping[str, str]


def everything(plan: Plan, say: Any) -> Findings:
    """Measure. Raises StackFailed, ClusterError, LoadFailed."""
    load.choose("wrk")
    facts = machine.facts()
    setups = []
    if plan.alone:
        say("without a shared cache")
        setups.append(_measured("alone", plan, {}, say))
    with _valkey() as url:
        if url is None:
            say("with Valkey: not measured, there is no server for this machine")
        else:
            say("with Valkey")
            setups.append(_measured(SHARED, plan, {"cache_url": url}, say))
    say("compression")
    page = compressing.page()
    return Findings(
        machine=facts,
        quick=plan.quick,
        connections=CONNECTIONS,
        seconds=plan.seconds,
        setups=setups,
        compression_us={
            coding.decode(): compressing.cost_us(partial(compressed, page, coding))
            for coding in CODINGS
        },
    )


@contextmanager
def _valkey() -> Iterator[str | None]:
    """Run the server that `easypay up` runs, and yield its URL; None if there is none."""
    program = embedded.binary()
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="easypay-cache-") as folder:
        socket = Path(folder) / "valkey.sock"
        process = subprocess.Popen(  # noqa: S603  (our own command line)
            embedded.command(program, socket=socket),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            ends = time.monotonic() + _START_WITHIN_S
            while not socket.exists():
                if process.poll() is not None or time.monotonic() > ends:
                    raise StackFailed(f"Valkey did not start: run {program} to see why")
                time.sleep(0.01)
            yield f"unix://{socket}"
        finally:
            process.terminate()
            process.wait()


def _measured(name: str, plan: Plan, settings: Mapping[str, str], say: Any) -> Setup:
    """Return the rounds of each kind, and how soon changes are known elsewhere."""
    with (
        tempfile.TemporaryDirectory(prefix="easypay-cache-") as folder,
        stack.own(Path(folder), settings=settings) as running,
        stack.shop(running) as merchant,
    ):
        reads = _reads(running, merchant, plan.pay_s)
        if not plan.quick:
            for what, read in reads.items():
                _checked(running, merchant, what, read)
        _are_kept(running, merchant, reads)
        if plan.quick:
            found = _all_at_once(running, merchant, reads, plan.seconds)
        else:
            found = _in_turn(running, merchant, reads, plan, say)
        say(f"{plan.changes} changes")
        with stack.another_gateway(running) as second:
            late = told.late_ms(running.api_url, second.api_url, merchant.api_key, plan.changes)
    return Setup(name, found, late)


def _in_turn(
    running: Stack, merchant: Merchant, reads: Mapping[str, Read], plan: Plan, say: Any
) -> dict[str, list[Round]]:
    """Return the rounds of each kind."""
    found: dict[str, list[Round]] = {name: [] for name in reads}
    for pair in range(plan.pairs):
        for name in reads if pair % 2 == 0 else reversed([*reads]):
            found[name].append(_round(running, merchant, reads[name], plan.seconds))
        say(f"round {pair + 1} of {plan.pairs}")
    return found


def _reads(running: Stack, merchant: Merchant, pay_s: float) -> dict[str, Read]:
    """Take payments, and return the kinds of reads."""
    made = orders(f"{running.host}:{running.port}", merchant.api_key)
    load.run(load.choose("auto", pay_s), Job(running.host, running.port, made, CONNECTIONS, pay_s))
    listed = call("GET", f"{running.api_url}{PATH}?limit={_IDS}", bearer=merchant.api_key)
    by_id = [f"{PATH}/{each['id']}" for each in listed["data"]]
    pages = [f"{PATH}?created_to=2999-01-01T00:00:00.{n:03}Z" for n in range(_DIFFERENT)]
    counts = [
        f"{PATH}/stats?from=2020-01-01T00:{n // 60:02}:{n % 60:02}Z" for n in range(_DIFFERENT)
    ]
    return {
        "livez": Read(["/livez"], {}),
        "by id, 304 with leave": Read(by_id, {**LEAVE, **_TAG}),
        "by id, with leave": Read(by_id, LEAVE),
        "by id, without leave": Read(by_id, {}),
        "first page, with leave": Read(pages[:1], LEAVE),
        "first page, another each time": Read(pages, {}),
        "statistics, with leave": Read(counts[:1], LEAVE),
        "statistics, another each time": Read(counts, {}),
    }


def _checked(running: Stack, merchant: Merchant, name: str, read: Read) -> None:
    """Ask for a kind for a second, which also fills the caches. Raises LoadFailed."""
    asked = _round(running, merchant, read, 1)
    if asked.wrong:
        raise LoadFailed(f"{name}: {asked.wrong} requests were not answered as they should be")


def _are_kept(running: Stack, merchant: Merchant, reads: Mapping[str, Read]) -> None:
    """Wait until a payment may be older than a second in the caches. Raises LoadFailed if it is
    not kept: then nothing is measured but misses."""
    read = reads["by id, with leave"]
    ends = time.monotonic() + _KEPT_WITHIN_S
    while time.monotonic() < ends:
        for _ in range(2):
            connection = http.client.HTTPConnection(running.host, running.port, timeout=10)
            headers = {**read.headers, "Authorization": f"Bearer {merchant.api_key}"}
            connection.request("GET", read.paths[0], headers=headers)
            answer = connection.getresponse()
            answer.read()
            connection.close()
            if int(answer.headers.get("age", 0)) >= 1:
                return
            time.sleep(_LONGER_THAN_UNTOLD_S)
    raise LoadFailed("the gateway keeps no answer for longer than a second: see its log")


def _all_at_once(
    running: Stack, merchant: Merchant, reads: Mapping[str, Read], seconds: float
) -> dict[str, list[Round]]:
    """Return a round of each kind, which says nothing about what each costs: for --quick.

    Raises LoadFailed if a kind gets no answer at all.
    """

    def ask(read: Read) -> Round:
        for _ in range(_QUICK_TRIES):
            found = _round(running, merchant, read, seconds, _QUICK_CONNECTIONS)
            if found.per_s:
                return found
        raise LoadFailed(f"GET {read.paths[0]} is not answered")

    with ThreadPoolExecutor(len(reads)) as threads:
        return {
            name: [each] for name, each in zip(reads, threads.map(ask, reads.values()), strict=True)
        }


def _round(
    running: Stack,
    merchant: Merchant,
    read: Read,
    seconds: float,
    connections: int = CONNECTIONS,
) -> Round:
    meter = running.meter()
    before = meter.read()
    done = load.run_reads(
        running.host,
        running.port,
        merchant.api_key,
        read.paths,
        connections=connections,
        seconds=seconds,
        headers=read.headers,
    )
    spent = cpu.spent(before, meter.read())
    return Round(
        per_s=done.replies / done.seconds,
        gateway_us=per_payment_us(spent["gateway"], done.replies),
        postgres_us=per_payment_us(spent["postgres"], done.replies),
        wrong=sum(done.wrong.values()),
    )
