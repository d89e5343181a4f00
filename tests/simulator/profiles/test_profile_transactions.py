"""The older way to charge a profile: createCustomerProfileTransactionRequest."""

from typing import Any

from simulator.customers import Older, message
from simulator.merchant_client import Merchant, Process, card

APPROVED = "This transaction has been approved."


def test_the_direct_response_has_68_fields(shop: Merchant) -> None:
    answer = Older(shop).sale()
    assert list(answer) == ["directResponse", "messages"]
    told = answer["directResponse"].split(",")
    assert len(told) == 68
    assert told[:4] == ["1", "1", "1", APPROVED]
    assert len(told[4]) == 6
    assert told[7:12] == ["o-1", "d", "10.00", "CC", "auth_capture"]
    assert told[13:20] == ["Ada", "King", "", "1 Mill Rd", "", "", "98004"]
    assert told[23] == "ada@example.com"
    assert (told[32], told[36], told[38], told[39]) == ("1.25", "po-1", "M", "2")
    assert told[50:52] == ["XXXX1111", "Visa"]
    details = shop.details(told[6])
    assert details["order"]["invoiceNumber"] == "o-1"
    assert details["lineItems"][0]["name"] == "one"
    assert details["profile"]["customerProfileId"]


def test_the_older_request_has_every_transaction_type(shop: Merchant, shared: Process) -> None:
    older = Older(shop)

    def told(name: str, **fields: Any) -> list[str]:
        answer = older.send(name, **fields)
        assert message(answer)[0] == "I00001", answer
        found: list[str] = answer["directResponse"].split(",")
        return found

    held = told("profileTransAuthOnly", amount="10.00", **older.ids)[6]
    captured = told("profileTransPriorAuthCapture", amount="4.00", **older.ids, transId=held)
    assert (captured[6], captured[11]) == (held, "prior_auth_capture")
    other = told("profileTransCaptureOnly", amount="2.00", **older.ids, approvalCode="ABC123")
    assert (other[4], other[11]) == ("ABC123", "capture_only")
    assert told("profileTransVoid", transId=other[6])[11] == "void"
    shared.control("/settle")
    through_profile = told("profileTransRefund", amount="1.00", **older.ids, transId=held)
    by_mask = told(
        "profileTransRefund", amount="2.00", creditCardNumberMasked="XXXX1111", transId=held
    )
    assert (through_profile[11], by_mask[11]) == ("credit", "credit")
    too_much = older.send("profileTransRefund", amount="3.00", **older.ids, transId=held)
    assert message(too_much) == (
        "E00027",
        "The sum of credits against the referenced transaction would exceed original debit amount.",
    )
    assert [(row["type"], row["amount"]) for row in shop.truth()] == [
        ("authOnlyTransaction", "10.00"),
        ("priorAuthCaptureTransaction", "4.00"),
        ("captureOnlyTransaction", "2.00"),
        ("voidTransaction", "2.00"),
        ("refundTransaction", "1.00"),
        ("refundTransaction", "2.00"),
    ]


def test_a_decline_is_an_error_with_the_reasons_text(shop: Merchant) -> None:
    answer = Older(shop, billTo={"zip": "46282"}, payment=card()).sale()
    assert message(answer) == ("E00027", "This transaction has been declined.")
    told = answer["directResponse"].split(",")
    assert told[:3] == ["2", "1", "2"]
    assert shop.status(told[6]) == "declined"


def test_extra_options_apply(shop: Merchant) -> None:
    older = Older(shop)
    first = older.sale()["directResponse"].split(",")[6]
    again = older.sale("x_duplicate_window=600&x_delim_char=|&x_encap_char=%22")
    assert message(again) == ("E00027", "A duplicate transaction has been submitted.")
    told = again["directResponse"].split("|")
    assert (len(told), told[2], told[6]) == (68, '"11"', f'"{first}"')
    assert message(older.sale("x_duplicate_window=0"))[0] == "I00001"
    pretended = older.sale("x_test_request=TRUE", invoice="o-2")["directResponse"].split(",")
    assert pretended[3:7] == [f"(TESTMODE) {APPROVED}", "000000", "P", "0"]
    assert len(shop.truth()) == 2


def test_unknown_ids_are_e00040(shop: Merchant) -> None:
    older = Older(shop)
    good = dict(older.ids)
    for name in good:
        older.ids = {**good, name: "1"}
        answer = older.sale()
        assert message(answer) == (
            "E00040",
            "Customer Profile ID or Customer Payment Profile ID not found.",
        )
        assert "directResponse" not in answer
    older.ids = {**good, "customerShippingAddressId": "1"}
    assert message(older.sale()) == ("E00040", "Cannot find the specified shipping address.")
    refund = older.send(
        "profileTransRefund", amount="1.00", creditCardNumberMasked="XXXX1111", transId="2235494048"
    )
    assert message(refund) == ("E00040", "The record cannot be found.")
    assert shop.truth() == []


def test_a_refund_of_another_profiles_charge_is_e00051(shop: Merchant, shared: Process) -> None:
    one, other = Older(shop), Older(shop, email="b@example.com", payment=card("5424000000000015"))
    sale = one.sale()["directResponse"].split(",")[6]
    shared.control("/settle")
    answer = other.send("profileTransRefund", amount="1.00", **other.ids, transId=sale)
    assert message(answer)[0] == "E00051"
    assert len(shop.truth()) == 1
