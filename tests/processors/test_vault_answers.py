"""What answers to the vault's calls prove: every code, odd replies, damaged ones, and a broken
connection. No answer makes a call raise, and no damage makes a method that is not stored."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easypay.processors.authorize_net import vault_codes, vault_messages, vault_replies
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.authorize_net.customer_vault import AuthorizeNetVault
from easypay.processors.authorize_net.message_codes import ACCOUNT_REFUSED, API_REJECTED, TEXTS
from easypay.processors.authorize_net.reason_meanings import RETRY_ADVICE
from easypay.processors.authorize_net.vault_codes import Call
from easypay.processors.authorize_net.vault_replies import Answer, Created, Duplicate
from easypay.processors.base import AcceptToken, Account
from easypay.processors.customer_vault import (
    VAULT_WORDS,
    ChangeAnswer,
    FindAnswer,
    FoundProfile,
    MethodIds,
    Stored,
    VaultDone,
    VaultNotSent,
    VaultRefused,
    VaultUnknown,
    vault_of,
)

from .example_requests import VISA, authorize_net_account, soon
from .outcomes import expect
from .reports import OK, reporting
from .scripted_server import Act, after_request, http, serving, stall, within
from .test_messages import ACCOUNT
from .test_reply_fuzz import mangled
from .vault_requests import BANK, store, store_from, update, visa

IDS = MethodIds("900000001", "1200000001")
PROFILE_ID, PAYMENT_ID = IDS.customer_profile_id, IDS.payment_profile_id
DECLINED = "2,1,2,This transaction has been declined.,,Y,60001,none,,0.00,CC,auth_only"


def error(*codes: str, text: str = "No.") -> dict[str, Any]:
    listed = [{"code": code, "text": TEXTS.get(code, text)} for code in codes]
    return {"messages": {"resultCode": "Error", "message": listed}}


def shown_card(
    payment_id: str = PAYMENT_ID, number: str = "XXXX1111", expires: str = "2035-12", **more: Any
) -> dict[str, Any]:
    card = {"cardNumber": number, "expirationDate": expires, "cardType": "Visa"}
    return {"customerPaymentProfileId": payment_id, "payment": {"creditCard": card}, **more}


def shown_profile(*methods: dict[str, Any], reference: str = "r-1") -> dict[str, Any]:
    profile = {
        "merchantCustomerId": reference,
        "customerProfileId": PROFILE_ID,
        "paymentProfiles": list(methods),
    }
    return {"profile": profile, "messages": OK}


class Script:
    """A processor that gives these answers in turn, and keeps what it was asked."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def answer(self, method: str, fields: dict[str, Any]) -> object:
        self.asked.append((method, fields))
        return self.answers[len(self.asked) - 1]

    @property
    def methods(self) -> list[str]:
        return [name for name, _ in self.asked]


@asynccontextmanager
async def scripted(*answers: object) -> AsyncIterator[tuple[Script, Account]]:
    script = Script(*answers)
    async with reporting(script.answer) as account:
        yield script, account
    assert len(script.asked) == len(script.answers), script.methods


@pytest.fixture
async def vault(processor: Any) -> AuthorizeNetVault:
    found = vault_of(processor)
    assert isinstance(found, AuthorizeNetVault)
    return found


