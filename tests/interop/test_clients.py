"""What others' clients get from the simulator is what the real processor would have told them."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from interop.conftest import Run

APPROVED = {"result": "Ok", "code": "I00001", "response_code": "1", "reason": "1"}
OK = {"result": "Ok", "code": "I00001"}


def refused(code: str) -> dict[str, str]:
    """The processor would not take the transaction."""
    return {"result": "Error", "code": "E00027", "response_code": "3", "reason": code}


def error(code: str) -> dict[str, str]:
    """The call itself was refused."""
    return {"result": "Error", "code": code}


def assert_says(found: Mapping[str, Any], **expected: Any) -> None:
    """These facts, whatever else there is. Clients differ in whether a number stays a string."""
    assert {name: found.get(name) for name in expected} == expected, dict(found)


def money(found: Any) -> Decimal:
    return Decimal(str(found))


# Payments ----------------------------------------------------------------------------------------


def test_a_sale_with_everything_is_approved_and_kept(client: Run) -> None:
    facts = client.facts("sale")
    assert_says(
        facts["sale"], **APPROVED, avs="Y", cvv="M", account="XXXX1111", account_type="Visa"
    )
    assert len(facts["sale"]["auth_code"]) == 6
    [row] = client.truth("sale")
    assert (row["trans_id"], row["amount"]) == (facts["sale"]["trans_id"], "21.00")
    details = facts["details"]
    assert_says(
        details,
        **OK,
        trans_id=row["trans_id"],
        type="authCaptureTransaction",
        status="capturedPendingSettlement",
        invoice="sale-1",
        account="XXXX1111",
    )
    assert str(details["response_code"]) == "1"
    assert money(details["auth_amount"]) == money(details["settle_amount"]) == Decimal("21.00")


def test_the_reference_comes_back(sdk: Run) -> None:
    for scenario, step in (("sale", "sale"), ("decline", "sale"), ("duplicate", "second")):
        assert sdk.facts(scenario)[step]["ref_id"] == "ref-1"


def test_the_purchase_order_is_found_again(sdk: Run) -> None:
    assert sdk.facts("sale")["details"]["purchase_order"] == "PO-7"


def test_a_capture_takes_the_money_once(client: Run) -> None:
    facts = client.facts("capture")
    assert_says(facts["authorization"], **APPROVED)
    held = facts["authorization"]["trans_id"]
    assert_says(facts["before"], status="authorizedPendingCapture", type="authOnlyTransaction")
    assert_says(facts["capture"], **APPROVED, trans_id=held, ref_trans_id=held)
    # Nothing happens twice, and yet it looks like a success: integrators must read the 311.
    assert_says(facts["again"], **{**APPROVED, "reason": "311"})
    assert_says(facts["after"], status="capturedPendingSettlement")
    assert [(row["type"], row["amount"]) for row in client.truth("capture")] == [
        ("authOnlyTransaction", "30.00"),
        ("priorAuthCaptureTransaction", "30.00"),
    ]


def test_a_partial_capture_takes_what_it_says(client: Run) -> None:
    facts = client.facts("partial_capture")
    assert_says(facts["too_much"], **refused("47"))
    assert_says(facts["capture"], **APPROVED, trans_id=facts["authorization"]["trans_id"])
    assert money(facts["after"]["settle_amount"]) == Decimal("20.50")
    assert money(facts["after"]["auth_amount"]) == Decimal("50.00")
    assert [row["amount"] for row in client.truth("partial_capture")] == ["50.00", "20.50"]


def test_a_void_is_done_once_and_only_to_what_is_there(client: Run) -> None:
    facts = client.facts("void")
    assert_says(facts["void"], **APPROVED, trans_id=facts["sale"]["trans_id"])
    assert_says(facts["again"], **{**APPROVED, "reason": "310"})
    assert_says(facts["unknown"], **refused("16"))
    assert_says(facts["after"], status="voided")
    assert [row["type"] for row in client.truth("void")] == [
        "authCaptureTransaction",
        "voidTransaction",
    ]


def test_refunds_wait_for_settlement_and_stay_within_what_was_taken(client: Run) -> None:
    facts = client.facts("refunds")
    assert_says(facts["early"], **refused("54"))
    assert_says(facts["refund"], **APPROVED, account="XXXX1111")
    assert facts["refund"]["trans_id"] not in ("0", facts["sale"]["trans_id"])
    assert_says(facts["too_much"], **refused("55"))
    assert_says(facts["late_void"], **refused("327"))
    assert_says(facts["original"], status="settledSuccessfully")
    assert_says(facts["details"], status="refundPendingSettlement", type="refundTransaction")
    given = [row for row in client.truth("refunds") if row["type"] == "refundTransaction"]
    assert [row["amount"] for row in given] == ["15.00"]


def test_a_decline_is_an_answer_and_not_an_error(client: Run) -> None:
    facts = client.facts("decline")
    assert_says(facts["sale"], **OK, response_code="2", reason="2")
    assert int(facts["sale"]["trans_id"]) > 0
    assert_says(facts["details"], **OK, status="declined", invoice="decline-1")


def test_the_same_order_sent_twice_is_charged_once(client: Run) -> None:
    facts = client.facts("duplicate")
    assert_says(facts["first"], **APPROVED)
    assert_says(facts["second"], **refused("11"), trans_id="0")
    assert len(client.truth("duplicate")) == 1


def test_what_a_filter_holds_is_neither_approved_nor_declined(client: Run) -> None:
    facts = client.facts("held")
    assert_says(facts["one"], **OK, response_code="4", reason="253")
    assert_says(facts["before"], status="FDSAuthorizedPendingReview")


def test_a_merchant_decides_on_what_is_held(sdk: Run) -> None:
    facts = sdk.facts("held")
    [one, other] = (row["trans_id"] for row in sdk.truth("held")[:2])
    assert sorted(facts["listed"]) == sorted((one, other))
    assert_says(facts["approve"], **OK, response_code="1", trans_id=one)
    assert_says(facts["decline"], result="Ok", trans_id=other)
    assert facts["approved"]["status"] == "capturedPendingSettlement"
    assert facts["declined"]["status"] in ("voided", "declined")


def test_echecks_follow_the_sandbox_rules(client: Run) -> None:
    facts = client.facts("echeck")
    assert_says(facts["approved"], **APPROVED, account="XXXX8473", account_type="eCheck")
    assert_says(facts["declined"], **OK, response_code="2")
    assert_says(facts["bad_routing"], **refused("9"))


def test_a_nonce_pays_once(sdk: Run) -> None:
    facts = sdk.facts("nonce")
    assert_says(facts["sale"], **APPROVED, account="XXXX1111")
    assert_says(facts["again"], **error("E00114"), response_code=None)
    assert len(sdk.truth("nonce")) == 1


# Customer profiles -------------------------------------------------------------------------------


def test_a_customer_is_kept_changed_and_removed(client: Run) -> None:
    facts = client.facts("customers")
    created = facts["create"]
    assert_says(created, **OK)
    assert len(created["payments"]) == 1
    assert facts["listed"] is True
    assert_says(
        facts["profile"],
        **OK,
        email="tom@example.com",
        description="Tom & Jerry <Ltd>",
        merchant_id="c-77",
        payments=1,
        addresses=0,
    )
    assert_says(facts["update"], **OK)
    assert_says(facts["updated"], email="jerry@example.com", description="One robot", payments=1)
    assert_says(facts["delete_customer"], **deleted(client))
    assert_says(facts["delete_customer_again"], **error("E00040"))
    assert_says(facts["gone"], **error("E00040"))


def test_the_same_customer_twice_names_the_first(client: Run) -> None:
    facts = client.facts("customers")
    assert_says(
        facts["duplicate"],
        **error("E00039"),
        text=f"A duplicate record with ID {facts['create']['customer']} already exists.",
    )


def test_payment_profiles_are_masked_and_keep_their_card(client: Run) -> None:
    facts = client.facts("customers")
    assert_says(facts["add_payment"], **OK)
    assert_says(facts["same_payment"], **error("E00039"))
    assert_says(facts["payment"], **OK, card="XXXX0015", expiry="XXXX", city="Bellevue")
    assert_says(facts["update_payment"], **OK)
    assert_says(facts["updated_payment"], **OK, card="XXXX0015", expiry="XXXX", city="Renton")
    assert_says(facts["validate"], **OK)
    assert_says(facts["delete_payment"], **deleted(client))
    assert_says(facts["delete_payment_again"], **error("E00040"))


def test_a_validation_speaks_the_old_delimited_language(sdk: Run) -> None:
    facts = sdk.facts("customers")
    tested = facts["direct_response"].replace('"', "").split(",")
    assert tested[:3] == ["1", "1", "1"]
    assert tested[3].startswith("(TESTMODE)")
    live = facts["validate"]["direct"].replace('"', "").split(",")
    assert live[:4] == ["1", "1", "1", "This transaction has been approved."]
    assert live[50:52] == ["XXXX0015", "MasterCard"]
    assert len(live) >= 68


def test_shipping_addresses_come_and_go(client: Run) -> None:
    facts = client.facts("customers")
    assert_says(facts["add_address"], **OK)
    assert_says(facts["address"], **OK, city="Bellevue")
    assert_says(facts["update_address"], **OK)
    assert_says(facts["updated_address"], **OK, city="Tacoma")
    assert facts["full"]["addresses"] == 1
    assert_says(facts["delete_address"], **deleted(client))
    assert_says(facts["delete_address_again"], **error("E00040"))


def test_a_customer_is_charged_without_the_card_being_sent_again(client: Run) -> None:
    facts = client.facts("customers")
    assert_says(facts["charge"], **APPROVED, account="XXXX0015", account_type="MasterCard")
    assert_says(facts["charge_details"], status="capturedPendingSettlement", invoice="customer-1")
    assert_says(facts["charge_nobody"], **error("E00040"), response_code=None)
    charged = [row for row in client.truth("customers") if row["invoice_number"] == "customer-1"]
    assert [row["amount"] for row in charged] == ["17.00"]


def test_what_a_customer_paid_is_listed(sdk: Run) -> None:
    facts = sdk.facts("customers")
    assert facts["paid"] == [facts["charge"]["trans_id"]]


def test_a_sale_can_leave_a_customer_behind(sdk: Run) -> None:
    facts = sdk.facts("profile_of_a_sale")
    assert_says(facts["sale"], **APPROVED)
    assert_says(facts["kept"], **OK)
    assert len(facts["payments"]) == 1
    assert facts["email"] == "kept@example.com"
    assert_says(facts["later"], **OK)


def deleted(client: Run) -> dict[str, str]:
    """Py-Authorize gives nothing back from most deletions that went well."""
    return {} if client.client.folder == "py_authorize" else OK


# Subscriptions -----------------------------------------------------------------------------------


def test_a_subscription_lives_until_it_is_cancelled(client: Run) -> None:
    facts = client.facts("subscriptions")
    subscription = facts["create"]["subscription"]
    assert_says(facts["create"], **OK)
    assert_says(facts["status"], **OK, status="active")
    assert_says(facts["update"], **OK)
    assert facts["active"] == [subscription]
    assert_says(facts["cancel"], **OK)
    assert_says(facts["cancel_again"], result="Ok", code="I00002")
    assert_says(facts["cancelled"], **OK, status="canceled")
    assert facts["inactive"] == [subscription]
    assert_says(facts["late_update"], **error("E00037"))
    assert_says(facts["unknown"], **error("E00035"))


def test_the_same_subscription_twice_names_the_first(client: Run) -> None:
    facts = client.facts("subscriptions")
    assert_says(facts["duplicate"], **error("E00012"))
    assert facts["create"]["subscription"] in facts["duplicate"]["text"]


def test_a_subscription_is_read_back(sdk: Run) -> None:
    found = sdk.facts("subscriptions")["get"]
    assert_says(found, **OK, name="Robot plan", status="active", unit="months")
    assert money(found["amount"]) == Decimal("31.50")


# Reporting and the account -----------------------------------------------------------------------


def test_settlement_is_found_in_the_reports(client: Run) -> None:
    facts = client.facts("reporting")
    first, second = facts["sales"]
    by_id = {row["trans_id"]: row for row in facts["unsettled"]}
    assert set(by_id) == {first, second}
    assert_says(by_id[second], status="capturedPendingSettlement", invoice="report-2")
    assert money(by_id[second]["amount"]) == Decimal("20.25")
    [left] = facts["after"]
    assert_says(left, trans_id=facts["refund"], status="refundPendingSettlement")
    assert (facts["batches"], facts["batch_state"]) == (1, "settledSuccessfully")
    assert {row["trans_id"]: row["status"] for row in facts["in_batch"]} == {
        first: "settledSuccessfully",
        second: "settledSuccessfully",
    }
    assert (int(facts["charges"]), money(facts["charged"])) == (2, Decimal("30.25"))
    assert_says(facts["nothing"], result="Ok", code="I00004", rows=[])
    assert_says(facts["unknown"], **error("E00040"))


def test_a_merchant_reads_its_own_account(sdk: Run) -> None:
    merchant = sdk.facts("reporting")["merchant"]
    assert_says(merchant, **OK, currencies=["USD"])
    assert merchant["name"]
    assert merchant["key"]


def test_hosted_pages_get_a_token(sdk: Run) -> None:
    for page in sdk.facts("hosted_page").values():
        assert_says(page, **OK)
        assert len(page["token"]) > 20


def test_wrong_credentials_open_nothing(client: Run) -> None:
    facts = client.facts("credentials")
    assert_says(facts["wrong"], **error("E00007"))
    assert_says(facts["charge"], **error("E00007"), response_code=None)
    assert client.truth("credentials") == []


def test_right_credentials_are_told_so(sdk: Run) -> None:
    assert_says(sdk.facts("credentials")["good"], **OK)


# What only Py-Authorize does ---------------------------------------------------------------------


def test_py_authorize_raises_for_whatever_was_not_approved(py_authorize: Run) -> None:
    raised = {
        (scenario, step): py_authorize.facts(scenario)[step]["raised"]
        for scenario, step in (
            ("sale", "sale"),
            ("decline", "sale"),
            ("duplicate", "second"),
            ("capture", "again"),
            ("held", "one"),
            ("credentials", "wrong"),
        )
    }
    assert list(raised.values()) == [None, "2", "11", None, None, "E00007"]


def test_py_authorize_compares_what_it_reads_with_what_it_sent(py_authorize: Run) -> None:
    """Its own suite asserts equality: an element more than was stored would fail there."""
    facts = py_authorize.facts("customers")
    assert facts["payment"]["payment"] == {
        "credit_card": {"card_number": "XXXX0015", "expiration_date": "XXXX"}
    }
    assert facts["payment"]["billing"] == {
        "first_name": "Ada",
        "last_name": "Lovelace",
        "address": "12 Main Street",
        "city": "Bellevue",
        "state": "WA",
        "zip": "98004",
        "country": "US",
    }
    assert_says(facts["bank"], **OK)
    assert facts["bank"]["payment"] == {
        "account_type": "savings",
        "routing_number": "XXXX1627",
        "account_number": "XXXX8473",
        "name_on_account": "Ada Lovelace",
        "echeck_type": "WEB",
    }


def test_a_mask_of_another_card_changes_nothing(py_authorize: Run) -> None:
    assert py_authorize.facts("customers")["wrong_mask"]["result"] == "Error"


def test_a_customer_is_made_from_a_transaction_and_credited(py_authorize: Run) -> None:
    facts = py_authorize.facts("customers")
    assert_says(facts["from_transaction"], **OK, email="from@example.com")
    assert_says(facts["credit"], **APPROVED)


def test_a_report_over_a_senseless_span_is_refused(py_authorize: Run) -> None:
    facts = py_authorize.facts("reporting")
    assert facts["half_a_span"]["result"] == "Error"
    assert_says(facts["no_number"], **error("E00003"))
    assert_says(facts["old_span"], result="Ok", code="I00004")
