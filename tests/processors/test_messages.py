"""Requests in the schema's order, and what each reply proves."""

import json
from typing import Any
from unittest.mock import ANY

import msgspec
import pytest

from easypay.payment_details import PaymentDetails
from easypay.processors.authorize_net import messages, replies
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.base import (
    AcceptToken,
    AccountRefusal,
    Address,
    Approved,
    AuthorizeRequest,
    BankAccount,
    Card,
    Declined,
    HeldForReview,
    NotSent,
    Rejected,
    StoredCredential,
    StoredMethod,
    Unknown,
)

from .example_requests import authorize_net_account, capture, refund, void
from .outcomes import expect

ACCOUNT = authorize_net_account("https://example.test/", "login", "key")
REFERENCE = "01J8Z0000000000000AB"
VISA = "4111111111111111"

ORDER = {
    "": "merchantAuthentication clientId refId transactionRequest",
    "merchantAuthentication": "name transactionKey",
    "transactionRequest": (
        "transactionType amount currencyCode payment profile solution callId terminalNumber "
        "authCode refTransId splitTenderId order lineItems tax duty shipping taxExempt poNumber "
        "customer billTo shipTo customerIP cardholderAuthentication retail employeeId "
        "transactionSettings userFields surcharge merchantDescriptor subMerchant tip "
        "processingOptions subsequentAuthInformation otherTax shipFrom authorizationIndicatorType"
    ),
    "payment": "creditCard bankAccount opaqueData",
    "bankAccount": (
        "accountType routingNumber accountNumber nameOnAccount echeckType bankName checkNumber"
    ),
    "profile": "createProfile customerProfileId paymentProfile shippingProfileId",
    "paymentProfile": "paymentProfileId cardCode",
    "processingOptions": (
        "isFirstRecurringPayment isFirstSubsequentAuth isSubsequentAuth isStoredCredentials"
    ),
    "subsequentAuthInformation": "originalNetworkTransId originalAuthAmount reason",
    "creditCard": "cardNumber expirationDate cardCode",
    "opaqueData": "dataDescriptor dataValue",
    "order": "invoiceNumber description",
    "customer": "type id email",
    "billTo": (
        "firstName lastName company address city state zip country phoneNumber faxNumber email"
    ),
    "transactionSettings": "setting",
    "setting": "settingName settingValue",
}


def disorder(name: str, value: object) -> list[str]:
    """Return the keys in `value`, at any depth, that are not where the schema expects them."""
    if isinstance(value, list):
        return [fault for item in value for fault in disorder(name, item)]
    if not isinstance(value, dict):
        return []
    known = ORDER[name].split()
    places = [known.index(key) if key in known else -1 for key in value]
    faults = [name] if -1 in places or places != sorted(places) else []
    return faults + [fault for key, item in value.items() for fault in disorder(key, item)]


def sale(**over: Any) -> AuthorizeRequest:
    full = AuthorizeRequest(
        account=ACCOUNT,
        reference=REFERENCE,
        amount_minor=12_50,
        currency="USD",
        capture=True,
        method=Card(number=VISA, exp_month=3, exp_year=2031, cvc="900"),
        details=PaymentDetails("order-1", "c-1", "Two chairs", "CHAIRS"),
        customer_email="a@example.test",
        customer_ip="192.0.2.1",
        billing_address=Address(
            first_name="Ada",
            last_name="Byron",
            company="Engines",
            line1="1 Street",
            city="London",
            state="LDN",
            postal_code="46282",
            country="UK",
            phone="555",
        ),
    )
    return msgspec.structs.replace(full, **over)


def sent(body: bytes) -> dict[str, Any]:
    root = json.loads(body)
    assert list(root) == ["createTransactionRequest"]
    request = root["createTransactionRequest"]
    assert disorder("", request) == []
    assert request["refId"] == REFERENCE
    assert request["transactionRequest"]["order"]["invoiceNumber"] == REFERENCE
    settings = request["transactionRequest"]["transactionSettings"]["setting"]
    assert {"settingName": "duplicateWindow", "settingValue": "28800"} in settings
    transaction = request["transactionRequest"]
    assert isinstance(transaction, dict)
    return transaction


def test_a_full_sale_is_in_the_schemas_order() -> None:
    transaction = sent(messages.authorization(sale()))
    assert transaction["transactionType"] == "authCaptureTransaction"
    assert transaction["amount"] == "12.50"
    assert transaction["payment"] == {
        "creditCard": {"cardNumber": VISA, "expirationDate": "2031-03", "cardCode": "900"}
    }
    assert transaction["poNumber"] == "order-1"
    assert transaction["customer"] == {"id": "c-1", "email": "a@example.test"}
    assert transaction["billTo"]["zip"] == "46282"
    assert transaction["customerIP"] == "192.0.2.1"
    assert transaction["merchantDescriptor"] == "CHAIRS"
    assert len(transaction["billTo"]) == 9


