"""The webhooks' REST API under /rest/v1: HTTP Basic, JSON, its own error format."""

import base64
import hmac
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import parse_qs

import msgspec

from authorizenet_simulator.state import clock
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import without_card_numbers
from authorizenet_simulator.state.webhooks import (
    EVENT_TYPES,
    Notification,
    Webhook,
    WebhookDeleted,
    WebhookSet,
)
from authorizenet_simulator.webhooks import deliveries, outbound_http
from authorizenet_simulator.webhooks.deliveries import Deliveries
from authorizenet_simulator.webhooks.outbound_http import NoAnswer

PREFIX: Final = "/rest/v1/"
_MAX_LIST: Final = 1000
_DEFAULT_LIST: Final = 100
_encode = msgspec.json.Encoder().encode

Answer = tuple[int, bytes]
"""HTTP status and body, which may be empty."""


class RestError(Exception):
    """The request is rejected with this status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


_REASONS: Final = {
    400: "INVALID_DATA",
    401: "UNAUTHORIZED",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    500: "INTERNAL_SERVER_ERROR",
}


class _Body(msgspec.Struct, rename="camel"):
    """Fields omitted in a PUT are left unchanged."""

    name: str | None = None
    url: str | None = None
    event_types: list[str] | None = None
    status: Literal["active", "inactive"] | None = None


class _Request(NamedTuple):
    account: Account
    query: dict[str, list[str]]
    body: bytes
    number: str
    """The id in the path, or ''."""


class WebhooksApi:
    """Answers requests under /rest/v1."""

    def __init__(self, ledger: Ledger, sender: Deliveries) -> None:
        self._ledger = ledger
        self._store = ledger.webhooks
        self._deliveries = sender
        self._routes: dict[tuple[str, ...], Callable[[_Request], Awaitable[Answer]]] = {
            ("GET", "eventtypes"): self._event_types,
            ("GET", "webhooks"): self._list,
            ("POST", "webhooks"): self._create,
            ("GET", "webhooks", "*"): self._get,
            ("PUT", "webhooks", "*"): self._update,
            ("DELETE", "webhooks", "*"): self._delete,
            ("POST", "webhooks", "*", "pings"): self._ping,
            ("GET", "notifications"): self._notifications,
            ("GET", "notifications", "*"): self._notification,
        }

    async def answer(
        self, method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> Answer:
        parts = path.removeprefix(PREFIX).strip("/").split("/")
        number = parts[1].lower() if len(parts) > 1 else ""
        place = tuple("*" if index == 1 else part for index, part in enumerate(parts))
        try:
            account = self._authenticate(headers)
            handler = self._routes.get((method, *place))
            if handler is None:
                known = any(place == other[1:] for other in self._routes)
                raise RestError(405 if known else 404, "Unknown path or method.")
            self._ledger.tick()
            request = _Request(account, parse_qs(query.decode("latin-1")), body, number)
            return await handler(request)
        except RestError as error:
            return error.status, _error(error.status, error.message)
        except (msgspec.MsgspecError, ValueError) as error:
            return 400, _error(400, str(error))
        finally:
            self._ledger.journal.flush()

    def _authenticate(self, headers: list[tuple[bytes, bytes]]) -> Account:
        """Return the account of the HTTP Basic credentials. Raises RestError 401."""
        header = next((value for name, value in headers if name == b"authorization"), b"")
        kind, _, encoded = header.partition(b" ")
        try:
            login, _, key = base64.b64decode(encoded.strip(), validate=True).partition(b":")
            account = self._ledger.accounts.get(login.decode())
        except ValueError:
            account = None
        if (
            kind.lower() != b"basic"
            or account is None
            or not hmac.compare_digest(key, account.transaction_key.encode())
        ):
            raise RestError(401, "The login and transaction key are not valid.")
        return account

    async def _event_types(self, request: _Request) -> Answer:
        return 200, _encode([{"name": name} for name in EVENT_TYPES])

    async def _list(self, request: _Request) -> Answer:
        return 200, _encode([_shown(each) for each in self._store.of(request.account.login)])

    async def _get(self, request: _Request) -> Answer:
        return 200, _encode(_shown(self._webhook(request)))

    async def _create(self, request: _Request) -> Answer:
        body = msgspec.json.decode(request.body, type=_Body)
        return self._set(
            request.account,
            WebhookSet(
                str(uuid.uuid4()),
                request.account.login,
                body.name or "",
                body.url or "",
                body.event_types or [],
                body.status != "inactive",
            ),
        )

    async def _update(self, request: _Request) -> Answer:
        before = self._webhook(request).set
        body = msgspec.json.decode(request.body, type=_Body)
        return self._set(
            request.account,
            WebhookSet(
                before.webhook_id,
                before.login,
                before.name if body.name is None else body.name,
                before.url if body.url is None else body.url,
                before.event_types if body.event_types is None else body.event_types,
                before.active if body.status is None else body.status == "active",
            ),
        )

    def _set(self, account: Account, wanted: WebhookSet) -> Answer:
        """Save a webhook. Raises RestError 400 if it could never be delivered to."""
        if not account.signature_key:
            raise RestError(400, "The account needs a signature key before it can have webhooks.")
        if (problem := outbound_http.problem_of(wanted.url)) is not None:
            raise RestError(400, f"{problem[0].upper()}{problem[1:]}.")
        if not wanted.event_types:
            raise RestError(400, "eventTypes must have at least one event type.")
        for name in wanted.event_types:
            if name not in EVENT_TYPES:
                raise RestError(400, f"{name!r} is not an event type.")
        saved = msgspec.structs.replace(
            wanted,
            event_types=list(dict.fromkeys(wanted.event_types)),
            name=without_card_numbers(wanted.name),
        )
        self._ledger.do(saved)
        self._store.wake()
        return 200, _encode(_shown(self._store.webhooks[saved.webhook_id]))

    async def _delete(self, request: _Request) -> Answer:
        self._ledger.do(WebhookDeleted(self._webhook(request).set.webhook_id))
        return 200, b""

    async def _ping(self, request: _Request) -> Answer:
        webhook = self._webhook(request)
        if webhook.set.active:
            raise RestError(400, "Only an inactive webhook can be pinged.")
        try:
            status = await self._deliveries.ping(webhook)
        except NoAnswer as error:
            raise RestError(500, f"The notification could not be delivered: {error}.") from None
        if status != 200:
            raise RestError(500, f"The endpoint answered {status}.")
        return 200, b""

    async def _notifications(self, request: _Request) -> Answer:
        """List notifications, newest first; `offset` counts notifications."""
        offset = _integer(request, "offset", 0, None)
        limit = _integer(request, "limit", _DEFAULT_LIST, _MAX_LIST)
        status = _one(request, "deliveryStatus")
        begin, end = _moment(request, "from_date"), _moment(request, "to_date")
        matching = [
            each
            for each in reversed(self._store.history.get(request.account.login, {}).values())
            if (status is None or each.status.lower() == status.lower())
            and (begin is None or each.event.at >= begin)
            and (end is None or each.event.at <= end)
        ]
        listed = [_listed(each) for each in matching[offset : offset + limit]]
        here = f"{PREFIX}notifications?offset={offset}&limit={limit}"
        return 200, _encode({"_links": {"self": {"href": here}}, "notifications": listed})

    async def _notification(self, request: _Request) -> Answer:
        found = self._store.history.get(request.account.login, {}).get(request.number)
        if found is None:
            raise RestError(404, "There is no such notification.")
        fields = _listed(found) | {
            "webhookId": found.event.webhook_id,
            "payload": msgspec.Raw(found.event.payload.encode()),
            "httpStatus": found.http_status,
            "retryLog": [
                {
                    "attemptDate": deliveries.date_text(each.at),
                    "httpStatus": each.http_status,
                    "message": each.problem,
                }
                for each in found.attempts
            ],
        }
        return 200, _encode(fields)

    def _webhook(self, request: _Request) -> Webhook:
        """Return the account's webhook. Raises RestError 404."""
        found = self._store.webhooks.get(request.number)
        if found is None or found.set.login != request.account.login:
            raise RestError(404, "There is no such webhook.")
        return found


