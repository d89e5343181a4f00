"""What an integrator does with Py-Authorize, and what it gives back.

It raises AuthorizeResponseError for whatever was not approved, and renames all elements to
lower_case; it has no calls for held transactions, merchant details, nonces, hosted pages or
`authenticateTest`.
"""

import sys
import xml.etree.ElementTree
from datetime import UTC, datetime, timedelta

# It is older than Python 3.9, which dropped this second name of the same module.
sys.modules["xml.etree.cElementTree"] = xml.etree.ElementTree

from authorize import (  # noqa: E402
    Address,
    AuthorizeResponseError,
    BankAccount,
    Batch,
    Configuration,
    CreditCard,
    Customer,
    Recurring,
    Transaction,
)
from drive import dig, many  # noqa: E402

TODAY = datetime.now(UTC).date()
EXPIRY = f"12/{TODAY.year + 3}"
LATER = f"01/{TODAY.year + 4}"
CARD = {"card_number": "4111111111111111", "expiration_date": EXPIRY, "card_code": "900"}
MASTERCARD = {"card_number": "5424000000000015", "expiration_date": EXPIRY}
BANK = {
    "account_type": "checking",
    "routing_number": "322271627",
    "account_number": "00987467838473",
    "name_on_account": "Ada Lovelace",
    "echeck_type": "WEB",
}
ADDRESS = {
    "first_name": "Ada",
    "last_name": "Lovelace",
    "address": "12 Main Street",
    "city": "Bellevue",
    "state": "WA",
    "zip": "98004",
    "country": "US",
}


def connect(url, login, key):
    Configuration.configure(url, login, key)


def call(method, *arguments):
    """The answer, also where the client raises it, and which error code it raised."""
    try:
        return method(*arguments), None
    except AuthorizeResponseError as error:
        return error.full_response, error.code


def answer(said, raised=None):
    """How the call as a whole went. Deletions come without an answer when all is well."""
    message = dig(said, "messages", 0, "message")
    return {
        "result": dig(said, "messages", 0, "result_code"),
        "code": dig(message, "code"),
        "text": dig(message, "text"),
        "raised": raised,
    }


def outcome(method, *arguments):
    """How the transaction went."""
    said, raised = call(method, *arguments)
    done = dig(said, "transaction_response")
    error = dig(done, "errors", 0)
    message = dig(done, "messages", 0, "message")
    return {
        **answer(said, raised),
        "response_code": dig(done, "response_code"),
        "reason": dig(error, "error_code") or dig(message, "code"),
        "trans_id": dig(done, "trans_id"),
        "ref_trans_id": dig(done, "ref_trans_id"),
        "auth_code": dig(done, "auth_code"),
        "avs": dig(done, "avs_result_code"),
        "cvv": dig(done, "cvv_result_code"),
        "account": dig(done, "account_number"),
        "account_type": dig(done, "account_type"),
    }


def charge(amount, invoice, method=Transaction.sale, **fields):
    billing = {**ADDRESS, "zip": fields.pop("zip_code", "98004")}
    payment = {} if "bank_account" in fields else {"credit_card": CARD}
    order = {"invoice_number": invoice, "description": "Robot parts"}
    return outcome(
        method, {"amount": amount, "order": order, "billing": billing, **payment, **fields}
    )


def refund(trans_id, amount):
    return outcome(
        Transaction.refund, {"amount": amount, "transaction_id": trans_id, "last_four": "1111"}
    )


def details(trans_id):
    said, raised = call(Transaction.details, trans_id)
    found = dig(said, "transaction")
    return {
        **answer(said, raised),
        "trans_id": dig(found, "trans_id"),
        "type": dig(found, "transaction_type"),
        "status": dig(found, "transaction_status"),
        "response_code": dig(found, "response_code"),
        "auth_amount": dig(found, "auth_amount"),
        "settle_amount": dig(found, "settle_amount"),
        "invoice": dig(found, "order", "invoice_number"),
        "account": dig(found, "payment", "credit_card", "card_number"),
    }


def sale(simulator):
    items = [
        {"item_id": number, "name": "part", "quantity": 2, "unit_price": 5.25}
        for number in ("1", "2")
    ]
    done = charge(
        21.00,
        "sale-1",
        line_items=items,
        tax={"amount": 1.05, "name": "VAT"},
        email="ada@example.com",
        shipping=ADDRESS,
        customer_ip="192.0.2.1",
        tax_exempt=False,
    )
    return {"sale": done, "details": details(done["trans_id"])}


def capture(simulator):
    held = charge(30.00, "capture-1", Transaction.auth)
    return {
        "authorization": held,
        "before": details(held["trans_id"]),
        "capture": outcome(Transaction.settle, held["trans_id"]),
        "again": outcome(Transaction.settle, held["trans_id"]),
        "after": details(held["trans_id"]),
    }


def partial_capture(simulator):
    held = charge(50.00, "partial-1", Transaction.auth)
    return {
        "authorization": held,
        "too_much": outcome(Transaction.settle, held["trans_id"], 50.01),
        "capture": outcome(Transaction.settle, held["trans_id"], 20.50),
        "after": details(held["trans_id"]),
    }


