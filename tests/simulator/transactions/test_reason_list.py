"""The list of reasons: the legacy test card gives each, and a real situation most."""

from collections.abc import Callable
from typing import Any

import pytest

from authorizenet_simulator.wire.codes import REASONS
from simulator.merchant_client import Merchant, card, card_sale
from simulator.parts import PAYPAL, bank, close, review, setting

Response = dict[str, Any]
Situation = Callable[[Merchant], Response]


def said(response: Response) -> tuple[str, int, str]:
    """Return response code, reason and text, from `errors` or `messages`."""
    if response["responseCode"] in ("2", "3"):
        (error,) = response["errors"]
        return response["responseCode"], int(error["errorCode"]), error["errorText"]
    (told,) = response["messages"]
    return response["responseCode"], int(told["code"]), told["description"]


NATURAL = {1, 295, 310, 311, 2000}
"""Reasons with response code 1 or 5, which no amount selects."""
GAPS = {
    33: "Invoice Number cannot be left blank.",
    270: "Line item 1 is invalid.",
    271: "The number of line items submitted is not allowed. A maximum of 30 line items can be"
    " submitted.",
    351: "Employee ID must be 1 to 4 characters in length.",
}
"""The completed texts of the list that have a placeholder."""


def charged(
    amount: str = "10.00", /, before: dict[str, Any] | None = None, **said: Any
) -> Situation:
    """A charge by an account with the settings `before`."""

    def charge(shop: Merchant) -> Response:
        shop.settings(**(before or {}))
        return shop.charge(amount, **said)

    return charge


def opaque(descriptor: str, value: str) -> dict[str, Any]:
    return {"opaqueData": {"dataDescriptor": descriptor, "dataValue": value}}


def asked(kind: str, **fields: Any) -> Situation:
    return lambda shop: shop.transact(transactionType=kind, **fields)


CAPTURE, VOID, REFUND = (f"{kind}Transaction" for kind in ("priorAuthCapture", "void", "refund"))


def after(
    kind: str,
    amount: str | None = None,
    *,
    first: Situation,
    settled: bool = False,
    last4: str = "1111",
) -> Situation:
    """A capture, void or refund of the transaction of `first`, before or after settlement."""

    def do(shop: Merchant) -> Response:
        trans_id = first(shop)["transId"]
        if settled:
            shop.process.control("/settle")
        fields: dict[str, Any] = {} if amount is None else {"amount": amount}
        if kind == REFUND:
            fields["payment"] = card(f"XXXX{last4}", "XXXX")
        return shop.transact(transactionType=kind, **fields, refTransId=trans_id)

    return do


def twice(do: Situation) -> Situation:
    def again(shop: Merchant) -> Response:
        do(shop)
        return do(shop)

    return again


def reviewed(shop: Merchant) -> Response:
    shop.settings(held_above="5.00")
    found: Response = review(shop, "decline", shop.charge()["transId"])["transactionResponse"]
    return found


def part_of(group: str | None = None, **more: str) -> Situation:
    """A charge for the rest of an order; without `group`, of a voided order."""

    def pay(shop: Merchant) -> Response:
        split = group
        if split is None:
            opened = shop.charge("9.00", billTo={"zip": "46225"}, **setting("allowPartialAuth"))
            split = opened["splitTenderId"]
            close(shop, split, "voided")
        return shop.transact(**card_sale("1.00", **more, splitTenderId=split))

    return pay


def authorized(amount: str = "10.00") -> Situation:
    return lambda shop: shop.authorize(amount)


