"""A processor's own notifications: what they say, and the interface of those who send them.

A notification is a hint that something happened to a transaction, never proof: whoever gets one
asks the processor. It may come twice, late, in any order, or never.

`NotificationFormat` reads them, without any call. `Webhooks` is where a processor is told to send
them; `webhooks_of` returns that of a processor, which need not have one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from easypay.processors.base import Account, Deadline, Processor

Happened = Literal["charge", "held", "review", "capture", "refund", "void"]
"""What a notification is about: a new charge or authorization, one that is held for review, the end
of a review, a capture, a refund, or a void."""


class Notification(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a notification says, ids only: nothing of a card or a person."""

    id: str
    """The processor's, the same each time that it is sent."""
    event_type: str
    """The processor's word."""
    happened: Happened
    transaction_id: str | None = None
    reference: str | None = None
    """Of the call that did it, if it may be one of ours. None: done elsewhere, or not told."""
    charge_reference: str | None = None
    """Of the charge that it is about, if it may be one of ours."""
    at: datetime | None = None


class Irrelevant(msgspec.Struct, frozen=True, gc=False):
    """A notification about something that this gateway does not follow, or a test of the way."""


class NotificationFormat(Protocol):
    """How a processor signs and writes its notifications. Pure."""

    secret: str
    """The credential that signs them; an account without it gets none."""

    def is_signed(self, body: bytes, headers: Mapping[bytes, bytes], key: str) -> bool:
        """Whether the raw body is signed with this key. Takes the same time for every answer."""
        ...

    def read(self, body: bytes) -> Notification | Irrelevant | None:
        """Read a body whose signature is right. None if it cannot be understood."""
        ...


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """Where a processor sends the notifications of an account."""

    id: str
    url: str
    active: bool
    event_types: Sequence[str]


class WebhooksUnanswered(msgspec.Struct, frozen=True):
    """The processor refused, or could not be asked, and the reason."""

    reason: str


class Webhooks(Protocol):
    """The calls about webhooks. They move no money, and each may be repeated."""

    async def registered(
        self, account: Account, deadline: Deadline
    ) -> list[Webhook] | WebhooksUnanswered:
        """Return every webhook of the account."""
        ...

    async def save(
        self,
        account: Account,
        url: str,
        webhook_id: str | None,
        deadline: Deadline,
        *,
        active: bool,
    ) -> Webhook | WebhooksUnanswered:
        """Create a webhook for all that this gateway follows, or (with its id) correct one."""
        ...

    async def ping(
        self, account: Account, webhook_id: str, deadline: Deadline
    ) -> WebhooksUnanswered | None:
        """Let the processor send a test to an inactive webhook. None: it was accepted."""
        ...


def webhooks_of(processor: Processor) -> Webhooks | None:
    """Return the webhooks of a processor, None if it has none."""
    found: Webhooks | None = getattr(processor, "webhooks", None)
    return found
