"""Authorize.Net's notifications: whose they are, what is kept of them, and where they are sent."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from easypay import ids
from easypay.clock import monotonic
from easypay.processors.authorize_net.notifications import EVENTS, AuthorizeNetNotifications
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import Account, Deadline
from easypay.processors.notifications import (
    Irrelevant,
    Notification,
    Webhook,
    WebhooksUnanswered,
    webhooks_of,
)
from harness import Simulator
from json_server import serving

FORMAT = AuthorizeNetNotifications()
KEY = (
    "52CB4A002C634B84E397DC8A218E1A160BA7CAB7CBE4C05B35E9CBB05E14FE4A"
    "2385812E980CCF97D177F17863CE214D1BE6CE8E1E894487AACF3609C1A5FE17"
)
BODY = (
    b'{"notificationId":"182cbbff-cab2-4080-931d-80e5d818f23a",'
    b'"eventType":"net.authorize.payment.authcapture.created",'
    b'"eventDate":"2017-08-18T20:40:52.7722007Z",'
    b'"webhookId":"849eb87e-078a-4169-a34b-c0bded5019a8","payload":{"responseCode":0,'
    b'"authCode":"Z3PV5H","avsResponse":"Y","authAmount":0.0,"entityName":"transaction",'
    b'"id":"40005915599"}}'
)
SIGNATURE = (
    b"A1E0CC0F8A7B6274E0951CAC5EB63579F70FC6B7B15384B146DCE02B98DEE395"
    b"4A5A8E331661B51DE953E141E88994DFA7D267FFB8428BE0660511B6EFB94960"
)
HEADER = b"x-anet-signature"


@pytest.mark.parametrize("header", [b"sha512=" + SIGNATURE, b"SHA512=" + SIGNATURE.lower()])
def test_a_body_signed_with_the_text_of_the_key_is_the_accounts(header: bytes) -> None:
    """The body, the key and the signature were published together."""
    assert FORMAT.is_signed(BODY, {HEADER: header}, KEY)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {HEADER: b""},
        {HEADER: SIGNATURE},
        {HEADER: b"sha256=" + SIGNATURE},
        {HEADER: b"sha512="},
        {HEADER: b"sha512=" + SIGNATURE[:-1]},
        {HEADER: b"sha512=" + SIGNATURE[:-1] + b"\xff"},
    ],
)
def test_another_signature_is_refused(headers: dict[bytes, bytes]) -> None:
    assert not FORMAT.is_signed(BODY, headers, KEY)


def test_one_byte_more_or_another_key_is_refused() -> None:
    headers = {HEADER: b"sha512=" + SIGNATURE}
    assert not FORMAT.is_signed(BODY + b" ", headers, KEY)
    assert not FORMAT.is_signed(BODY, headers, KEY.lower())
    assert not FORMAT.is_signed(BODY, headers, "")


def body_of(**changed: Any) -> bytes:
    payload = {"entityName": "transaction", "id": "60198282518", **changed.pop("payload", {})}
    return msgspec.json.encode(
        {
            "notificationId": "182CBBFF-cab2-4080-931d-80e5d818f23a",
            "eventType": "net.authorize.payment.void.created",
            "eventDate": "2026-11-30T08:00:00.2500000Z",
            "payload": payload,
            **changed,
        }
    )


def test_only_ids_are_read() -> None:
    own, charge = ids.reference(ids.new_id()), ids.reference(ids.new_id())
    ours = {"merchantReferenceId": own, "invoiceNumber": charge, "authCode": "A1", "id": 60198}
    assert FORMAT.read(body_of(payload=ours)) == Notification(
        id="182cbbff-cab2-4080-931d-80e5d818f23a",
        event_type="net.authorize.payment.void.created",
        happened="void",
        transaction_id="60198",
        reference=own,
        charge_reference=charge,
        at=datetime(2026, 11, 30, 8, 0, 0, 250_000, UTC),
    )


def test_the_texts_of_other_systems_are_not_kept() -> None:
    """An invoice number may be anything that somebody typed: a name, even a card number."""
    read = FORMAT.read(body_of(payload={"invoiceNumber": "4111111111111111 Ada L"}))
    assert isinstance(read, Notification)
    assert (read.reference, read.charge_reference) == (None, None)


def test_a_reference_of_a_far_year_is_not_kept() -> None:
    """No month of ours has it, and none can be computed from it."""
    read = FORMAT.read(body_of(payload={"id": "1", "invoiceNumber": "ZZZZZZZZZXZZZFZZZZZZ"}))
    assert isinstance(read, Notification)
    assert read.charge_reference is None


@pytest.mark.parametrize("event", ["net.authorize.customer.created", "net.authorize.new.thing"])
def test_what_is_not_followed_is_irrelevant(event: str) -> None:
    assert FORMAT.read(body_of(eventType=event)) == Irrelevant()


@pytest.mark.parametrize("none", ["0", 0])
def test_a_test_of_the_way_is_irrelevant(none: object) -> None:
    assert FORMAT.read(body_of(payload={"id": none})) == Irrelevant()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        body_of(notificationId="a b"),
        body_of(notificationId="x" * 65),
        body_of(notificationId=7),
        body_of(payload={"id": "1x"}),
        body_of(payload={"id": None}),
        body_of(payload={"id": "1" * 21}),
    ],
)
def test_what_cannot_be_understood_is_none(body: bytes) -> None:
    assert FORMAT.read(body) is None


def test_an_unreadable_date_is_no_date() -> None:
    read = FORMAT.read(body_of(eventDate="yesterday"))
    assert isinstance(read, Notification)
    assert read.at is None


# where they are sent --------------------------------------------------------------------------


def soon() -> Deadline:
    return Deadline(monotonic() + 5.0)


async def test_a_webhook_is_made_corrected_and_switched_on(
    wire: Simulator, account: Account, processor: AuthorizeNet
) -> None:
    login = account.credentials["login_id"]
    await wire.post("/accounts", login=login, transaction_key="wire-key-1", signature_key=KEY)
    webhooks = webhooks_of(processor)
    assert webhooks is not None
    assert await webhooks.registered(account, soon()) == []
    made = await webhooks.save(account, "http://127.0.0.1:9/here", None, soon(), active=False)
    assert isinstance(made, Webhook)
    assert (made.active, set(made.event_types)) == (False, set(EVENTS))
    refused = await webhooks.ping(account, made.id, soon())
    assert isinstance(refused, WebhooksUnanswered)  # nobody listens there
    assert refused.reason.startswith("500 The notification could not be delivered")
    url = "http://127.0.0.1:9/there"
    saved = await webhooks.save(account, url, made.id, soon(), active=True)
    assert isinstance(saved, Webhook)
    assert (saved.id, saved.url, saved.active) == (made.id, url, True)
    assert await webhooks.registered(account, soon()) == [saved]


async def test_credentials_that_are_refused_give_the_reason(
    account: Account, processor: AuthorizeNet
) -> None:
    wrong = msgspec.structs.replace(
        account, credentials={**account.credentials, "transaction_key": "wrong"}
    )
    refused = await processor.webhooks.registered(wrong, soon())
    assert isinstance(refused, WebhooksUnanswered)
    assert refused.reason.startswith("401 ")


@pytest.mark.parametrize("answer", [b"", b"{}", b"<html>", b'[{"webhookId":1}]'])
async def test_an_answer_that_cannot_be_read_is_no_answer(
    answer: bytes, account: Account, processor: AuthorizeNet
) -> None:
    async with serving(lambda _: answer) as url:
        elsewhere = msgspec.structs.replace(account, url=url)
        found = await processor.webhooks.save(elsewhere, url, None, soon(), active=True)
    assert isinstance(found, WebhooksUnanswered)
