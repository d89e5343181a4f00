"""Third-party clients get the answers from the simulator that the real processor would give."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from interop.py_authorize_shop import ADDRESS, BANK, PyAuthorizeShop
from interop.sdk_shop import SdkShop, address, card, make, order, settings
from interop.shop import answer, dig, many, outcome

Client = SdkShop | PyAuthorizeShop

OK = {"result": "Ok", "code": "I00001"}
APPROVED = {**OK, "response_code": "1", "reason": "1"}


def refused(code: str) -> dict[str, str]:
    """Return the outcome of a transaction that the processor refused."""
    return {"result": "Error", "code": "E00027", "response_code": "3", "reason": code}


def error(code: str) -> dict[str, str]:
    """Return the result of a refused call."""
    return {"result": "Error", "code": code}


def assert_says(found: Mapping[str, Any], **expected: Any) -> None:
    """Assert these fields and ignore others. Clients differ in whether a number stays a string."""
    assert {name: found.get(name) for name in expected} == expected, dict(found)


def money(found: Any) -> Decimal:
    return Decimal(str(found))


# Payments ----------------------------------------------------------------------------------------


def test_a_sale_with_every_field_is_approved_and_stored(shop: Client) -> None:
    sale = shop.sale_with_everything()
    codes = {"avs_result_code": "Y", "cvv_result_code": "M"}
    assert_says(sale, **APPROVED, **codes, account_number="XXXX1111", account_type="Visa")
    assert len(sale["auth_code"]) == 6
    [row] = shop.merchant.truth()
    assert (row["trans_id"], row["amount"]) == (sale["trans_id"], "21.00")
    details = shop.details(sale["trans_id"])
    assert_says(
        details,
        **OK,
        trans_id=row["trans_id"],
        transaction_type="authCaptureTransaction",
        transaction_status="capturedPendingSettlement",
        invoice="sale-1",
        account="XXXX1111",
    )
    assert str(details["response_code"]) == "1"
    assert money(details["auth_amount"]) == money(details["settle_amount"]) == Decimal("21.00")


def test_the_reference_is_returned(sdk: SdkShop) -> None:
    sale = sdk.charge("11.00", "once")
    declined = sdk.charge("10.00", "decline-1", zip_code="46282")
    duplicate = sdk.charge("11.00", "once")
    assert [each["ref_id"] for each in (sale, declined, duplicate)] == ["ref-1"] * 3


def test_the_purchase_order_is_in_the_details(sdk: SdkShop) -> None:
    sale = sdk.sale_with_everything()
    assert sdk.details(sale["trans_id"])["purchase_order"] == "PO-7"


def test_a_capture_takes_the_money_once(shop: Client) -> None:
    authorization = shop.authorize("30.00", "capture-1")
    assert_says(authorization, **APPROVED)
    held = authorization["trans_id"]
    status, kind = "authorizedPendingCapture", "authOnlyTransaction"
    assert_says(shop.details(held), transaction_status=status, transaction_type=kind)
    assert_says(shop.capture(held), **APPROVED, trans_id=held, ref_trans_id=held)
    # The second capture does nothing but looks like a success: integrators must read the 311.
    assert_says(shop.capture(held), **{**APPROVED, "reason": "311"})
    assert_says(shop.details(held), transaction_status="capturedPendingSettlement")
    assert [(row["type"], row["amount"]) for row in shop.merchant.truth()] == [
        ("authOnlyTransaction", "30.00"),
        ("priorAuthCaptureTransaction", "30.00"),
    ]


def test_a_partial_capture_takes_its_amount(shop: Client) -> None:
    held = shop.authorize("50.00", "partial-1")["trans_id"]
    assert_says(shop.capture(held, "50.01"), **refused("47"))
    assert_says(shop.capture(held, "20.50"), **APPROVED, trans_id=held)
    after = shop.details(held)
    assert money(after["settle_amount"]) == Decimal("20.50")
    assert money(after["auth_amount"]) == Decimal("50.00")
    assert [row["amount"] for row in shop.merchant.truth()] == ["50.00", "20.50"]


def test_an_existing_transaction_is_voided_once(shop: Client) -> None:
    sale = shop.charge("12.00", "void-1")["trans_id"]
    assert_says(shop.void(sale), **APPROVED, trans_id=sale)
    assert_says(shop.void(sale), **{**APPROVED, "reason": "310"})
    assert_says(shop.void("1"), **refused("16"))
    assert_says(shop.details(sale), transaction_status="voided")
    types = [row["type"] for row in shop.merchant.truth()]
    assert types == ["authCaptureTransaction", "voidTransaction"]


def test_refunds_wait_for_settlement_and_stay_within_the_charge(shop: Client) -> None:
    sale = shop.charge("40.00", "refund-1")["trans_id"]
    assert_says(shop.refund(sale, "10.00"), **refused("54"))
    shop.merchant.process.control("/settle")
    refund = shop.refund(sale, "15.00")
    assert_says(refund, **APPROVED, account_number="XXXX1111")
    assert refund["trans_id"] not in ("0", sale)
    assert_says(shop.refund(sale, "25.01"), **refused("55"))
    assert_says(shop.void(sale), **refused("327"))
    assert_says(shop.details(sale), transaction_status="settledSuccessfully")
    status, kind = "refundPendingSettlement", "refundTransaction"
    details = shop.details(refund["trans_id"])
    assert_says(details, transaction_status=status, transaction_type=kind)
    given = [row["amount"] for row in shop.merchant.truth() if row["type"] == kind]
    assert given == ["15.00"]


def test_a_decline_is_an_answer_and_not_an_error(shop: Client) -> None:
    sale = shop.charge("10.00", "decline-1", zip_code="46282")
    assert_says(sale, **OK, response_code="2", reason="2")
    assert int(sale["trans_id"]) > 0
    details = shop.details(sale["trans_id"])
    assert_says(details, **OK, transaction_status="declined", invoice="decline-1")


def test_the_same_order_sent_twice_is_charged_once(shop: Client) -> None:
    assert_says(shop.charge("11.00", "twice"), **APPROVED)
    assert_says(shop.charge("11.00", "twice"), **refused("11"), trans_id="0")
    assert len(shop.merchant.truth()) == 1


def test_a_held_payment_is_neither_approved_nor_declined(shop: Client) -> None:
    shop.merchant.settings(held_above="100.00")
    held = shop.charge("150.00", "held-1")
    assert_says(held, **OK, response_code="4", reason="253")
    details = shop.details(held["trans_id"])
    assert_says(details, transaction_status="FDSAuthorizedPendingReview")


def test_a_merchant_decides_on_held_payments(sdk: SdkShop) -> None:
    sdk.merchant.settings(held_above="100.00")
    one = sdk.charge("150.00", "held-1")["trans_id"]
    other = sdk.charge("160.00", "held-2")["trans_id"]
    listed = [row["trans_id"] for row in sdk.unsettled(status="pendingApproval")["rows"]]
    assert sorted(listed) == sorted((one, other))
    assert_says(sdk.decide(one, "approve"), **OK, response_code="1", trans_id=one)
    assert_says(sdk.decide(other, "decline"), result="Ok", trans_id=other)
    assert sdk.details(one)["transaction_status"] == "capturedPendingSettlement"
    assert sdk.details(other)["transaction_status"] in ("voided", "declined")


def test_echecks_follow_the_sandbox_rules(shop: Client) -> None:
    approved = shop.charge_bank("75.00", "echeck-1")
    assert_says(approved, **APPROVED, account_number="XXXX8473", account_type="eCheck")
    assert_says(shop.charge_bank("100.01", "echeck-2"), **OK, response_code="2")
    assert_says(shop.charge_bank("75.00", "echeck-3", "121042883"), **refused("9"))


def test_a_nonce_pays_once(sdk: SdkShop) -> None:
    payment = sdk.nonce()
    sale = sdk.charge("14.00", "nonce-1", payment=payment)
    assert_says(sale, **APPROVED, account_number="XXXX1111")
    again = sdk.charge("15.00", "nonce-2", payment=payment)
    assert_says(again, **error("E00114"), response_code=None)
    assert len(sdk.merchant.truth()) == 1


# Customer profiles -------------------------------------------------------------------------------


def test_a_customer_is_stored_changed_and_deleted(shop: Client) -> None:
    created = shop.create_customer()
    customer = created["id"]
    assert_says(created, **OK)
    assert len(created["payments"]) == 1
    assert customer in shop.customers()
    assert_says(
        shop.customer(customer),
        **OK,
        email="tom@example.com",
        description="Tom & Jerry <Ltd>",
        merchant_customer_id="c-77",
        payments=1,
        addresses=0,
    )
    changed = {"email": "jerry@example.com", "description": "One robot"}
    assert_says(shop.update_customer(customer, **changed), **OK)
    assert_says(shop.customer(customer), **changed, payments=1)
    assert_says(shop.delete_customer(customer), **shop.DELETED)
    assert_says(shop.delete_customer(customer), **error("E00040"))
    assert_says(shop.customer(customer), **error("E00040"))


def test_the_same_customer_twice_names_the_first(shop: Client) -> None:
    customer = shop.create_customer()["id"]
    text = f"A duplicate record with ID {customer} already exists."
    assert_says(shop.create_customer(), **error("E00039"), text=text)


def test_payment_profiles_are_masked_and_keep_their_card_number(shop: Client) -> None:
    customer = shop.create_customer()["id"]
    added = shop.add_payment(customer)
    ids = (customer, added["id"])
    masked = {**OK, "card_number": "XXXX0015", "expiration_date": "XXXX"}
    assert_says(added, **OK)
    assert_says(shop.add_payment(customer), **error("E00039"))
    assert_says(shop.payment(*ids), **masked, city="Bellevue")
    assert_says(shop.update_payment(*ids, "Renton"), **OK)
    assert_says(shop.payment(*ids), **masked, city="Renton")
    assert_says(shop.validate(*ids), **OK)
    assert_says(shop.delete_payment(*ids), **shop.DELETED)
    assert_says(shop.delete_payment(*ids), **error("E00040"))


def test_a_validation_answers_in_the_old_delimited_format(sdk: SdkShop) -> None:
    customer = sdk.create_customer()["id"]
    added = sdk.add_payment(customer)
    tested = added["direct"].replace('"', "").split(",")
    assert tested[:3] == ["1", "1", "1"]
    assert tested[3].startswith("(TESTMODE)")
    live = sdk.validate(customer, added["id"])["direct"].replace('"', "").split(",")
    assert live[:4] == ["1", "1", "1", "This transaction has been approved."]
    assert live[50:52] == ["XXXX0015", "MasterCard"]
    assert len(live) >= 68


def test_shipping_addresses_are_added_changed_and_deleted(shop: Client) -> None:
    customer = shop.create_customer()["id"]
    added = shop.add_address(customer)
    ids = (customer, added["id"])
    assert_says(added, **OK)
    assert_says(shop.address(*ids), **OK, city="Bellevue")
    assert_says(shop.update_address(*ids, "Tacoma"), **OK)
    assert_says(shop.address(*ids), **OK, city="Tacoma")
    assert shop.customer(customer)["addresses"] == 1
    assert_says(shop.delete_address(*ids), **shop.DELETED)
    assert_says(shop.delete_address(*ids), **error("E00040"))


def test_a_customer_is_charged_without_the_card_being_sent_again(shop: Client) -> None:
    customer = shop.create_customer()["id"]
    payment = shop.add_payment(customer)["id"]
    charge = shop.charge_customer(customer, payment)
    assert_says(charge, **APPROVED, account_number="XXXX0015", account_type="MasterCard")
    details = shop.details(charge["trans_id"])
    status = "capturedPendingSettlement"
    assert_says(details, transaction_status=status, invoice="customer-1")
    assert_says(shop.charge_customer("1", payment), **error("E00040"), response_code=None)
    assert [(row["invoice_number"], row["amount"]) for row in shop.merchant.truth()] == [
        ("customer-1", "17.00")
    ]


def test_a_customers_payments_are_listed(sdk: SdkShop) -> None:
    customer = sdk.create_customer()["id"]
    charge = sdk.charge_customer(customer, sdk.add_payment(customer)["id"])
    reply = sdk.send("getTransactionListForCustomer", customerProfileId=customer)
    [paid] = many(dig(reply, "transactions", "transaction"))
    assert paid["trans_id"] == charge["trans_id"]


def test_a_sale_can_create_a_customer(sdk: SdkShop) -> None:
    sold = make(
        "transactionRequestType",
        transactionType="authCaptureTransaction",
        amount="16.00",
        payment=card(code="900"),
        profile=make("customerProfilePaymentType", createProfile=True),
        order=order("kept-1"),
        customer=make("customerDataType", id="c-9", email="kept@example.com"),
        billTo=address(),
    )
    sale = sdk.send("createTransaction", transactionRequest=sold)
    assert_says(outcome(sale), **APPROVED)
    kept = sale["profile_response"]
    assert_says(answer(kept), **OK)
    assert len(many(dig(kept, "customer_payment_profile_id_list", "numeric_string"))) == 1
    assert_says(sdk.customer(kept["customer_profile_id"]), email="kept@example.com")
    later = make("customerProfileBaseType", email="later@example.com")
    source = sdk.charge("19.00", "kept-2")["trans_id"]
    made = sdk.send("createCustomerProfileFromTransaction", transId=source, customer=later)
    assert_says(answer(made), **OK)


# Subscriptions -----------------------------------------------------------------------------------


def test_a_subscription_is_active_until_it_is_cancelled(shop: Client) -> None:
    created = shop.subscribe()
    subscription = created["id"]
    assert_says(created, **OK)
    assert_says(shop.subscription_status(subscription), **OK, status="active")
    assert_says(shop.reprice(subscription, "31.50"), **OK)
    assert shop.subscriptions("subscriptionActive") == [subscription]
    assert_says(shop.cancel(subscription), **OK)
    assert_says(shop.cancel(subscription), result="Ok", code="I00002")
    assert_says(shop.subscription_status(subscription), **OK, status="canceled")
    assert shop.subscriptions("subscriptionInactive") == [subscription]
    assert_says(shop.reprice(subscription, "32.50"), **error("E00037"))
    assert_says(shop.subscription_status("1"), **error("E00035"))


def test_the_same_subscription_twice_names_the_first(shop: Client) -> None:
    subscription = shop.subscribe()["id"]
    duplicate = shop.subscribe()
    assert_says(duplicate, **error("E00012"))
    assert subscription in duplicate["text"]


def test_a_subscription_is_read_back(sdk: SdkShop) -> None:
    subscription = sdk.subscribe()["id"]
    sdk.reprice(subscription, "31.50")
    reply = sdk.send("ARBGetSubscription", subscriptionId=subscription)
    assert_says(answer(reply), **OK)
    found = reply["subscription"]
    assert_says(found, name="Robot plan", status="active")
    assert dig(found, "payment_schedule", "interval", "unit") == "months"
    assert money(found["amount"]) == Decimal("31.50")


# Reporting and the account -----------------------------------------------------------------------


def test_settlement_is_found_in_the_reports(shop: Client) -> None:
    assert_says(shop.unsettled(), result="Ok", code="I00004", rows=[])
    first = shop.charge("10.00", "report-1")["trans_id"]
    second = shop.charge("20.25", "report-2")["trans_id"]
    by_id = {row["trans_id"]: row for row in shop.unsettled()["rows"]}
    assert set(by_id) == {first, second}
    status = "capturedPendingSettlement"
    assert_says(by_id[second], transaction_status=status, invoice_number="report-2")
    assert money(by_id[second]["settle_amount"]) == Decimal("20.25")
    shop.merchant.process.control("/settle")
    refund = shop.refund(first, "4.00")["trans_id"]
    [left] = shop.unsettled()["rows"]
    assert_says(left, trans_id=refund, transaction_status="refundPendingSettlement")
    [batch] = shop.batches()
    assert batch["settlement_state"] == "settledSuccessfully"
    rows = shop.in_batch(batch["batch_id"])
    assert {row["trans_id"]: row["transaction_status"] for row in rows} == {
        first: "settledSuccessfully",
        second: "settledSuccessfully",
    }
    counted = shop.statistics(batch["batch_id"])
    assert int(counted["charge_count"]) == 2
    assert money(counted["charge_amount"]) == Decimal("30.25")
    assert_says(shop.details("1"), **error("E00040"))


def test_a_merchant_reads_its_own_account(sdk: SdkShop) -> None:
    merchant = sdk.send("getMerchantDetails")
    assert_says(answer(merchant), **OK)
    assert many(dig(merchant, "currencies", "currency")) == ["USD"]
    assert merchant["merchant_name"]
    assert merchant["public_client_key"]


def test_hosted_pages_get_a_token(sdk: SdkShop) -> None:
    kind = "authCaptureTransaction"
    options = '{"showReceipt": true, "url": "https://shop.example/done"}'
    payment = sdk.send(
        "getHostedPaymentPage",
        transactionRequest=make("transactionRequestType", transactionType=kind, amount="99.00"),
        hostedPaymentSettings=settings(hostedPaymentReturnOptions=options),
    )
    profile = sdk.send(
        "getHostedProfilePage",
        customerProfileId=sdk.create_customer()["id"],
        hostedProfileSettings=settings(hostedProfileReturnUrl="https://shop.example/account"),
    )
    for page in (payment, profile):
        assert_says(answer(page), **OK)
        assert len(page["token"]) > 20


def test_wrong_credentials_are_refused(shop: Client) -> None:
    shop.key = "not-the-key"
    assert_says(shop.authenticate(), **error("E00007"))
    assert_says(shop.charge("10.00", "key-1"), **error("E00007"), response_code=None)
    assert shop.merchant.truth() == []


def test_right_credentials_are_confirmed(sdk: SdkShop) -> None:
    assert_says(sdk.authenticate(), **OK)


# Only Py-Authorize -------------------------------------------------------------------------------


def test_py_authorize_raises_for_declines_and_errors(py_authorize: PyAuthorizeShop) -> None:
    shop = py_authorize
    shop.merchant.settings(held_above="100.00")
    sale = shop.charge("10.00", "once")
    declined = shop.charge("11.00", "declined", zip_code="46282")
    duplicate = shop.charge("10.00", "once")
    held = shop.charge("150.00", "held")
    authorization = shop.authorize("30.00", "capture")["trans_id"]
    captures = [shop.capture(authorization) for _ in range(2)]
    shop.key = "not-the-key"
    replies = (sale, declined, duplicate, *captures, held, shop.authenticate())
    raised = [each["raised"] for each in replies]
    assert raised == [None, "2", "11", None, None, None, "E00007"]


def test_py_authorize_reads_exactly_what_it_sent(
    py_authorize: PyAuthorizeShop,
) -> None:
    """Its own suite asserts equality: an extra element would fail there."""
    shop = py_authorize
    customer = shop.create_customer()["id"]
    kept = shop.payment(customer, shop.add_payment(customer)["id"])["profile"]
    masked = {"card_number": "XXXX0015", "expiration_date": "XXXX"}
    assert kept["payment"] == {"credit_card": masked}
    assert kept["bill_to"] == ADDRESS
    added = shop.send("BankAccount.create", customer, {**BANK, "account_type": "savings"})
    assert_says(answer(added), **OK)
    found = shop.send("BankAccount.details", customer, added["payment_id"])
    assert found["payment_profile"]["payment"]["bank_account"] == {
        **BANK,
        "account_type": "savings",
        "routing_number": "XXXX1627",
        "account_number": "XXXX8473",
    }


def test_an_update_with_another_cards_mask_changes_nothing(py_authorize: PyAuthorizeShop) -> None:
    customer = py_authorize.create_customer()["id"]
    payment = py_authorize.add_payment(customer)["id"]
    refused = py_authorize.update_payment(customer, payment, "Renton", mask="1111")
    assert_says(refused, result="Error")


def test_a_customer_is_created_from_a_transaction_and_credited(
    py_authorize: PyAuthorizeShop,
) -> None:
    shop = py_authorize
    source = shop.charge("18.00", "customer-2", email="from@example.com")["trans_id"]
    made = shop.send("Customer.from_transaction", source)
    assert_says(answer(made), **OK)
    customer = made["customer_id"]
    assert_says(shop.customer(customer), email="from@example.com")
    payment = shop.add_payment(customer)["id"]
    assert_says(shop.charge_customer(customer, payment, "credit"), **APPROVED)


def test_a_report_over_an_invalid_period_is_refused(py_authorize: PyAuthorizeShop) -> None:
    half = py_authorize.send("Batch.list", {"start": "2026-01-01"})
    assert_says(answer(half), result="Error")
    no_number = py_authorize.send("Transaction.list", "Bad batch ID")
    assert_says(answer(no_number), **error("E00003"))
    long_ago = py_authorize.send("Batch.list", {"start": "2012-05-01", "end": "2012-05-31"})
    assert_says(answer(long_ago), result="Ok", code="I00004")
