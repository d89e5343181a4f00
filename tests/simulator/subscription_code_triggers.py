"""The codes of subscriptions. Importing this module adds them to `code_triggers`."""

from collections.abc import Callable
from typing import Any

from simulator.code_triggers import RAISED, START, Answer, raises
from simulator.customers import add_address, stored
from simulator.merchant_client import Merchant, card
from simulator.parts import bank
from simulator.subscriber import plan

NOW = "2039-12-01T18:00:00Z"
"""The clock must be set to this before the first of these."""
_DAY_BEFORE, _NEXT_DAY, _DAY_AFTER = "2039-11-30", "2039-12-02", "2039-12-03T18:00:00Z"
_LATER = "2041-02-01"
_IN_USE = "is associated with an active or suspended subscription and cannot be deleted."


def planned(start: str = START, leave_out: str = "", **said: Any) -> dict[str, Any]:
    """Return a subscription without the part at the path `leave_out`."""
    found = plan(start, **said)
    *path, last = leave_out.split(".") if leave_out else ("",)
    inner = found
    for step in path:
        inner = inner[step]
    inner.pop(last, None)
    return found


def create(shop: Merchant, subscription: dict[str, Any]) -> Answer:
    return shop.call("ARBCreateSubscriptionRequest", subscription=subscription)


REFUSED: dict[str, dict[str, Any]] = {}
"""By code: a subscription that is refused with it."""


def refused(code: str, text: str, start: str = START, leave_out: str = "", **said: Any) -> None:
    REFUSED[code] = planned(start, leave_out, **said)
    RAISED[code] = (lambda shop: create(shop, REFUSED[code]), text)


refused("E00013", "Amount is invalid.", amount="1.005")
refused("E00016", "The field type is invalid.", payment={"payPal": {}})
refused("E00017", "Start Date must not occur before the submission date.", _DAY_BEFORE)
refused("E00018", "Credit Card expires before the start of the subscription.", _LATER)
refused("E00022", "The interval length cannot exceed 365 days or 12 months.", length=13)
refused("E00023", "The subscription duration cannot exceed three years.", length=12, total=9998)
refused(
    "E00024", "Trial Occurrences is required when Trial Amount is specified.", trial=(None, "1.00")
)
refused("E00026", "Both Trial Amount and Trial Occurrences are required.", trial=(1, None))
refused(
    "E00028", "Trial Occurrences must be less than Total Occurrences.", total=3, trial=(3, "1.00")
)
refused("E00029", "Payment information is required.", leave_out="payment")
refused("E00030", "The payment schedule is required.", leave_out="paymentSchedule")
refused("E00031", "The amount is required.", leave_out="amount")
refused("E00032", "The start date is required.", leave_out="paymentSchedule.startDate")


def not_taken(setting: str, value: Any, payment: dict[str, Any]) -> Callable[[Merchant], Answer]:
    def ask(shop: Merchant) -> Answer:
        shop.settings(**{setting: value})
        return create(shop, planned(payment=payment))

    return ask


RAISED["E00020"] = (
    not_taken("echeck", False, bank()),
    "The payment gateway account is not enabled for eCheck.Net subscriptions.",
)
RAISED["E00021"] = (
    not_taken("card_types", [], card()),
    "The payment gateway account is not enabled for credit card subscriptions.",
)


@raises(
    "E00012",
    "You have submitted a duplicate of Subscription {id}. A duplicate subscription will not be"
    " created.",
)
def the_same_subscription_twice(shop: Merchant) -> Answer:
    number = create(shop, planned())["subscriptionId"]
    return create(shop, planned()) | {"id": number}


def changed(**changes: Any) -> Callable[[Merchant], Answer]:
    def update(shop: Merchant) -> Answer:
        number = create(shop, planned())["subscriptionId"]
        return shop.call(
            "ARBUpdateSubscriptionRequest", subscriptionId=number, subscription=changes
        )

    return update


RAISED["E00033"] = (
    changed(paymentSchedule={"startDate": _LATER}),
    "The start date cannot be changed.",
)
RAISED["E00034"] = (
    changed(paymentSchedule={"interval": {"length": 2, "unit": "months"}}),
    "The interval information cannot be changed.",
)
RAISED["E00036"] = changed(payment=bank()), "The payment type cannot be changed."
RAISED["E00035"] = (
    lambda shop: shop.call("ARBGetSubscriptionStatusRequest", subscriptionId="1"),
    "The subscription cannot be found.",
)


def after_the_end(
    method: str, *, expired: bool = False, **said: Any
) -> Callable[[Merchant], Answer]:
    """A request for a canceled subscription, or for one after its last payment."""

    def ask(shop: Merchant) -> Answer:
        if expired:
            number = create(shop, planned(_NEXT_DAY, total=1))["subscriptionId"]
            shop.process.control("/clock", {"now": _DAY_AFTER, "stopped": True})
        else:
            number = create(shop, planned())["subscriptionId"]
            shop.call("ARBCancelSubscriptionRequest", subscriptionId=number)
        return shop.call(method, subscriptionId=number, **said)

    return ask


RAISED["I00002"] = (
    after_the_end("ARBCancelSubscriptionRequest"),
    "The subscription has already been canceled.",
)
RAISED["E00037"] = (
    after_the_end("ARBUpdateSubscriptionRequest", subscription={"name": "Zinc"}),
    "Subscriptions that are canceled cannot be updated.",
)
RAISED["E00038"] = (
    after_the_end("ARBCancelSubscriptionRequest", expired=True),
    "Subscriptions that are expired cannot be canceled.",
)


@raises("E00091", "PaymentProfileId cannot be sent with payment data.")
def a_card_beside_a_stored_one(shop: Merchant) -> Answer:
    profile_id, payment_id = stored(shop)
    profile = {"customerProfileId": profile_id, "customerPaymentProfileId": payment_id}
    return create(shop, planned() | {"profile": profile})


def in_use(method: str, *names: str) -> Callable[[Merchant], Answer]:
    """Delete a profile, payment profile or address that a subscription uses."""

    def delete(shop: Merchant) -> Answer:
        profile_id, payment_id = stored(shop)
        ids = {"customerProfileId": profile_id, "customerPaymentProfileId": payment_id}
        ids |= add_address(shop, profile_id)
        used = {name: ids[name] for name in (*ids,) if name.startswith("customer")}
        create(shop, planned(profile=used))
        return shop.call(method, **{name: ids[name] for name in names})

    return delete


RAISED["E00105"] = (
    in_use("deleteCustomerPaymentProfileRequest", "customerProfileId", "customerPaymentProfileId"),
    f"The specified payment profile {_IN_USE}",
)
RAISED["E00106"] = (
    in_use("deleteCustomerProfileRequest", "customerProfileId"),
    f"The specified customer profile {_IN_USE}",
)
RAISED["E00107"] = (
    in_use("deleteCustomerShippingAddressRequest", "customerProfileId", "customerAddressId"),
    f"The specified shipping profile {_IN_USE}",
)
