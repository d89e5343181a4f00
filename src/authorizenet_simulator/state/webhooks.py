"""Webhooks, their notifications and every delivery attempt.

A notification belongs to one webhook, so that a failing endpoint does not affect others. It is in
the state file before the reply to the request is sent; `deliveries` sends it.
"""

import heapq
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, get_args

import msgspec

from authorizenet_simulator.state.store import Store

_PREFIX: Final = "net.authorize."
EVENT_TYPES: Final = tuple(
    _PREFIX + name
    for name in (
        "customer.created",
        "customer.deleted",
        "customer.updated",
        "customer.paymentProfile.created",
        "customer.paymentProfile.deleted",
        "customer.paymentProfile.updated",
        "customer.subscription.cancelled",
        "customer.subscription.created",
        "customer.subscription.expired",
        "customer.subscription.expiring",
        "customer.subscription.failed",
        "customer.subscription.suspended",
        "customer.subscription.terminated",
        "customer.subscription.updated",
        "payment.authcapture.created",
        "payment.authorization.created",
        "payment.capture.created",
        "payment.fraud.approved",
        "payment.fraud.declined",
        "payment.fraud.held",
        "payment.priorAuthCapture.created",
        "payment.refund.created",
        "payment.void.created",
    )
)
CREATED: Final = {
    "authOnlyTransaction": _PREFIX + "payment.authorization.created",
    "authCaptureTransaction": _PREFIX + "payment.authcapture.created",
    "captureOnlyTransaction": _PREFIX + "payment.capture.created",
    "priorAuthCaptureTransaction": _PREFIX + "payment.priorAuthCapture.created",
    "refundTransaction": _PREFIX + "payment.refund.created",
    "voidTransaction": _PREFIX + "payment.void.created",
}
"""Event type by transactionType: of a new transaction, capture or void."""
MOST_KEPT: Final = 10_000
"""Maximum notifications of an account; the oldest are dropped, delivered or not."""
Status = Literal["Delivered", "Failed", "RetryPending"]

_encode = msgspec.json.Encoder().encode


class WebhookSet(msgspec.Struct, array_like=True, tag="webhook"):
    """A webhook's new state: created, changed, or made inactive."""

    webhook_id: str
    login: str
    name: str
    url: str
    event_types: list[str]
    active: bool


class WebhookDeleted(msgspec.Struct, array_like=True, tag="webhook_deleted"):
    webhook_id: str


class Notified(msgspec.Struct, array_like=True, tag="notification"):
    """An event occurred that a webhook listens to."""

    notification_id: str
    webhook_id: str
    event_type: str
    at: int
    payload: str
    """JSON."""


class Attempted(msgspec.Struct, array_like=True, tag="attempt"):
    """A delivery attempt. `http_status` is 0 without a response; then `problem` says why."""

    notification_id: str
    at: int
    http_status: int
    problem: str
    due: int
    """When to try again; 0: never, as it was delivered or given up."""


Event = WebhookSet | WebhookDeleted | Notified | Attempted


class Notification:
    """A notification of one webhook and the state of its delivery."""

    __slots__ = ("attempts", "due", "event", "login", "status")

    def __init__(self, event: Notified, login: str) -> None:
        self.event = event
        self.login = login
        self.status: Status = "RetryPending"
        self.due = 0
        """When to try the delivery; 0: at once."""
        self.attempts: list[Attempted] = []

    @property
    def http_status(self) -> int:
        return self.attempts[-1].http_status if self.attempts else 0


class Webhook:
    """An account's webhook and its queue of pending notifications."""

    __slots__ = ("queue", "set")

    def __init__(self, event: WebhookSet) -> None:
        self.set = event
        self.queue: list[tuple[int, int, Notification]] = []
        """A heap by due time, then age. An entry is stale if its notification is due at another
        time or is no longer pending."""