def _shown(webhook: Webhook) -> dict[str, Any]:
    saved = webhook.set
    fields: dict[str, Any] = {
        "_links": {"self": {"href": f"{PREFIX}webhooks/{saved.webhook_id}"}},
        "webhookId": saved.webhook_id,
        "eventTypes": saved.event_types,
        "status": "active" if saved.active else "inactive",
        "url": saved.url,
    }
    return fields | {"name": saved.name} if saved.name else fields


def _listed(notification: Notification) -> dict[str, Any]:
    event = notification.event
    return {
        "_links": {"self": {"href": f"{PREFIX}notifications/{event.notification_id}"}},
        "notificationId": event.notification_id,
        "deliveryStatus": notification.status,
        "eventType": event.event_type,
        "eventDate": deliveries.date_text(event.at),
    }


def _one(request: _Request, name: str) -> str | None:
    found = request.query.get(name)
    return found[-1] if found else None


def _integer(request: _Request, name: str, default: int, maximum: int | None) -> int:
    text = _one(request, name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise RestError(400, f"{name} must be a whole number.")
    return int(text) if maximum is None else min(int(text), maximum)


def _moment(request: _Request, name: str) -> int | None:
    text = _one(request, name)
    if text is None:
        return None
    whole_day = clock.DAY_MS - 1 if name == "to_date" and len(text) == 10 else 0
    try:
        return clock.parse(text) + whole_day
    except ValueError:
        raise RestError(400, f"{name} must be a date such as 2026-01-31T08:00:00Z.") from None


def _error(status: int, message: str) -> bytes:
    return _encode(
        {
            "status": status,
            "reason": _REASONS[status],
            "message": message,
            "correlationId": str(uuid.uuid4()),
        }
    )
