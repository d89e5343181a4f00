"""For each code that a client can get: a request that raises it."""

from collections.abc import Callable
from typing import Any

import msgspec

from simulator import xml_client
from simulator.customers import BILL_TO, SHIP_TO, add_payment, charge, stored, through
from simulator.merchant_client import BOM, VISA, WIRE, Merchant, card, card_sale
from simulator.parts import MASTERCARD, PAYPAL, nonce
from simulator.subscriber import plan

Answer = dict[str, Any]
Case = tuple[Callable[[Merchant], Answer], str]
"""The request, and the expected text; '{id}' in it is the id in the reply."""
RAISED: dict[str, Case] = {}
START = "2040-02-01"
"""Start date of the table's subscriptions; it must be in the future."""


def raises(code: str, text: str) -> Callable[[Callable[[Merchant], Answer]], None]:
    """Add a function to the table."""

    def put(act: Callable[[Merchant], Answer]) -> None:
        RAISED[code] = (act, text)

    return put


def entry(code: str, text: str, method: str, /, **body: Any) -> None:
    """Add a request to the table that needs no preparation."""
    RAISED[code] = (lambda shop: shop.call(method, **body), text)


def sale(shop: Merchant, amount: str = "1.00", **more: Any) -> Answer:
    """Return the whole reply to a card sale; `more` in the order of the schema."""
    return shop.transaction(**card_sale(amount) | more)


def raw(shop: Merchant, content: bytes, kind: str = "application/json") -> Answer:
    reply = shop.process.client.post(WIRE, content=content, headers={"content-type": kind})
    return msgspec.json.decode(reply.content.removeprefix(BOM), type=dict[str, Any])


def posing_as(shop: Merchant, **credentials: str) -> Answer:
    return shop.call("authenticateTestRequest", merchantAuthentication=credentials)


# The whole request ------------------------------------------------------------------------------

RAISED["I00001"] = sale, "Successful."
entry("I00004", "No records found.", "getUnsettledTransactionListRequest")
RAISED["E00001"] = (
    lambda shop: raw(shop, b"{"),
    "Error reading JToken from JsonReader. Path '', line 0, position 0.",
)
RAISED["E00002"] = (
    lambda shop: raw(shop, b"{}", "text/plain"),
    "The content-type specified is not supported.",
)
entry(
    "E00003",
    "The 'AnetApi/xml/v1/schema/AnetApiSchema.xsd:refId' element is invalid - The value"
    " &#39;123456789012345678901&#39; is invalid according to its datatype 'String' - The actual"
    " length is greater than the MaxLength value.",
    "authenticateTestRequest",
    refId="123456789012345678901",
)
entry("E00004", "The name of the requested API method is invalid.", "createPaymentRequest")
RAISED["E00005"] = (
    lambda shop: posing_as(shop, name=shop.login),
    "The transaction key or API key is invalid or not present.",
)
RAISED["E00006"] = (
    lambda shop: posing_as(shop, transactionKey="key-of-the-shop"),
    "The API user name is invalid or not present.",
)
RAISED["E00007"] = (
    lambda shop: posing_as(shop, name=shop.login, transactionKey="another"),
    "User authentication failed due to invalid authentication values.",
)
RAISED["E00059"] = (
    lambda shop: posing_as(
        shop, name=shop.login, clientKey=shop.call("getMerchantDetailsRequest")["publicClientKey"]
    ),
    "The authentication type is not allowed for this method call.",
)


@raises("E00045", "The root node does not reference a valid XML namespace.")
def no_namespace(shop: Merchant) -> Answer:
    root = xml_client.parse(xml_client.post(shop.process, "<isAliveRequest/>"))
    said = {name: root.findtext(f"messages/message/{name}", "") for name in ("code", "text")}
    return {"messages": {"resultCode": root.findtext("messages/resultCode"), "message": [said]}}


def without(setting: str, *off: Any, method: str = "authenticateTestRequest", **body: Any) -> Any:
    def ask(shop: Merchant) -> Answer:
        shop.settings(**{setting: list(off) if off else False})
        return shop.call(method, **body)

    return ask


RAISED["E00008"] = (
    without("switched_off", "account"),
    "User authentication failed. The account or API user is inactive.",
)
RAISED["E00010"] = (
    without("switched_off", "api"),
    "User authentication failed. You do not have the appropriate permissions.",
)
RAISED["E00011"] = (
    without("reporting", method="getUnsettledTransactionListRequest"),
    "Access denied. You do not have the appropriate permissions.",
)
RAISED["E00025"] = (
    without("switched_off", "arb", method="ARBGetSubscriptionStatusRequest", subscriptionId="1"),
    "Automated Recurring Billing is not enabled.",
)
RAISED["E00044"] = (
    without("switched_off", "cim", method="getCustomerProfileIdsRequest"),
    "Customer Information Manager is not enabled.",
)


