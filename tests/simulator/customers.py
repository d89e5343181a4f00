"""Helpers to store a merchant's customers and read the replies."""

from typing import Any

from simulator.merchant_client import Merchant, card

BILL_TO = {"firstName": "Ada", "lastName": "King", "address": "1 Mill Rd", "zip": "98004"}
NO_TRANSACTION = {"SupplementalDataQualificationIndicator": 0}
"""The transactionResponse of an API error."""
SHIP_TO = {"firstName": "Ada", "lastName": "King", "address": "2 Dock St", "zip": "98005"}


def stored(shop: Merchant, email: str = "ada@example.com", **payment: Any) -> tuple[str, str]:
    """Store a customer with a card; return customer profile id and payment profile id."""
    profile = {"email": email, "paymentProfiles": {"billTo": BILL_TO, "payment": card(), **payment}}
    answer = shop.call("createCustomerProfileRequest", profile=profile)
    assert message(answer) == ("I00001", "Successful.")
    return answer["customerProfileId"], answer["customerPaymentProfileIdList"][0]


def add_payment(
    shop: Merchant, profile_id: str, profile: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """The answer to a request for one more payment profile."""
    asked = {"customerProfileId": profile_id, "paymentProfile": profile, **more}
    return shop.call("createCustomerPaymentProfileRequest", **asked)


def update_payment(
    shop: Merchant, profile_id: str, payment_id: str, profile: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """The answer to a request that changes a payment profile."""
    changed = {**profile, "customerPaymentProfileId": payment_id}
    asked = {"customerProfileId": profile_id, "paymentProfile": changed, **more}
    return shop.call("updateCustomerPaymentProfileRequest", **asked)


def add_address(
    shop: Merchant, profile_id: str, address: dict[str, str] = SHIP_TO, **more: Any
) -> dict[str, Any]:
    """The answer to a request for one more shipping address."""
    asked = {"customerProfileId": profile_id, "address": address, **more}
    return shop.call("createCustomerShippingAddressRequest", **asked)


def code(answer: dict[str, Any]) -> str:
    """Return the code of the whole reply, or the first of several."""
    found: str = answer["messages"]["message"][0]["code"]
    return found


def message(answer: dict[str, Any]) -> tuple[str, str]:
    """Return code and text of the whole reply."""
    (only,) = answer["messages"]["message"]
    return only["code"], only["text"]


def profile_of(shop: Merchant, profile_id: str, **flags: Any) -> dict[str, Any]:
    answer = shop.call("getCustomerProfileRequest", customerProfileId=profile_id, **flags)
    found: dict[str, Any] = answer["profile"]
    return found


def payment_of(shop: Merchant, profile_id: str, payment_id: str, **flags: Any) -> dict[str, Any]:
    answer = shop.call(
        "getCustomerPaymentProfileRequest",
        customerProfileId=profile_id,
        customerPaymentProfileId=payment_id,
        **flags,
    )
    found: dict[str, Any] = answer["paymentProfile"]
    return found


def through(profile_id: str, payment_id: str, **more: Any) -> dict[str, Any]:
    """Return the `profile` of a transactionRequest."""
    return {
        "customerProfileId": profile_id,
        "paymentProfile": {"paymentProfileId": payment_id, **more},
    }


def charge(
    shop: Merchant, profile: dict[str, Any], amount: str = "10.00", **after: Any
) -> dict[str, Any]:
    """Return the whole reply to a sale with a profile; `after` follows it in the request."""
    return shop.transaction(
        transactionType="authCaptureTransaction", amount=amount, profile=profile, **after
    )


class Older:
    """A customer with a card, charged by createCustomerProfileTransactionRequest."""

    def __init__(self, shop: Merchant, **payment: Any) -> None:
        self.shop = shop
        profile_id, payment_id = stored(shop, **payment)
        self.ids = {"customerProfileId": profile_id, "customerPaymentProfileId": payment_id}

    def send(self, name: str, extra: str | None = None, **fields: Any) -> dict[str, Any]:
        options = {} if extra is None else {"extraOptions": extra}
        return self.shop.call(
            "createCustomerProfileTransactionRequest", transaction={name: fields}, **options
        )

    def sale(self, extra: str | None = None, invoice: str = "o-1") -> dict[str, Any]:
        return self.send(
            "profileTransAuthCapture",
            extra,
            amount="10.00",
            tax={"amount": "1.25"},
            lineItems=[{"itemId": "1", "name": "one", "quantity": "1", "unitPrice": "8.75"}],
            **self.ids,
            order={"invoiceNumber": invoice, "description": "d", "purchaseOrderNumber": "po-1"},
            cardCode="900",
        )