def test_a_minimal_authorization_has_no_optional_fields() -> None:
    bare = AuthorizeRequest(
        account=ACCOUNT,
        reference=REFERENCE,
        amount_minor=500,
        currency="JPY",
        capture=False,
        method=AcceptToken(descriptor="COMMON.ACCEPT.INAPP.PAYMENT", value="nonce"),
    )
    transaction = sent(messages.authorization(bare))
    assert transaction["transactionType"] == "authOnlyTransaction"
    assert transaction["amount"] == "500"
    assert transaction["payment"] == {
        "opaqueData": {"dataDescriptor": "COMMON.ACCEPT.INAPP.PAYMENT", "dataValue": "nonce"}
    }
    assert not {"poNumber", "customer", "billTo", "customerIP"} & set(transaction)


def test_text_is_cut_to_the_processors_limits() -> None:
    long = "x" * 300
    address = Address(**dict.fromkeys(Address.__struct_fields__, long))
    transaction = sent(
        messages.authorization(
            sale(
                details=PaymentDetails(long, long, long),
                customer_email=long,
                billing_address=address,
            )
        )
    )
    assert len(transaction["order"]["description"]) == 255
    assert "poNumber" not in transaction
    assert transaction["customer"] == {"id": "x" * 20}, "half an address is another's"
    lengths = [len(value) for value in transaction["billTo"].values()]
    assert lengths == [50, 50, 50, 60, 40, 40, 20, 60, 25]


def test_characters_that_xml_forbids_do_not_break_the_request() -> None:
    transaction = sent(
        messages.authorization(sale(details=PaymentDetails(" ", "\x07", "a\x00b\ud800c\nd")))
    )
    assert transaction["order"]["description"] == "a b c d"
    assert "id" not in transaction["customer"]
    assert "poNumber" not in transaction


def test_capture_void_and_refund_name_their_parent() -> None:
    ours = {"reference": REFERENCE}
    asked = (
        messages.capture(capture(ACCOUNT, "60001", amount_minor=1000, **ours)),
        messages.void(void(ACCOUNT, "60001", **ours)),
        messages.refund(refund(ACCOUNT, "60001", amount_minor=5, **ours)),
    )
    requests = [sent(each) for each in asked]
    names = ("transactionType", "amount", "refTransId")
    assert [tuple(map(each.get, names)) for each in requests] == [
        ("priorAuthCaptureTransaction", "10.00", "60001"),
        ("voidTransaction", None, "60001"),
        ("refundTransaction", "0.05", "60001"),
    ]
    mask = {"cardNumber": "1111", "expirationDate": "XXXX"}
    assert requests[-1]["payment"] == {"creditCard": mask}


def test_a_stored_method_is_sent_without_the_fields_its_profile_holds() -> None:
    stored = StoredMethod(customer_profile_id="9001", payment_profile_id="9101", cvc="987")
    transaction = sent(messages.authorization(sale(method=stored)))
    assert transaction["profile"] == {
        "customerProfileId": "9001",
        "paymentProfile": {"paymentProfileId": "9101", "cardCode": "987"},
    }
    for refused_beside_a_profile in ("payment", "billTo", "customer"):
        assert refused_beside_a_profile not in transaction
    assert transaction["poNumber"] == "order-1"
    shipped = msgspec.structs.replace(stored, cvc=None, shipping_profile_id="9201")
    transaction = sent(messages.authorization(sale(method=shipped)))
    assert transaction["profile"]["shippingProfileId"] == "9201"
    assert "cardCode" not in transaction["profile"]["paymentProfile"]
    assert "987" not in repr(stored)


def test_a_bank_account_is_debited() -> None:
    bank = BankAccount(
        account_type="checking",
        routing_number="121042882",
        account_number="123456789",
        name_on_account="Ada Augusta Byron, Countess of Lovelace",
        bank_name="Wells",
    )
    transaction = sent(messages.authorization(sale(method=bank)))
    assert transaction["payment"] == {
        "bankAccount": {
            "accountType": "checking",
            "routingNumber": "121042882",
            "accountNumber": "123456789",
            "nameOnAccount": "Ada Augusta Byron, Cou",
            "echeckType": "WEB",
            "bankName": "Wells",
        }
    }
    assert transaction["billTo"]["firstName"] == "Ada"
    assert repr(bank) == "BankAccount(***)"