@raises("E00009", "The payment gateway account is in Test Mode. The request cannot be processed.")
def in_test_mode(shop: Merchant) -> Answer:
    shop.settings(test_mode=True)
    return shop.call("ARBCreateSubscriptionRequest", subscription=plan(START))


def ordered(kind: str, **fields: Any) -> Callable[[Merchant], Answer]:
    """Inject a fault and send a valid request."""

    def meet(shop: Merchant) -> Answer:
        shop.fault(kind, count=1, **fields)
        return shop.call("authenticateTestRequest")

    return meet


RAISED["E00049"] = (
    ordered("code_after", code="E00049"),
    "The operation timed out before it could be completed.",
)
RAISED["E00053"] = ordered("busy"), "Server too busy"
RAISED["E00104"] = ordered("maintenance"), "Server in maintenance"


def login_of(device: str, *activation: str) -> Callable[[Merchant], Answer]:
    """Register a device once for each activation, then log in."""

    def log_in(shop: Merchant) -> Answer:
        for each in activation:
            said = {"mobileDeviceId": device, "deviceActivation": each}
            shop.call("mobileDeviceRegistrationRequest", mobileDevice=said)
        credentials = {**shop.credentials, "mobileDeviceId": device}
        return shop.call("mobileDeviceLoginRequest", merchantAuthentication=credentials)

    return log_in


entry(
    "I00006",
    "The mobile device is approved and ready for use.",
    "mobileDeviceRegistrationRequest",
    mobileDevice={"mobileDeviceId": "phone-1"},
)
RAISED["E00054"] = (
    login_of("phone-2"),
    "The mobile device is not registered with this merchant account.",
)
RAISED["E00056"] = (
    login_of("phone-3", "Enable", "Disable"),
    "The mobile device has been disabled for use with this account.",
)

# Transactions and lists -------------------------------------------------------------------------

RAISED["E00027"] = lambda shop: sale(shop, "0.00"), "The transaction was unsuccessful."
RAISED["E00060"] = (
    lambda shop: sale(shop, transactionType="chargeTransaction"),
    "The transaction type is invalid.",
)
entry("E00040", "The record cannot be found.", "getTransactionDetailsRequest", transId="1")


@raises("E00114", "Invalid OTS Token.")
def a_nonce_twice(shop: Merchant) -> Answer:
    payment = {"opaqueData": nonce(shop)}
    sale(shop, payment=payment)
    return sale(shop, payment=payment)


RAISED["E00116"] = (
    lambda shop: sale(shop.process.merchant(), payment={"opaqueData": nonce(shop)}),
    "OTS Token access violation",
)
RAISED["E00117"] = (
    lambda shop: sale(shop, payment={"opaqueData": nonce(shop) | {"dataValue": "none"}}),
    "OTS Service Error 'Field validation error.'",
)


def billed_to(**bill_to: str) -> Callable[[Merchant], Answer]:
    def buy(shop: Merchant) -> Answer:
        shop.settings(places_checked=True)
        return sale(shop, billTo=bill_to)

    return buy


RAISED["E00082"] = billed_to(country="Utopia"), "Country for Bill-To is not valid."
RAISED["E00085"] = billed_to(state="BC", country="US"), "State for Bill-To is not valid."

# Customer profiles ------------------------------------------------------------------------------

PROFILE = "createCustomerProfileRequest"


def with_card(number: str = VISA, **more: Any) -> dict[str, Any]:
    return {"email": "ada@example.com", "paymentProfiles": {"payment": card(number)} | more}


entry("E00014", "A required field is not present.", PROFILE, profile=with_card() | {
    "paymentProfiles": {"customerType": "individual"}})  # fmt: skip
entry("E00015", "The field length is invalid for Card Number.", PROFILE, profile=with_card("4111"))
entry("E00041", "One or more fields in the profile must contain a value.", PROFILE, profile={})
entry("E00042", "You cannot add more than 10 payment profiles.", PROFILE, profile={
    "email": "a@example.com",
    "paymentProfiles": [{"billTo": {"zip": str(n)}, "payment": card()} for n in range(11)],
})  # fmt: skip
entry("E00043", "You cannot add more than 100 shipping addresses.", PROFILE, profile={
    "email": "a@example.com", "shipToList": [{"zip": str(n)} for n in range(101)]})  # fmt: skip


@raises("E00039", "A duplicate record with ID {id} already exists.")
def the_same_customer_twice(shop: Merchant) -> Answer:
    profile_id, _ = stored(shop)
    return shop.call(PROFILE, profile={"email": "ada@example.com"}) | {"id": profile_id}


