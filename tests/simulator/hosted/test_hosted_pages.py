"""Hosted pages: tokens, and the payment page as a browser sees it."""

import html
import re
from importlib.resources import files
from typing import Any

import httpx
import msgspec
import pytest

from authorizenet_simulator.hosted import page_settings
from simulator import xml_client
from simulator.customers import code, stored
from simulator.durable import Durable
from simulator.merchant_client import VISA, Merchant, Process, card
from simulator.parts import bank

PAGE = "/payment/payment"


class Browser:
    """Fills in and submits forms."""

    def __init__(self, process: Process) -> None:
        self._client = process.client

    def open(self, token: str, path: str = PAGE) -> httpx.Response:
        return self._client.post(path, data={"token": token})

    def submit(self, page: httpx.Response, form: int = 0, **typed: str) -> httpx.Response:
        """Submit a form of the page with its hidden fields, its values and typed input."""
        found = re.findall(r'<form method="post" action="([^"]*)".*?>(.*?)</form>', page.text)
        action, inside = found[form]
        fields = {}
        for field in re.findall(r"<input ([^>]*)>", inside):
            name, value = re.search(r'name="([^"]*)"', field), re.search(r'value="([^"]*)"', field)
            assert name is not None
            fields[name[1]] = html.unescape(value[1]) if value else ""
        unknown = typed.keys() - fields.keys()
        assert not unknown, unknown
        return self._client.post(action, data=fields | typed)

    def pay(self, page: httpx.Response, number: str = VISA, **typed: str) -> httpx.Response:
        return self.submit(page, cardNumber=number, expirationDate="12/40", **typed)


@pytest.fixture
def browser(shared: Process) -> Browser:
    return Browser(shared)


def setting(name: str, value: Any) -> dict[str, str]:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return {"settingName": name, "settingValue": text}


def ask(shop: Merchant, *settings: dict[str, str], **transaction: Any) -> dict[str, Any]:
    """Send a getHostedPaymentPageRequest for a sale."""
    asked = {"transactionType": "authCaptureTransaction", "amount": "12.50", **transaction}
    return shop.call(
        "getHostedPaymentPageRequest",
        refId="order-17",
        transactionRequest=asked,
        hostedPaymentSettings={"setting": list(settings)},
    )


def test_a_payer_pays_once_and_gets_a_link_to_the_shop(shop: Merchant, browser: Browser) -> None:
    back = {"url": "https://shop.example/done?a=1&b=2", "urlText": "Back to <us>"}
    answer = ask(
        shop,
        setting("hostedPaymentReturnOptions", back),
        setting("hostedPaymentOrderOptions", {"show": True, "merchantName": "Tom & Jerry"}),
        setting("hostedPaymentButtonOptions", {"text": "Pay now"}),
        order={"invoiceNumber": "inv-17", "description": "<b>two</b> books"},
        billTo={"firstName": "Jane", "lastName": '"Doe"'},
    )
    page = browser.open(answer["token"])
    assert page.status_code == 200
    assert "12.50" in page.text
    assert "inv-17" in page.text
    assert "Tom &amp; Jerry" in page.text
    assert "&lt;b&gt;two&lt;/b&gt; books" in page.text
    assert "Pay now</button>" in page.text
    assert shop.truth() == []
    receipt = browser.pay(page, cardCode="900", zip="46203")
    (row,) = shop.truth()
    assert (row["amount"], row["invoice_number"]) == ("12.50", "inv-17")
    assert row["trans_id"] in receipt.text
    assert "XXXX1111" in receipt.text
    assert VISA not in receipt.text
    shown = 'href="https://shop.example/done?a=1&amp;b=2" rel="noreferrer">Back to &lt;us&gt;</a>'
    assert shown in receipt.text
    told = shop.details(row["trans_id"])
    assert told["billTo"] == {"firstName": "Jane", "lastName": '"Doe"', "zip": "46203"}
    assert (told["AVSResponse"], told["cardCodeResponse"]) == ("E", "M")
    report = shop.call("getTransactionDetailsRequest", transId=row["trans_id"])
    assert report["transrefId"] == "order-17"

    again = browser.pay(page, number="5424000000000015")
    assert (again.status_code, "has been used" in again.text) == (410, True)
    assert browser.open(answer["token"]).status_code == 410
    assert len(shop.truth()) == 1


def test_the_pages_run_no_script_and_load_nothing(shop: Merchant, browser: Browser) -> None:
    page = browser.open(ask(shop)["token"])
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "form-action 'self'; base-uri 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in page.headers
    for forbidden in ("<script", "javascript:", "onclick", "src=", "@import", "url(", "style="):
        assert forbidden not in page.text


