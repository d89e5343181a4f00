"""Every kind of credentials, devices and sessions; requests about the account."""

from typing import Any

import pytest

from simulator.customers import code
from simulator.durable import Durable
from simulator.merchant_client import Merchant, Process

OTHERS: dict[str, Any] = {
    "password": "secret",
    "fingerPrint": {"hashValue": "a", "timestamp": "1"},
    "impersonationAuthentication": {"partnerLoginId": "a", "partnerTransactionKey": "b"},
    "accessToken": "token",
    "clientKey": "key",
    "sessionToken": "nobody's",
}


def ask(shop: Merchant, method: str, credentials: dict[str, Any], **body: Any) -> dict[str, Any]:
    return shop.call(method, merchantAuthentication=credentials, **body)


def session_of(shop: Merchant, device: str = "phone-1") -> str:
    registered = shop.call(
        "mobileDeviceRegistrationRequest", mobileDevice={"mobileDeviceId": device}
    )
    assert code(registered) == "I00006"
    answer = ask(shop, "mobileDeviceLoginRequest", {**shop.credentials, "mobileDeviceId": device})
    assert code(answer) == "I00001"
    token: str = answer["sessionToken"]
    return token


@pytest.mark.parametrize("way", OTHERS)
def test_unsupported_credentials_are_e00007(shop: Merchant, way: str) -> None:
    """The error must not say that a key is missing: the client has sent credentials."""
    said = {"name": shop.login, way: OTHERS[way]}
    assert code(ask(shop, "authenticateTestRequest", said)) == "E00007"
    assert code(ask(shop, "authenticateTestRequest", {way: OTHERS[way]})) == (
        "E00007" if way == "sessionToken" else "E00006"
    )


def test_a_login_without_a_key_is_e00005(shop: Merchant) -> None:
    for said in ({"name": shop.login}, {"name": shop.login, "mobileDeviceId": "phone-1"}):
        assert code(ask(shop, "authenticateTestRequest", said)) == "E00005"


def test_a_client_id_precedes_the_ref_id(shop: Merchant) -> None:
    assert code(shop.call("authenticateTestRequest", clientId="x" * 30, refId="r")) == "I00001"
    assert code(shop.call("authenticateTestRequest", clientId="x" * 31)) == "E00003"
    assert code(shop.call("authenticateTestRequest", refId="r", clientId="x")) == "E00003"


def test_a_session_token_is_valid_until_logout(shop: Merchant) -> None:
    token = session_of(shop)
    for said in (
        {"sessionToken": token},
        {"name": shop.login, "sessionToken": token, "mobileDeviceId": "phone-1"},
    ):
        assert code(ask(shop, "authenticateTestRequest", said)) == "I00001"
    for said in (
        {"name": "easypay-sim", "sessionToken": token},
        {"sessionToken": token, "mobileDeviceId": "phone-2"},
    ):
        assert code(ask(shop, "authenticateTestRequest", said)) == "E00007"
    merchant = ask(shop, "getMerchantDetailsRequest", {"sessionToken": token})
    assert merchant["merchantName"] == shop.login
    assert code(ask(shop, "logoutRequest", {"sessionToken": token})) == "I00001"
    assert code(ask(shop, "authenticateTestRequest", {"sessionToken": token})) == "E00007"
    assert code(ask(shop, "logoutRequest", {"sessionToken": token})) == "E00007"
    assert code(shop.call("logoutRequest")) == "I00001"  # without a session there is nothing to end


def test_only_a_registered_and_enabled_device_may_log_in(shop: Merchant) -> None:
    def log_in() -> str:
        said = {**shop.credentials, "mobileDeviceId": "phone-1"}
        return code(ask(shop, "mobileDeviceLoginRequest", said))

    def register(activation: str) -> str:
        device = {"mobileDeviceId": "phone-1", "deviceActivation": activation}
        return code(shop.call("mobileDeviceRegistrationRequest", mobileDevice=device))

    assert log_in() == "E00054"
    assert register("Activate") == "I00006"
    assert log_in() == "I00001"
    assert register("Disable") == "I00001"
    assert log_in() == "E00056"
    assert code(shop.call("mobileDeviceLoginRequest")) == "I00001"  # no device given


