"""Orders an account's notifications at the processor, and says how that stands. May be repeated."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from easypay.clock import monotonic, rfc3339, rfc3339_or_none
from easypay.errors import FieldError, ProcessorUnavailable, ValidationFailed
from easypay.merchants.model import Login
from easypay.notifications import store
from easypay.notifications.accounts import PATH, shown
from easypay.processors.base import Deadline
from easypay.processors.integration import Integration
from easypay.processors.notifications import Webhook, Webhooks, WebhooksUnanswered

T = TypeVar("T")

_QUESTION_S: Final = 20.0
_MORE_PINGS: Final = 4
_PING_AGAIN_S: Final = 1.0
"""Gateways know a new signature key within a second."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How the notifications of an account stand."""

    account: str
    url: str
    state: str
    """active, inactive, missing (the processor does not know the webhook), or none (never set up).
    """
    webhook_id: str | None
    registered_at: str | None = None
    checked_at: str | None = None
    """When a worker asked the processor last."""
    looked_at: int = 0
    missed: int = 0
    """Approved charges that were looked at, and of how many of them nothing was told."""


def address(login: Login, base_url: str) -> str:
    """Return where the notifications of an account are received, at a gateway's public address.
    Raises ValidationFailed."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        why = "url must be the public address of the gateway, such as https://pay.example.com."
        raise ValidationFailed.of([FieldError("#/url", "invalid", why)])
    path = PATH.format(processor=login.account.processor, account=shown(login.digest))
    return base_url.rstrip("/") + path


async def register(
    runner: Any,
    integration: Integration,
    webhooks: Webhooks,
    login: Login,
    base_url: str,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Standing:
    """Let the processor send the account's notifications to a gateway, tested before it is switched
    on. What is right already stays as it is.

    Raises ValidationFailed, or ProcessorUnavailable with the reason.
    """
    format = integration.notifications
    if format is None or format.secret not in login.account.credentials:
        why = (
            "The account has no signature key, and without it no notification can be believed. "
            "Save the account again, with the signature key on the line after its other secrets."
        )
        raise ValidationFailed.of([FieldError("#/signature_key", "missing", why)])
    url = address(login, base_url)
    there = await _of_this_account(runner, webhooks, login, url)
    if there is None or there.url != url or not there.active:
        known = None if there is None else there.id
        there = await _saved(webhooks, login, url, known, active=False)
        progress(f"testing the way from the processor to {url}")
        await _ping(webhooks, login, there)
        there = await _saved(webhooks, login, url, there.id, active=True)
    await store.registered(runner, login.digest, there.id, there.url, active=there.active)
    return await standing(runner, webhooks, login)


async def standing(runner: Any, webhooks: Webhooks, login: Login) -> Standing:
    """Return how the account's notifications stand, as the processor says now. Raises
    ProcessorUnavailable."""
    known = await store.webhook_of(runner, login.digest)
    if known is None:
        return Standing(account=shown(login.digest), url="", state="none", webhook_id=None)
    listed = _answered(await webhooks.registered(login.account, _soon()))
    there = next((each for each in listed if each.id == known.webhook_id), None)
    state = "missing" if there is None else "active" if there.active else "inactive"
    return Standing(
        account=shown(login.digest),
        url=known.url if there is None else there.url,
        state=state,
        webhook_id=known.webhook_id,
        registered_at=rfc3339(known.registered_at),
        checked_at=rfc3339_or_none(known.checked_at),
        looked_at=known.looked_at,
        missed=known.missed,
    )


async def _of_this_account(
    runner: Any, webhooks: Webhooks, login: Login, url: str
) -> Webhook | None:
    """Return the webhook that was set up before: by its id, or by the account in its address."""
    known = await store.webhook_of(runner, login.digest)
    listed = _answered(await webhooks.registered(login.account, _soon()))
    path = urlsplit(url).path.rpartition("/")[2]
    for each in listed:
        if (known is not None and each.id == known.webhook_id) or each.url.endswith(f"/{path}"):
            return each
    return None


async def _saved(
    webhooks: Webhooks, login: Login, url: str, webhook_id: str | None, *, active: bool
) -> Webhook:
    return _answered(await webhooks.save(login.account, url, webhook_id, _soon(), active=active))


async def _ping(webhooks: Webhooks, login: Login, webhook: Webhook) -> None:
    """Let the processor send a signed test. Raises ProcessorUnavailable if it is not accepted."""
    refused = await webhooks.ping(login.account, webhook.id, _soon())
    for _ in range(_MORE_PINGS):
        if refused is None:
            return
        await asyncio.sleep(_PING_AGAIN_S)
        refused = await webhooks.ping(login.account, webhook.id, _soon())
    if refused is None:
        return
    raise ProcessorUnavailable(
        f"The processor's test did not arrive at {webhook.url}, so the webhook stays switched off: "
        f"{refused.reason}. Is that the public address of a gateway, and the signature key that "
        "the merchant interface shows?"
    )


def _answered(answer: T | WebhooksUnanswered) -> T:
    if isinstance(answer, WebhooksUnanswered):
        raise ProcessorUnavailable(
            f"The processor does not do what was asked about its webhooks: {answer.reason}."
        )
    return answer


def _soon() -> Deadline:
    return Deadline(monotonic() + _QUESTION_S)
