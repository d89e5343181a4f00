"""Whatever texts a reply holds, its outcome can be stored and shown.

The texts we send are cut as the processor counts."""

import json
import time
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from authorizenet_simulator.wire.schema_types import units
from easypay.processors.authorize_net import evidence, messages, replies, reporting, wire
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.base import InquiryRequest

from .example_requests import authorize_net_account
from .test_messages import REFERENCE
from .test_reply_fuzz import DETAILS

ACCOUNT = authorize_net_account("http://127.0.0.1/", "login", "key")
odd = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("\x00\x1b\n\x85\u2028\ud800\udfff\uffff\u200b\U0001f355"),
    ),
    max_size=40,
)


def storable(value: object) -> bool:
    """Assert that every text in it can be stored in text and jsonb columns and sent as UTF-8."""
    text = repr(value)
    assert "\\x00" not in text, text
    assert "\\ud8" not in text, text
    assert "\\udf" not in text, text
    msgspec.json.encode(value)
    return True


def filled(value: Any, text: str) -> Any:
    """Replace every text, except those that say what happened."""
    if isinstance(value, dict):
        kept = ("transId", "transactionStatus", "responseCode", "resultCode", "refId")
        return {k: v if k in kept else filled(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [filled(each, text) for each in value]
    return text if isinstance(value, str) else value


@given(odd, st.sampled_from(["1", "2", "3", "4"]))
def test_an_outcome_of_odd_texts_can_be_stored(text: str, code: str) -> None:
    body = {
        "transactionResponse": {
            "responseCode": code,
            "transId": "60001",
            "authCode": text,
            "avsResultCode": text,
            "cvvResultCode": text,
            "cavvResultCode": text,
            "accountNumber": text,
            "accountType": text,
            "networkTransId": text,
            "messages": [{"code": text, "description": text}],
            "errors": [{"errorCode": text, "errorText": text}],
        },
        "messages": {"resultCode": text, "message": [{"code": text, "text": text}]},
    }
    for answer in (body, {"messages": body["messages"]}):
        reply = Reply(200, json.dumps(answer).encode())
        for kind in ("authorize", "capture", "void", "refund", "approve", "end"):
            outcome = replies.outcome(reply, REFERENCE, kind=kind, currency="USD", parent="60001")  # type: ignore[arg-type]
            assert storable(outcome)


@given(odd, st.sampled_from([*range(3), 10**30, 10**4000, 1.5, None, True]))
def test_a_finding_of_odd_texts_can_be_stored(text: str, amount: object) -> None:
    body = filled(DETAILS, text)
    body["transaction"] |= {"authAmount": text, "settleAmount": amount, "requestedAmount": [text]}
    reply = Reply(200, json.dumps(body).encode())
    details = reporting.read_details(reply, REFERENCE, "60001")
    for kind in ("authorize", "sale", "refund", "capture", "void", "review"):
        request = InquiryRequest(
            account=ACCOUNT, kind=kind, reference=REFERENCE, amount_minor=1250, currency="USD",
            transaction_id="60000", sent_at_ms=0,
        )  # fmt: skip
        if isinstance(details, reporting.Details):
            assert storable(evidence.judge(request, details))
            found = evidence.judge_own(request, details)
            assert storable(found)
        else:
            assert storable(details)


@given(odd, st.integers(1, 60))
def test_a_text_is_cut_by_the_processors_count(text: str, limit: int) -> None:
    cut = messages.text(text, limit)
    assert cut is None or (units(cut) <= limit and cut.isprintable())
    msgspec.json.encode(cut)


def test_no_emoji_is_cut_in_half() -> None:
    assert messages.text("ab🍕🍕", 4) == "ab🍕"
    assert messages.text("ab🍕🍕", 5) == "ab🍕"
    assert messages.text("🍕" * 200, 255) == "🍕" * 127
    assert messages.text("é" * 255, 255) == "é" * 255


def test_a_large_reply_of_odd_texts_is_read_quickly() -> None:
    quotes = "The value '" * 370
    message = {"code": "E00003", "text": quotes}
    body = {"messages": {"resultCode": "Error", "message": [message] * 1_800}}
    reply = Reply(200, json.dumps(body).encode())
    begun = time.process_time()
    assert replies.outcome(reply, REFERENCE)
    assert replies.account_check(reply, REFERENCE)
    assert time.process_time() - begun < 1


def test_a_quoted_value_is_never_repeated() -> None:
    for text in ("The value 's3cret' is invalid", "The value &#39;s3cret&#39; is invalid - s3"):
        assert (
            wire.clean(f"E: {text}.") == f"E: The value is invalid{text.partition(' invalid')[2]}."
        )
    assert wire.clean("The value 's3cret is not closed") == "The value 's3cret is not closed"
    assert wire.clean("E: The value '" + "s3cret" * 2_000 + "' is invalid") == "E:"


def test_no_field_of_an_approval_holds_a_card_number() -> None:
    number = "4111111111111111"
    response = {"responseCode": "1", "transId": "60001", "authCode": number,
                "networkTransId": number, "accountNumber": number, "accountType": number,
                "avsResultCode": number, 
                "messages": [{"code": "1", "description": number}]}  # fmt: skip
    reply = Reply(200, json.dumps({"transactionResponse": response}).encode())
    assert number not in repr(replies.outcome(reply, REFERENCE))
    response |= {"authCode": "AB12CD", "networkTransId": "123456789012345"}
    reply = Reply(200, json.dumps({"transactionResponse": response}).encode())
    text = repr(replies.outcome(reply, REFERENCE))
    assert "AB12CD" in text
    assert "123456789012345" in text
