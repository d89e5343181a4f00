"""The worker's loop that judges the metrics and tells people, where no Prometheus does.

Every worker reads; one, under a lease, judges and tells. What was told is written after the
receiver took it: if a worker is killed in between, another tells it once more, under the same id.
While the database is away the last leader goes on from memory: nobody else can take its lease. What
it told meanwhile it leaves to whoever leads afterwards.

Durations are measured by a clock that nobody sets back, or an alert would wait for the old time.
"""

import asyncio
import http.client
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from easypay import clock
from easypay.alerts import states, store
from easypay.alerts.history import Readings, Sample
from easypay.alerts.model import Level, Rule
from easypay.alerts.states import NOT_JUDGED, Key, Message, State
from easypay.alerts.table import RULES
from easypay.alerts.ways import NotTold, Way, exchange, tell
from easypay.clock import monotonic
from easypay.db.failures import is_passing
from easypay.db.lease import Lease
from easypay.ids import new_id
from easypay.observability.metric_registry import Registry

log = logging.getLogger(__name__)

LEASE: Final = "alerts"


class Times(msgspec.Struct, frozen=True):
    """How long things take, in seconds."""

    every_s: float = 15.0
    """Between two rounds."""
    lease_s: float = 60.0
    over_after_s: float = 60.0
    """An alert is over when its condition has not held for so long: what flutters is told once."""
    wait_s: float = 10.0
    """How long a round waits for a receiver. A slower one is looked at in the next round."""
    again_s: float = 15.0
    """After a failure a receiver is tried again; each further time after twice the pause."""
    most_again_s: float = 600.0
    silent_s: float = 60.0
    """A receiver that has taken so long is reported, once. It gets nothing else meanwhile."""


USUAL: Final = Times()


def times_of(every_s: float) -> Times:
    """Return the usual times with rounds so often. What has not held for four rounds is over."""
    return Times(every_s=every_s, over_after_s=4 * every_s)


JUDGED: Final = tuple(rule for rule in RULES if not rule.needs_prometheus)
"""The rules that look back an hour at most."""
Source = Callable[[], Awaitable[list[Sample]]]


def own(registry: Registry) -> Source:
    """Return a source: the metrics of this process and all that share its directory."""

    async def read() -> list[Sample]:
        return [
            (sample.name, {**sample.labels, "instance": "here"}, sample.value)
            for metric in registry.collect()
            for sample in metric.samples
        ]

    return read


def scraped(url: str) -> Source:
    """Return a source: a metrics listener. One that does not answer, or with something else, is
    down: `up` is 0."""
    host = {"job": "easypay", "instance": urlsplit(url).netloc.rpartition("@")[2]}

    def read() -> list[Sample]:
        down: list[Sample] = [("up", host, 0.0)]
        try:
            status, text = exchange("GET", url)
            if status != 200:
                return down
            found = [
                (sample.name, {**sample.labels, **host}, sample.value)
                for metric in text_string_to_metric_families(text.decode())
                for sample in metric.samples
            ]
        except (OSError, http.client.HTTPException, ValueError):
            return down
        return [("up", host, 1.0), *found]

    async def wait() -> list[Sample]:
        return await asyncio.to_thread(read)

    return wait


class _Receiver:
    """A way, what is on its way to it, and when it is tried again."""

    def __init__(self, way: Way, times: Times) -> None:
        self.way = way
        self._times = times
        self._begun: asyncio.Task[None] | None = None
        self._silent_at = math.inf
        self._told: list[tuple[Key, Message]] = []
        self._pause_s = times.again_s
        self._not_before = 0.0

    async def tell(self, open_states: dict[Key, State], rules: dict[str, Rule]) -> None:
        """Tell what it does not know yet, or look at what was begun. Notes in the states what it
        took."""
        if self._begun is None:
            self._begun = self._begin(open_states, rules)
        if self._begun is None:
            return
        await asyncio.wait({self._begun}, timeout=self._times.wait_s)
        if not self._begun.done():
            if monotonic() >= self._silent_at:
                self._silent_at = math.inf
                self._log_not_told("it does not answer")
            return
        error = self._begun.exception()
        self._begun = None
        if error is None:
            self._took(open_states)
        elif isinstance(error, NotTold):
            self._not_before = monotonic() + self._pause_s
            self._log_not_told(str(error))
            self._pause_s = min(self._times.most_again_s, 2 * self._pause_s)
        else:
            raise error

    def _begin(
        self, open_states: dict[Key, State], rules: dict[str, Rule]
    ) -> asyncio.Task[None] | None:
        """Begin to tell what it does not know yet. None: nothing is new, or it is too early."""
        news = states.to_tell(open_states.values(), self.way.name, rules)
        if not news or monotonic() < self._not_before:
            return None
        self._told = [((state.rule, state.series), message) for state, message in news]
        self._silent_at = monotonic() + self._times.silent_s
        return asyncio.create_task(tell(self.way, [message for _, message in news]))

    def _took(self, open_states: dict[Key, State]) -> None:
        """Note what it was told, of the states that are still the same."""
        self._pause_s = self._times.again_s
        for key, message in self._told:
            state = open_states.get(key)
            if state is not None and message.since == state.since:
                states.told(state, self.way.name, message.state)

    def _log_not_told(self, why: str) -> None:
        log.error("alerts cannot be told by %s: %s", self.way.name, why)

    def cancel(self) -> None:
        if self._begun is not None:
            self._begun.cancel()
            self._begun = None


