"""Nothing the processor sends can raise, and no damage turns a reply into an approval."""

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any, get_args

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from easypay.processors.authorize_net import findings, refunds, replies, reporting, statuses
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.authorize_net.reporting import Details, Page, Unreadable
from easypay.processors.base import (
    Absent,
    Account,
    Approved,
    CaptureRequest,
    Declined,
    Finding,
    Found,
    HeldForReview,
    InquiryRequest,
    NotSent,
    Outcome,
    RefundRequest,
    Rejected,
    ReviewRequest,
    Unknown,
)

from .asking import inquiry, payment, soon
from .player import LOST, Player, playing
from .test_messages import APPROVAL, REFERENCE, error, failure, transaction

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
    """The path to everything inside."""
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
    """A reply with up to three places dropped, replaced, wrapped or put in another order."""
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
BOM = b"\xef\xbb\xbf"
NUMBERS = [b"NaN", b"-Infinity", b"1e999", b"-0", b"1" * 5000, b"0.1e-99999", b"9" * 25]


@st.composite
def spoilt(draw: Callable[..., Any], data: bytes) -> bytes:
    """Bytes as they may arrive: cut, changed, doubled, wrapped, or in another notation."""
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
        case "twice":  # the whole object's keys a second time, the first time empty
            keys = [b"transactionResponse", b"transaction", b"messages", b"refId"]
            key = draw(st.sampled_from(keys))
            return data.replace(b"{", b'{"' + key + b'": {}, ', 1)
    return data


@st.composite
def mangled(draw: Callable[..., Any], originals: list[dict[str, Any]]) -> bytes:
    """A damaged reply's bytes, perhaps spoilt on the way or in another encoding."""
    text = json.dumps(draw(damaged(originals)), ensure_ascii=draw(st.booleans()))
    data: bytes = draw(spoilt(text.encode(draw(st.sampled_from(ENCODINGS)), "ignore")))
    return data


EXPECTED_CODES: dict[type, str] = {Approved: "14", Declined: "12", HeldForReview: "4"}
ASKED = [("authorize", None)] + [
    (kind, "60001") for kind in ("capture", "void", "refund", "approve", "end")
]


