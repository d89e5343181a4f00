"""Signatures of Standard Webhooks 1.0.0: `v1,` and an HMAC-SHA-256 in base64. Pure.

What is signed is the message's id, the time of the attempt and the body, with dots between. While a
secret is being replaced a message carries one signature for each, and a receiver accepts either.
"""

import base64
import hmac
import secrets
from collections.abc import Iterable
from typing import Final

SECRET_BYTES: Final = 32
_PREFIX: Final = "whsec_"


def new_secret() -> str:
    """Return a new secret: `whsec_` and 32 random bytes in base64."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def is_secret(text: str) -> bool:
    """Whether this is a secret: `whsec_` and 24 to 64 bytes in base64, as the standard says."""
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except ValueError:
        return False
    return text.startswith(_PREFIX) and 24 <= len(key) <= 64


def signature(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return one signature: `v1,…`. `timestamp_s`: seconds since 1970."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp_s, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def headers(
    secret_texts: Iterable[str], message_id: str, timestamp_s: int, body: bytes
) -> list[tuple[str, str]]:
    """Return the three headers of a message, signed with each secret."""
    signed = (signature(each, message_id, timestamp_s, body) for each in secret_texts)
    return [
        ("webhook-id", message_id),
        ("webhook-timestamp", str(timestamp_s)),
        ("webhook-signature", " ".join(signed)),
    ]