class Webhooks(Store):
    """The store of webhooks and notifications; `wake` is called when one may be due."""

    events = get_args(Event)

    def __init__(self) -> None:
        self.webhooks: dict[str, Webhook] = {}
        self.listening: dict[str, dict[str, list[Webhook]]] = {}
        """Active webhooks by login and event type; accounts without one are absent."""
        self.history: dict[str, dict[str, Notification]] = {}
        """Each account's notifications by id, oldest first."""
        self.wake: Callable[[], None] = lambda: None
        self._owner: dict[str, str] = {}
        """The login of each notification."""
        self._made = 0

    def of(self, login: str) -> list[Webhook]:
        return [webhook for webhook in self.webhooks.values() if webhook.set.login == login]

    def notified(
        self, login: str, event_type: str, payload: Callable[[], dict[str, Any]], now: int
    ) -> list[Notified]:
        """Create a notification for each of the account's active webhooks for this type."""
        listeners = self.listening[login].get(event_type)
        if listeners is None:
            return []
        text = _encode(payload()).decode()
        return [
            Notified(str(uuid.uuid4()), webhook.set.webhook_id, event_type, now, text)
            for webhook in listeners
        ]

    def next_due(self, webhook: Webhook, now: int) -> Notification | int | None:
        """Remove and return the due notification; else return when one is due; else None."""
        queue = webhook.queue
        while queue:
            due, _, notification = queue[0]
            if notification.due != due or not self._is_waiting(notification):
                heapq.heappop(queue)
            elif due > now:
                return due
            else:
                heapq.heappop(queue)
                return notification
        return None

    def is_kept(self, notification: Notification) -> bool:
        """Return whether it was not dropped by a reset or for its age."""
        return notification.event.notification_id in self._owner

    def apply(self, event: Event) -> None:
        match event:
            case Notified():
                self._notified(event)
            case Attempted():
                self._attempted(event)
            case WebhookSet():
                self._set(event)
            case WebhookDeleted(webhook_id):
                self._deleted(webhook_id)

    def reset(self, login: str) -> None:
        """Delete notifications; webhooks are settings and stay."""
        for name in [login] if login else list(self.history):
            for number in self.history.pop(name, ()):
                del self._owner[number]

    def snapshot(self) -> Iterator[Event]:
        for webhook in self.webhooks.values():
            yield webhook.set

    def _is_waiting(self, notification: Notification) -> bool:
        return notification.status == "RetryPending" and self.is_kept(notification)

    def _set(self, event: WebhookSet) -> None:
        webhook = self.webhooks.get(event.webhook_id)
        if webhook is None:
            self.webhooks[event.webhook_id] = Webhook(event)
        else:
            webhook.set = event
        self._listen(event.login)

    def _deleted(self, webhook_id: str) -> None:
        webhook = self.webhooks.pop(webhook_id, None)
        if webhook is None:
            return
        for _, _, notification in webhook.queue:
            if notification.status == "RetryPending":
                notification.status = "Failed"
        self._listen(webhook.set.login)

    def _listen(self, login: str) -> None:
        """Rebuild the index of the account's active webhooks."""
        by_type: dict[str, list[Webhook]] = {}
        for webhook in self.of(login):
            for event_type in webhook.set.event_types if webhook.set.active else ():
                by_type.setdefault(event_type, []).append(webhook)
        if by_type:
            self.listening[login] = by_type
        else:
            self.listening.pop(login, None)

    def _notified(self, event: Notified) -> None:
        webhook = self.webhooks.get(event.webhook_id)
        if webhook is None:
            return
        notification = Notification(event, webhook.set.login)
        kept = self.history.setdefault(notification.login, {})
        kept[event.notification_id] = notification
        self._owner[event.notification_id] = notification.login
        if len(kept) > MOST_KEPT:
            oldest = next(iter(kept))
            del kept[oldest], self._owner[oldest]
        self._queue(webhook, notification)

    def _attempted(self, event: Attempted) -> None:
        login = self._owner.get(event.notification_id)
        if login is None:
            return
        notification = self.history[login][event.notification_id]
        notification.attempts.append(event)
        if event.http_status == 200:
            notification.status = "Delivered"
        elif not event.due:
            notification.status = "Failed"
        else:
            notification.due = event.due
            webhook = self.webhooks.get(notification.event.webhook_id)
            if webhook is not None:
                self._queue(webhook, notification)

    def _queue(self, webhook: Webhook, notification: Notification) -> None:
        self._made += 1
        heapq.heappush(webhook.queue, (notification.due, self._made, notification))
        if len(webhook.queue) > 2 * MOST_KEPT:
            webhook.queue = [
                entry
                for entry in webhook.queue
                if entry[0] == entry[2].due and self._is_waiting(entry[2])
            ]
            heapq.heapify(webhook.queue)