FIRST = {"network_transaction_id": "NET 1", "original_amount_minor": 10_00}


@pytest.mark.parametrize(
    ("initiator", "first", "recurring", "over", "options", "original"),
    [
        ("customer", True, False, {}, "isFirstSubsequentAuth", None),
        ("customer", True, True, {}, "isFirstRecurringPayment", None),
        ("merchant", True, False, {}, "isFirstSubsequentAuth", None),
        ("customer", False, False, FIRST, "isStoredCredentials", None),
        ("merchant", False, False, {}, "isSubsequentAuth", None),
        (
            "merchant",
            False,
            True,
            FIRST,
            "isSubsequentAuth",
            {"originalNetworkTransId": "NET 1", "originalAuthAmount": "10.00"},
        ),
        (
            "merchant",
            False,
            False,
            {**FIRST, "reason": "no_show"},
            "isSubsequentAuth",
            {
                "originalNetworkTransId": "NET 1",
                "originalAuthAmount": "10.00",
                "reason": "noShow",
            },
        ),
    ],
)
def test_a_card_on_file_request_names_its_initiator_and_reason(
    initiator: Any,
    first: bool,
    recurring: bool,
    over: dict[str, Any],
    options: str,
    original: dict[str, str] | None,
) -> None:
    credential = StoredCredential(initiator=initiator, first=first, recurring=recurring, **over)
    transaction = sent(messages.authorization(sale(stored_credential=credential)))
    assert transaction["processingOptions"] == {options: True}
    assert transaction.get("subsequentAuthInformation") == original
    setting = {"settingName": "recurringBilling", "settingValue": "true"}
    assert (setting in transaction["transactionSettings"]["setting"]) == recurring


def test_a_refund_names_the_card_or_account_that_paid() -> None:
    over = {"reference": REFERENCE, "card_last4": "6789", "method_type": "bank_account"}
    request = refund(ACCOUNT, "60001", **over)
    bank = sent(messages.refund(request))["payment"]["bankAccount"]
    assert bank["accountNumber"] == "XXXX6789"
    known = msgspec.structs.replace(request, routing_last4="2882", name_on_account="Ada Byron")
    assert sent(messages.refund(known))["payment"]["bankAccount"] == {
        "routingNumber": "XXXX2882",
        "accountNumber": "XXXX6789",
        "nameOnAccount": "Ada Byron",
    }
    stored = msgspec.structs.replace(request, customer_profile_id="9001", payment_profile_id="9101")
    transaction = sent(messages.refund(stored))
    assert "payment" not in transaction
    assert transaction["profile"] == {
        "customerProfileId": "9001",
        "paymentProfile": {"paymentProfileId": "9101"},
    }


# Replies.


def transaction(response_code: object, **fields: object) -> dict[str, Any]:
    return {
        "transactionResponse": {
            "responseCode": response_code,
            "authCode": "AB12CD",
            "avsResultCode": "Y",
            "cvvResultCode": "M",
            "transId": "60001",
            "refTransID": "",
            "accountNumber": "XXXX1111",
            "accountType": "Visa",
            "networkTransId": "NET1",
            **fields,
        },
        "refId": REFERENCE,
        "messages": {
            "resultCode": "Ok",
            "message": [{"code": "I00001", "text": "Successful."}],
        },
    }


def failure(*found: str, **fields: object) -> dict[str, Any]:
    return {
        "messages": {
            "resultCode": "Error",
            "message": [{"code": code, "text": "Something."} for code in found],
        },
        **fields,
    }


def error(code: str, text: str = "An error.") -> dict[str, Any]:
    return {"errors": [{"errorCode": code, "errorText": text}]}


APPROVAL = {"messages": [{"code": "1", "description": "This transaction has been approved."}]}


def read(answer: object, **fields: Any) -> Any:
    body = answer if isinstance(answer, bytes) else b"\xef\xbb\xbf" + json.dumps(answer).encode()
    return replies.outcome(Reply(200, body), REFERENCE, currency="USD", **fields)


def test_every_field_of_an_approval_is_read() -> None:
    assert read(transaction("1", **APPROVAL)) == Approved(
        transaction_id="60001",
        auth_code="AB12CD",
        avs_result="Y",
        cvv_result="M",
        code="1",
        message="This transaction has been approved.",
        network_transaction_id="NET1",
        card_brand="visa",
        card_last4="1111",
        avs="full_match",
        cvv="match",
    )


