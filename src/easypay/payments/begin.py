"""Turn a merchant's request into the rows of its intent and the request to the processor.

Pure. `flows` calls this before anything is written or sent.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, assert_never
from uuid import UUID

import msgspec

from easypay import ids
from easypay.card_numbers import brand_of
from easypay.customers.paying import PayableMethod
from easypay.merchants.model import Caller
from easypay.mode import Mode
from easypay.payment_details import PaymentDetails, details_of
from easypay.payments.model import Kind, Operation, Payment, State, Status
from easypay.payments.requests import (
    AcceptTokenMethod,
    BankAccountMethod,
    BillingAddress,
    CardMethod,
    CreatePayment,
    StoredPaymentMethod,
)
from easypay.processors.base import (
    AcceptToken,
    Account,
    Address,
    AuthorizeRequest,
    BankAccount,
    CaptureRequest,
    Card,
    FollowUpRequest,
    ProcessorAnswer,
    RefundRequest,
    ReviewRequest,
    StoredCredential,
    StoredMethod,
    VoidRequest,
)

_json = msgspec.json.Encoder()
_NO_ANSWER = ProcessorAnswer()
assert Address.__struct_fields__ == BillingAddress.__struct_fields__, "one is made from the other"


class Ask(msgspec.Struct, frozen=True, gc=False):
    """A money request: its caller, its idempotency key and the fingerprint of its content."""

    caller: Caller
    key: str
    fingerprint: bytes
    allow_duplicate: bool = False
    """Take the payment even if it looks like another one. Not part of the fingerprint."""
    operation_id: UUID | None = None
    """The id that the operation gets if it begins, for whoever must find it by that. Nobody may ask
    with the same one twice. None: a new one."""


class NewPayment(msgspec.Struct, frozen=True, gc=False):
    """A payment to begin: its rows, and the request data that only the database keeps."""

    key: str
    fingerprint: bytes
    payment: Payment
    operation: Operation
    card_fingerprint: bytes | None
    customer: str | None
    billing_address: str | None
    """`customer` and `billing_address` are JSON."""

    @property
    def merchant_id(self) -> UUID:
        return self.payment.merchant_id

    @property
    def payment_id(self) -> UUID:
        return self.payment.id

    @property
    def operation_id(self) -> UUID:
        return self.operation.id


class FollowUp(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A capture, void, refund or review to begin. Field order is follow_up_intent's."""

    merchant_id: UUID
    mode: Mode
    key: str
    fingerprint: bytes
    payment_id: UUID
    operation_id: UUID
    kind: Kind
    asked_minor: int | None
    """Capture: None means all that was authorized. Refund: the amount. Other kinds: None."""
    whole: bool
    """Refund all that is left: refused if that is no longer `asked_minor`."""
    expected_version: int | None
    reference: str
    at: datetime


def new_follow_up(
    ask: Ask, kind: Kind, payment_id: UUID, amount: int | None, version: int | None, at: datetime
) -> FollowUp:
    """Return the operation that a request asks for, under a new id. A refund without an amount, in
    minor units, is of all that is left. `version`: the only one of the payment that it accepts."""
    operation_id = ask.operation_id or ids.new_id()
    return FollowUp(
        merchant_id=ask.caller.merchant_id,
        mode=ask.caller.mode,
        key=ask.key,
        fingerprint=ask.fingerprint,
        payment_id=payment_id,
        operation_id=operation_id,
        kind=kind,
        asked_minor=amount,
        whole=kind is Kind.REFUND and amount is None,
        expected_version=version,
        reference=ids.reference(operation_id),
        at=at,
    )


def new_payment(
    ask: Ask,
    body: CreatePayment,
    processor: str,
    card_fingerprint: Callable[[str], bytes],
    at: datetime,
    stored: PayableMethod | None = None,
) -> NewPayment:
    """Return a payment and the operation that creates it, as they are written before the call.

    `stored`: the method that the body names, if it names one.
    """
    caller, operation_id = ask.caller, ask.operation_id or ids.new_id()
    method_type, brand, last4, exp_month, exp_year = _snapshot(body, stored)
    payment = Payment(  # by position, which is faster than by name: every payment comes here
        caller.merchant_id,
        ids.new_id(),
        caller.mode,
        Status.PROCESSING,
        body.amount,
        0,  # authorized
        0,  # captured
        0,  # refunded
        0,  # reserved for refunds
        1,  # version
        body.currency,
        body.capture,
        operation_id,
        method_type,
        brand,
        last4,
        exp_month,
        exp_year,
        processor,
        metadata=_text(body.metadata or None),
        settled_at=None,
        settlement_state=None,
        created_at=at,
        updated_at=at,
        login_id=None if caller.login is None else caller.login.id,
        possible_duplicate_of=None,
        customer_id=None if stored is None else stored.customer_id,
        payment_method_id=None if stored is None else stored.method_id,
        details=_details(body),
        answer=_NO_ANSWER,
    )
    kind = Kind.SALE if body.capture == "automatic" else Kind.AUTHORIZE
    number = _number_of(body)
    hashed = None if number is None else card_fingerprint(number)
    if stored is not None:
        hashed = _fingerprint_of(stored, card_fingerprint)
    return NewPayment(
        key=ask.key,
        fingerprint=ask.fingerprint,
        payment=payment,
        operation=new_operation(payment, operation_id, kind, body.amount, at),
        card_fingerprint=hashed,
        customer=_text(body.customer),
        billing_address=_text(body.billing_address),
    )