def void(simulator):
    done = charge(12.00, "void-1")
    return {
        "sale": done,
        "void": outcome(Transaction.void, done["trans_id"]),
        "again": outcome(Transaction.void, done["trans_id"]),
        "unknown": outcome(Transaction.void, "1"),
        "after": details(done["trans_id"]),
    }


def refunds(simulator):
    done = charge(40.00, "refund-1")
    early = refund(done["trans_id"], 10.00)
    simulator.settle()
    first = refund(done["trans_id"], 15.00)
    return {
        "sale": done,
        "early": early,
        "refund": first,
        "too_much": refund(done["trans_id"], 25.01),
        "late_void": outcome(Transaction.void, done["trans_id"]),
        "original": details(done["trans_id"]),
        "details": details(first["trans_id"]),
    }


def decline(simulator):
    done = charge(10.00, "decline-1", zip_code="46282")
    return {"sale": done, "details": details(done["trans_id"])}


def duplicate(simulator):
    return {"first": charge(11.00, "twice"), "second": charge(11.00, "twice")}


def held(simulator):
    simulator.hold_above("100.00")
    one = charge(150.00, "held-1")
    return {"one": one, "before": details(one["trans_id"])}


def echeck(simulator):
    bad = {**BANK, "routing_number": "121042883"}
    return {
        "approved": charge(75.00, "echeck-1", bank_account=BANK),
        "declined": charge(100.01, "echeck-2", bank_account=BANK),
        "bad_routing": charge(75.00, "echeck-3", bank_account=bad),
    }


def customers(simulator):
    def profile_of(customer):
        said, raised = call(Customer.details, customer)
        found = dig(said, "profile")
        return {
            **answer(said, raised),
            "email": dig(found, "email"),
            "description": dig(found, "description"),
            "merchant_id": dig(found, "merchant_customer_id"),
            "payments": len(many(dig(found, "payments"))),
            "addresses": len(many(dig(found, "addresses"))),
        }

    def payment_of(customer, payment):
        said, raised = call(CreditCard.details, customer, payment)
        found = dig(said, "payment_profile")
        return {
            **answer(said, raised),
            "card": dig(found, "payment", "credit_card", "card_number"),
            "expiry": dig(found, "payment", "credit_card", "expiration_date"),
            "city": dig(found, "bill_to", "city"),
            "payment": dig(found, "payment"),
            "billing": dig(found, "bill_to"),
        }

    def address_of(customer, shipping):
        said, raised = call(Address.details, customer, shipping)
        return {**answer(said, raised), "city": dig(said, "address", "city")}

    said = {
        "merchant_id": "c-77",
        "description": "Tom & Jerry <Ltd>",
        "email": "tom@example.com",
        "credit_card": CARD,
    }
    created, raised = call(Customer.create, said)
    customer = dig(created, "customer_id")
    facts = {
        "create": {
            **answer(created, raised),
            "customer": customer,
            "payments": many(dig(created, "payment_ids")),
        },
        "duplicate": answer(*call(Customer.create, said)),
        "listed": customer in many(dig(call(Customer.list)[0], "profile_ids")),
        "profile": profile_of(customer),
    }
    changed = {"merchant_id": "c-77", "description": "One robot", "email": "jerry@example.com"}
    facts["update"] = answer(*call(Customer.update, customer, changed))
    facts["updated"] = profile_of(customer)
    new_payment = {**MASTERCARD, "billing": ADDRESS}
    added, raised = call(CreditCard.create, customer, new_payment)
    payment = dig(added, "payment_id")
    facts["add_payment"] = answer(added, raised)
    facts["same_payment"] = answer(*call(CreditCard.create, customer, new_payment))
    facts["payment"] = payment_of(customer, payment)
    moved = {"card_number": "0015", "expiration_date": LATER}
    renton = {**moved, "billing": {**ADDRESS, "city": "Renton"}}
    facts["update_payment"] = answer(*call(CreditCard.update, customer, payment, renton))
    facts["updated_payment"] = payment_of(customer, payment)
    facts["wrong_mask"] = answer(
        *call(CreditCard.update, customer, payment, {**moved, "card_number": "1111"})
    )
    validated, raised = call(
        CreditCard.validate, customer, payment, {"card_code": "900", "validation_mode": "liveMode"}
    )
    facts["validate"] = {
        **answer(validated, raised),
        "reason_text": dig(validated, "transaction_response", "response_reason_text"),
    }
    account, raised = call(BankAccount.create, customer, {**BANK, "account_type": "savings"})
    found, _ = call(BankAccount.details, customer, dig(account, "payment_id"))
    facts["bank"] = {
        **answer(account, raised),
        "payment": dig(found, "payment_profile", "payment", "bank_account"),
    }
    added, raised = call(Address.create, customer, ADDRESS)
    shipping = dig(added, "address_id")
    facts["add_address"] = answer(added, raised)
    facts["address"] = address_of(customer, shipping)
    facts["update_address"] = answer(
        *call(Address.update, customer, shipping, {**ADDRESS, "city": "Tacoma"})
    )
    facts["updated_address"] = address_of(customer, shipping)
    facts["full"] = profile_of(customer)

    def charge_profile(which):
        order = {"invoice_number": "customer-1"}
        return outcome(
            Transaction.sale,
            {"amount": 17.00, "customer_id": which, "payment_id": payment, "order": order},
        )

    facts["charge"] = charge_profile(customer)
    facts["charge_details"] = details(facts["charge"]["trans_id"])
    facts["charge_nobody"] = charge_profile("1")
    facts["credit"] = outcome(
        Transaction.credit, {"amount": 3.00, "customer_id": customer, "payment_id": payment}
    )
    source = charge(18.00, "customer-2", email="from@example.com")
    made, raised = call(Customer.from_transaction, source["trans_id"])
    facts["from_transaction"] = {**answer(made, raised), "email": None}
    if dig(made, "customer_id"):
        facts["from_transaction"]["email"] = profile_of(dig(made, "customer_id"))["email"]
    for name, method, ids in (
        ("address", Address.delete, (customer, shipping)),
        ("payment", CreditCard.delete, (customer, payment)),
        ("customer", Customer.delete, (customer,)),
    ):
        facts[f"delete_{name}"] = answer(*call(method, *ids))
        facts[f"delete_{name}_again"] = answer(*call(method, *ids))
    facts["gone"] = answer(*call(Customer.details, customer))
    return facts