def with_profile(*beside: str, **named: Any) -> Callable[[Merchant], Answer]:
    """A sale with a stored profile and the parts `beside` it, in schema order."""
    parts = {"payment": card(), "billTo": BILL_TO, "shipTo": SHIP_TO}

    def buy(shop: Merchant) -> Answer:
        profile_id, payment_id = stored(shop)
        profile = {
            key: value.format(customer=profile_id) if isinstance(value, str) else value
            for key, value in named.items()
        } or through(profile_id, payment_id)
        said: dict[str, Any] = {"transactionType": "authCaptureTransaction", "amount": "1.00"}
        if "payment" in beside:
            said["payment"] = parts["payment"]
        said["profile"] = profile
        said |= {name: parts[name] for name in beside if name != "payment"}
        return shop.transaction(**said)

    return buy


ALONE = {"customerProfileId": "{customer}"}
RAISED["E00088"] = (
    with_profile("payment", createProfile=True, **ALONE),
    "ProfileIds cannot be sent when requesting CreateProfile.",
)
RAISED["E00089"] = (
    with_profile(createProfile=True),
    "Payment data is required when requesting CreateProfile.",
)
RAISED["E00090"] = (with_profile("payment"), "PaymentProfile cannot be sent with payment data.")
RAISED["E00092"] = (
    with_profile("shipTo", **ALONE, shippingProfileId="1"),
    "ShippingProfileId cannot be sent with ShipTo data.",
)
RAISED["E00093"] = (with_profile("billTo"), "PaymentProfile cannot be sent with billing data.")
RAISED["E00095"] = (
    with_profile("payment", **ALONE),
    "ShippingProfileId is not provided within Customer Profile.",
)
RAISED["E00098"] = (
    with_profile("payment", **ALONE, shippingProfileId="1"),
    "Customer Profile ID or Shipping Profile ID not found.",
)
RAISED["E00121"] = with_profile(**ALONE), "No default payment/shipping profile found."


@raises("E00051", "The original transaction was not issued for this payment profile.")
def a_refund_to_somebody_else(shop: Merchant) -> Answer:
    paid = shop.charge(number=MASTERCARD)["transId"]
    profile_id, payment_id = stored(shop)
    refund = {
        "transactionType": "refundTransaction",
        "amount": "1.00",
        "profile": through(profile_id, payment_id),
        "refTransId": paid,
    }
    return shop.transaction(**refund)


def consent_to(shop: Merchant, trans_id: str) -> None:
    """Continue a PayPal payment with the payer's consent."""
    told = shop.transact(transactionType="getDetailsTransaction", refTransId=trans_id)
    shop.transact(
        transactionType="authCaptureContinueTransaction",
        payment={"payPal": {"payerID": told["secureAcceptance"]["PayerID"]}},
        refTransId=trans_id,
    )


def profile_of(**charged: Any) -> Callable[[Merchant], Answer]:
    """A customer profile created from a transaction."""
    customer = charged.pop("named", {"email": "ada@example.com"})

    def make(shop: Merchant) -> Answer:
        paid = shop.charge(**charged)
        if paid["responseCode"] == "5":
            consent_to(shop, paid["transId"])
        return shop.call(
            "createCustomerProfileFromTransactionRequest",
            transId=paid["transId"],
            **({"customer": customer} if customer else {}),
        )

    return make


FAILED = "Customer profile creation failed."
RAISED["E00099"] = profile_of(amount="0.00"), f"{FAILED} This transaction ID is invalid."
RAISED["E00100"] = (
    profile_of(kind="refundTransaction"),
    f"{FAILED} This transaction type does not support profile creation.",
)
RAISED["E00101"] = profile_of(billTo={"zip": "46282"}), FAILED
RAISED["E00102"] = profile_of(named=None), "Customer Info is missing."
RAISED["E00103"] = (
    profile_of(payment=PAYPAL),
    f"{FAILED} This payment method does not support profile creation.",
)


# Codes with more than one text ------------------------------------------------------------------


def stored_twice(shop: Merchant) -> Answer:
    profile_id, _ = stored(shop)
    same = {"billTo": BILL_TO, "payment": card()}
    return add_payment(shop, profile_id, same)


def nobodys_card(shop: Merchant) -> Answer:
    profile_id, _ = stored(shop)
    return charge(shop, through(profile_id, "1"))


def nobodys_address(shop: Merchant) -> Answer:
    profile_id, _ = stored(shop)
    address = {"city": "Oslo", "customerAddressId": "1"}
    return shop.call(
        "updateCustomerShippingAddressRequest", customerProfileId=profile_id, address=address
    )


ALSO: list[tuple[str, Callable[[Merchant], Answer], str]] = [
    ("E00039", stored_twice, "A duplicate customer payment profile already exists."),
    ("E00040", nobodys_card, "Customer Profile ID or Customer Payment Profile ID not found."),
    ("E00040", nobodys_address, "Cannot find the specified shipping address."),
]
