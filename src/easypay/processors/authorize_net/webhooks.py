"""Authorize.Net's REST API for webhooks: JSON, under the account's login and key (HTTP Basic)."""

import base64
import codecs
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from easypay.processors.authorize_net.http_client import HttpClient
from easypay.processors.authorize_net.notifications import EVENTS
from easypay.processors.base import Account, Deadline, NotSent, Unknown
from easypay.processors.notifications import Webhook, WebhooksUnanswered

_PATH: Final = "/rest/v1/webhooks"
_NAME: Final = "EasyPay"
_LONGEST_REASON: Final = 200


class _Webhook(msgspec.Struct):
    webhookId: str
    url: str
    status: str
    eventTypes: list[str]


class _Error(msgspec.Struct):
    message: str = ""


_one = msgspec.json.Decoder(_Webhook)
_list = msgspec.json.Decoder(list[_Webhook])
_error = msgspec.json.Decoder(_Error)


class AuthorizeNetWebhooks:
    """Where an account's notifications are sent."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def registered(
        self, account: Account, deadline: Deadline
    ) -> list[Webhook] | WebhooksUnanswered:
        answer = await self._ask("GET", account, "", None, deadline)
        if isinstance(answer, WebhooksUnanswered):
            return answer
        listed = _read(_list, answer)
        if isinstance(listed, WebhooksUnanswered):
            return listed
        return [_webhook(each) for each in listed]

    async def save(
        self,
        account: Account,
        url: str,
        webhook_id: str | None,
        deadline: Deadline,
        *,
        active: bool,
    ) -> Webhook | WebhooksUnanswered:
        wanted = {
            "name": _NAME,
            "url": url,
            "eventTypes": list(EVENTS),
            "status": "active" if active else "inactive",
        }
        method, place = ("POST", "") if webhook_id is None else ("PUT", f"/{webhook_id}")
        answer = await self._ask(method, account, place, wanted, deadline)
        if isinstance(answer, WebhooksUnanswered):
            return answer
        saved = _read(_one, answer)
        return saved if isinstance(saved, WebhooksUnanswered) else _webhook(saved)

    async def ping(
        self, account: Account, webhook_id: str, deadline: Deadline
    ) -> WebhooksUnanswered | None:
        answer = await self._ask("POST", account, f"/{webhook_id}/pings", None, deadline)
        return answer if isinstance(answer, WebhooksUnanswered) else None

    async def _ask(
        self,
        method: str,
        account: Account,
        place: str,
        body: dict[str, Any] | None,
        deadline: Deadline,
    ) -> bytes | WebhooksUnanswered:
        """Return the body of an answer with status 200."""
        host = urlsplit(account.url)
        login, key = account.credentials["login_id"], account.credentials["transaction_key"]
        reply = await self._client.send(
            method,
            f"{host.scheme}://{host.netloc}{_PATH}{place}",
            f"Basic {base64.b64encode(f'{login}:{key}'.encode()).decode()}",
            b"" if body is None else msgspec.json.encode(body),
            deadline,
        )
        if isinstance(reply, NotSent | Unknown):
            return WebhooksUnanswered(reply.reason)
        if reply.status == 200:
            return reply.body
        said = _read(_error, reply.body)
        why = said.message if isinstance(said, _Error) else ""
        return WebhooksUnanswered(f"{reply.status} {why[:_LONGEST_REASON]}".strip())


def _read(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body.removeprefix(codecs.BOM_UTF8))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return WebhooksUnanswered("the answer cannot be read")


def _webhook(read: _Webhook) -> Webhook:
    active = read.status == "active"
    return Webhook(id=read.webhookId, url=read.url, active=active, event_types=read.eventTypes)
