"""No reply makes the parser raise, and no damage turns a reply into an approval."""

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from breadth import examples
from easypay.processors.authorize_net import evidence, refund_or_void, replies, reporting, statuses
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.authorize_net.reporting import Details, Page, Unreadable
from easypay.processors.base import (
    Absent,
    Approved,
    Declined,
    Finding,
    Found,
    HeldForReview,
    InquiryRequest,
    NotSent,
    Outcome,
    Rejected,
)
from recorded.bodies import BOM

from .example_requests import refund
from .test_messages import ACCOUNT, APPROVAL, REFERENCE, error, failure, transaction

REPLIES: list[dict[str, Any]] = [
    transaction("1", messages=[{"code": "310", "description": "Already voided."}], transId="0"),
    transaction("1", messages=[{"code": "254", "description": "Declined."}]),
    transaction("4", messages=[{"code": "295", "description": "In part."}]),
    transaction(
        "1", prePaidCard={"requestedAmount": "12.50", "approvedAmount": "1.23"}, **APPROVAL
    ),
    transaction("1", **APPROVAL),
    transaction("1", messages=[{"code": "311", "description": "Already captured."}]),
    transaction("2", **error("2", "Declined.")),
    transaction("3", transId="0", **error("6", "Bad number.")),
    transaction("3", transId="0", **error("11", "Duplicate.")),
    transaction("4", messages=[{"code": "253", "description": "Held."}]),
    failure("E00003"),
    failure("E00053"),
]

PAGE: dict[str, Any] = {
    "transactions": [
        {
            "transId": "60001",
            "submitTimeUTC": "2026-11-24T01:02:03.5Z",
            "transactionStatus": "capturedPendingSettlement",
            "invoiceNumber": REFERENCE,
            "accountType": "Visa",
            "accountNumber": "XXXX1111",
            "settleAmount": 12.50,
        },
        {"transId": "60000", "submitTimeUTC": "2026-11-24T01:02:03Z", "settleAmount": 1},
    ],
    "totalNumInResultSet": 2,
    "messages": {"resultCode": "Ok", "message": [{"code": "I00001", "text": "Successful."}]},
}