def test_a_session_expires(process: Process) -> None:
    shop = process.merchant()
    token = session_of(shop)
    process.control("/clock", {"advance_s": 12 * 3600 - 60})
    assert code(ask(shop, "authenticateTestRequest", {"sessionToken": token})) == "I00001"
    process.control("/clock", {"advance_s": 120})
    assert code(ask(shop, "authenticateTestRequest", {"sessionToken": token})) == "E00007"


def test_devices_and_sessions_survive_a_kill_but_not_a_reset(durable: Durable) -> None:
    shop = durable.merchant()
    kept, ended = session_of(shop), session_of(shop)
    ask(shop, "logoutRequest", {"sessionToken": ended})
    durable.restart()
    assert code(ask(shop, "authenticateTestRequest", {"sessionToken": kept})) == "I00001"
    assert code(ask(shop, "authenticateTestRequest", {"sessionToken": ended})) == "E00007"
    device = {**shop.credentials, "mobileDeviceId": "phone-1"}
    assert code(ask(shop, "mobileDeviceLoginRequest", device)) == "I00001"
    shop.process.control("/reset", {"login": shop.login})
    assert code(ask(shop, "authenticateTestRequest", {"sessionToken": kept})) == "E00007"
    assert code(ask(shop, "mobileDeviceLoginRequest", device)) == "E00054"


def test_updating_the_merchant_switches_test_mode(shop: Merchant) -> None:
    shop.settings(max_amount="50.00")
    assert code(shop.call("updateMerchantDetailsRequest", isTestMode=True)) == "I00001"
    assert shop.call("getMerchantDetailsRequest")["isTestMode"] is True
    assert shop.charge()["transId"] == "0"
    assert shop.truth() == []
    assert code(shop.call("updateMerchantDetailsRequest", isTestMode="false")) == "I00001"
    assert shop.charge()["transId"] != "0"
    assert shop.charge("51.00")["errors"][0]["errorCode"] == "49"  # other settings are kept


def test_a_receipt_needs_the_accounts_own_transaction(shared: Process, shop: Merchant) -> None:
    def receipt(merchant: Merchant, trans_id: str, email: str = "a@example.com") -> str:
        return code(
            merchant.call(
                "sendCustomerTransactionReceiptRequest",
                transId=trans_id,
                customerEmail=email,
                emailSettings={"setting": [{"settingName": "headerEmailReceipt"}]},
            )
        )

    trans_id = shop.charge()["transId"]
    assert receipt(shop, trans_id) == "I00001"
    assert receipt(shop, trans_id, "nobody") == "E00013"
    assert receipt(shop, "1") == "E00040"
    assert receipt(shared.merchant(), trans_id) == "E00040"


def test_updater_reports_are_empty_and_nothing_can_be_decrypted(shop: Merchant) -> None:
    summary = shop.call("getAUJobSummaryRequest", month="2026-07")
    assert code(summary) == "I00004"
    assert "auSummary" not in summary
    answer = shop.call("getAUJobDetailsRequest", month="2026-07", modifiedTypeFilter="all")
    assert (code(answer), answer["totalNumInResultSet"]) == ("I00004", 0)
    assert code(shop.call("getAUJobSummaryRequest", month="2026-13")) == "E00013"
    data = {"dataDescriptor": "COMMON.VCO.ONLINE.PAYMENT", "dataValue": "b"}
    refused = shop.call("decryptPaymentDataRequest", opaqueData=data, callId="1")
    assert refused["messages"]["message"] == [{"code": "E00013", "text": "Opaque Data is invalid."}]