@pytest.mark.parametrize("result_code", ["Ok", "Error"])
def test_a_decline_is_a_decline_whatever_the_top_level_says(result_code: str) -> None:
    answer = transaction("2", **error("2", "This transaction has been declined."))
    answer["messages"]["resultCode"] = result_code
    assert read(answer) == Declined(
        decline_code="generic_decline",
        code="2",
        message="This transaction has been declined.",
        transaction_id="60001",
        avs_result="Y",
        cvv_result="M",
        card_brand="visa",
        card_last4="1111",
        avs="full_match",
        cvv="match",
        network_transaction_id="NET1",
        retry="later",
    )


def test_a_rejection_has_the_processors_code_and_our_word() -> None:
    answer = transaction("3", transId="0", **error("8", "The credit card has expired."))
    assert read(answer) == Rejected(
        code="8",
        message="The credit card has expired.",
        decline_code="expired_card",
        retry="fix_data",
    )


@pytest.mark.parametrize("code", ["252", "253"])
def test_a_payment_held_for_review_is_in_review(code: str) -> None:
    answer = transaction("4", messages=[{"code": code, "description": "Thank you."}])
    outcome = expect(HeldForReview, read(answer))
    assert (outcome.transaction_id, outcome.code) == ("60001", code)


@pytest.mark.parametrize(
    "answer",
    [
        transaction("1", messages=[{"code": "310", "description": "Already voided."}]),
        transaction("1", messages=[{"code": "311", "description": "Already captured."}]),
        transaction("1", transId="0", **APPROVAL),
        transaction("1", transId="", **APPROVAL),
        transaction("1", transId=None, **APPROVAL),
        transaction("1", transId="six", **APPROVAL),
        transaction("1", **error("8")),
        transaction("1", prePaidCard={"approvedAmount": "lots"}, **APPROVAL),
        transaction("1", prePaidCard={"approvedAmount": "0.00"}, **APPROVAL),
        transaction("3", transId="0", **error("11")),
        transaction("3", transId="60001", **error("11")),
        transaction("3", **error("19")),
        transaction("3", **error("261")),
        transaction("3", **error("98765")),
        transaction("3"),
        transaction("4", transId="0"),
        transaction("5"),
        transaction(""),
        transaction(None),
        transaction(True),
        transaction(["1"]),
        transaction("1", **APPROVAL) | {"refId": "another-operation"},
        transaction("1", **APPROVAL) | {"refId": 5},
        {"transactionResponse": [], **failure("E00003")},
        {"transactionResponse": {"responseCode": {}}, **failure("E00003")},
        {"transactionResponse": {"transId": "60001"}, **failure("E00003")},
        failure("E00001"),
        failure("E00027"),
        failure("E00053"),
        failure("E00003", "E00053"),
        failure(),
        {"messages": {"resultCode": "Ok", "message": [{"code": "E00003", "text": "?"}]}},
        {"messages": "Error"},
        {},
        [],
        [transaction("1", **APPROVAL)],
        "1",
        1,
        None,
        b"",
        b"\xef\xbb\xbf",
        b"<html><body>We'll be back</body></html>",
        b'<?xml version="1.0" encoding="utf-8"?><ErrorResponse/>',
        json.dumps(transaction("1", **APPROVAL)).encode("utf-16"),
        json.dumps(transaction("1", **APPROVAL)).encode()[:-1],
        b"[" * 100_000,
        b'{"transactionResponse": {"responseCode": "1", "transId": "\xff"}}',
    ],
)
def test_an_unclear_answer_is_unknown(answer: object) -> None:
    expect(Unknown, read(answer))


@pytest.mark.parametrize("status", [100, 201, 204, 301, 400, 403, 500, 502, 503, 504])
def test_any_other_status_is_unknown_even_with_an_answer(status: int) -> None:
    body = json.dumps(transaction("1", **APPROVAL)).encode()
    assert isinstance(replies.outcome(Reply(status, body), REFERENCE), Unknown)


@pytest.mark.parametrize("code", ["E00003", "E00013", "E00059", "E00064", "E00114"])
def test_a_request_refused_before_processing_is_rejected(code: str) -> None:
    for answer in (
        failure(code),
        failure(code, transactionResponse={"SupplementalDataQualificationIndicator": 0}),
        failure(code, refId=REFERENCE),
    ):
        assert expect(Rejected, read(answer)).code == code


@pytest.mark.parametrize("number", range(5, 12))
def test_a_request_of_a_refused_account_counts_as_never_sent(number: int) -> None:
    code = f"E{number:05}"
    for answer in (failure(code), failure(code, transactionResponse={}), failure(code, refId=None)):
        outcome = expect(NotSent, read(answer))
        assert outcome.account_refusal == AccountRefusal(code=code, message=ANY)


