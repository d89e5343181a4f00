"""Customer profiles after a crash and a reset, and in the state file."""

import json

from simulator.customers import (
    SHIP_TO,
    add_address,
    add_payment,
    charge,
    message,
    profile_of,
    stored,
    through,
)
from simulator.durable import Durable
from simulator.merchant_client import VISA, card
from simulator.parts import MASTERCARD


def test_profiles_survive_a_kill_and_have_no_card_number(durable: Durable) -> None:
    shop = durable.merchant()
    profile_id, payment_id = stored(
        shop,
        driversLicense={"number": "D1234567", "state": "WA", "dateOfBirth": "1980-02-03"},
        taxId="123456789",
    )
    default = {"payment": card(MASTERCARD), "defaultPaymentProfile": True}
    add_payment(shop, profile_id, default, validationMode="liveMode")
    add_address(shop, profile_id, {**SHIP_TO, "country": f"card {VISA}"})
    gone, _ = stored(shop, "gone@example.com")
    shop.call("deleteCustomerProfileRequest", customerProfileId=gone)
    before = profile_of(shop, profile_id, unmaskExpirationDate=True)
    sale = charge(shop, through(profile_id, payment_id, cardCode="901"))["transactionResponse"]
    durable.process.kill()
    text = durable.file.read_text()
    for secret in (VISA, MASTERCARD, "D1234567", "123456789", "1980-02-03", '"901"'):
        assert secret not in text
    durable.restart()
    assert profile_of(shop, profile_id, unmaskExpirationDate=True) == before
    assert before["paymentProfiles"][0]["taxId"] == "XXXX6789"
    assert before["shipToList"][0]["country"] == "card XXXXXXXXXXXX1111"
    assert shop.details(sale["transId"])["profile"]["customerPaymentProfileId"] == payment_id
    again = charge(shop, through(profile_id, payment_id, cardCode="901"))["transactionResponse"]
    assert again["errors"][0]["errorCode"] == "11"  # the same card as before the crash
    newer, _ = stored(shop, "newer@example.com")
    assert newer > gone > profile_id


def test_a_reset_deletes_profiles_and_reuses_no_id(durable: Durable) -> None:
    process, one, other = durable.process, durable.merchant(), durable.merchant()
    first, kept = stored(one), stored(other)
    process.control("/reset", {"login": one.login})
    assert one.call("getCustomerProfileIdsRequest")["ids"] == []
    assert other.call("getCustomerProfileIdsRequest")["ids"] == [kept[0]]
    second = stored(one)
    assert second > kept > first
    process.control("/reset")
    assert other.call("getCustomerProfileIdsRequest")["ids"] == []
    durable.restart()
    third = stored(one)
    assert third[0] > second[0]
    assert third[1] > second[1]


def test_an_older_state_file_still_has_the_card_and_customer_of_a_charge(durable: Durable) -> None:
    """In it a transaction has no `customer`, and its fingerprint and expiry are one string."""
    shop = durable.merchant()
    profile_id, payment_id = stored(shop)
    through_profile = charge(shop, through(profile_id, payment_id))["transactionResponse"]
    by_card = shop.charge(number=MASTERCARD, customer={"id": "m-2"})
    durable.process.kill()
    events = [json.loads(line) for line in durable.file.read_text().splitlines()]
    for event in events:
        if event[0] == "transaction":
            del event[1][-1]
            details = json.loads(event[1][15])
            event[1][15] = json.dumps(details | {"i": "".join(details["i"])})
    durable.file.write_text("".join(json.dumps(event) + "\n" for event in events))
    durable.restart()
    paid = shop.call("getTransactionListForCustomerRequest", customerProfileId=profile_id)
    assert [each["transId"] for each in paid["transactions"]] == [through_profile["transId"]]
    method = "createCustomerProfileFromTransactionRequest"
    assert message(shop.call(method, transId=by_card["transId"]))[0] == "I00001"
