"""Example requests to a customer vault: a Visa stored for a new customer, and what follows."""

from typing import Any

from easypay.ids import new_id, reference
from easypay.processors.base import Account, Address, BankAccount, Card
from easypay.processors.customer_vault import (
    MethodIds,
    StoreFromTransactionRequest,
    StoreRequest,
    UpdateRequest,
)

from .example_requests import VISA

ADA = Address(
    first_name="Ada", last_name="King", line1="1 Mill Rd", city="Portland", postal_code="98004"
)
BANK = BankAccount(
    account_type="checking",
    routing_number="121042882",
    account_number="123456789",
    name_on_account="Ada King",
)


def visa(**over: Any) -> Card:
    return Card(**{"number": VISA, "exp_month": 12, "exp_year": 2035, **over})


def store(account: Account, **over: Any) -> StoreRequest:
    """Return a request to store a Visa in a new profile, under a new reference."""
    fields: dict[str, Any] = {
        "account": account,
        "reference": reference(new_id()),
        "customer_profile_id": None,
        "method": visa(),
        "email": "ada@example.test",
        "description": "Customer 17",
        "billing_address": ADA,
    }
    return StoreRequest(**{**fields, **over})


def store_from(account: Account, transaction_id: str, **over: Any) -> StoreFromTransactionRequest:
    fields: dict[str, Any] = {
        "account": account,
        "reference": reference(new_id()),
        "customer_profile_id": None,
        "transaction_id": transaction_id,
    }
    return StoreFromTransactionRequest(**{**fields, **over})


def update(account: Account, ids: MethodIds, **over: Any) -> UpdateRequest:
    return UpdateRequest(account=account, ids=ids, **over)