@settings(max_examples=800, deadline=None)
@given(mangled(REPLIES), st.sampled_from(ASKED), st.sampled_from([200, 200, 200, 500]))
def test_a_reply_gives_one_of_the_closed_set_and_what_its_code_says(
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


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_at_random_are_unknown_or_a_failure_of_the_api(body: bytes) -> None:
    for kind, parent in ASKED:
        outcome = replies.outcome(Reply(200, body), REFERENCE, kind=kind, parent=parent)
        assert not isinstance(outcome, Approved | NotSent)


@settings(max_examples=300, deadline=None)
@given(mangled([PAGE]))
def test_a_page_is_whole_or_unreadable(body: bytes) -> None:
    page = reporting.read_page(Reply(200, body), REFERENCE)
    assert isinstance(page, Page | Unreadable)
    if isinstance(page, Page):
        lines = json.loads(body.decode("utf-8-sig")).get("transactions")
        named = [line for line in lines or [] if line["transId"] not in ("0", 0)]
        assert len(page.items) == len(named), "a line passed over could have been the one"


@settings(max_examples=200, deadline=None)
@given(mangled([{"batchList": [{"batchId": "5"}], "messages": PAGE["messages"]}]))
def test_a_batch_list_is_whole_or_unreadable(body: bytes) -> None:
    found = reporting.read_batch_ids(Reply(200, body), REFERENCE)
    if not isinstance(found, Unreadable):
        batches = json.loads(body.decode("utf-8-sig")).get("batchList")
        assert len(found) == len(batches or [])


@settings(max_examples=600, deadline=None)
@given(
    mangled([DETAILS]),
    st.sampled_from(["authorize", "sale", "refund", "capture", "void", "review"]),
    st.sampled_from(["USD", "JPY", "KWD"]),
)
def test_details_are_believed_only_when_the_amount_agrees(
    body: bytes, kind: str, currency: str
) -> None:
    details = reporting.read_details(Reply(200, body), REFERENCE, "60001")
    if isinstance(details, Unreadable):
        return
    assert isinstance(details, Details)
    request = InquiryRequest(
        account=Account(url="https://example.test/", login_id="a", transaction_key="b"),
        kind=kind,
        reference=REFERENCE,
        amount_minor=1250,
        currency=currency,
        transaction_id="60000",
        sent_at_ms=0,
    )
    judge = findings.judge if kind in ("capture", "void", "review") else findings.judge_own
    finding = judge(request, details)
    assert isinstance(finding, (*get_args(Finding), findings.ApprovedInPart))
    told = json.loads(body.decode("utf-8-sig"))["transaction"]
    amount = told.get("authAmount" if kind in ("authorize", "review") else "settleAmount")
    if isinstance(finding, findings.ApprovedInPart):
        assert 0 < float(told["authAmount"]) < 1250 * (1 if currency == "JPY" else 0.01)
        assert told["order"]["invoiceNumber"] == REFERENCE
    elif isinstance(finding, Found) and isinstance(finding.outcome, Approved) and kind != "void":
        assert currency == "USD"
        assert float(amount) == 12.5
    absent = Absent(searched="everywhere")
    instead = findings.judge_voided_payment(request, details, absent)
    assert isinstance(instead, Found) == (details.status == "voided")
    refused = Rejected(code="54", message="")
    step = refunds.after_refusal(REFUND, refused, details)
    assert (step == "void") <= (statuses.meaning(details.status, "payment") == "unsettled")


REFUND = RefundRequest(
    account=Account(url="https://example.test/", login_id="a", transaction_key="b"),
    reference=REFERENCE,
    transaction_id="60198282518",
    amount_minor=1250,
    currency="USD",
    card_last4="1111",
    captured_minor=1250,
)


# Whole calls, over a real connection: whatever arrives, the money moves at most once.

MOVED = ("refunded", "changed", "approved", "partial", "partial_open", "held", "review_approved")
"""The bodies of which each says that something was done."""


class SpoiltPlayer(Player):
    """Plays bodies as they were spoilt on the way."""

    def __init__(self, played: list[tuple[str, Callable[[bytes], bytes]]]) -> None:
        super().__init__(*(name for name, _ in played))
        self.spoil = [spoil for _, spoil in played]
        self.moved: list[str] = []

    def answer(self, method: str, fields: dict[str, Any]) -> bytes | None:
        name = self.names[0] if self.names else ""
        body = super().answer(method, fields)
        if name in MOVED:
            self.moved.append(f"{self.asked[-1]}: {name}")
        return None if body is None else self.spoil[len(self.asked) - 1](body)


def dropped(answer: Any, at: int) -> Any:
    """Without one of its places: nothing is told that was not so."""
    found = places(answer)
    *path, last = found[at % len(found)]
    parent = answer
    for step in path:
        parent = parent[step]
    del parent[last]
    return answer


@st.composite
def spoiling(draw: Callable[..., Any]) -> Callable[[bytes], bytes]:
    """A damage that hides things, and cannot turn a yes into a no or a no into a yes."""
    number = draw(st.integers(0, 400))
    encoding = draw(st.sampled_from(["utf-8-sig", "utf-16", "utf-32", "cp037"]))
    damages: dict[str, Callable[[bytes], bytes]] = {
        "whole": lambda body: body,
        "cut": lambda body: body[: number % len(body)],
        "html": lambda body: b"<html>" + body,
        "encoding": lambda body: body.decode("utf-8-sig").encode(encoding),
        "boms": lambda body: BOM * (number % 4) + body,
        "double": lambda body: body + body,
        "deep": lambda body: body.replace(b"{", b'{"x": ' + b"[" * 9000 + b", ", 1),
        "drop": lambda body: json.dumps(dropped(json.loads(body[3:]), number)).encode(),
        "empty": lambda body: b"",
    }
    return damages[draw(st.sampled_from(["whole", *damages]))]


def script(*steps: list[str]) -> st.SearchStrategy[list[tuple[str, Callable[[bytes], bytes]]]]:
    return st.tuples(*(st.tuples(st.sampled_from(names), spoiling()) for names in steps)).map(list)


AUTHORIZED = ["approved", "declined", "held", "partial", "partial_open", "refused_6", LOST]
VOIDED = ["changed", "voided_before", "refused_327", "refused_login", "declined", LOST]
REFUNDED = ["refunded", "refused_54", "refused_50", "refused_login", LOST]
SEEN = ["details_captured", "details_settled", "details_voided", "details_updating", LOST]


CALLS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@CALLS
@given(script(REFUNDED, SEEN, VOIDED, REFUNDED))
async def test_money_is_returned_at_most_once_whatever_arrives(
    processor: AuthorizeNet, played: list[tuple[str, Callable[[bytes], bytes]]]
) -> None:
    player = SpoiltPlayer(played)
    async with playing(player, whole=False) as account:
        request = msgspec.structs.replace(REFUND, account=account)
        outcome = await processor.refund_or_void(request, soon())
    assert isinstance(outcome, get_args(Outcome))
    assert len(player.moved) <= 1, "the money went back twice"
    if player.moved:
        assert isinstance(outcome, Approved | Unknown), (outcome, player.moved)
    elif isinstance(outcome, Approved):
        assert outcome.voided
        assert "310" in (outcome.code or ""), "only what was voided before"


@CALLS
@given(script(AUTHORIZED, VOIDED), st.booleans(), st.booleans())
async def test_a_payment_is_never_said_to_be_refused_while_its_money_is_held(
    processor: AuthorizeNet,
    played: list[tuple[str, Callable[[bytes], bytes]]],
    capture: bool,
    accept_partial: bool,
) -> None:
    player = SpoiltPlayer(played)
    async with playing(player, whole=False) as account:
        request = payment(
            account,
            reference=REFERENCE,
            amount_minor=1250,
            capture=capture,
            accept_partial=accept_partial,
        )
        outcome = await processor.authorize(request, soon())
    assert isinstance(outcome, get_args(Outcome))
    first, *rest = played
    match outcome:
        case Declined(decline_code="insufficient_funds"):
            assert first[0] in ("partial", "partial_open")
            assert rest[0][0] in ("changed", "voided_before"), "the part is still held"
            assert not accept_partial
        case Declined() | Rejected():
            assert not player.moved
        case HeldForReview():
            # Without its code a part looks like what is held: it waits, and is asked about.
            assert first[0] in ("held", "partial_open")
        case Approved():
            assert player.moved
            assert len(player.asked) == 1


@CALLS
@given(
    script(["review_approved", "review_ended", "review_declined", "refused_stored", LOST]),
    st.booleans(),
)
async def test_a_decision_is_never_reported_that_was_not_carried_out(
    processor: AuthorizeNet, played: list[tuple[str, Callable[[bytes], bytes]]], approve: bool
) -> None:
    player = SpoiltPlayer(played)
    async with playing(player, whole=False) as account:
        request = ReviewRequest(
            account=account,
            reference=REFERENCE,
            transaction_id="60198282518",
            approve=approve,
        )
        outcome = await processor.review(request, soon())
    assert isinstance(outcome, get_args(Outcome))
    name = played[0][0]
    match outcome:
        case Approved():
            assert approve
            assert name in ("review_approved", "review_ended")
        case Declined():
            assert name == "review_declined" or (not approve and name.startswith("review"))
        case Rejected():
            assert name == "refused_stored"


@CALLS
@given(script(["changed", "captured_before", "refused_47", LOST], SEEN))
async def test_a_capture_is_approved_only_for_its_own_amount(
    processor: AuthorizeNet, played: list[tuple[str, Callable[[bytes], bytes]]]
) -> None:
    player = SpoiltPlayer(played)
    async with playing(player, whole=False) as account:
        request = CaptureRequest(
            account=account,
            reference=REFERENCE,
            transaction_id="60198282518",
            amount_minor=1250,
            currency="USD",
        )
        outcome = await processor.capture(request, soon())
    assert isinstance(outcome, get_args(Outcome))
    if isinstance(outcome, Approved):
        assert played[0][0] == "changed" or played[1][0] in ("details_captured", "details_settled")
    if player.moved:
        assert isinstance(outcome, Approved | Unknown)


@CALLS
@given(
    script(
        ["nothing", "listed"],
        ["nothing", "listed", *SEEN],
        ["no_batches", *SEEN, *VOIDED],
        [*SEEN, *VOIDED],
    ),
    st.sampled_from(["sale", "refund", "capture", "void", "review"]),
)
async def test_an_inquiry_ends_in_a_finding_whatever_arrives(
    processor: AuthorizeNet, played: list[tuple[str, Callable[[bytes], bytes]]], kind: str
) -> None:
    player = SpoiltPlayer(played)
    player.invoice, player.amount = REFERENCE, "12.50"
    async with playing(player, whole=False) as account:
        request = inquiry(
            account,
            kind,
            REFERENCE,
            amount_minor=1250,
            transaction_id=None if kind == "sale" else "60198282518",
            captured_minor=1250,
        )
        finding = await processor.inquire(request, soon())
    assert isinstance(finding, get_args(Finding))