def test_after_a_declined_card_another_can_be_tried(shop: Merchant, browser: Browser) -> None:
    page = browser.open(ask(shop, transactionType="authOnlyTransaction")["token"])
    declined = browser.pay(page, zip="46282")
    assert "This transaction has been declined." in declined.text
    bad = browser.pay(declined, number="4111 1111 1111 1112", zip="")
    assert "The credit card number is invalid." in bad.text
    typo = browser.submit(bad, cardNumber="41", expirationDate="12/40", firstName="Jane")
    assert "badly formatted" in typo.text
    assert 'name="firstName" value="Jane"' in typo.text
    good = browser.pay(typo, number="4111 1111 1111 1111")
    assert "This transaction has been approved." in good.text
    assert [row["status"] for row in shop.truth()] == ["declined", "authorizedPendingCapture"]


def test_without_a_receipt_the_browser_is_redirected(shop: Merchant, browser: Browser) -> None:
    back = {"showReceipt": False, "url": "https://shop.example:8443/done"}
    page = browser.open(ask(shop, setting("hostedPaymentReturnOptions", back))["token"])
    assert (
        "form-action 'self' https://shop.example:8443;" in page.headers["content-security-policy"]
    )
    gone = browser.pay(page)
    assert (gone.status_code, gone.headers["location"]) == (303, "https://shop.example:8443/done")
    assert len(shop.truth()) == 1


def test_the_page_takes_a_bank_account_if_enabled(shop: Merchant, browser: Browser) -> None:
    both = {"showCreditCard": True, "showBankAccount": True}
    page = browser.open(ask(shop, setting("hostedPaymentPaymentOptions", both))["token"])
    receipt = browser.submit(page, form=1, **bank()["bankAccount"])
    assert "eCheck XXXX5678" in receipt.text
    assert "12345678" not in receipt.text


def test_a_held_payment_cannot_be_paid_again(shop: Merchant, browser: Browser) -> None:
    shop.settings(held_above="1.00")
    page = browser.open(ask(shop)["token"])
    assert "under review" in browser.pay(page).text
    assert browser.pay(page).status_code == 410
    assert len(shop.truth()) == 1


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (setting("hostedPaymentReturnOptions", "no json"), "E00013"),
        (setting("hostedPaymentReturnOptions", "[]"), "E00013"),
        (setting("hostedPaymentReturnOptions", {"url": "javascript:alert(1)"}), "E00013"),
        (setting("hostedPaymentReturnOptions", {"url": "//shop.example"}), "E00013"),
        (setting("hostedPaymentReturnOptions", {"url": "https://a.b; script-src *"}), "E00013"),
        (setting("hostedPaymentReturnOptions", {"url": "https://a;script-src/"}), "E00013"),
        (setting("hostedPaymentReturnOptions", {"cancelUrl": "data:text/html,x"}), "E00013"),
        (setting("hostedPaymentIFrameCommunicatorUrl", "https://shop.example"), "E00013"),
        (setting("hostedPaymentColour", {}), "E00013"),
        (setting("hostedProfileReturnUrl", "https://shop.example"), "E00013"),
    ],
)
def test_invalid_settings_are_rejected(shop: Merchant, bad: dict[str, str], expected: str) -> None:
    answer = ask(shop, bad)
    assert (code(answer), "token" in answer) == (expected, False)


@pytest.mark.parametrize(
    ("transaction", "expected"),
    [
        ({"amount": "0.00"}, "E00013"),
        ({"amount": "-1.00"}, "E00013"),
        ({"amount": "1.005"}, "E00013"),
        ({"transactionType": "voidTransaction"}, "E00060"),
    ],
)
def test_an_invalid_payment_gets_no_token(
    shop: Merchant, transaction: dict[str, str], expected: str
) -> None:
    assert code(ask(shop, **transaction)) == expected


def test_a_page_needs_a_valid_token(shared: Process, browser: Browser) -> None:
    for token in ("", "unknown", "<script>"):
        page = browser.open(token)
        assert page.status_code in (400, 404)
        assert "Missing or invalid token" in page.text
        assert "<script>" not in page.text
    assert shared.client.get(PAGE).status_code == 405
    assert shared.client.post(PAGE, content=b"\xff\xfe=1").status_code == 400


