"""Parts of requests, and small requests, that several tests send."""

from typing import Any

from simulator.merchant_client import VISA, Merchant

MASTERCARD = "5424000000000015"
PAYPAL = {"payPal": {"successUrl": "https://shop.example/ok", "cancelUrl": "https://shop.example/"}}
_BANK_ACCOUNT = (
    *("accountType", "routingNumber", "accountNumber", "nameOnAccount", "echeckType"),
    *("bankName", "checkNumber"),
)


def bank(**changes: str) -> dict[str, Any]:
    """Return a bank account as a payment, its fields in the order of the schema."""
    said = {"routingNumber": "121042882", "accountNumber": "12345678", "nameOnAccount": "Jane Doe"}
    said |= changes
    return {"bankAccount": {name: said[name] for name in _BANK_ACCOUNT if name in said}}


def setting(name: str, value: str = "true") -> dict[str, Any]:
    """Return the `transactionSettings` of a transactionRequest with one setting."""
    return {"transactionSettings": {"setting": [{"settingName": name, "settingValue": value}]}}


def nonce(shop: Merchant, number: str = VISA, **more: str) -> dict[str, str]:
    """Return the opaqueData of a card, which can be charged once."""
    token = {"cardNumber": number, "expirationDate": "122040", **more}
    data = {"type": "TOKEN", "id": "11111111-2222-3333-4444-555555555555", "token": token}
    answer = shop.call("securePaymentContainerRequest", data=data)
    assert list(answer) == ["opaqueData", "messages"]
    found: dict[str, str] = answer["opaqueData"]
    assert found["dataDescriptor"] == "COMMON.ACCEPT.INAPP.PAYMENT"
    return found


def review(shop: Merchant, action: str, trans_id: str) -> dict[str, Any]:
    """Return the answer to the approval or decline of a held transaction."""
    asked = {"action": action, "refTransId": trans_id}
    return shop.call("updateHeldTransactionRequest", heldTransactionRequest=asked)


def close(shop: Merchant, split: str, status: str) -> dict[str, Any]:
    """Return the answer to the completion or void of an order with several payments."""
    return shop.call("updateSplitTenderGroupRequest", splitTenderId=split, splitTenderStatus=status)