DETAILS: dict[str, Any] = {
    "transaction": {
        "transId": "60001",
        "refTransId": "60000",
        "submitTimeUTC": "2026-11-24T01:02:03.5Z",
        "transactionType": "authCaptureTransaction",
        "transactionStatus": "capturedPendingSettlement",
        "responseCode": 1,
        "responseReasonCode": 1,
        "responseReasonDescription": "Approval",
        "authCode": "AB12CD",
        "AVSResponse": "Y",
        "cardCodeResponse": "M",
        "order": {"invoiceNumber": REFERENCE, "description": "x"},
        "authAmount": 12.50,
        "settleAmount": 12.50,
        "payment": {"creditCard": {"cardNumber": "XXXX1111", "cardType": "Visa"}},
    },
    "messages": {"resultCode": "Ok", "message": [{"code": "I00001", "text": "Successful."}]},
}

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(
        ["0", "1", "2", "3", "4", "310", "E00003", "60001", "12.50", "1e400", REFERENCE]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Yield the path to every value inside."""
    steps: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        steps = list(value.items())
    elif isinstance(value, list):
        steps = list(enumerate(value))
    found: list[tuple[Any, ...]] = []
    for step, item in steps:
        found += [(*at, step), *places(item, (*at, step))]
    return found


@st.composite
def damaged(draw: Callable[..., Any], originals: list[dict[str, Any]]) -> Any:
    """Draw a reply with up to three values dropped, replaced, wrapped or reordered."""
    answer = deepcopy(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 3))):
        found = places(answer)
        if not found:
            break
        *path, last = draw(st.sampled_from(found))
        parent = answer
        for step in path:
            parent = parent[step]
        match draw(st.sampled_from(["drop", "replace", "list", "lone", "shuffle"])):
            case "drop":
                del parent[last]
            case "replace":
                parent[last] = draw(anything)
            case "list":
                parent[last] = [parent[last]]
            case "lone":
                if isinstance(parent[last], list) and parent[last]:
                    parent[last] = parent[last][0]
            case "shuffle":
                if isinstance(parent[last], dict):
                    parent[last] = dict(draw(st.permutations(list(parent[last].items()))))
    return answer


ENCODINGS = ["utf-8", "utf-8", "utf-8-sig", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp037"]
NUMBERS = [b"NaN", b"-Infinity", b"1e999", b"-0", b"1" * 5000, b"0.1e-99999", b"9" * 25]


@st.composite
def spoilt(draw: Callable[..., Any], data: bytes) -> bytes:
    """Draw damaged bytes: cut, changed, doubled, wrapped, or in another notation."""
    damage = [
        "whole",
        "whole",
        "cut",
        "change",
        "double",
        "html",
        "boms",
        "number",
        "deep",
        "twice",
    ]
    match draw(st.sampled_from(damage)):
        case "cut":
            return data[: draw(st.integers(0, len(data)))]
        case "change" if data:
            at = draw(st.integers(0, len(data) - 1))
            return data[:at] + draw(st.binary(max_size=4)) + data[at + 1 :]
        case "double":
            return data + data
        case "html":
            return b"<html>" + data + b"</html>"
        case "boms":
            return BOM * draw(st.integers(1, 3)) + data + draw(st.sampled_from([b"", BOM, b"\0"]))
        case "number" if b": " in data:
            starts = [at for at in range(len(data)) if data.startswith(b": ", at)]
            at = draw(st.sampled_from(starts)) + 2
            ends = [end for end in (data.find(b",", at), data.find(b"}", at)) if end > 0]
            return data[:at] + draw(st.sampled_from(NUMBERS)) + data[min(ends, default=at) :]
        case "deep":
            depth = draw(st.sampled_from([20, 5000]))
            nested = draw(st.sampled_from([b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth]))
            return data.replace(b"{", b'{"x": ' + nested + b", ", 1)
        case "twice":  # every key twice, empty the first time
            keys = [b"transactionResponse", b"transaction", b"messages", b"refId"]
            key = draw(st.sampled_from(keys))
            return data.replace(b"{", b'{"' + key + b'": {}, ', 1)
    return data


@st.composite
def mangled(draw: Callable[..., Any], originals: list[dict[str, Any]]) -> bytes:
    """Draw a damaged reply's bytes, perhaps damaged again or in another encoding."""
    text = json.dumps(draw(damaged(originals)), ensure_ascii=draw(st.booleans()))
    data: bytes = draw(spoilt(text.encode(draw(st.sampled_from(ENCODINGS)), "ignore")))
    return data


EXPECTED_CODES: dict[type, str] = {Approved: "14", Declined: "12", HeldForReview: "4"}
ASKED = [("authorize", None)] + [
    (kind, "60001") for kind in ("capture", "void", "refund", "approve", "end")
]


@settings(max_examples=examples(200, 800), deadline=None)
@given(mangled(REPLIES), st.sampled_from(ASKED), st.sampled_from([200, 200, 200, 500]))
def test_a_reply_gives_a_known_outcome_that_fits_its_code(
    body: bytes, asked: tuple[Any, str | None], status: int
) -> None:
    kind, parent = asked
    outcome = replies.outcome(
        Reply(status, body), REFERENCE, kind=kind, currency="USD", parent=parent
    )
    assert isinstance(outcome, get_args(Outcome))
    assert not isinstance(outcome, NotSent)
    if type(outcome) in EXPECTED_CODES:
        answer = json.loads(body.decode("utf-8-sig"))
        response = answer["transactionResponse"]
        code = str(response["responseCode"]).strip()
        assert code in EXPECTED_CODES[type(outcome)]
        assert status == 200
        if isinstance(outcome, Declined) and code == "1":
            assert kind == "end"
        if isinstance(outcome, Approved) and code == "4":
            assert (kind, outcome.code) == ("authorize", "295")
        if isinstance(outcome, Approved) and parent is not None:
            named = {str(response.get(name)).strip() for name in ("transId", "refTransID")}
            assert parent in named or (kind, outcome.code) == ("void", "310")
    if isinstance(outcome, Rejected):
        answer = json.loads(body.decode("utf-8-sig"))
        response = answer.get("transactionResponse") or {}
        assert str(response.get("responseCode", "3")).strip() in ("3", "None")


@settings(max_examples=examples(80, 300), deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_unknown_or_an_api_failure(body: bytes) -> None:
    for kind, parent in ASKED:
        outcome = replies.outcome(Reply(200, body), REFERENCE, kind=kind, parent=parent)
        assert not isinstance(outcome, Approved | NotSent)


@settings(max_examples=examples(80, 300), deadline=None)
@given(mangled([PAGE]))
def test_a_page_is_whole_or_unreadable(body: bytes) -> None:
    page = reporting.read_page(Reply(200, body), REFERENCE)
    assert isinstance(page, Page | Unreadable)
    if isinstance(page, Page):
        lines = json.loads(body.decode("utf-8-sig")).get("transactions")
        named = [line for line in lines or [] if line["transId"] not in ("0", 0)]
        assert len(page.items) == len(named), "a skipped line could have been ours"


BATCH = {
    "batchId": "5",
    "settlementTimeUTC": "2026-11-24T00:11:12Z",
    "settlementState": "settledSuccessfully",
}


@settings(max_examples=examples(60, 200), deadline=None)
@given(mangled([{"batchList": [BATCH], "messages": PAGE["messages"]}]))
def test_a_batch_list_is_whole_or_unreadable(body: bytes) -> None:
    found = reporting.read_batches(Reply(200, body), REFERENCE)
    if not isinstance(found, Unreadable):
        batches = json.loads(body.decode("utf-8-sig")).get("batchList")
        assert len(found) == len(batches or [])


@settings(max_examples=examples(150, 600), deadline=None)
@given(
    mangled([DETAILS]),
    st.sampled_from(["authorize", "sale", "refund", "capture", "void", "review"]),
    st.sampled_from(["USD", "JPY", "KWD"]),
)
def test_details_are_believed_only_if_the_amount_agrees(
    body: bytes, kind: str, currency: str
) -> None:
    details = reporting.read_details(Reply(200, body), REFERENCE, "60001")
    if isinstance(details, Unreadable):
        return
    assert isinstance(details, Details)
    request = InquiryRequest(
        account=ACCOUNT,
        kind=kind,
        reference=REFERENCE,
        amount_minor=1250,
        currency=currency,
        transaction_id="60000",
        sent_at_ms=0,
    )
    judge = evidence.judge if kind in ("capture", "void", "review") else evidence.judge_own
    finding = judge(request, details)
    assert isinstance(finding, (*get_args(Finding), evidence.ApprovedInPart))
    shown = json.loads(body.decode("utf-8-sig"))["transaction"]
    amount = shown.get("authAmount" if kind in ("authorize", "review") else "settleAmount")
    if isinstance(finding, evidence.ApprovedInPart):
        assert 0 < float(shown["authAmount"]) < 1250 * (1 if currency == "JPY" else 0.01)
        assert shown["order"]["invoiceNumber"] == REFERENCE
    elif isinstance(finding, Found) and isinstance(finding.outcome, Approved) and kind != "void":
        assert currency == "USD"
        assert float(amount) == 12.5
    absent = Absent(searched="everywhere")
    instead = evidence.judge_voided_payment(request, details, absent)
    assert isinstance(instead, Found) == (details.status == "voided")
    refused = Rejected(code="54", message="")
    step = refund_or_void.after_refusal(REFUND, refused, details)
    assert (step == "void") <= (statuses.meaning(details.status, "payment") == "unsettled")


REFUND = refund(ACCOUNT, "60198282518", reference=REFERENCE, amount_minor=1250, captured_minor=1250)
