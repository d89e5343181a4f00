"""Subscriptions in XML: every reply fits the schema and has the same data as in JSON."""

from simulator import xml_client
from simulator.subscriber import Subscriber


def test_subscription_requests_in_xml_match_json(subscriber: Subscriber) -> None:
    shop = subscriber.shop
    interval = {"length": "1", "unit": "months"}
    said = {
        "name": "Gold & more",
        "paymentSchedule": {
            "interval": interval,
            "startDate": "2027-01-11",
            "totalOccurrences": "3",
            "trialOccurrences": "1",
        },
        "amount": "10.00",
        "trialAmount": "1.00",
        "payment": {"creditCard": {"cardNumber": "4111111111111111", "expirationDate": "2027-02"}},
        "order": {"invoiceNumber": "sub-1"},
        "customer": {"id": "c-1"},
        "billTo": {"firstName": "Jane", "lastName": "Doe"},
        "shipTo": {"address": "1 Main St"},
    }
    made = xml_client.call(shop, "ARBCreateSubscriptionRequest", subscription=said)
    number = made.findtext("subscriptionId", "")
    assert made.findtext("profile/customerAddressId", "").isdigit()
    one = {"subscriptionId": number}
    again = xml_client.call(shop, "ARBCreateSubscriptionRequest", subscription=said)
    assert xml_client.error(again)[0] == "E00012"
    subscriber.drive("2027-03-12T18:00:00Z")

    status = xml_client.call(shop, "ARBGetSubscriptionStatusRequest", **one)
    assert status.findtext("status") == "suspended"
    assert status.findtext("Status") == "suspended"
    assert status.get("note") == "Status with a capital 'S' is obsolete."
    told = xml_client.call(shop, "ARBGetSubscriptionRequest", **one, includeTransactions="true")
    assert told.findtext("subscription/name") == "Gold & more"
    assert told.findtext("subscription/trialAmount") == "1.00"
    assert told.findtext("subscription/profile/shippingProfile/address") == "1 Main St"
    card = told.find("subscription/profile/paymentProfile/payment/creditCard")
    assert card is not None
    assert card.findtext("cardNumber") == "XXXX1111"
    paid = told.findall("subscription/arbTransactions/arbTransaction")
    assert [each.findtext("payNum") for each in paid] == ["1", "2", "3"]
    assert paid[-1].findtext("response") == "The credit card has expired."
    details = xml_client.call(
        shop, "getTransactionDetailsRequest", transId=paid[0].findtext("transId")
    )
    assert details.findtext("transaction/subscription/id") == number
    assert details.findtext("transaction/recurringBilling") == "true"

    card_again = {"creditCard": {"cardNumber": "4111111111111111", "expirationDate": "2030-02"}}
    total = {"totalOccurrences": "4"}
    changes = {"paymentSchedule": total, "payment": card_again}
    changed = xml_client.call(shop, "ARBUpdateSubscriptionRequest", **one, subscription=changes)
    assert changed.findtext("profile/customerProfileId") == made.findtext(
        "profile/customerProfileId"
    )
    listed = xml_client.call(shop, "ARBGetSubscriptionListRequest", searchType="subscriptionActive")
    assert listed.findtext("totalNumInResultSet") == "1"
    row = listed.find("subscriptionDetails/subscriptionDetail")
    assert row is not None
    assert (row.findtext("id"), row.findtext("pastOccurrences")) == (number, "3")
    for expected in ("I00001", "I00002"):
        cancelled = xml_client.call(shop, "ARBCancelSubscriptionRequest", **one)
        assert cancelled.findtext("messages/message/code") == expected
