"""Delivers notifications at least once, per endpoint independently, with scheduled retries.

Retries are due by the simulator's clock: setting it forward makes them due at once.
"""

import asyncio
import hmac
import uuid
from collections import deque
from collections.abc import Coroutine
from typing import Any, Final

import msgspec

from authorizenet_simulator.control.faults import Fault, Faults
from authorizenet_simulator.state import clock
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.webhooks import Attempted, Notification, Notified, Webhook
from authorizenet_simulator.webhooks import outbound_http

_MAX_IN_FLIGHT: Final = 8
"""Maximum concurrent deliveries to one endpoint."""
_MAX_SLEEP_S: Final = 3600.0
_USER_AGENT: Final = "authorizenet-simulator"
_encode = msgspec.json.Encoder().encode

Run = list[Notification]
"""Notifications delivered one after another."""


class _Lane:
    """One endpoint: its deliveries in flight, and those ready that have passed the faults."""

    __slots__ = ("in_flight", "ready")

    def __init__(self) -> None:
        self.in_flight = 0
        self.ready: deque[Run] = deque()


class Deliveries:
    """Sends the pending notifications, in a task on the server's event loop."""

    def __init__(self, ledger: Ledger, faults: Faults) -> None:
        self._ledger = ledger
        self._store = ledger.webhooks
        self._faults = faults
        self._lanes: dict[str, _Lane] = {}
        self._reordering: dict[str, dict[str, Run]] = {}
        """Notifications held back by `webhook_reorder`, by fault and webhook."""
        self._delayed: set[asyncio.TimerHandle] = set()
        self._woken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._store.wake = self._woken.set
        self._begin(self._serve())

    async def stop(self) -> None:
        """Cancel deliveries in flight; the state file has them as undelivered."""
        for timer in self._delayed:
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ping(self, webhook: Webhook) -> int:
        """Send a test notification once and return the HTTP status. Raises NoAnswer."""
        event_type = webhook.set.event_types[0]
        payload = _encode(_test_payload(event_type)).decode()
        now = self._ledger.clock.now_ms()
        event = Notified(str(uuid.uuid4()), webhook.set.webhook_id, event_type, now, payload)
        return await self._post(webhook, event)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self) -> None:
        while True:
            self._woken.clear()
            self._release_reordered()
            sleep_s = self._begin_due()
            try:
                async with asyncio.timeout(sleep_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    def _begin_due(self) -> float | None:
        """Start due deliveries; return seconds until the next is due, None if none is scheduled."""
        the_clock = self._ledger.clock
        now = the_clock.now_ms()
        soonest: int | None = None
        for webhook in self._store.webhooks.values():
            if not webhook.set.active:
                continue
            lane = self._lanes.get(webhook.set.webhook_id)
            if lane is None:
                if not webhook.queue:
                    continue
                lane = self._lanes[webhook.set.webhook_id] = _Lane()
            while lane.in_flight < _MAX_IN_FLIGHT:
                if lane.ready:
                    run: Run | None = lane.ready.popleft()
                else:
                    found = self._store.next_due(webhook, now)
                    if found is None:
                        break
                    if isinstance(found, int):
                        soonest = found if soonest is None else min(soonest, found)
                        break
                    run = self._apply_faults(webhook, found)
                if run is not None:
                    lane.in_flight += 1
                    self._begin(self._deliver(webhook, lane, run))
        for webhook_id in self._lanes.keys() - self._store.webhooks.keys():
            del self._lanes[webhook_id]
        if soonest is None or the_clock.stopped_ms is not None:
            return None
        return min((soonest - now) / 1000 + 0.001, _MAX_SLEEP_S)

    async def _deliver(self, webhook: Webhook, lane: _Lane, run: Run) -> None:
        try:
            for notification in run:
                await self._attempt(webhook, notification)
        finally:
            lane.in_flight -= 1
            self._woken.set()

    async def _attempt(self, webhook: Webhook, notification: Notification) -> None:
        if not self._store.is_kept(notification):
            return
        if self._store.webhooks.get(webhook.set.webhook_id) is not webhook:
            return  # the webhook was deleted
        again = notification.status != "RetryPending"
        problem = ""
        try:
            status = await self._post(webhook, notification.event)
        except outbound_http.NoAnswer as error:
            status, problem = 0, str(error)
        if not again:  # the result of a duplicate is not recorded
            self._record(webhook, notification, status, problem)

    def _record(
        self, webhook: Webhook, notification: Notification, status: int, problem: str
    ) -> None:
        ledger = self._ledger
        now = ledger.clock.now_ms()
        retry_s = ledger.settings_of(ledger.accounts[webhook.set.login]).webhook_retry_s
        tried = len(notification.attempts)
        given_up = status != 200 and tried >= len(retry_s)
        due = 0 if status == 200 or given_up else now + round(retry_s[tried] * 1000)
        ledger.do(Attempted(notification.event.notification_id, now, status, problem, due))
        if given_up and self._store.webhooks.get(webhook.set.webhook_id) is webhook:
            ledger.do(msgspec.structs.replace(webhook.set, active=False))
        ledger.journal.flush()

    async def _post(self, webhook: Webhook, event: Notified) -> int:
        account = self._ledger.accounts[webhook.set.login]
        body = envelope(event)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": _USER_AGENT,
            "X-Request-Id": str(uuid.uuid4()),
        }
        if account.signature_key:
            headers["X-ANET-Signature"] = f"sha512={signature(account.signature_key, body)}"
        timeout_s = self._ledger.settings_of(account).webhook_timeout_s
        return await outbound_http.post(webhook.set.url, headers, body, timeout_s)

    # Faults are applied once to each notification, before its first delivery.

    def _apply_faults(self, webhook: Webhook, notification: Notification) -> Run | None:
        """Return what to deliver now; None if it is lost, delayed or held back."""
        if notification.attempts or not self._faults.active:
            return [notification]
        fault = self._faults.plan_notification(notification.login, notification.event.event_type)
        if fault is None:
            return [notification]
        if fault.kind == "webhook_duplicate":
            return [notification, notification]
        if fault.kind == "webhook_lose":  # recorded as delivered
            self._record(webhook, notification, 200, "lost by a fault")
        elif fault.kind == "webhook_delay":
            self._delay(webhook, notification, fault)
        else:
            held = self._reordering.setdefault(fault.id, {})
            held.setdefault(webhook.set.webhook_id, []).append(notification)
            if fault.id not in self._faults.active:  # its count is used up
                self._woken.set()
        return None

    def _delay(self, webhook: Webhook, notification: Notification, fault: Fault) -> None:
        def arrive() -> None:
            self._delayed.discard(timer)
            self._make_ready(webhook.set.webhook_id, [notification])

        timer = asyncio.get_running_loop().call_later(fault.delay_ms / 1000, arrive)
        self._delayed.add(timer)

    def _release_reordered(self) -> None:
        """Release notifications in reverse order once their fault is used up or deleted."""
        for fault_id in self._reordering.keys() - self._faults.active.keys():
            for webhook_id, held in self._reordering.pop(fault_id).items():
                self._make_ready(webhook_id, held[::-1])

    def _make_ready(self, webhook_id: str, run: Run) -> None:
        lane = self._lanes.get(webhook_id)
        if lane is not None:
            lane.ready.append(run)
            self._woken.set()