PROOF = {"authenticationIndicator": "05", "cardholderAuthenticationValue": "AAAB"}
SITUATIONS: list[tuple[int, int, Situation]] = [
    (1, 1, charged()),
    (2, 2, charged(billTo={"zip": "46282"})),
    (3, 5, charged("0.00")),
    (3, 5, charged("-1.00")),
    (3, 5, charged("1.001")),
    (3, 6, charged(number="4111111111111112")),
    (3, 6, charged(number="400030001111222")),
    (3, 6, charged(number="1111")),
    (3, 7, charged(expiry="2040-13")),
    (3, 7, charged(expiry="XXXX")),
    (3, 8, charged(expiry="2020-01")),
    (3, 9, charged(payment=bank(routingNumber="121042883"))),
    (3, 9, charged(payment=bank(routingNumber="12104288"))),
    (3, 10, charged(payment=bank(accountNumber="12-34"))),
    (3, 10, charged(payment=bank(accountNumber="12 34"))),
    (3, 11, twice(charged(invoice="a"))),
    (3, 12, charged(kind="captureOnlyTransaction")),
    (3, 15, asked(VOID, refTransId="no-number")),
    (3, 16, asked(VOID, refTransId="1")),
    (3, 17, charged(number="9999999999999995")),
    (3, 17, charged(before={"card_types": ["JCB"]})),
    (3, 18, charged(before={"echeck": False}, payment=bank())),
    (2, 27, charged(before={"avs_reject": ["N"]}, billTo={"zip": "46205"})),
    (3, 39, asked("authCaptureTransaction", amount="1.00", currencyCode="EUR", payment=card())),
    (2, 45, charged(
        before={"avs_reject": ["N"], "cvv_reject": ["N"]}, code="901", billTo={"zip": "46205"}
    )),
    (3, 47, after(CAPTURE, "10.01", first=authorized())),
    (3, 49, charged("10.01", before={"max_amount": "10.00"})),
    (3, 49, charged("100000000.00")),
    (3, 53, charged(kind="captureOnlyTransaction", authCode="A1", payment=bank())),
    (3, 54, after(REFUND, "1.00", first=charged())),
    (3, 54, after(REFUND, "1.00", first=charged(), settled=True, last4="0015")),
    (3, 50, after(REFUND, "1.00", first=charged(before={"unsettled_refund_code": 50}))),
    (3, 55, after(REFUND, "10.01", first=charged(), settled=True)),
    (3, 56, charged(before={"card_types": []})),
    (3, 64, after(CAPTURE, first=charged(kind="authOnlyTransaction", billTo={"zip": "46282"}))),
    (2, 65, charged(before={"cvv_reject": ["N"]}, code="901")),
    (3, 67, charged(kind="captureOnlyTransaction", authCode="A1", payment=PAYPAL)),
    (3, 72, charged(kind="captureOnlyTransaction", authCode="1234567")),
    (3, 84, charged(retail={"marketType": "2"})),
    (3, 85, charged(retail={"marketType": "9", "deviceType": "1"})),
    (3, 85, charged(retail={"marketType": "3"})),
    (3, 88, charged(payment={"trackData": {"track1": "none"}})),
    (3, 89, charged(payment={"trackData": {"track2": "none"}})),
    (3, 116, charged(cardholderAuthentication=PROOF | {"authenticationIndicator": "99"})),
    (3, 117, charged(cardholderAuthentication=PROOF | {"cardholderAuthenticationValue": "-"})),
    (3, 119, charged(cardholderAuthentication=PROOF, **setting("recurringBilling"))),
    (3, 153, charged(payment=opaque("COMMON.APPLE.INAPP.PAYMENT", "-"))),
    (3, 156, charged(
        payment={"creditCard": card()["creditCard"] | {"cryptogram": "AAAB"}},
        cardholderAuthentication=PROOF,
    )),
    (4, 193, charged(kind=REFUND, payment=bank())),
    (3, 243, charged(payment=bank(echeckType="TEL"), **setting("recurringBilling"))),
    (3, 244, charged(payment=bank(accountType="savings", echeckType="ARC", checkNumber="1"))),
    (3, 244, charged(payment=bank(accountType="businessChecking", echeckType="PPD"))),
    (3, 246, charged(before={"echeck_types": ["WEB"]}, payment=bank(echeckType="CCD"))),
    (3, 248, charged(payment=bank(echeckType="BOC"))),
    (3, 248, charged(payment=bank(echeckType="ARC", checkNumber="A1"))),
    (2, 250, charged(before={"blocked_ips": ["192.0.2.7"]}, customerIP="192.0.2.7")),
    (2, 251, charged(before={"held_above": "5.00", "held_action": "decline"})),
    (4, 252, charged(before={"held_above": "5.00", "held_action": "hold"})),
    (4, 253, charged(before={"held_above": "5.00", "held_action": "authAndHold"})),
    (1, 254, reviewed),
    (3, 289, charged("0.00", kind="authOnlyTransaction", number="3088000000000017")),
    (3, 290, charged("0.00", kind="authOnlyTransaction", billTo={"zip": "98004"})),
    (4, 295, charged("9.00", billTo={"zip": "46225"}, **setting("allowPartialAuth"))),
    (3, 296, part_of("123")),
    (3, 297, part_of("123", refTransId="1")),
    (3, 298, part_of()),
    (1, 310, lambda shop: shop.void(after(VOID, first=charged())(shop)["transId"])),
    (1, 311, lambda shop: shop.capture(after(CAPTURE, first=authorized())(shop)["transId"])),
    (3, 327, after(VOID, first=charged(), settled=True)),
    (5, 2000, charged(payment=PAYPAL)),
    (3, 2001, charged(before={"paypal": False}, payment=PAYPAL)),
    (3, 2004, charged(payment={"payPal": {}})),
    (3, 2005, charged(payment={"payPal": {"successUrl": "https://shop.example/ok"}})),
    (3, 2006, after("authCaptureContinueTransaction", first=charged(payment=PAYPAL))),
    (3, 2007, charged("0.00", kind="authOnlyTransaction", payment=PAYPAL)),
    (3, 2008, after("authOnlyContinueTransaction", first=charged())),
    (3, 2009, after("authCaptureContinueTransaction", first=charged())),
]  # fmt: skip
"""Response code, reason, and the situation that causes it."""


def test_the_legacy_test_card_gives_every_reason(shop: Merchant) -> None:
    for number, (response_code, text) in REASONS.items():
        if number in NATURAL:
            continue
        kind = "authCaptureTransaction" if number else "authOnlyTransaction"
        address = {"address": "1 Mill Rd", "zip": "98004"}
        found = shop.charge(f"{number}.00", kind=kind, number="4222222222222", billTo=address)
        assert said(found) == (str(response_code), number, GAPS.get(number, text))


def test_every_reason_without_an_amount_has_a_situation() -> None:
    assert {reason for _, reason, _ in SITUATIONS} >= NATURAL


@pytest.mark.parametrize(("response_code", "reason", "do"), SITUATIONS)
def test_each_situation_gives_its_reason(
    shop: Merchant, response_code: int, reason: int, do: Situation
) -> None:
    found = do(shop)
    assert said(found) == (str(response_code), reason, REASONS[reason][1])
    if response_code == 3:  # an error leaves nothing behind
        assert found["authCode"] == ""
        assert all(row["response_code"] in ("1", "2", "4", "5") for row in shop.truth())


def test_the_completed_text_names_the_missing_field(shop: Merchant) -> None:
    shop.settings(required_fields=["lastName"])
    assert said(shop.charge()) == ("3", 33, "Last Name cannot be left blank.")
    shop.settings(required_fields=[])
    items = {"itemId": "1", "name": "pen", "quantity": "1", "unitPrice": "1.00"}
    assert shop.charge(lineItems={"lineItem": [items] * 30})["responseCode"] == "1"
    assert said(shop.charge(lineItems={"lineItem": [items] * 31})) == ("3", 271, GAPS[271])
