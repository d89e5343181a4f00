"""The loop that delivers: claims what is due, sends each message, and records what became of it.

Every endpoint has a bound of messages in flight, so one that hangs takes the place of no other; one
that does not answer is tried with one message at a time. Nothing is held in the database while a
message is under way. Attempts are recorded in groups: those that end within a moment, or while the
group before is written.

A worker that dies has left its claims to the lease: another sends these messages again. So a
message arrives at least once, and the receiver knows a repetition by its id.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import asyncpg

from easypay import clock, failpoints, ids
from easypay.card_numbers import quoted
from easypay.clock import monotonic
from easypay.db import work_list
from easypay.db.connections import LOST, Lane
from easypay.db.failures import is_passing
from easypay.merchants.vault import Vault, VaultError
from easypay.payments.event_objects import FeedEventView
from easypay.webhooks import endpoints, queue
from easypay.webhooks import log as attempt_log
from easypay.webhooks.fan_out import FanOut
from easypay.webhooks.http_sender import Answer, HttpSender, NoAnswer
from easypay.webhooks.messages import (
    EventKey,
    Views,
    body_of,
    message_id,
    read_events,
    views_of,
)
from easypay.webhooks.model import Delivery, next_try_s
from easypay.webhooks.queue import DELIVERIES, Told
from easypay.webhooks.recent import Recent
from easypay.webhooks.signing import headers

log = logging.getLogger(__name__)

LIMIT_S: Final = 15.0
"""How long an endpoint has to answer."""
FOLLOW_S: Final = 0.01
"""How often it is asked whether the feed has new events, while there is something to deliver."""
POLL_S: Final = 0.05
"""The least pause before a claim of everything. What is fanned out here is claimed at once."""
IDLE_POLL_S: Final = 1.0
IDLE_FOLLOW_S: Final = 0.1
"""How often both are done after a quiet minute. To ask about the feed costs next to nothing, if
anybody has an endpoint."""
_BUSY_FOR_S: Final = 60.0
"""How long after the last delivery the lists are still looked at every `POLL_S`."""
_AGAIN_S: Final = 1.0
_OF_EACH: Final = 16
MOST: Final = 1_000
"""Messages in flight."""
_OF_GROUP: Final = 500
_GATHER_S: Final = 0.01
"""Attempts that end within so long are recorded together, unless something waits for them."""
_MOST_SILENT: Final = 10_000
_MOST_ANSWER: Final = 1024
"""Characters of an answer's body that are kept."""
_LOOK_S: Final = 0.02
_GIVE_BACK_S: Final = 3.0
"""How long a worker tries to give back what it did not deliver."""
_LEAST_PAUSE_S: Final = 1
_MOST_PAUSE_S: Final = 300
_SLOW_DOWN: Final = frozenset({429, 502, 503, 504})
_GONE: Final = 410

Watcher = Callable[[str, float | None], None]
"""Called with how each attempt ended (`done`, `later`, `parked`, or `lost` to another worker) and,
for a first one, how long after its event it was begun, in seconds."""
_HOW: Final = {"delivered": "done", "failed": "later", "parked": "parked"}
_PURGE_EVERY_S: Final = 3600.0
_WARN_EVERY_S: Final = 60.0


