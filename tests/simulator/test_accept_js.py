"""The served Accept.js, run in Node, calls back as documented for Accept.js.

Codes and texts are those of its appendix (developer.authorize.net/api/reference/features).
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from simulator.merchant_client import VISA, WIRE, Merchant

HARNESS = Path(__file__).with_name("accept_js.js")
PATH = "/v1/Accept.js"
CARD = {"cardNumber": VISA, "month": "12", "year": "2040", "cardCode": "900"}
BANK = {
    "accountNumber": "123456789",
    "routingNumber": "121042882",
    "nameOnAccount": "Ada Byron",
    "accountType": "checking",
}
NEEDS_NODE = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@pytest.fixture
def auth(shop: Merchant) -> dict[str, str]:
    """Return the shop's authData."""
    key = shop.call("getMerchantDetailsRequest")["publicClientKey"]
    return {"apiLoginID": shop.login, "clientKey": key}


def dispatch(shop: Merchant, *cases: dict[str, Any], src: str | None = None) -> list[Any]:
    """Run the script for each case; return the arguments of its callbacks."""
    url = f"{shop.process.url}{PATH}"
    orders = {"script": url, "src": src or url, "cases": cases}
    done = subprocess.run(
        ["node", str(HARNESS)], input=json.dumps(orders), capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    return answers


@NEEDS_NODE
def test_a_card_and_a_bank_account_become_tokens_that_can_be_charged(
    shop: Merchant, auth: dict[str, str]
) -> None:
    cases = (
        {"secureData": {"authData": auth, "cardData": CARD}},
        {"secureData": {"authData": auth, "cardData": CARD | {"month": 1, "year": 40}}},
        {"secureData": {"authData": auth, "bankData": BANK}, "named": True},
    )
    for answer in dispatch(shop, *cases):
        assert answer["messages"] == {
            "resultCode": "Ok",
            "message": [{"code": "I_WC_01", "text": "Successful."}],
        }
        assert set(answer) == {"opaqueData", "messages"}
        assert answer["opaqueData"]["dataDescriptor"] == "COMMON.ACCEPT.INAPP.PAYMENT"
        paid = shop.charge(payment={"opaqueData": answer["opaqueData"]})
        assert paid["responseCode"] == "1"


WRONG: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"secure": False}, {"E_WC_02": "A HTTPS connection is required."}),
    ({"card": {"year": ""}}, {"E_WC_04": "Please provide mandatory field to library."}),
    ({"card": {"cardNumber": "4111111111111112"}},
     {"E_WC_05": "Please provide valid credit card number."}),
    ({"card": {"month": "13"}}, {"E_WC_06": "Please provide valid expiration month."}),
    ({"card": {"year": "203"}}, {"E_WC_07": "Please provide valid expiration year."}),
    ({"card": {"year": "2020"}}, {"E_WC_08": "Expiration date must be in the future."}),
    ({"auth": {"apiLoginID": ""}}, {"E_WC_10": "Please provide valid apiLoginID."}),
    ({"card": {"cardCode": "12"}}, {"E_WC_15": "Please provide valid CVV."}),
    ({"card": {"zip": "9" * 21}}, {"E_WC_16": "Please provide valid ZIP code."}),
    ({"card": {"fullName": "A" * 65}}, {"E_WC_17": "Please provide valid card holder name."}),
    ({"auth": {"clientKey": ""}}, {"E_WC_18": "Client Key is required."}),
    ({"auth": {"clientKey": "another"}},
     {"E_WC_21": "User authentication failed due to invalid authentication values."}),
    ({"card": {}, "bank": {}},
     {"E_WC_23": "Please provide either card information or bank information."}),
    ({"bank": {"accountNumber": "1" * 18}}, {"E_WC_24": "Please provide valid account number."}),
    ({"bank": {"routingNumber": "12"}}, {"E_WC_25": "Please provide valid routing number."}),
    ({"bank": {"nameOnAccount": "A" * 23}},
     {"E_WC_26": "Please provide valid account holder name."}),
    ({"bank": {"accountType": "piggy"}}, {"E_WC_27": "Please provide valid account type."}),
    ({"card": {"cardNumber": "1", "month": "x", "cardCode": "y"}},
     {"E_WC_05": "Please provide valid credit card number.",
      "E_WC_06": "Please provide valid expiration month.",
      "E_WC_15": "Please provide valid CVV."}),
]  # fmt: skip


@NEEDS_NODE
def test_errors_have_the_documented_codes_and_texts(shop: Merchant, auth: dict[str, str]) -> None:
    cases = []
    for wrong, _ in WRONG:
        data: dict[str, Any] = {"authData": auth | wrong.get("auth", {})}
        if "bank" in wrong:
            data["bankData"] = BANK | wrong["bank"]
        if "card" in wrong or "bank" not in wrong:
            data["cardData"] = CARD | wrong.get("card", {})
        cases.append({"secureData": data, "secure": wrong.get("secure", True)})
    for (wrong, expected), answer in zip(WRONG, dispatch(shop, *cases), strict=True):
        assert answer == {
            "messages": {
                "resultCode": "Error",
                "message": [{"code": code, "text": text} for code, text in expected.items()],
            }
        }, wrong


@NEEDS_NODE
def test_a_busy_or_unreachable_simulator_is_an_error(shop: Merchant, auth: dict[str, str]) -> None:
    case = {"secureData": {"authData": auth, "cardData": CARD}}
    shop.fault("busy", count=1)
    shop.fault("garbage", count=1)
    codes = [answer["messages"]["message"][0]["code"] for answer in dispatch(shop, case, case)]
    assert sorted(codes) == ["E_WC_14", "E_WC_19"]
    (away,) = dispatch(shop, case, src=f"http://127.0.0.1:1{PATH}")
    assert away["messages"]["message"][0]["text"] == "Accept.js encryption failed."


def test_a_page_of_another_origin_may_only_load_it_and_request_tokens(shop: Merchant) -> None:
    page = {"Origin": "http://shop.example", "Sec-Fetch-Site": "cross-site"}
    client = shop.process.client
    script = client.get(PATH, headers=page)
    assert (script.status_code, script.headers["content-type"]) == (
        200,
        "text/javascript; charset=utf-8",
    )
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    preflight = client.options(WIRE, headers=page | asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert preflight.headers["access-control-allow-headers"] == "content-type"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in preflight.headers
    reply = client.post(WIRE, json={"securePaymentContainerRequest": {}}, headers=page)
    assert reply.headers["access-control-allow-origin"] == "*"
    assert client.get("/simulator/transactions", headers=page).status_code == 403
