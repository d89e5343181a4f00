"""The list of a customer's transactions of any status, also after a restart."""

from typing import Any

from simulator.customers import add_payment, charge, stored, through
from simulator.durable import Durable
from simulator.merchant_client import Merchant, card
from simulator.parts import MASTERCARD, bank


def listed(shop: Merchant, profile_id: str, **more: Any) -> list[str]:
    answer = shop.call("getTransactionListForCustomerRequest", customerProfileId=profile_id, **more)
    return [each["transId"] for each in answer.get("transactions", [])]


def test_a_customers_charges_are_listed(durable: Durable) -> None:
    shop = durable.merchant()
    ada, ada_card = stored(shop)
    bob, bob_card = stored(shop, "bob@example.com")
    added = add_payment(shop, ada, {"payment": card(MASTERCARD)})
    second = added["customerPaymentProfileId"]
    ids = []
    for amount, payment in (("1.00", ada_card), ("2.00", second), ("3.00", ada_card)):
        answer = charge(shop, through(ada, payment), amount)
        ids.append(answer["transactionResponse"]["transId"])
    charge(shop, through(bob, bob_card), "4.00")
    shop.charge("5.00")
    shop.process.control("/settle")
    shop.void(ids[0])
    assert listed(shop, ada) == ids[::-1]
    assert listed(shop, ada, customerPaymentProfileId=second) == [ids[1]]
    assert listed(shop, ada, paging={"limit": 2, "offset": 2}) == [ids[0]]
    sorting = {"orderBy": "id", "orderDescending": False}
    assert listed(shop, ada, sorting=sorting) == ids
    assert len(listed(shop, bob)) == 1
    assert listed(shop.process.merchant(), ada) == []
    summary = shop.call("getTransactionListForCustomerRequest", customerProfileId=bob)
    assert summary["transactions"][0]["profile"] == {
        "customerProfileId": bob,
        "customerPaymentProfileId": bob_card,
    }
    durable.restart()
    assert listed(shop, ada) == ids[::-1]


def test_a_charge_of_a_stored_bank_account_shows_its_owner(shop: Merchant) -> None:
    kind = {"accountType": "savings", "echeckType": "WEB"}
    profile_id, payment_id = stored(shop, payment=bank(**kind))
    answer = charge(shop, through(profile_id, payment_id))["transactionResponse"]
    assert (answer["responseCode"], answer["accountType"]) == ("1", "eCheck")
    shown = bank(routingNumber="XXXX2882", accountNumber="XXXX5678", **kind)
    assert shop.details(answer["transId"])["payment"] == shown