class Deliverer:
    """Delivers for one worker process. `of_each`: the most messages in flight to one endpoint,
    `most`: to all together."""

    def __init__(
        self,
        *,
        pool: Any,
        dsn: str,
        vault: Vault,
        sender: HttpSender,
        limit_s: float = 4.0,
        of_each: int = _OF_EACH,
        most: int = MOST,
        watch: Watcher = lambda *_: None,
    ) -> None:
        self._pool = pool
        self._vault = vault
        self._sender = sender
        self._of_each = of_each
        self._most = most
        self._watch = watch
        self._fan_out = FanOut(dsn, limit_s=limit_s)
        self._claims = Lane(
            dsn,
            "webhook claims",
            queue.claim_statement,
            lookups=True,
            limit_s=limit_s,
            settings=queue.LANE_SETTINGS,
        )
        self._records = Lane(
            dsn, "webhook records", lambda _: queue.RECORD, lookups=True, limit_s=limit_s
        )
        self._events = Lane(dsn, "webhook events", read_events, lookups=True, limit_s=limit_s)
        self._recent = Recent()
        self._in_flight: Counter[UUID] = Counter()
        self._full: set[UUID] = set()
        """Endpoints of which the last claim took as many as it might, so there may be more."""
        self._is_full = False
        """Whether there was no room for more of any endpoint."""
        self._silent: set[UUID] = set()
        """Endpoints that did not answer last time."""
        self._not_before: dict[UUID, float] = {}
        """Endpoints that asked for a pause, and when it ends."""
        self._told: list[Told] = []
        self._of_group = _OF_GROUP
        """Attempts that are recorded together. Fewer after a failure: one row may be locked."""
        self._tasks: dict[asyncio.Task[None], Delivery] = {}
        self._work = asyncio.Event()
        self._recordable = asyncio.Event()
        self._busy_until = 0.0
        self._warn_at = 0.0
        self._claiming = False
        self._stopping = False

    async def run(self) -> None:
        """Run until cancelled. What the database refuses for a while is tried again."""
        try:
            await self._run()
        finally:
            await self._close()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again_and_again(self._follow))
            group.create_task(self._again_and_again(self._claim))
            group.create_task(self._again_and_again(self._record))
            group.create_task(self._again_and_again(self._purge))

    def wake(self) -> None:
        """Let the lists be looked at now."""
        self._busy_until = monotonic() + _BUSY_FOR_S
        self._work.set()

    async def stop(self, within_s: float) -> None:
        """Claim nothing more, let what is under way end in this time, and give back the rest."""
        self._stopping = True
        ends = monotonic() + within_s
        while (self._claiming or self._tasks or self._told) and monotonic() < ends:  # noqa: ASYNC110 - once in a life
            await asyncio.sleep(_LOOK_S)
        left = dict(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._give_back(each for task, each in left.items() if task.cancelled())

    async def _give_back(self, deliveries: Iterable[Delivery]) -> None:
        """Let these be claimed again at once. If the database is away, their leases end."""
        back = [(queue.key_of(each), each.attempt, 0.0, None) for each in deliveries]
        with suppress(*LOST, asyncpg.PostgresError):
            async with asyncio.timeout(_GIVE_BACK_S):
                await work_list.postpone(self._pool, DELIVERIES, back)

    async def _close(self) -> None:
        """Close the connections."""
        await self._sender.close()
        for each in (self._fan_out, self._claims, self._records, self._events):
            await each.close()

    async def _again_and_again(self, step: Callable[[], Any]) -> None:
        while True:
            try:
                await step()
            except Exception as error:
                if not is_passing(error):
                    raise
                log.warning("webhooks wait for the database: %s", error)
                await asyncio.sleep(_AGAIN_S)

    def _poll_s(self, busy_s: float, idle_s: float) -> float:
        return busy_s if monotonic() < self._busy_until else idle_s

    async def _follow(self) -> None:
        """Fan out what is new in the feed."""
        began = monotonic()
        made = await self._fan_out.step()
        if made:
            self._busy_until = monotonic() + _BUSY_FOR_S
            self._look_at(made, began)
        if not self._fan_out.is_behind:  # the feed gets nothing new so soon
            idle_s = IDLE_FOLLOW_S if self._fan_out.is_needed else IDLE_POLL_S
            await asyncio.sleep(self._poll_s(FOLLOW_S, idle_s))

    async def _claim(self) -> None:
        """Claim what is due, and begin to send it."""
        self._work.clear()
        self._claiming = not self._stopping
        try:
            if self._claiming:
                await self._begin()
        finally:
            self._claiming = False
        try:
            pause_s = max(self._recent.all_in_s(), self._poll_s(POLL_S, IDLE_POLL_S))
            async with asyncio.timeout(pause_s):
                await self._work.wait()
        except TimeoutError:
            pass

    def _look_at(self, endpoints: Iterable[tuple[UUID, UUID]], since: float) -> None:
        """Claim now of these endpoints (merchant, id), as `Recent.note`."""
        self._recent.note(endpoints, since)
        self._work.set()

    async def _claim_next(self, most: int) -> list[Delivery]:
        """Claim of the endpoints for which there may be something, or now and then of all."""
        only, rooms, began = self._recent.next(), self._rooms(), monotonic()
        if only == []:
            return []
        claimed = await queue.claim(
            self._claims, rooms, of_each=self._of_each, most=most, only=only
        )
        self._is_full = len(claimed) >= most
        counts = Counter(each.endpoint_id for each in claimed)
        if only is None:
            asked = rooms.keys() | counts.keys()
            self._full.clear()
        else:
            asked = {each.endpoint_id for each in only}
            self._full -= asked
        self._full |= {each for each in asked if counts[each] >= rooms.get(each, self._of_each)}
        self._recent.claimed(only, began, claimed, rooms, self._of_each, cut_off=self._is_full)
        return claimed

    async def _begin(self) -> None:
        """Claim as much as there is room for, and begin to send it."""
        room = self._most - self._in_flight.total()
        if room <= 0:
            self._is_full = True
            return
        claimed = await self._claim_next(room)
        if not claimed:
            return
        self._busy_until = monotonic() + _BUSY_FOR_S
        for delivery in claimed:
            self._in_flight[delivery.endpoint_id] += 1
        try:
            views, unreadable = await self._read(claimed)
        except BaseException:
            for delivery in claimed:
                self._ended(delivery)
                self._recent.over(delivery)
            await self._give_back(claimed)
            raise
        for delivery, error in unreadable:
            self._broke(delivery, error)
            self._ended(delivery)
        broken = {id(delivery) for delivery, _ in unreadable}
        for delivery in claimed:
            if id(delivery) in broken:
                continue
            task = asyncio.create_task(self._deliver(delivery, views))
            self._tasks[task] = delivery
            task.add_done_callback(self._tasks.pop)

    async def _read(
        self, claimed: Sequence[Delivery]
    ) -> tuple[Views, list[tuple[Delivery, Exception]]]:
        """Read the events of a group, and find those that cannot be read: they fail alone."""
        month = f"{clock.now():%Y_%m}"
        try:
            return await views_of(self._events, self._pool, month, claimed), []
        except Exception as error:
            if is_passing(error):
                raise
        views: dict[EventKey, FeedEventView] = {}
        unreadable: list[tuple[Delivery, Exception]] = []
        for delivery in claimed:
            try:
                views |= await views_of(self._events, self._pool, month, [delivery])
            except Exception as error:
                if is_passing(error):
                    raise
                unreadable.append((delivery, error))
        return views, unreadable

    def _rooms(self) -> dict[UUID, int]:
        """Return how many more messages each endpoint may get that may not get `of_each`."""
        now = monotonic()
        self._not_before = {each: at for each, at in self._not_before.items() if at > now}
        rooms = {each: self._of_each - n for each, n in self._in_flight.items()}
        for each in self._silent:
            rooms[each] = 1 - self._in_flight[each]
        return rooms | dict.fromkeys(self._not_before, 0)

    async def _deliver(self, delivery: Delivery, views: Views) -> None:
        """Make one attempt."""
        told: Told | None = None
        try:
            if monotonic() + LIMIT_S < delivery.held_until:
                told = await self._attempt(delivery, views)
            # Otherwise this process was stopped meanwhile: another claims it when the lease ends.
        except Exception as error:  # noqa: BLE001 - whatever it is, it counts as a failure
            self._broke(delivery, error)
        finally:
            self._ended(delivery)
            if told is None:
                self._recent.over(delivery)
        if told is not None:
            self._tell(told)

    def _broke(self, delivery: Delivery, error: Exception) -> None:
        """Let an attempt count as failed that a bug has stopped, so that it is parked one day."""
        log.error("webhook %s could not be sent", message_id(delivery.event_id), exc_info=error)
        why = f"EasyPay could not send it: {type(error).__name__}"
        self._tell(self._failed(delivery, clock.now(), monotonic(), why))

    def _tell(self, told: Told) -> None:
        """Let this be recorded with the next group."""
        self._told.append(told)
        self._recordable.set()

    def _ended(self, delivery: Delivery) -> None:
        self._in_flight[delivery.endpoint_id] -= 1
        if not self._in_flight[delivery.endpoint_id]:
            del self._in_flight[delivery.endpoint_id]

    def _secrets_of(self, delivery: Delivery) -> list[str]:
        """Return the secrets that can be opened. If there is none, the merchant's server is not at
        fault: nothing is counted, and the event is tried again when its lease has ended."""
        d = delivery
        opened = []
        for each in d.secrets:
            with suppress(VaultError):
                opened += endpoints.open_secrets(
                    self._vault, each, d.merchant_id, d.mode, d.endpoint_id
                )
        if not opened and monotonic() >= self._warn_at:
            self._warn_at = monotonic() + _WARN_EVERY_S
            log.error(
                "webhooks to %s wait: its secret was sealed under another EASYPAY_ENCRYPTION_KEY",
                ids.typed(ids.ENDPOINT, d.endpoint_id),
            )
        return opened

    async def _attempt(self, delivery: Delivery, views: Views) -> Told | None:
        view = views.get((delivery.merchant_id, delivery.event_id))
        sent_at, started = clock.now(), monotonic()
        if view is None and delivery.data is None:
            why = "the event is in a month that was archived"
            return self._failed(delivery, sent_at, started, why, parked=True)
        if not (secrets := self._secrets_of(delivery)):
            return None
        body = body_of(delivery, view)
        signed = headers(secrets, message_id(delivery.event_id), int(sent_at.timestamp()), body)
        try:
            answer = await self._sender.post(delivery.url, signed, body, limit_s=LIMIT_S)
        except NoAnswer as error:
            if len(self._silent) >= _MOST_SILENT:
                self._silent.clear()
            self._silent.add(delivery.endpoint_id)
            return self._failed(delivery, sent_at, started, str(error))
        self._silent.discard(delivery.endpoint_id)
        failpoints.reach("webhook_sent")
        if 200 <= answer.status < 300:
            return Told(
                delivery,
                ids.new_id(),
                sent_at,
                _ms_since(started),
                "delivered",
                status=answer.status,
                answer=_text(answer.body),
            )
        self._heed(delivery, answer)
        why = f"the endpoint answered {answer.status}"
        return self._failed(delivery, sent_at, started, why, answer)

    def _heed(self, delivery: Delivery, answer: Answer) -> None:
        """Send an endpoint nothing for a while if it is overloaded."""
        if answer.status in _SLOW_DOWN:
            pause_s = min(max(answer.retry_after_s or 0, _LEAST_PAUSE_S), _MOST_PAUSE_S)
            self._not_before[delivery.endpoint_id] = monotonic() + pause_s

    def _failed(
        self,
        delivery: Delivery,
        sent_at: Any,
        started: float,
        why: str,
        answer: Answer | None = None,
        *,
        parked: bool = False,
    ) -> Told:
        after_s = None if answer is None else answer.retry_after_s
        again_s = None if parked else next_try_s(delivery.failures + 1, after_s)
        return Told(
            delivery,
            ids.new_id(),
            sent_at,
            _ms_since(started),
            "parked" if again_s is None else "failed",
            again_s=again_s,
            status=None if answer is None else answer.status,
            reason=why,
            answer="" if answer is None else _text(answer.body),
        )

    async def _record(self) -> None:
        """Write down a group of attempts. Claim where there was no room for something that may
        wait, or where something has waited behind them."""
        await self._recordable.wait()
        if not self._is_awaited():
            await asyncio.sleep(_GATHER_S)
        group = self._told[: self._of_group]
        if group:
            began = monotonic()
            try:
                recorded = await queue.record(self._records, group)
            except Exception:
                self._told = self._told[len(group) :] + group  # the others first
                self._of_group = max(1, len(group) // 2)
                raise
            self._of_group = min(_OF_GROUP, 2 * self._of_group)
            del self._told[: len(group)]
            for told in group:
                since = self._recent.over(told.delivery)
                self._count(told, lost=told.id not in recorded.ids)
                of = told.delivery.merchant_id, told.delivery.endpoint_id
                # What was fanned out meanwhile, the statement has not seen; and a claim of it has
                # still seen the earlier event.
                meanwhile = self._recent.was_noted(of[1], began)
                if of in recorded.behind or of[1] in self._full or meanwhile:
                    self._look_at([of], since)
            if self._is_full:
                self._work.set()
            await self._disable(group, recorded)
        if not self._told:
            self._recordable.clear()

    def _is_awaited(self) -> bool:
        """Whether something may wait for what is to be recorded: for its place, or the stop."""
        ended = {each.delivery.endpoint_id for each in self._told}
        return self._stopping or self._is_full or not ended.isdisjoint(self._full)

    def _count(self, told: Told, *, lost: bool) -> None:
        behind = told.sent_at - ids.moment_of(told.delivery.event_id)
        first = not lost and told.delivery.attempt == 1
        how = "lost" if lost else _HOW[told.outcome]
        self._watch(how, behind.total_seconds() if first else None)

    async def _purge(self) -> None:
        """Delete what is too old, once an hour."""
        if deleted := await attempt_log.purge(self._pool):
            log.info("deleted %d old rows of webhooks", deleted)
        await asyncio.sleep(_PURGE_EVERY_S)

    async def _disable(self, group: Sequence[Told], recorded: queue.Recorded) -> None:
        """Disable endpoints that are gone, or that have failed for too long."""
        reasons = dict.fromkeys(recorded.dead, "every attempt failed for five days")
        for told in group:
            if told.status == _GONE and told.id in recorded.ids:
                d = told.delivery
                reasons[d.merchant_id, d.mode, d.endpoint_id] = "it answered 410 Gone"
        for (merchant_id, mode, endpoint_id), reason in reasons.items():
            if await endpoints.disable(self._pool, merchant_id, mode, endpoint_id, reason):
                log.error(
                    "webhook endpoint %s of merchant %s was disabled: %s",
                    ids.typed(ids.ENDPOINT, endpoint_id),
                    ids.typed(ids.MERCHANT, merchant_id),
                    reason,
                )


def _ms_since(started: float) -> int:
    return int((monotonic() - started) * 1000)


def _text(body: bytes) -> str:
    """Return the beginning of an answer as it may be stored: without card numbers, NUL, and bytes
    that are no text."""
    return quoted(body.decode("utf-8", "replace").replace("\0", "\ufffd"), _MOST_ANSWER)