def test_reason_13_counts_as_never_sent_unless_it_names_a_transaction() -> None:
    fields = error("13", "The merchant login ID is invalid.")
    outcome = expect(NotSent, read(transaction("3", transId="0", **fields)))
    assert outcome.account_refusal is not None
    assert outcome.account_refusal.code == "13"
    expect(Rejected, read(transaction("3", transId="60198237461", **fields)))
    expect(Declined, read(transaction("2", transId="0", **fields)))


@pytest.mark.parametrize("reason", [*range(19, 24), 25, 26, 52, *range(57, 64)])
def test_an_error_while_processing_is_never_sent_again(reason: int) -> None:
    expect(Unknown, read(transaction("3", transId="0", **error(str(reason)))))
    expect(Rejected, read(transaction("3", transId="0", **error("24"))))


def test_a_partial_approval_states_its_amount() -> None:
    prepaid = {"requestedAmount": "5.00", "approvedAmount": "1.23", "balanceOnCard": ""}
    assert read(transaction("1", prePaidCard=prepaid, **APPROVAL)).amount_minor == 123


def test_a_capture_or_void_of_another_transaction_is_not_ours() -> None:
    answer = transaction("1", **APPROVAL)
    expect(Approved, read(answer, parent="60001"))
    expect(Unknown, read(answer, parent="60002"))
    renumbered = transaction("1", refTransID="60002", **APPROVAL)
    expect(Approved, read(renumbered, parent="60002"))


@pytest.mark.parametrize("name", ["transId", "refTransID"])
def test_an_earlier_void_counts_as_done_only_for_the_same_transaction(name: str) -> None:
    texts = [{"code": "310", "description": "This transaction has already been voided."}]
    answer = transaction("1", messages=texts, transId="0")
    done = expect(Approved, read(answer, kind="void", parent="60001"))
    assert (done.transaction_id, done.code) == ("60001", "310")
    answer["transactionResponse"][name] = "60002"
    expect(Unknown, read(answer, kind="void", parent="60001"))
    expect(Unknown, read(answer, kind="void"))
    for kind in ("authorize", "capture", "refund", "approve", "end"):
        expect(Unknown, read(transaction("1", messages=texts), kind=kind))


@pytest.mark.parametrize("kind", ["capture", "void", "refund", "approve", "end"])
def test_only_an_authorization_can_be_approved_in_part(kind: str) -> None:
    for response_code in ("1", "4"):
        texts = [{"code": "295", "description": "Partially approved."}]
        answer = transaction(response_code, messages=texts)
        assert expect(Unknown, read(answer, kind=kind, parent="60001")).code == "295"


def test_every_reply_gives_the_network_transaction_id() -> None:
    for answer in (
        transaction("1", **APPROVAL),
        transaction("2", **error("2")),
        transaction("4", messages=[{"code": "253", "description": "Held."}]),
    ):
        assert read(answer).network_transaction_id == "NET1"


def test_an_unknown_profile_is_a_stored_method_not_found() -> None:
    assert read(failure("E00040")).decline_code == "stored_method_not_found"
    assert read(failure("E00040"), kind="refund").decline_code == "transaction_not_found"


def test_a_call_without_a_reply_keeps_its_outcome() -> None:
    for nothing in (NotSent(reason="refused"), Unknown(reason="reset")):
        assert replies.outcome(nothing, REFERENCE) == nothing


@pytest.mark.parametrize("quote", ["'", "&#39;"])
@pytest.mark.parametrize(
    ("field", "secret"),
    [
        ("cardNumber", "4111 1111 1111 1111 111"),
        ("cardCode", "98765"),
        ("transactionKey", "a-key'with-a-quote-in"),
    ],
)
def test_a_secret_quoted_in_a_schema_error_is_removed(quote: str, field: str, secret: str) -> None:
    text = (
        f"The 'AnetApi/xml/v1/schema/AnetApiSchema.xsd:{field}' element is invalid - The value "
        f"{quote}{secret}{quote} is invalid according to its datatype 'String' - The actual "
        "length is greater than the MaxLength value."
    )
    answer = failure("E00003")
    answer["messages"]["message"][0]["text"] = text
    outcome = expect(Rejected, read(answer))
    assert secret not in outcome.message
    assert field in outcome.message
    assert outcome.message.endswith("MaxLength value.")


def test_a_card_number_in_any_text_is_masked() -> None:
    for number in (VISA, "4111-1111-1111-1111", "4111 1111 1111 1111", "378282246310005"):
        outcome = read(transaction("3", transId="0", **error("6", f"Bad card {number}!")))
        assert outcome.message == "Bad card (number)!"
