"""A shop that uses Py-Authorize.

It has no calls for held transactions, merchant details, nonces, hosted pages or `authenticateTest`.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from interop.shop import ClientProcess, Shop, answer, details, dig, many, outcome
from simulator.merchant_client import Merchant

TODAY = datetime.now(UTC).date()
EXPIRY = f"12/{TODAY.year + 3}"
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


class PyAuthorizeShop(Shop):
    DELETED: Final[dict[str, str]] = {}
    """Most successful deletions return nothing."""

    def __init__(self, process: ClientProcess, merchant: Merchant) -> None:
        """Answer as the sandbox did in 2014: Py-Authorize's tests compare with those answers."""
        super().__init__(process, merchant)
        merchant.settings(payment_kind_told=False)

    def send(self, method: str, *arguments: Any) -> Any:
        return self.call(method, arguments)

    # payments

    def charge(
        self,
        amount: str,
        invoice: str,
        kind: str = "sale",
        zip_code: str = "98004",
        **fields: Any,
    ) -> dict[str, Any]:
        payment = {} if "bank_account" in fields else {"credit_card": CARD}
        request = {
            "amount": amount,
            "order": {"invoice_number": invoice, "description": "Robot parts"},
            "billing": {**ADDRESS, "zip": zip_code},
        }
        return outcome(self.send(f"Transaction.{kind}", {**request, **payment, **fields}))

    def sale_with_everything(self) -> dict[str, Any]:
        part = {"name": "part", "quantity": 2, "unit_price": 5.25}
        return self.charge(
            "21.00",
            "sale-1",
            line_items=[{"item_id": number, **part} for number in ("1", "2")],
            tax={"amount": 1.05, "name": "VAT"},
            email="ada@example.com",
            shipping=ADDRESS,
            customer_ip="192.0.2.1",
            tax_exempt=False,
        )

    def authorize(self, amount: str, invoice: str) -> dict[str, Any]:
        return self.charge(amount, invoice, "auth")

    def charge_bank(self, amount: str, invoice: str, routing: str = "322271627") -> dict[str, Any]:
        return self.charge(amount, invoice, bank_account={**BANK, "routing_number": routing})

    def capture(self, trans_id: str, amount: str | None = None) -> dict[str, Any]:
        return outcome(self.send("Transaction.settle", trans_id, *([amount] if amount else [])))

    def void(self, trans_id: str) -> dict[str, Any]:
        return outcome(self.send("Transaction.void", trans_id))

    def refund(self, trans_id: str, amount: str) -> dict[str, Any]:
        request = {"amount": amount, "transaction_id": trans_id, "last_four": "1111"}
        return outcome(self.send("Transaction.refund", request))

    def details(self, trans_id: str) -> dict[str, Any]:
        return details(self.send("Transaction.details", trans_id))

    # customers

    def create_customer(self) -> dict[str, Any]:
        profile = {
            "merchant_id": "c-77",
            "description": "Tom & Jerry <Ltd>",
            "email": "tom@example.com",
            "credit_card": CARD,
        }
        made = self.send("Customer.create", profile)
        payments = many(dig(made, "payment_ids"))
        return {**answer(made), "id": dig(made, "customer_id"), "payments": payments}

    def customers(self) -> list[str]:
        return many(dig(self.send("Customer.list"), "profile_ids"))

    def customer(self, customer: str) -> dict[str, Any]:
        reply = self.send("Customer.details", customer)
        found = dig(reply, "profile") or {}
        counts = {name: len(many(found.get(name))) for name in ("payments", "addresses")}
        return {**found, **answer(reply), **counts}

    def update_customer(self, customer: str, email: str, description: str) -> dict[str, Any]:
        changed = {"merchant_id": "c-77", "description": description, "email": email}
        return answer(self.send("Customer.update", customer, changed))

    def add_payment(self, customer: str) -> dict[str, Any]:
        reply = self.send("CreditCard.create", customer, {**MASTERCARD, "billing": ADDRESS})
        return {**answer(reply), "id": dig(reply, "payment_id")}

    def payment(self, customer: str, payment: str) -> dict[str, Any]:
        reply = self.send("CreditCard.details", customer, payment)
        found = dig(reply, "payment_profile")
        kept = dig(found, "payment", "credit_card") or {}
        city = dig(found, "bill_to", "city")
        return {**kept, **answer(reply), "city": city, "profile": found}

    def update_payment(
        self, customer: str, payment: str, city: str, mask: str = "0015"
    ) -> dict[str, Any]:
        changed = {"card_number": mask, "expiration_date": f"01/{TODAY.year + 4}"}
        billing = {**ADDRESS, "city": city}
        return answer(
            self.send("CreditCard.update", customer, payment, {**changed, "billing": billing})
        )

    def validate(self, customer: str, payment: str) -> dict[str, Any]:
        mode = {"card_code": "900", "validation_mode": "liveMode"}
        return answer(self.send("CreditCard.validate", customer, payment, mode))

    def delete_payment(self, customer: str, payment: str) -> dict[str, Any]:
        return answer(self.send("CreditCard.delete", customer, payment))

    def add_address(self, customer: str) -> dict[str, Any]:
        reply = self.send("Address.create", customer, ADDRESS)
        return {**answer(reply), "id": dig(reply, "address_id")}

    def address(self, customer: str, kept: str) -> dict[str, Any]:
        reply = self.send("Address.details", customer, kept)
        return {**answer(reply), "city": dig(reply, "address", "city")}

    def update_address(self, customer: str, kept: str, city: str) -> dict[str, Any]:
        return answer(self.send("Address.update", customer, kept, {**ADDRESS, "city": city}))

    def delete_address(self, customer: str, kept: str) -> dict[str, Any]:
        return answer(self.send("Address.delete", customer, kept))

    def delete_customer(self, customer: str) -> dict[str, Any]:
        return answer(self.send("Customer.delete", customer))

    def charge_customer(self, customer: str, payment: str, kind: str = "sale") -> dict[str, Any]:
        order = {} if kind == "credit" else {"order": {"invoice_number": "customer-1"}}
        request = {"amount": 17.00, "customer_id": customer, "payment_id": payment, **order}
        return outcome(self.send(f"Transaction.{kind}", request))

    # subscriptions

    def subscribe(self) -> dict[str, Any]:
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
        reply = self.send("Recurring.create", plan)
        return {**answer(reply), "id": dig(reply, "subscription_id")}

    def subscription_status(self, which: str) -> dict[str, Any]:
        reply = self.send("Recurring.details", which)
        return {**answer(reply), "status": dig(reply, "status")}

    def reprice(self, which: str, amount: str) -> dict[str, Any]:
        return answer(self.send("Recurring.update", which, {"amount": amount}))

    def cancel(self, which: str) -> dict[str, Any]:
        return answer(self.send("Recurring.delete", which))

    def subscriptions(self, search: str) -> list[str]:
        asked = {
            "search_type": search,
            "sorting": {"order_by": "id", "order_descending": False},
            "paging": {"offset": 1, "limit": 100},
        }
        rows = many(
            dig(self.send("Recurring.list", asked), "subscription_details", "subscription_detail")
        )
        return [row["id"] for row in rows]

    # reports

    def unsettled(self) -> dict[str, Any]:
        reply = self.send("Transaction.list")
        return {**answer(reply), "rows": many(dig(reply, "transactions"))}

    def batches(self) -> list[dict[str, Any]]:
        return many(dig(self.send("Batch.list"), "batch_list"))

    def in_batch(self, batch: str) -> list[dict[str, Any]]:
        return many(dig(self.send("Transaction.list", batch), "transactions"))

    def statistics(self, batch: str) -> dict[str, Any]:
        found: dict[str, Any] = dig(self.send("Batch.details", batch), "batch", "statistics", 0)
        return found

    def authenticate(self) -> dict[str, Any]:
        """The nearest call that Py-Authorize has."""
        return answer(self.send("Customer.list"))
