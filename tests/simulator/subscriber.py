"""Helpers: a merchant with subscriptions and a stopped clock."""

from typing import Any

from simulator.customers import code
from simulator.durable import Durable
from simulator.merchant_client import Merchant, Process, card

JANE = {"firstName": "Jane", "lastName": "Doe"}


def plan(
    start: str,
    *,
    name: str = "Gold",
    length: int = 1,
    unit: str = "months",
    total: int = 9999,
    amount: str | None = "10.00",
    trial: tuple[int | None, str | None] = (None, None),
    payment: dict[str, Any] | None = None,
    invoice: str = "sub-1",
    bill_to: dict[str, str] | None = None,
    **profile: Any,
) -> dict[str, Any]:
    """Return a subscription in the order of the schema."""
    occurrences, trial_amount = trial
    schedule: dict[str, Any] = {
        "interval": {"length": length, "unit": unit},
        "startDate": start,
        "totalOccurrences": total,
    }
    if occurrences is not None:
        schedule["trialOccurrences"] = occurrences
    said: dict[str, Any] = {"name": name, "paymentSchedule": schedule}
    if amount is not None:
        said["amount"] = amount
    if trial_amount is not None:
        said["trialAmount"] = trial_amount
    if not profile:
        said["payment"] = payment or card()
    said["order"] = {"invoiceNumber": invoice}
    if not profile:
        said["billTo"] = bill_to or JANE
    return said | profile


class Subscriber:
    """A merchant's subscriptions, with a stopped clock."""

    def __init__(self, process: Process | Durable, now: str = "2027-01-10T18:00:00Z") -> None:
        self.shop: Merchant = process.merchant()
        self.drive(now)

    @property
    def process(self) -> Process:
        return self.shop.process

    def drive(self, now: str) -> None:
        self.process.control("/clock", {"now": now, "stopped": True})

    def create(self, start: str, **said: Any) -> str:
        answer = self.ask(plan(start, **said))
        assert code(answer) == "I00001", answer
        found: str = answer["subscriptionId"]
        return found

    def ask(self, subscription: dict[str, Any]) -> dict[str, Any]:
        return self.shop.call("ARBCreateSubscriptionRequest", subscription=subscription)

    def update(self, number: str, **changes: Any) -> str:
        return code(
            self.shop.call(
                "ARBUpdateSubscriptionRequest", subscriptionId=number, subscription=changes
            )
        )

    def cancel(self, number: str) -> str:
        return code(self.shop.call("ARBCancelSubscriptionRequest", subscriptionId=number))

    def status(self, number: str) -> str:
        found: str = self.shop.call("ARBGetSubscriptionStatusRequest", subscriptionId=number)[
            "status"
        ]
        return found

    def payments(self, number: str) -> list[dict[str, Any]]:
        answer = self.shop.call(
            "ARBGetSubscriptionRequest", subscriptionId=number, includeTransactions=True
        )
        found: list[dict[str, Any]] = answer["subscription"]["arbTransactions"]
        return found

    def moments(self, number: str) -> list[str]:
        return [each["submitTimeUTC"] for each in self.payments(number)]

    def listed(self, search: str, **asked: Any) -> list[str]:
        answer = self.shop.call("ARBGetSubscriptionListRequest", searchType=search, **asked)
        return [str(each["id"]) for each in answer.get("subscriptionDetails", [])]


def stored(shop: Merchant, bill_to: dict[str, str] = JANE, **pays: Any) -> dict[str, str]:
    """Store a customer profile with one payment profile."""
    answer = shop.call(
        "createCustomerProfileRequest",
        profile={
            "email": f"{len(bill_to)}@shop.example",
            "paymentProfiles": {"billTo": bill_to, "payment": pays or card()},
        },
    )
    return {
        "customerProfileId": answer["customerProfileId"],
        "customerPaymentProfileId": answer["customerPaymentProfileIdList"][0],
    }
