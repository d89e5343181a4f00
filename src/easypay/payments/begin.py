"""From what a merchant asks to the rows and the request that mean it. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import msgspec

from easypay import ids
from easypay.card_numbers import brand_of
from easypay.merchants.model import Caller
from easypay.payments.model import Operation, Payment
from easypay.payments.requests import (
    AcceptTokenMethod,
    BankAccountMethod,
    CardMethod,
    CreatePayment,
)
from easypay.processors.base import (
    AcceptToken,
    Account,
    Address,
    AuthorizeRequest,
    BankAccount,
    Card,
    StoredCredential,
)

_json = msgspec.json.Encoder()


def new_payment(
    caller: Caller, body: CreatePayment, processor: str, at: datetime
) -> tuple[Payment, Operation]:
    """A payment and the operation that makes it, as `begin` writes them."""
    payment_id, operation_id = ids.new_id(), ids.new_id()
    method_type, brand, last4, exp_month, exp_year = _snapshot(body)
    kind = "sale" if body.capture == "automatic" else "authorize"
    payment = Payment(
        merchant_id=caller.merchant_id,
        id=payment_id,
        mode=caller.mode,
        status="processing",
        amount_minor=body.amount,
        authorized_minor=0,
        captured_minor=0,
        refunded_minor=0,
        refund_reserved_minor=0,
        version=1,
        currency=body.currency,
        capture=body.capture,
        active_operation=operation_id,
        method_type=method_type,
        card_brand=brand,
        card_last4=last4,
        card_exp_month=exp_month,
        card_exp_year=exp_year,
        decline_code=None,
        processor=processor,
        transaction_id=None,
        network_transaction_id=None,
        auth_code=None,
        avs_result=None,
        cvv_result=None,
        processor_code=None,
        processor_message=None,
        order_reference=body.order_reference,
        customer_reference=_customer_reference(body),
        description=body.description,
        statement_descriptor=body.statement_descriptor,
        metadata=text(body.metadata) if body.metadata else None,
        settled_at=None,
        created_at=at,
        updated_at=at,
        avs_word=None,
        cvv_word=None,
        retry=None,
        login_id=None if caller.login is None else caller.login.id,
    )
    return payment, new_operation(payment, operation_id, kind, body.amount, at)


def _snapshot(body: CreatePayment) -> tuple[str, str | None, str | None, int | None, int | None]:
    """What is remembered of the way of paying: type, brand, last four, month and year of expiry."""
    method = body.payment_method
    if isinstance(method, CardMethod):
        card = method.card
        return "card", brand_of(card.number), card.number[-4:], card.exp_month, card.exp_year
    if isinstance(method, BankAccountMethod):
        return "bank_account", "echeck", method.bank_account.account_number[-4:], None, None
    return "accept_token", None, None, None, None


def numbers_of(body: CreatePayment) -> str | None:
    """What tells one card or bank account from another, to be hashed. None of a token."""
    method = body.payment_method
    if isinstance(method, CardMethod):
        return method.card.number
    if isinstance(method, BankAccountMethod):
        return f"{method.bank_account.routing_number}:{method.bank_account.account_number}"
    return None


def new_operation(
    payment: Payment, operation_id: UUID, kind: str, amount_minor: int, at: datetime
) -> Operation:
    """An operation in flight, as `begin` writes it."""
    return Operation(
        merchant_id=payment.merchant_id,
        id=operation_id,
        payment_id=payment.id,
        mode=payment.mode,
        kind=kind,
        state="in_flight",
        attempt=1,
        amount_minor=amount_minor,
        currency=payment.currency,
        reference=ids.reference(operation_id),
        parent_transaction_id=payment.transaction_id,
        transaction_id=None,
        auth_code=None,
        decline_code=None,
        processor_code=None,
        processor_message=None,
        evidence=None,
        processor_us=None,
        reply_status=None,
        reply_body=None,
        begun_at=at,
        finished_at=None,
        voided=False,
        retry=None,
        gives_back=None,
    )


def authorize_request(
    account: Account, operation: Operation, body: CreatePayment
) -> AuthorizeRequest:
    """What the processor is asked. Holds the card for the length of the call."""
    address = body.billing_address
    customer = body.customer
    return AuthorizeRequest(
        account=account,
        reference=operation.reference,
        amount_minor=body.amount,
        currency=body.currency,
        capture=operation.kind == "sale",
        method=_method(body),
        description=body.description,
        statement_descriptor=body.statement_descriptor,
        customer_reference=_customer_reference(body),
        customer_email=None if customer is None else customer.email,
        customer_ip=None if customer is None else customer.ip_address,
        order_reference=body.order_reference,
        billing_address=None if address is None else Address(**msgspec.structs.asdict(address)),
        stored_credential=_stored_credential(body),
    )


def _method(body: CreatePayment) -> Card | AcceptToken | BankAccount:
    match body.payment_method:
        case CardMethod(card):
            return Card(
                number=card.number,
                exp_month=card.exp_month,
                exp_year=card.exp_year,
                cvc=card.cvc,
            )
        case BankAccountMethod(account):
            return BankAccount(
                account_type=_ACCOUNT_TYPES[account.account_type],
                routing_number=account.routing_number,
                account_number=account.account_number,
                name_on_account=account.name_on_account,
            )
        case AcceptTokenMethod(token):
            return AcceptToken(descriptor=token.data_descriptor, value=token.data_value)


_ACCOUNT_TYPES: Final[Mapping[str, Literal["checking", "savings", "businessChecking"]]] = {
    "checking": "checking",
    "savings": "savings",
    "business_checking": "businessChecking",
}


def _stored_credential(body: CreatePayment) -> StoredCredential | None:
    told = body.stored_credential
    if told is None:
        return None
    return StoredCredential(
        initiator=told.initiator,
        first=told.first,
        recurring=told.recurring,
        network_transaction_id=told.network_transaction_id,
    )


def _customer_reference(body: CreatePayment) -> str | None:
    if body.customer_reference is None and body.customer is not None:
        return body.customer.reference
    return body.customer_reference


def text(value: object) -> str | None:
    """A value as the JSON a jsonb column takes."""
    return None if value is None else _json.encode(value).decode()