def calls(
    vault: AuthorizeNetVault, account: Account, limit_s: float = 10
) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Return every call of the vault, each of one request."""
    return {
        "store": lambda: vault.store(store(account), within(limit_s)),
        "add": lambda: vault.store(store(account, customer_profile_id=PROFILE_ID), within(limit_s)),
        "from": lambda: vault.store_from_transaction(store_from(account, "60001"), within(limit_s)),
        "find": lambda: vault.find_profile(account, "r-1", within(limit_s)),
        "show": lambda: vault.show_profile(account, PROFILE_ID, within(limit_s)),
        "update": lambda: vault.update(update(account, IDS, exp_year=2040), within(limit_s)),
        "validate": lambda: vault.validate(account, IDS, None, within(limit_s)),
        "delete_method": lambda: vault.delete_method(account, IDS, within(limit_s)),
        "delete_profile": lambda: vault.delete_profile(account, PROFILE_ID, within(limit_s)),
    }


# connections -----------------------------------------------------------------------------------

BROKEN: dict[str, Act] = {
    "closed": after_request(b""),
    "reset": after_request(b"", "reset"),
    "cut": after_request(http(json.dumps({"messages": OK}).encode())[:-9]),
    "stalled": stall,
    "not http": after_request(b"hello\r\n"),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_call_whose_connection_breaks_is_unknown_and_sent_once(broken: str) -> None:
    async with serving(BROKEN[broken], connect_timeout_s=5) as (server, client):
        vault = AuthorizeNetVault(client)
        account = authorize_net_account(server.url, "a", "b")
        made = calls(vault, account)
        if broken == "stalled":
            made = {"store": calls(vault, account, 2)["store"]}
        for number, (name, call) in enumerate(made.items(), 1):
            answer = await call()
            # An update reads first: while it has not read, it has changed nothing.
            expect(VaultNotSent if name == "update" else VaultUnknown, answer)
            assert len(server.requests) == number


async def test_a_call_that_never_left_is_not_sent(vault: AuthorizeNetVault) -> None:
    nowhere = authorize_net_account("http://127.0.0.1:1/", "a", "b")
    for call in calls(vault, nowhere).values():
        assert expect(VaultNotSent, await call()).account_refusal is None
    late = within(0.1)
    expect(VaultNotSent, await vault.store(store(nowhere), late))


# codes -----------------------------------------------------------------------------------------

CHANGES: tuple[Call, ...] = get_args(Call)


def judged(call: Call, body: dict[str, Any]) -> object:
    answer = vault_replies.read(Reply(200, json.dumps(body).encode()), "r")
    if call == "delete":
        return vault_replies.deleted(answer)
    if call in ("update", "validate"):
        return vault_replies.changed(answer, call)
    return vault_replies.created(answer, call)


@pytest.mark.parametrize("call", CHANGES)
def test_every_code_has_one_meaning_in_every_call(call: Call) -> None:
    for code in TEXTS:
        answer = judged(call, error(code))
        if code in ACCOUNT_REFUSED:
            expect(VaultNotSent, answer)
        elif code == "E00040" and call == "delete":
            assert answer == VaultDone(was_gone=True)
        elif code == "E00039" and call.startswith("store"):
            expect(Duplicate, answer)
        elif code == "E00027" and call in vault_codes.CHECKS:
            assert expect(VaultRefused, answer).word == "card_declined"
        elif meaning := vault_codes.meaning(code, call):
            refused = expect(VaultRefused, answer)
            assert (refused.word, refused.code, refused.message) == (meaning[0], code, TEXTS[code])
        else:
            assert code in expect(VaultUnknown, answer).reason


@pytest.mark.parametrize("code", ["E00001", "E00049", "E00053", "E00104", "E00062", "E99999", ""])
@pytest.mark.parametrize("call", CHANGES)
def test_a_failure_inside_the_processor_proves_nothing(call: Call, code: str) -> None:
    for codes in ([code], *([known, code] for known in ("E00040", "E00007", "E00039", "E00027"))):
        expect(VaultUnknown, judged(call, error(*codes)))


def test_every_word_is_explained() -> None:
    words = {word for word, _ in vault_codes.REFUSED.values()}
    words |= {word for word, _ in vault_codes.BY_CALL.values()}
    words |= {"transaction_voided", "card_declined", "duplicate_method"}
    assert words - VAULT_WORDS.keys() <= RETRY_ADVICE.keys()
    assert VAULT_WORDS.keys() <= words
    assert not VAULT_WORDS.keys() & RETRY_ADVICE.keys()
    assert not vault_codes.REFUSED.keys() & API_REJECTED.keys()


@pytest.mark.parametrize(
    ("direct", "word", "code"),
    [
        (DECLINED, "card_declined", "2"),
        ('"2"|"1"|"2"|"Declined."|', "card_declined", "2"),
        ("'3';'1';'8';'Expired.';", "expired_card", "8"),
        ("3,2,19,Try again.,", "processor_unavailable", "19"),
        ("3,1,27,x,", "address_mismatch", "27"),
        ("", "card_declined", "E00027"),
        ("nonsense", "card_declined", "E00027"),
        (17, "card_declined", "E00027"),
    ],
)
def test_a_failed_check_says_why(direct: object, word: str, code: str) -> None:
    for name in ("validationDirectResponse", "directResponse"):
        refused = expect(VaultRefused, judged("store", {name: direct, **error("E00027")}))
        assert (refused.word, refused.code) == (word, code)
    listed = {"validationDirectResponseList": [direct], **error("E00027")}
    assert expect(VaultRefused, judged("store", listed)).word == word


def test_a_check_that_passed_and_failed_is_unknown() -> None:
    body = {"directResponse": "1,1,1,Approved.,", **error("E00027")}
    expect(VaultUnknown, judged("store", body))
    declined = {"directResponse": DECLINED, "messages": OK}
    assert expect(VaultRefused, judged("validate", declined)).word == "card_declined"


@pytest.mark.parametrize(
    "body",
    [
        {"messages": OK},
        {"customerProfileId": PROFILE_ID, "messages": OK},
        {"customerProfileId": PROFILE_ID, "customerPaymentProfileIdList": [], "messages": OK},
        {
            "customerProfileId": PROFILE_ID,
            "customerPaymentProfileIdList": ["1", "2"],
            "messages": OK,
        },
        {"customerProfileId": "0", "customerPaymentProfileId": PAYMENT_ID, "messages": OK},
        {"customerProfileId": PROFILE_ID, "customerPaymentProfileId": "x1", "messages": OK},
        {
            "refId": "other",
            "customerProfileId": PROFILE_ID,
            "customerPaymentProfileId": PAYMENT_ID,
            "messages": OK,
        },
        {},
    ],
)
def test_a_success_without_the_ids_is_unknown(body: dict[str, Any]) -> None:
    expect(VaultUnknown, judged("store", body))


def test_a_method_of_another_profile_is_unknown() -> None:
    body = {"customerProfileId": "5", "customerPaymentProfileId": PAYMENT_ID, "messages": OK}
    for messages in ({}, error("E00039")):
        answer = vault_replies.read(Reply(200, json.dumps({**body, **messages}).encode()), "r")
        expect(VaultUnknown, vault_replies.created(answer, "store", PROFILE_ID))


# what is found and adopted ---------------------------------------------------------------------


def duplicate(*, told: bool = True) -> dict[str, Any]:
    ids = {"customerProfileId": PROFILE_ID, "customerPaymentProfileId": PAYMENT_ID} if told else {}
    return {**ids, **error("E00039")}


def existing(text: str) -> dict[str, Any]:
    return {"messages": {"resultCode": "Error", "message": [{"code": "E00039", "text": text}]}}


NAMED = existing(f"A duplicate record with ID {PROFILE_ID} already exists.")
NAMELESS = existing("A duplicate record already exists.")


@pytest.mark.parametrize("answer", [NAMED, NAMELESS])
@pytest.mark.parametrize("told", [True, False])
async def test_an_existing_profile_and_method_are_adopted(
    vault: AuthorizeNetVault, answer: dict[str, Any], told: bool
) -> None:
    shown = shown_profile(shown_card("7", expires="2036-01"), shown_card())
    async with scripted(answer, shown, duplicate(told=told), shown) as (script, account):
        stored = expect(Stored, await vault.store(store(account, reference="r-1"), soon()))
    assert (stored.method.ids, stored.existed) == (IDS, True)
    by = "customerProfileId" if answer is NAMED else "merchantCustomerId"
    assert by in script.asked[1][1]


async def test_a_profile_of_another_reference_is_never_adopted(vault: AuthorizeNetVault) -> None:
    async with scripted(NAMED, shown_profile(reference="r-2")) as (_, account):
        answer = await vault.store(store(account, reference="r-1"), soon())
    assert "another reference" in expect(VaultUnknown, answer).reason
    async with scripted(shown_profile()) as (_, account):
        answer = await vault.show_profile(account, "900000002", soon())
    assert "another profile" in expect(VaultUnknown, answer).reason


TOKEN = AcceptToken(descriptor="d", value="v")


async def test_a_token_whose_duplicate_names_no_id_is_not_guessed(vault: AuthorizeNetVault) -> None:
    for methods, expected in (
        ([shown_card()], Stored),
        ([shown_card(), shown_card("7")], VaultRefused),
    ):
        async with scripted(duplicate(told=False), shown_profile(*methods)) as (_, account):
            request = store(account, customer_profile_id=PROFILE_ID, method=TOKEN)
            expect(expected, await vault.store(request, soon()))


async def test_an_invalid_token_is_refused_if_nothing_can_have_been_stored(
    vault: AuthorizeNetVault,
) -> None:
    for methods, expected in (([], VaultRefused), ([shown_card()], VaultUnknown)):
        async with scripted(NAMED, shown_profile(*methods), error("E00114")) as (_, account):
            request = store(account, reference="r-1", method=TOKEN)
            expect(expected, await vault.store(request, soon()))


async def test_a_renewed_card_gets_its_new_expiry(vault: AuthorizeNetVault) -> None:
    old = shown_profile(shown_card(expires="2026-01", defaultPaymentProfile=True))
    done = {"messages": OK}
    async with scripted(duplicate(), old, done) as (script, account):
        card = visa(cvc="900")
        request = store(account, customer_profile_id=PROFILE_ID, method=card, validate=True)
        stored = expect(Stored, await vault.store(request, soon())).method
    assert (stored.exp_month, stored.exp_year) == (12, 2035)
    method, fields = script.asked[-1]
    assert method == "updateCustomerPaymentProfileRequest"
    card_sent = {"cardNumber": VISA, "expirationDate": "2035-12"}
    assert fields["paymentProfile"]["payment"] == {"creditCard": card_sent}
    assert fields["paymentProfile"]["defaultPaymentProfile"] is True
    assert fields["validationMode"] == "none"


async def test_a_renewed_card_without_an_id_is_refused(vault: AuthorizeNetVault) -> None:
    old = shown_profile(shown_card(expires="2026-01"))
    async with scripted(duplicate(told=False), old) as (_, account):
        request = store(account, customer_profile_id=PROFILE_ID)
        refused = expect(VaultRefused, await vault.store(request, soon()))
    assert refused.word == "duplicate_method"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (shown_profile(), VaultUnknown),
        (shown_profile(shown_card()), Stored),
        (shown_profile(shown_card(), shown_card("8")), VaultRefused),
        (shown_profile(shown_card(number="XXXX2222")), VaultUnknown),
        (error("E00040"), VaultUnknown),
        (error("E00053"), VaultUnknown),
        ((500, b"<html>"), VaultUnknown),
    ],
)
async def test_a_nameless_duplicate_is_adopted_only_if_it_is_certain(
    vault: AuthorizeNetVault, shown: object, expected: type
) -> None:
    async with scripted(duplicate(told=False), shown) as (_, account):
        request = store(account, customer_profile_id=PROFILE_ID)
        expect(expected, await vault.store(request, soon()))


async def test_a_named_duplicate_is_adopted_although_it_is_not_shown_yet(
    vault: AuthorizeNetVault,
) -> None:
    for shown in (shown_profile(), error("E00040")):
        async with scripted(duplicate(), shown) as (_, account):
            request = store(account, customer_profile_id=PROFILE_ID)
            stored = expect(Stored, await vault.store(request, soon()))
        assert (stored.method.ids, stored.method.last4, stored.existed) == (IDS, "1111", True)


async def test_a_transaction_is_voided_if_the_processor_says_so(vault: AuthorizeNetVault) -> None:
    details = {"transaction": {"transId": "60001", "transactionStatus": "voided"}, "messages": OK}
    for code in sorted(vault_codes.NOT_STORABLE):
        async with scripted(error(code), details) as (_, account):
            answer = await vault.store_from_transaction(store_from(account, "60001"), soon())
        refused = expect(VaultRefused, answer)
        assert (refused.word, refused.code) == ("transaction_voided", code)


# messages --------------------------------------------------------------------------------------


def test_an_update_sends_back_what_is_stored() -> None:
    bill_to = {"firstName": "Ada", "zip": "98004", "phoneNumber": "1", "odd": "x"}
    present = {
        **shown_card(defaultPaymentProfile=True),
        "customerType": "individual",
        "billTo": bill_to,
    }
    (_, sent) = vault_messages.changed_method(update(ACCOUNT, IDS, exp_month=1), present)
    del bill_to["odd"]
    assert list(sent) == ["customerProfileId", "paymentProfile", "validationMode"]
    assert sent["paymentProfile"] == {
        "customerType": "individual",
        "billTo": bill_to,
        "payment": {"creditCard": {"cardNumber": "XXXX1111", "expirationDate": "2035-01"}},
        "defaultPaymentProfile": True,
        "customerPaymentProfileId": PAYMENT_ID,
    }
    masked = shown_card(expires="XXXX")
    (_, sent) = vault_messages.changed_method(update(ACCOUNT, IDS, exp_month=1), masked)
    profile: Any = sent["paymentProfile"]
    assert profile["payment"]["creditCard"]["expirationDate"] == "XXXX"
    assert "defaultPaymentProfile" not in profile


def test_a_card_code_is_sent_only_to_be_checked() -> None:
    for validate in (False, True):
        request = store(ACCOUNT, method=visa(cvc="900"), validate=validate)
        data = vault_messages.encode(vault_messages.new_profile(request), ACCOUNT, "r")
        assert (b'"cardCode"' in data) == validate


@pytest.mark.parametrize(
    ("method", "mode"), [(visa(), "liveMode"), (TOKEN, "liveMode"), (BANK, "testMode")]
)
def test_a_check_asks_the_issuer_if_there_is_one(method: Any, mode: str) -> None:
    for validate, expected in ((False, "none"), (True, mode)):
        request = store(ACCOUNT, method=method, validate=validate)
        for message in (
            vault_messages.new_profile(request),
            vault_messages.new_method(request, PROFILE_ID),
        ):
            assert message.fields["validationMode"] == expected


@pytest.mark.parametrize(
    ("number", "brand", "seen"),
    [
        ("XXXX1111", "American Express", ("card", "1111", "amex")),
        ("XXXX6789", "eCheck", ("bank_account", "6789", None)),
        ("98004-1234", "Visa", ("card", None, None)),
        ("", "", ("card", None, None)),
    ],
)
def test_a_check_tells_what_was_stored(number: str, brand: str, seen: tuple[object, ...]) -> None:
    direct = ",".join(["1", "1", "1", "Approved.", *[""] * 46, number, brand, *[""] * 16])
    for quote in ("", '"'):
        text = ",".join(f"{quote}{each}{quote}" for each in direct.split(","))
        made = expect(Created, judged("store", {**CREATED, "validationDirectResponseList": [text]}))
        assert (made.shown.type, made.shown.last4, made.shown.brand) == seen


def test_long_texts_are_cut_and_a_long_address_of_mail_is_left_out() -> None:
    request = store(ACCOUNT, description="d" * 300, email="e" * 300)
    (_, sent) = vault_messages.new_profile(request)
    profile: Any = sent["profile"]
    assert list(profile) == ["merchantCustomerId", "description", "paymentProfiles"]
    assert profile["description"] == "d" * 255


# damage ----------------------------------------------------------------------------------------

CREATED = {
    "customerProfileId": PROFILE_ID,
    "customerPaymentProfileIdList": [PAYMENT_ID],
    "validationDirectResponseList": [DECLINED.replace("2,1,2", "1,1,1")],
    "messages": OK,
}
DAMAGED = [CREATED, NAMED, duplicate(), error("E00040"), error("E00042"), error("E00053")]
SHOWN = [shown_profile(shown_card(), shown_card("7")), error("E00040")]
READ: Sequence[int] = [200, 200, 200, 500]


@settings(max_examples=150, deadline=None)
@given(mangled(DAMAGED), st.sampled_from(CHANGES), st.sampled_from(READ))
def test_a_damaged_answer_stores_nothing_that_was_not_stored(
    body: bytes, call: Call, status: int
) -> None:
    answer = vault_replies.read(Reply(status, body), "r")
    assert isinstance(answer, Answer | VaultUnknown)
    for judge in (
        lambda: vault_replies.created(answer, call, PROFILE_ID),
        lambda: vault_replies.created(answer, call),
        lambda: vault_replies.changed(answer, call),
        lambda: vault_replies.deleted(answer),
    ):
        verdict = judge()
        assert isinstance(verdict, (Created, Duplicate, *get_args(ChangeAnswer)))
        if isinstance(verdict, Created):
            said = json.loads(body.decode("utf-8-sig"))
            assert said["messages"]["resultCode"] == "Ok"
            assert verdict.ids.payment_profile_id in json.dumps(said)
        if isinstance(verdict, VaultDone) and not verdict.was_gone:
            assert json.loads(body.decode("utf-8-sig"))["messages"]["resultCode"] == "Ok"


@settings(max_examples=150, deadline=None)
@given(mangled(SHOWN))
def test_a_profile_is_shown_whole_or_not_at_all(body: bytes) -> None:
    answer = vault_replies.read(Reply(200, body), "r")
    found = vault_replies.found(answer, customer_profile_id=PROFILE_ID, reference="r-1")
    assert isinstance(found, get_args(FindAnswer))
    if isinstance(found, FoundProfile):
        listed = json.loads(body.decode("utf-8-sig"))["profile"].get("paymentProfiles") or []
        assert len(found.methods) == (len(listed) if isinstance(listed, list) else 1)
    vault_replies.one_method(answer, IDS)


# what nobody may see ---------------------------------------------------------------------------


async def test_no_card_number_is_in_a_repr_or_an_answer(vault: AuthorizeNetVault) -> None:
    quoted = error("E00003")
    quoted["messages"]["message"][0]["text"] = f"The value &#39;{VISA}&#39; is invalid. {VISA}"
    for answer in (quoted, error("E00001", text=f"{VISA} failed"), (200, VISA.encode())):
        async with scripted(answer) as (_, account):
            request = store(account, method=visa(cvc="900"))
            shown = repr(await vault.store(request, soon())) + repr(request)
        assert VISA not in shown
