"""Customer profiles in XML have the same data as in JSON."""

from simulator.customers import BILL_TO, SHIP_TO, through
from simulator.json_xml_pair import Twins
from simulator.merchant_client import Process, card

MASTER = "5424000000000015"


def test_customer_requests_give_the_same_data_in_both_formats(shared: Process) -> None:
    twins = Twins(shared)
    both = twins.call
    made = both(
        "createCustomerProfileRequest",
        {"customer": "customerProfileId"},
        profile={
            "merchantCustomerId": "m-1",
            "description": "A & <B>",
            "email": "ada@example.com",
            "paymentProfiles": [
                {"customerType": "individual", "billTo": BILL_TO, "payment": card()},
                {"payment": card(MASTER, "01/41"), "defaultPaymentProfile": "true"},
            ],
            "shipToList": [SHIP_TO, {**SHIP_TO, "address": "3 Quay St"}],
        },
        validationMode="testMode",
    )
    assert made == "I00001"
    one = {"customerProfileId": "@customer"}
    assert both("getCustomerProfileRequest", **one, unmaskExpirationDate="true") == "I00001"
    assert both("getCustomerProfileRequest", email="ada@example.com") == "I00001"
    assert both("getCustomerProfileIdsRequest") == "I00001"
    again = {"merchantCustomerId": "m-1", "description": "A & <B>", "email": "ada@example.com"}
    profile = {"email": "grace@example.com", "paymentProfiles": {"payment": card()}}
    both("createCustomerProfileRequest", {"other": "customerPaymentProfileIdList"}, profile=profile)
    payment = {"billTo": BILL_TO, "payment": card("370000000000002")}
    kept = {"payment": "customerPaymentProfileId"}
    assert both("createCustomerPaymentProfileRequest", kept, **one, paymentProfile=payment) == (
        "I00001"
    )
    assert both("createCustomerPaymentProfileRequest", **one, paymentProfile=payment) == "E00039"
    which = {**one, "customerPaymentProfileId": "@payment"}
    assert both("getCustomerPaymentProfileRequest", **which) == "I00001"
    changed = {
        "payment": card("370000000000002", "2041-01"),
        "customerPaymentProfileId": "@payment",
    }
    assert both("updateCustomerPaymentProfileRequest", **one, paymentProfile=changed) == "I00001"
    assert both("validateCustomerPaymentProfileRequest", **which, validationMode="liveMode") == (
        "I00001"
    )
    assert both(
        "getCustomerPaymentProfileListRequest",
        searchType="cardsExpiringInMonth",
        month="2041-01",
        paging={"limit": "10", "offset": "1"},
    ) == ("I00001")
    address = {"address": {**SHIP_TO, "zip": "98006"}}
    kept = {"address": "customerAddressId"}
    assert both("createCustomerShippingAddressRequest", kept, **one, **address) == "I00001"
    assert both("getCustomerShippingAddressRequest", **one, customerAddressId="@address") == (
        "I00001"
    )
    sale = {"transactionType": "authCaptureTransaction", "amount": "5.00"}
    twins.transact("sale", **sale, profile=through("@customer", "@payment"))
    both("getTransactionDetailsRequest", transId="@sale")
    twins.transact(None, **sale, payment=card(MASTER), profile={"createProfile": "true"})
    legacy = {"amount": "6.00", "customerProfileId": "@customer"}
    transaction = {"profileTransAuthOnly": {**legacy, "customerPaymentProfileId": "@payment"}}
    assert both("createCustomerProfileTransactionRequest", transaction=transaction) == "I00001"
    twins.transact("walk_in", **sale, payment=card(), order={"invoiceNumber": "walk-in"})
    assert both(
        "createCustomerProfileFromTransactionRequest",
        transId="@walk_in",
        customer={"email": "walk-in@example.com"},
    ) == ("I00001")
    assert both("deleteCustomerPaymentProfileRequest", **which) == "I00001"
    assert both("deleteCustomerPaymentProfileRequest", **which) == "E00040"
    assert both("updateCustomerProfileRequest", profile={**again, "customerProfileId": "@customer"})
    assert both("deleteCustomerProfileRequest", **one) == "I00001"
    assert both("getCustomerProfileRequest", **one) == "E00040"
