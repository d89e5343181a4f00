"""Customer profiles in XML have the same data as in JSON."""

from simulator.customers import BILL_TO, SHIP_TO, through
from simulator.json_xml_pair import Twins
from simulator.merchant_client import Process, card

MASTER = "5424000000000015"


def test_customer_requests_give_the_same_data_in_both_formats(shared: Process) -> None:
    twins = Twins(shared)
    both, done = twins.call, twins.done
    done(
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
    one = {"customerProfileId": "@customer"}
    done("getCustomerProfileRequest", **one, unmaskExpirationDate="true")
    done("getCustomerProfileRequest", email="ada@example.com")
    done("getCustomerProfileIdsRequest")
    again = {"merchantCustomerId": "m-1", "description": "A & <B>", "email": "ada@example.com"}
    profile = {"email": "grace@example.com", "paymentProfiles": {"payment": card()}}
    both("createCustomerProfileRequest", {"other": "customerPaymentProfileIdList"}, profile=profile)
    payment = {"billTo": BILL_TO, "payment": card("370000000000002")}
    kept = {"payment": "customerPaymentProfileId"}
    done("createCustomerPaymentProfileRequest", kept, **one, paymentProfile=payment)
    assert both("createCustomerPaymentProfileRequest", **one, paymentProfile=payment) == "E00039"
    which = {**one, "customerPaymentProfileId": "@payment"}
    done("getCustomerPaymentProfileRequest", **which)
    changed = {
        "payment": card("370000000000002", "2041-01"),
        "customerPaymentProfileId": "@payment",
    }
    done("updateCustomerPaymentProfileRequest", **one, paymentProfile=changed)
    done("validateCustomerPaymentProfileRequest", **which, validationMode="liveMode")
    done(
        "getCustomerPaymentProfileListRequest",
        searchType="cardsExpiringInMonth",
        month="2041-01",
        paging={"limit": "10", "offset": "1"},
    )
    address = {"address": {**SHIP_TO, "zip": "98006"}}
    kept = {"address": "customerAddressId"}
    done("createCustomerShippingAddressRequest", kept, **one, **address)
    done("getCustomerShippingAddressRequest", **one, customerAddressId="@address")
    sale = {"transactionType": "authCaptureTransaction", "amount": "5.00"}
    twins.transact("sale", **sale, profile=through("@customer", "@payment"))
    both("getTransactionDetailsRequest", transId="@sale")
    twins.transact(None, **sale, payment=card(MASTER), profile={"createProfile": "true"})
    legacy = {"amount": "6.00", "customerProfileId": "@customer"}
    transaction = {"profileTransAuthOnly": {**legacy, "customerPaymentProfileId": "@payment"}}
    done("createCustomerProfileTransactionRequest", transaction=transaction)
    twins.transact("walk_in", **sale, payment=card(), order={"invoiceNumber": "walk-in"})
    done(
        "createCustomerProfileFromTransactionRequest",
        transId="@walk_in",
        customer={"email": "walk-in@example.com"},
    )
    done("deleteCustomerPaymentProfileRequest", **which)
    assert both("deleteCustomerPaymentProfileRequest", **which) == "E00040"
    done("updateCustomerProfileRequest", profile={**again, "customerProfileId": "@customer"})
    done("deleteCustomerProfileRequest", **one)
    assert both("getCustomerProfileRequest", **one) == "E00040"