def _snapshot(
    body: CreatePayment, stored: PayableMethod | None
) -> tuple[str, str | None, str | None, int | None, int | None]:
    """Return what is stored of a payment method: type, brand, last four, expiry month and year."""
    method = body.payment_method
    if isinstance(method, CardMethod):
        card = method.card
        return "card", brand_of(card.number), card.number[-4:], card.exp_month, card.exp_year
    if isinstance(method, BankAccountMethod):
        return "bank_account", "echeck", method.bank_account.account_number[-4:], None, None
    if stored is not None:
        brand = "echeck" if stored.type == "bank_account" else stored.brand
        return stored.type, brand, stored.last4, stored.exp_month, stored.exp_year
    return "accept_token", None, None, None, None


def _number_of(body: CreatePayment) -> str | None:
    """Return the number that identifies a card or bank account, to be hashed. None for a token."""
    method = body.payment_method
    if isinstance(method, CardMethod):
        return method.card.number
    if isinstance(method, BankAccountMethod):
        return f"{method.bank_account.routing_number}:{method.bank_account.account_number}"
    return None


def _fingerprint_of(stored: PayableMethod, card_fingerprint: Callable[[str], bytes]) -> bytes:
    """Return what duplicates of a stored method are found by: the card's, or if its number was
    never known here, the method's own."""
    return stored.card_fingerprint or card_fingerprint(
        ids.typed(ids.PAYMENT_METHOD, stored.method_id)
    )


def new_operation(
    payment: Payment, operation_id: UUID, kind: Kind, amount_minor: int, at: datetime
) -> Operation:
    """Return an operation in flight, as it is written before the call."""
    return Operation(
        merchant_id=payment.merchant_id,
        id=operation_id,
        payment_id=payment.id,
        mode=payment.mode,
        kind=kind,
        state=State.IN_FLIGHT,
        attempt=1,
        amount_minor=amount_minor,
        currency=payment.currency,
        reference=ids.reference(operation_id),
        parent_transaction_id=payment.answer.transaction_id,
        begun_at=at,
    )


def authorize_request(
    account: Account,
    operation: Operation,
    payment: Payment,
    body: CreatePayment,
    stored: PayableMethod | None = None,
) -> AuthorizeRequest:
    """Return the request to the processor. It holds the card, so keep it only for the call.

    `payment` is the one that `body` asks for, as it was begun. `stored`: as in `new_payment`.
    """
    address = body.billing_address
    customer = body.customer
    return AuthorizeRequest(
        account=account,
        reference=operation.reference,
        amount_minor=body.amount,
        currency=body.currency,
        capture=operation.kind is Kind.SALE,
        method=_method(body, stored),
        details=payment.details,
        customer_email=None if customer is None else customer.email,
        customer_ip=None if customer is None else customer.ip_address,
        billing_address=None if address is None else Address(*msgspec.structs.astuple(address)),
        stored_credential=_stored_credential(body, stored),
    )


def follow_up_request(account: Account, operation: Operation, payment: Payment) -> FollowUpRequest:
    """Return the request to the processor for an operation on an existing payment."""
    transaction_id = payment.answer.transaction_id
    assert transaction_id is not None, "a payment without a transaction has no follow-ups"
    named: dict[str, Any] = {
        "account": account,
        "reference": operation.reference,
        "transaction_id": transaction_id,
    }
    money: dict[str, Any] = {"amount_minor": operation.amount_minor, "currency": operation.currency}
    match operation.kind:
        case Kind.CAPTURE:
            return CaptureRequest(**named, **money)
        case Kind.VOID:
            return VoidRequest(**named)
        case Kind.APPROVE | Kind.DECLINE:
            return ReviewRequest(**named, approve=operation.kind is Kind.APPROVE)
        case Kind.REFUND:
            return RefundRequest(
                **named,
                **money,
                card_last4=payment.card_last4 or "",
                method_type="bank_account" if payment.is_by_bank else "card",
                captured_minor=payment.voidable_minor,
            )
        case Kind.AUTHORIZE | Kind.SALE:
            raise AssertionError("an authorization is not a follow-up")
        case _:
            assert_never(operation.kind)


def _method(
    body: CreatePayment, stored: PayableMethod | None
) -> Card | AcceptToken | BankAccount | StoredMethod:
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
                account_type=account.account_type,
                routing_number=account.routing_number,
                account_number=account.account_number,
                name_on_account=account.name_on_account,
            )
        case AcceptTokenMethod(token):
            return AcceptToken(descriptor=token.data_descriptor, value=token.data_value)
        case StoredPaymentMethod(named):
            assert stored is not None, "a stored method is looked up before its payment begins"
            return StoredMethod(
                customer_profile_id=stored.ids.customer_profile_id,
                payment_profile_id=stored.ids.payment_profile_id,
                cvc=named.cvc,
            )


_BY_THE_CUSTOMER: Final = StoredCredential(initiator="customer", first=False, recurring=False)


def _stored_credential(
    body: CreatePayment, stored: PayableMethod | None
) -> StoredCredential | None:
    """Return what the card networks are told. A stored card is charged by its customer if the shop
    does not say otherwise; the first payment's id is the one that the method remembers."""
    credential = body.stored_credential
    if credential is None:
        return _BY_THE_CUSTOMER if stored is not None and stored.type == "card" else None
    network_id = credential.network_transaction_id
    if stored is not None and network_id is None and credential.initiator == "merchant":
        network_id = stored.network_transaction_id
    return StoredCredential(
        initiator=credential.initiator,
        first=credential.first,
        recurring=credential.recurring,
        network_transaction_id=network_id,
        reason=credential.reason,
    )


def _details(body: CreatePayment) -> PaymentDetails:
    details = details_of(body)
    if details.customer_reference is None and body.customer is not None:
        return msgspec.structs.replace(details, customer_reference=body.customer.reference)
    return details


def _text(value: object) -> str | None:
    """Return a value as JSON for a jsonb column."""
    return None if value is None else _json.encode(value).decode()
