"""Read Authorize.Net's notifications: pure functions from bytes to what they say.

They are signed with HMAC-SHA-512 over the raw body. The key is the text of the signature key as the
merchant interface shows it, not the bytes that its digits stand for. The signature has no time, so
an old notification can be sent again by whoever has seen it: it is a hint, and proves nothing.
"""

import hmac
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from easypay import clock, ids, inputs
from easypay.processors.authorize_net import wire
from easypay.processors.notifications import Happened, Irrelevant, Notification

HEADER: Final = b"x-anet-signature"
_PAYMENT: Final = "net.authorize.payment."
EVENTS: Final[Mapping[str, Happened]] = {
    f"{_PAYMENT}authorization.created": "charge",
    f"{_PAYMENT}authcapture.created": "charge",
    f"{_PAYMENT}capture.created": "charge",  # with an authorization by voice: a charge of its own
    f"{_PAYMENT}priorAuthCapture.created": "capture",
    f"{_PAYMENT}refund.created": "refund",
    f"{_PAYMENT}void.created": "void",
    f"{_PAYMENT}fraud.held": "held",
    f"{_PAYMENT}fraud.approved": "review",
    f"{_PAYMENT}fraud.declined": "review",
}
"""The events that are followed. There are none of declines and of settlement."""
_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_FRACTION: Final = re.compile(r"(\.\d{6})\d+")
"""Their times have seven decimals."""
_SKEW: Final = timedelta(days=1)
"""Clocks of two hosts differ by less than this."""


class _Payload(msgspec.Struct):
    id: str | int | None = None
    merchantReferenceId: str | None = None
    invoiceNumber: str | None = None


class _Envelope(msgspec.Struct):
    notificationId: str
    eventType: str
    eventDate: str | None = None
    payload: msgspec.Raw = msgspec.Raw()


_envelope = msgspec.json.Decoder(_Envelope)
_payload = msgspec.json.Decoder(_Payload)


class AuthorizeNetNotifications:
    """The format, for the registry."""

    secret = "signature_key"  # noqa: S105 - a name

    def is_signed(self, body: bytes, headers: Mapping[bytes, bytes], key: str) -> bool:
        algorithm, _, digits = headers.get(HEADER, b"").strip().partition(b"=")
        right = hmac.digest(key.encode(), body, "sha512").hex().encode()
        # The signature is compared whatever the algorithm is called, so that it takes as long.
        return hmac.compare_digest(right, digits.lower()) and algorithm.lower() == b"sha512"

    def read(self, body: bytes) -> Notification | Irrelevant | None:
        try:
            envelope = _envelope.decode(body)
            happened = EVENTS.get(envelope.eventType)
            if happened is None:
                return Irrelevant()
            payload = _payload.decode(envelope.payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        transaction_id = wire.identifier(payload.id)
        if payload.id in ("0", 0):
            return Irrelevant()  # a test of the way
        if not _ID.fullmatch(envelope.notificationId) or transaction_id is None:
            return None
        return Notification(
            id=envelope.notificationId.lower(),
            event_type=envelope.eventType,
            happened=happened,
            transaction_id=transaction_id,
            reference=_reference(payload.merchantReferenceId),
            charge_reference=_reference(payload.invoiceNumber),
            at=_moment(envelope.eventDate),
        )


def _reference(text: str | None) -> str | None:
    """Return a reference that may be ours. Whatever others write there is not kept."""
    newest = clock.now() + _SKEW
    return text if text and ids.own_reference_bounds(text, newest) else None


def _moment(text: str | None) -> datetime | None:
    return None if text is None else inputs.moment(_FRACTION.sub(r"\1", text[:40]))
