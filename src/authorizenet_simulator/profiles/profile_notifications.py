"""Sends the webhook notifications of customer profiles and payment profiles.

Creating or deleting a customer with its payment profiles sends one notification. Shipping
addresses send none.
"""

from functools import partial
from typing import Any, Literal

from authorizenet_simulator.profiles.profile_reader import tree
from authorizenet_simulator.state.customer_profiles import PaymentProfile, Profile
from authorizenet_simulator.state.ledger import Ledger

Done = Literal["created", "updated", "deleted"]


def customer(ledger: Ledger, login: str, profile: Profile, done: Done) -> None:
    """Notify that a customer profile was created, updated or deleted."""
    ledger.notify(login, f"net.authorize.customer.{done}", partial(_customer, profile))


def payment_profile(
    ledger: Ledger, login: str, profile: Profile, payment: PaymentProfile, done: Done
) -> None:
    """Notify that a payment profile of an existing customer was created, updated or deleted."""
    ledger.notify(
        login,
        f"net.authorize.customer.paymentProfile.{done}",
        partial(_payment_profile, profile, payment),
    )


def _customer(profile: Profile) -> dict[str, Any]:
    return {
        "paymentProfiles": [
            {"id": str(each.payment_id), "customerType": _customer_type(each)}
            for each in profile.payments
        ],
        "merchantCustomerId": profile.merchant_customer_id,
        "description": profile.description,
        "entityName": "customerProfile",
        "id": str(profile.profile_id),
    }


def _payment_profile(profile: Profile, payment: PaymentProfile) -> dict[str, Any]:
    return {
        "customerProfileId": profile.profile_id,
        "entityName": "customerPaymentProfile",
        "id": str(payment.payment_id),
        "customerType": _customer_type(payment),
    }


def _customer_type(payment: PaymentProfile) -> str:
    kept = tree(payment.details) if payment.details else {}
    return str(kept.get("customerType", "individual"))