def test_a_token_expires_after_fifteen_minutes_and_survives_a_crash(durable: Durable) -> None:
    shop = durable.merchant()
    durable.process.control("/clock", {"now": "2027-01-10T18:00:00Z", "stopped": True})
    paid, open_still = (
        ask(
            shop,
            payment=card(),
            order={"invoiceNumber": f"inv-{n}"},
            customer={"id": "c-1", "taxId": "987654321"},
        )["token"]
        for n in range(2)
    )
    browser = Browser(durable.process)
    browser.pay(browser.open(paid))
    durable.process.kill()
    assert VISA.encode() not in durable.file.read_bytes()
    assert b"987654321" not in durable.file.read_bytes()
    process = durable.restart()
    browser = Browser(process)
    assert browser.open(paid).status_code == 410
    page = browser.open(open_still)
    assert page.status_code == 200
    process.control("/clock", {"advance_s": 899})
    assert browser.open(open_still).status_code == 200
    process.control("/clock", {"advance_s": 1})
    expired = browser.pay(page)
    assert (expired.status_code, "has expired" in expired.text) == (410, True)
    assert len(shop.truth()) == 1
    fresh = ask(shop)["token"]
    process.control("/reset")
    assert browser.open(fresh).status_code == 404


def customer(shop: Merchant) -> str:
    profile_id, _ = stored(shop, billTo={"firstName": "<i>Jane</i>"})
    return profile_id


def manage(shop: Merchant, number: str, *settings: dict[str, str]) -> dict[str, Any]:
    return shop.call(
        "getHostedProfilePageRequest",
        customerProfileId=number,
        hostedProfileSettings={"setting": list(settings)},
    )


def test_a_customer_sees_stored_cards_and_adds_one(shop: Merchant, browser: Browser) -> None:
    number = customer(shop)
    answer = manage(
        shop,
        number,
        setting("hostedProfileReturnUrl", "https://shop.example/account?a=1&b=2"),
        setting("hostedProfileReturnUrlText", "Back"),
        setting("hostedProfileValidationMode", "testMode"),
        setting("hostedProfileCardCodeRequired", "true"),
    )
    page = browser.open(answer["token"], "/customer/manage")
    assert "Visa XXXX1111" in page.text
    assert "&lt;i&gt;Jane&lt;/i&gt;" in page.text
    assert 'href="https://shop.example/account?a=1&amp;b=2" rel="noreferrer">Back' in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    bad = browser.pay(page, number="5424000000000016")
    assert 'class="error"' in bad.text
    added = browser.pay(bad, number="5424 0000 0000 0015", firstName="Jane", lastName="Doe")
    assert "MasterCard XXXX0015" in added.text
    assert "5424000000000015" not in added.text.replace(" ", "")
    again = browser.pay(added, number="5424000000000015", firstName="Jane", lastName="Doe")
    assert "duplicate" in again.text
    profile = shop.call("getCustomerProfileRequest", customerProfileId=number)["profile"]
    assert [each["payment"]["creditCard"]["cardNumber"] for each in profile["paymentProfiles"]] == [
        "XXXX1111",
        "XXXX0015",
    ]
    assert shop.truth() == []


def test_a_profile_page_needs_an_existing_customer(
    shared: Process, shop: Merchant, browser: Browser
) -> None:
    number = customer(shop)
    assert code(manage(shop, "1")) == "E00040"
    assert code(manage(shared.merchant(), number)) == "E00040"
    for name, value in (
        ("hostedProfileReturnUrl", "javascript:alert(1)"),
        ("hostedProfileValidationMode", "oldLiveMode"),
        ("hostedProfileHeadingBgColor", "red;}"),
        ("hostedProfilePageBorderVisible", "maybe"),
        ("hostedPaymentReturnOptions", "{}"),
    ):
        assert code(manage(shop, number, setting(name, value))) == "E00013", name
    token = manage(shop, number)["token"]
    assert browser.open(token).status_code == 404
    assert browser.open(ask(shop)["token"], "/customer/manage").status_code == 404
    assert browser.open(token, "/customer/manage").status_code == 200
    shop.call("deleteCustomerProfileRequest", customerProfileId=number)
    assert browser.open(token, "/customer/manage").status_code == 410


def test_every_page_setting_of_the_schema_is_known() -> None:
    names = page_settings.PAYMENT.keys() | page_settings.PROFILE.keys()
    source = files("authorizenet_simulator").joinpath("data/schema.json").read_bytes()
    known = msgspec.json.decode(source)["simple"]["settingNameEnum"]["enum"]
    assert names == {name for name in known if name.startswith("hosted")}


def test_a_page_can_be_asked_for_in_xml(shop: Merchant, browser: Browser) -> None:
    back = {"settingName": "hostedPaymentReturnOptions", "settingValue": '{"url":"https://a.b"}'}
    made = xml_client.call(
        shop,
        "getHostedPaymentPageRequest",
        transactionRequest={"transactionType": "authCaptureTransaction", "amount": "5.00"},
        hostedPaymentSettings={"setting": [back]},
    )
    assert "5.00" in browser.open(made.findtext("token", "")).text