class AlertWatch:
    """Judges the rules and tells the ways, while `run` runs."""

    def __init__(
        self,
        pool: Any,
        sources: Sequence[Source],
        ways: Sequence[Way],
        *,
        rules: Sequence[Rule] = JUDGED,
        times: Times = USUAL,
    ) -> None:
        self._pool = pool
        self._sources = sources
        self._receivers = [_Receiver(way, times) for way in ways]
        self._rules = {rule.key: rule for rule in rules}
        self._times = times
        self._readings = Readings(rules)
        self._lease = Lease(LEASE, holder=new_id(), for_s=times.lease_s)
        self._token: int | None = None
        self._states: dict[Key, State] = {}
        self._written: dict[Key, State] = {}
        """The rows of the table, as this worker knows them."""
        self._set_at = clock.now(), monotonic()

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            while True:
                await self.round()
                await asyncio.sleep(self._times.every_s)
        finally:
            for receiver in self._receivers:
                receiver.cancel()

    async def round(self) -> None:
        """Read; as the leader also judge, write and tell."""
        read = await asyncio.gather(*(source() for source in self._sources))
        self._readings.add(monotonic(), (sample for samples in read for sample in samples))
        if not await self._leads():
            return
        self._judge()
        if await self._write():
            told = (receiver.tell(self._states, self._rules) for receiver in self._receivers)
            await asyncio.gather(*told)
            self._states = states.without_finished(
                self._states, [receiver.way.name for receiver in self._receivers]
            )
            await self._write()

    def _judge(self) -> None:
        """Go from what holds in the last reading to the states."""
        found = {
            (key, series): value
            for key, rule in self._rules.items()
            for series, value in rule.when.holds(self._readings).items()
        }
        known = {key for key, rule in self._rules.items() if self._readings.knows(rule)}
        for key, rule in self._rules.items():
            if isinstance(rule.when, Level) and not rule.may_lack and key not in known:
                found[NOT_JUDGED, key] = 0.0
        over_after = timedelta(seconds=self._times.over_after_s)
        before = self._states
        self._states = states.advance(before, found, self._rules, known, self._now(), over_after)
        _log_not_judged(before, self._states)

    def _now(self) -> datetime:
        """Return the time by a clock that goes on evenly while there is anything to judge."""
        if not self._states:
            self._set_at = clock.now(), monotonic()
        set_to, at_s = self._set_at
        return set_to + timedelta(seconds=monotonic() - at_s)

    async def _leads(self) -> bool:
        """Whether this worker judges. A leader goes on from what the table says."""
        try:
            token = await self._lease.take(self._pool)
            if token != self._token and self._token is not None:
                await store.hand_over(self._pool, self._unwritten())
                self._token = None
            if token is not None:
                await self._take_over(new=token != self._token)
            self._token = token
        except Exception as error:
            if not is_passing(error):
                raise
            log.warning("alerts are judged from memory, the database is away: %s", error)
        return self._token is not None

    async def _take_over(self, *, new: bool) -> None:
        """Go on from the table: as a new leader, or with what another has handed over since."""
        rows = await store.load(self._pool)
        now = self._now()
        if new:
            self._states = {}
        for key, state in rows.items():
            if new or key not in self._written:
                self._states[key] = states.as_read(state, now)
        self._written = _copies(rows.values())

    def _unwritten(self) -> list[State]:
        """Return what was told and is not in the table."""
        return [s for key, s in self._states.items() if s.told and key not in self._written]

    async def _write(self) -> bool:
        """Write what changed. Returns False if another worker leads by now."""
        put, remove = store.differences(self._written, self._states)
        if not put and not remove:
            return True
        assert self._token is not None
        try:
            if not await store.save(self._pool, LEASE, self._token, put, remove):
                return False
        except Exception as error:
            if not is_passing(error):
                raise
            log.warning("alerts are told from memory, the database is away: %s", error)
            return True
        self._written = _copies(self._states.values())
        return True


def _copies(of: Iterable[State]) -> dict[Key, State]:
    return {(s.rule, s.series): msgspec.structs.replace(s) for s in of}


def _log_not_judged(before: Mapping[Key, State], after: Mapping[Key, State]) -> None:
    """Log once which rules cannot be judged from now on."""
    new = [
        key
        for key, state in after.items()
        if key[0] == NOT_JUDGED
        and state.firing_at is not None
        and (key not in before or before[key].firing_at is None)
    ]
    if new:
        names = ", ".join(series for _, series in new)
        log.warning("alerts that cannot be judged, because nobody shows their metrics: %s", names)
