"""Signatures verify with the public library, also while a secret is being replaced."""

import base64
import time

import pytest

from easypay.webhooks.signing import headers, new_secret, signature


def test_the_published_example_has_its_signature() -> None:
    """The example of the Standard Webhooks specification."""
    signed = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_has_32_random_bytes() -> None:
    secret = new_secret()
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert new_secret() != secret


def test_the_public_library_accepts_each_of_two_secrets() -> None:
    from standardwebhooks.webhooks import Webhook, WebhookVerificationError

    new, old, body = new_secret(), new_secret(), b'{"type":"payment.captured"}'
    now = int(time.time())
    sent = dict(headers([new, old], "evt_1", now, body))
    for secret in (new, old):
        assert Webhook(secret).verify(body, sent) == {"type": "payment.captured"}
    for wrong in (body + b" ", body.replace(b"captured", b"refunded")):
        with pytest.raises(WebhookVerificationError):
            Webhook(new).verify(wrong, sent)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(body, sent)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(body, dict(headers([new], "evt_1", now - 3600, body)))
