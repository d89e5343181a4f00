"""From what a merchant asks to the rows and the request that mean it. Pure."""

from datetime import datetime
from uuid import UUID

import msgspec

from easypay import ids
from easypay.merchants.model import Caller
from easypay.payments.cards import brand_of
from easypay.payments.model import Operation, Payment
from easypay.payments.requests import AcceptTokenMethod, CardMethod, CreatePayment
from easypay.processors.base import AcceptToken, Account, Address, AuthorizeRequest, Card

_json = msgspec.json.Encoder()


def new_payment(
    caller: Caller, body: CreatePayment, processor: str, at: datetime
) -> tuple[Payment, Operation]:
    """A payment and the operation that makes it, as `begin` writes them."""
    payment_id, operation_id = ids.new_id(), ids.new_id()
    method = body.payment_method
    card = method.card if isinstance(method, CardMethod) else None
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
        method_type="accept_token" if card is None else "card",
        card_brand=None if card is None else brand_of(card.number),
        card_last4=None if card is None else card.number[-4:],
        card_exp_month=None if card is None else card.exp_month,
        card_exp_year=None if card is None else card.exp_year,
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
        avs=None,
        cvv=None,
        retry=None,
    )
    return payment, new_operation(payment, operation_id, kind, body.amount, at)


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
    )


def authorize_request(
    account: Account, operation: Operation, body: CreatePayment
) -> AuthorizeRequest:
    """What the processor is asked. Holds the card for the length of the call."""
    method = body.payment_method
    address = body.billing_address
    customer = body.customer
    return AuthorizeRequest(
        account=account,
        reference=operation.reference,
        amount_minor=body.amount,
        currency=body.currency,
        capture=operation.kind == "sale",
        method=(
            AcceptToken(
                descriptor=method.accept_token.data_descriptor,
                value=method.accept_token.data_value,
            )
            if isinstance(method, AcceptTokenMethod)
            else Card(
                number=method.card.number,
                exp_month=method.card.exp_month,
                exp_year=method.card.exp_year,
                cvc=method.card.cvc,
            )
        ),
        description=body.description,
        statement_descriptor=body.statement_descriptor,
        customer_reference=_customer_reference(body),
        customer_email=None if customer is None else customer.email,
        customer_ip=None if customer is None else customer.ip_address,
        order_reference=body.order_reference,
        billing_address=None
        if address is None
        else Address(**{name: getattr(address, name) for name in address.__struct_fields__}),
    )


def _customer_reference(body: CreatePayment) -> str | None:
    if body.customer_reference is None and body.customer is not None:
        return body.customer.reference
    return body.customer_reference


def text(value: object) -> str | None:
    """A value as the JSON a jsonb column takes."""
    return None if value is None else _json.encode(value).decode()