def envelope(event: Notified) -> bytes:
    """Return the body, the same bytes at every delivery."""
    return _encode(
        {
            "notificationId": event.notification_id,
            "eventType": event.event_type,
            "eventDate": date_text(event.at),
            "webhookId": event.webhook_id,
            "payload": msgspec.Raw(event.payload.encode()),
        }
    )


def date_text(at_ms: int) -> str:
    """Format with seven decimals: '2026-01-31T08:00:00.2500000Z'."""
    return f"{clock.utc_text(at_ms - at_ms % 1000)[:-1]}.{at_ms % 1000:03d}0000Z"


def signature(key: str, body: bytes) -> str:
    """Sign in upper-case hex. The HMAC key is the hex text itself, not its decoded bytes."""
    return hmac.digest(key.encode("ascii"), body, "sha512").hex().upper()


def _test_payload(event_type: str) -> dict[str, Any]:
    """Return a ping's payload: the fields of its event type with placeholder values."""
    if ".payment." in event_type:
        first = {"responseCode": 0, "authCode": "", "avsResponse": "Y", "authAmount": 0.0}
        return first | {"entityName": "transaction", "id": "0"}
    if ".subscription." in event_type:
        return {"entityName": "subscription", "id": "0", "name": "", "amount": 0.0, "status": ""}
    kind = "customerPaymentProfile" if ".paymentProfile." in event_type else "customerProfile"
    return {"entityName": kind, "id": "0"}