def subscriptions(simulator):
    plan = {
        "name": "Robot plan",
        "amount": 29.90,
        "interval_length": 1,
        "interval_unit": "months",
        "start_date": (TODAY + timedelta(30)).isoformat(),
        "total_occurrences": 10,
        "trial_amount": 1.00,
        "trial_occurrences": 1,
        "credit_card": MASTERCARD,
        "billing": ADDRESS,
        "order": {"invoice_number": "sub-1", "description": "Robots"},
    }

    def status(which):
        said, raised = call(Recurring.details, which)
        return {**answer(said, raised), "status": dig(said, "status")}

    def listed(search):
        said, _ = call(
            Recurring.list,
            {
                "search_type": search,
                "sorting": {"order_by": "id", "order_descending": False},
                "paging": {"offset": 1, "limit": 100},
            },
        )
        rows = many(dig(said, "subscription_details", "subscription_detail"))
        return [dig(row, "id") for row in rows]

    created, raised = call(Recurring.create, plan)
    subscription = dig(created, "subscription_id")
    return {
        "create": {**answer(created, raised), "subscription": subscription},
        "duplicate": answer(*call(Recurring.create, plan)),
        "status": status(subscription),
        "update": answer(*call(Recurring.update, subscription, {"amount": 31.50})),
        "active": listed("subscriptionActive"),
        "cancel": answer(*call(Recurring.delete, subscription)),
        "cancel_again": answer(*call(Recurring.delete, subscription)),
        "cancelled": status(subscription),
        "inactive": listed("subscriptionInactive"),
        "late_update": answer(*call(Recurring.update, subscription, {"amount": 32.50})),
        "unknown": status("1"),
    }


def reporting(simulator):
    def transactions(*arguments):
        said, _ = call(Transaction.list, *arguments)
        return [
            {
                "trans_id": dig(row, "trans_id"),
                "status": dig(row, "transaction_status"),
                "invoice": dig(row, "invoice_number"),
                "amount": dig(row, "settle_amount"),
            }
            for row in many(dig(said, "transactions"))
        ]

    nothing = {**answer(*call(Transaction.list)), "rows": transactions()}
    first, second = charge(10.00, "report-1"), charge(20.25, "report-2")
    unsettled = transactions()
    simulator.settle()
    back = refund(first["trans_id"], 4.00)
    after = transactions()
    batches, _ = call(Batch.list)
    batch = dig(batches, "batch_list", 0)
    batch_id = dig(batch, "batch_id")
    statistics, _ = call(Batch.details, batch_id)
    counted = dig(statistics, "batch", "statistics", 0)
    return {
        "sales": [first["trans_id"], second["trans_id"]],
        "unsettled": unsettled,
        "after": after,
        "refund": back["trans_id"],
        "batches": len(many(dig(batches, "batch_list"))),
        "batch_state": dig(batch, "settlement_state"),
        "in_batch": transactions(batch_id),
        "charges": dig(counted, "charge_count"),
        "charged": dig(counted, "charge_amount"),
        "nothing": nothing,
        "no_number": answer(*call(Transaction.list, "Bad batch ID")),
        "half_a_span": answer(*call(Batch.list, {"start": "2026-01-01"})),
        "old_span": answer(*call(Batch.list, {"start": "2012-05-01", "end": "2012-05-31"})),
        "unknown": answer(*call(Transaction.details, "1")),
    }


def credentials(simulator):
    Configuration.configure(simulator.wire, simulator.login, "not-the-key")
    return {"wrong": answer(*call(Customer.list)), "charge": charge(10.00, "credentials-1")}


SCENARIOS = {
    done.__name__: done
    for done in (
        sale, capture, partial_capture, void, refunds, decline, duplicate, held, echeck,
        customers, subscriptions, reporting, credentials,
    )
}  # fmt: skip
