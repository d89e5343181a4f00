"""Customers and stored payment methods over HTTP, under scopes of their own."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from easypay import clock, ids
from easypay.api.auth import caller_of
from easypay.api.conditional import PRIVATE, version_of, version_tag
from easypay.api.customer_bodies import (
    CONTROL,
    DAY,
    CreateCustomer,
    EraseCustomer,
    PaymentMethodOfPayment,
    StorePaymentMethod,
    UpdateCustomer,
    UpdatePaymentMethod,
    ValidatePaymentMethod,
    ValidityView,
    check_change,
    check_texts,
    fields_of,
    metadata_json,
    text_errors,
    without_cvc,
)
from easypay.api.http import Headers, Request, Response, decode, encode, invalid_query
from easypay.api.idempotency import canonical, fingerprint, key_of
from easypay.api.paging import Cursors, limit_of, newest_id, page_response
from easypay.customers import erasure_views, store
from easypay.customers.erasure import Eraser
from easypay.customers.erasure_rows import ErasureRequest
from easypay.customers.flows import Customers, Kept, MethodRefused
from easypay.customers.model import (
    Asked,
    Customer,
    Failure,
    FromPayment,
    Method,
    MethodChange,
    NewMethod,
    State,
)
from easypay.customers.refusals import NEW_KEY, why_failed
from easypay.customers.views import customer_view, failure_of, method_view
from easypay.errors import (
    EasyPayError,
    FieldError,
    NotExecuted,
    NotFound,
    PreconditionFailed,
    ProcessorRejected,
    ValidationFailed,
)
from easypay.hmac_sha256 import Digest
from easypay.merchants.directory import Directory
from easypay.merchants.model import Caller, Login
from easypay.payments.flows import login_of
from easypay.payments.requests import (
    BankAccountMethod,
    BillingAddress,
    CardMethod,
    check_method,
)
from easypay.payments.vault_source import POINTER, vault_source
from easypay.problems import MEDIA_TYPE, render
from easypay.processors.base import AcceptToken, Address, BankAccount, Card

Row = TypeVar("Row", Customer, Method)

READ: Final = "customers:read"
WRITE: Final = "customers:write"
ERASE: Final = "customers:erase"
CUSTOMERS_PATH: Final = "/api/v1/customers"
METHODS_PATH: Final = "/api/v1/payment_methods"
CUSTOMERS_QUERY: Final = ("limit", "cursor", "reference", "email")
ERASES_WITHIN_S: Final = 3.0
"""How long a request goes on with an erasure before it leaves the rest to a worker, in seconds."""
RETRY_AFTER_S: Final = 5
"""How soon a method that is being stored should be read again, in seconds."""

_create = msgspec.json.Decoder(CreateCustomer)
_update = msgspec.json.Decoder(UpdateCustomer)
_erase = msgspec.json.Decoder(EraseCustomer)
_store = msgspec.json.Decoder(StorePaymentMethod)
_change = msgspec.json.Decoder(UpdatePaymentMethod)
_validate = msgspec.json.Decoder(ValidatePaymentMethod)


class CustomersApi:
    """The handlers for customers and their stored payment methods."""

    def __init__(
        self,
        *,
        customers: Customers,
        eraser: Eraser,
        directory: Directory,
        pool: Any,
        cursors: Cursors,
        fingerprinting: Digest,
        card_fingerprint: Digest,
    ) -> None:
        self._customers = customers
        self._eraser = eraser
        self._directory = directory
        self._pool = pool
        self._cursors = cursors
        self._fingerprinting = fingerprinting
        self._card_fingerprint = card_fingerprint

    # customers -----------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, WRITE)
        key = key_of(request)
        body = decode(request, _create)
        fields = fields_of(body)
        asked = self._asked(request, caller, key, canonical(body))
        customer, is_new = await self._customers.create(asked, fields)
        if customer.deleted_at is not None:
            raise NotFound("The customer that this Idempotency-Key has made was deleted since.")
        shown = ids.typed(ids.CUSTOMER, customer.id)
        headers: Headers = [(b"location", f"{CUSTOMERS_PATH}/{shown}".encode())]
        return _replied(201, encode(customer_view(customer)), headers, replayed=not is_new)

    async def list(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, READ)
        query = request.query(*CUSTOMERS_QUERY)
        reference, email = query.get("reference"), query.get("email")
        for name in ("reference", "email"):
            if CONTROL.search(query.get(name, "")):
                raise invalid_query(name, "Leave out control characters: no customer has them.")
        scope = f"customers {reference!r} {email!r}"
        who = (self._pool, caller.merchant_id, caller.mode)
        find = partial(store.list_page, *who, reference=reference, email=email)
        return await self._page(request, query, caller, scope, find, customer_view)

    async def get(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, READ)
        request.query()
        customer_id = customer_id_of(request)
        customer = await store.find(self._pool, caller.merchant_id, caller.mode, customer_id)
        erasure = None
        if customer is not None and customer.deleted_at is not None:
            erasure = await erasure_views.read(self._pool, customer)
        if customer is None or (customer.deleted_at is not None and erasure is None):
            raise NotFound(f"there is no customer {ids.typed(ids.CUSTOMER, customer_id)}")
        return _fresh(encode(customer_view(customer, erasure or UNSET)), customer.version)

    async def update(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, WRITE)
        body = decode(request, _update)
        check_texts(body)
        metadata = body.metadata
        default = body.default_payment_method
        change = store.CustomerChange(
            reference=body.reference,
            email=body.email,
            name=body.name,
            description=body.description,
            metadata=metadata if isinstance(metadata, UnsetType) else metadata_json(metadata),
            default_method=_method_id(default) if isinstance(default, str) else default,
        )
        customer = await self._customers.update(
            caller.merchant_id,
            caller.mode,
            customer_id_of(request),
            change,
            expected_version(request, "customer"),
        )
        return _fresh(encode(customer_view(customer)), customer.version)

    async def delete(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, WRITE)
        await self._customers.delete(
            caller.merchant_id,
            caller.mode,
            customer_id_of(request),
            expected_version(request, "customer"),
        )
        return Response(204)

    async def erase(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, ERASE)
        customer_id = customer_id_of(request)
        body = decode(request, _erase, may_be_empty=True)
        key = ids.typed(ids.API_KEY, caller.key_id)
        asked = ErasureRequest(key, "asked for through the API", body.references)
        erasure = await self._eraser.erase(
            caller.merchant_id, caller.mode, customer_id, asked, ERASES_WITHIN_S
        )
        customer = await store.find(self._pool, caller.merchant_id, caller.mode, customer_id)
        assert customer is not None, "customers are never removed"
        view = await erasure_views.shown(self._pool, erasure, customer)
        if erasure.state == "erased":
            return Response(200, encode(view))
        return Response(202, encode(view), headers=[_LATER])

    # payment methods -----------------------------------------------------------------------------

    async def store_method(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, WRITE)
        key = key_of(request)
        customer_id = customer_id_of(request)
        body = decode(request, _store)
        asked = self._asked(request, caller, key, canonical(without_cvc(body)))
        try:
            new, login = await self._new_method(caller, body)
        except EasyPayError:
            # It may have been allowed when this was first sent: then what it made stands.
            first = await self._customers.first_kept(asked)
            if first is None:
                raise
            return _stored(request, first)
        kept = await self._customers.store(asked, customer_id, login, new)
        return _stored(request, kept)

    async def list_methods(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, READ)
        customer_id = customer_id_of(request)
        query = request.query("limit", "cursor")
        who = (self._pool, caller.merchant_id, caller.mode, customer_id)
        await store.get(*who)
        scope, find = f"payment methods {customer_id.hex}", partial(store.list_methods, *who)
        return await self._page(request, query, caller, scope, find, method_view)

    async def get_method(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, READ)
        request.query()
        method = await store.get_method(
            self._pool, caller.merchant_id, caller.mode, method_id_of(request)
        )
        return _fresh_method(method)

    async def update_method(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, WRITE)
        body = decode(request, _change)
        method_id = method_id_of(request)
        method = await store.get_method(self._pool, caller.merchant_id, caller.mode, method_id)
        check_change(body, method)
        change = MethodChange(body.exp_month, body.exp_year, _address(body.billing_address))
        try:
            method, done = await self._customers.change(
                caller.merchant_id,
                caller.mode,
                method_id,
                change,
                expected_version(request, "payment method"),
                default=body.default is True,
            )
        except MethodRefused as refused:
            return _problem(refused.failure, request)
        response = _fresh_method(method)
        if not done:
            response.status = 202
            response.headers.append(_LATER)
        return response

    async def delete_method(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, WRITE)
        await self._customers.delete_method(
            caller.merchant_id,
            caller.mode,
            method_id_of(request),
            expected_version(request, "payment method"),
        )
        return Response(204)

    async def validate_method(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, WRITE)
        body = decode(request, _validate, may_be_empty=True)
        said = await self._customers.validate(
            caller.merchant_id, caller.mode, method_id_of(request), body.cvc
        )
        failure = said.failure
        view = ValidityView(
            said.valid,
            said.reason if failure is None else why_failed(failure),
            None if failure is None else failure.code,
            None if failure is None else failure.message,
        )
        return Response(200, encode(view))

    # what is asked -------------------------------------------------------------------------------

    def _asked(self, request: Request, caller: Caller, key: str, form: bytes) -> Asked:
        digest = fingerprint(self._fingerprinting, request, form)
        return Asked(caller.merchant_id, caller.mode, key, digest)

    async def _page(
        self,
        request: Request,
        query: dict[str, str],
        caller: Caller,
        scope: str,
        find: Callable[..., Awaitable[Sequence[Row]]],
        view: Callable[[Row], Any],
    ) -> Response:
        """Return a page of a list. `find(below=…, limit=…)` returns its rows, newest first; `scope`
        binds a cursor to the list."""
        limit, text = limit_of(query), query.get("cursor")
        below = newest_id() if text is None else self._cursors.read(text, caller, scope).last
        found = await find(below=below, limit=limit + 1)
        more = len(found) > limit
        cursor = self._cursors.write(found[limit - 1].id, caller, scope) if more else None
        return page_response(request, [view(each) for each in found[:limit]], cursor)

    async def _new_method(
        self, caller: Caller, body: StorePaymentMethod
    ) -> tuple[NewMethod, Login]:
        """Return what is to be stored, and at which account. Raises ValidationFailed."""
        method = body.payment_method
        if isinstance(method, PaymentMethodOfPayment):
            return await self._from_payment(caller, body, method.payment)
        errors = check_method(
            method, raw_cards=caller.allow_raw_cards, at=clock.now() - DAY
        ) + text_errors(body)
        if errors:
            raise ValidationFailed.of(errors)
        common: Any = {
            "billing_address": _address(body.billing_address),
            "validate": body.validate,
        }
        if isinstance(method, CardMethod):
            card = method.card
            new = NewMethod(
                source="card",
                type="card",
                pay_with=Card(
                    number=card.number,
                    exp_month=card.exp_month,
                    exp_year=card.exp_year,
                    cvc=card.cvc,
                ),
                last4=card.number[-4:],
                exp_month=card.exp_month,
                exp_year=card.exp_year,
                card_fingerprint=self._card_fingerprint(card.number.encode()),
                **common,
            )
        elif isinstance(method, BankAccountMethod):
            account = method.bank_account
            new = NewMethod(
                source="bank_account",
                type="bank_account",
                pay_with=BankAccount(
                    account_type=account.account_type,
                    routing_number=account.routing_number,
                    account_number=account.account_number,
                    name_on_account=account.name_on_account,
                ),
                last4=account.account_number[-4:],
                **common,
            )
        else:
            token = method.accept_token
            new = NewMethod(
                source="accept_token",
                type="card",
                pay_with=AcceptToken(descriptor=token.data_descriptor, value=token.data_value),
                **common,
            )
        return new, login_of(caller)

    async def _from_payment(
        self, caller: Caller, body: StorePaymentMethod, payment: str
    ) -> tuple[NewMethod, Login]:
        """Return what is to be stored from an earlier payment: at the account that took it."""
        for name, given in (("billing_address", body.billing_address), ("validate", body.validate)):
            if given:
                why = f"{name} cannot be given with a payment: the processor takes the payment's."
                raise ValidationFailed.of([FieldError(f"#/{name}", "contradiction", why)])
        payment_id = ids.parse(ids.PAYMENT, payment)
        if payment_id is None:
            why = "payment_method.payment must be a payment's id, such as pay_…."
            raise ValidationFailed.of([FieldError(POINTER, "invalid", why)])
        source = await vault_source(self._pool, caller.merchant_id, caller.mode, payment_id)
        login: Login | None = None
        if source.login_id is not None:
            login = await self._directory.login(caller.merchant_id, source.login_id)
        new = NewMethod(
            source="payment",
            type="bank_account" if source.method_type == "bank_account" else "card",
            pay_with=FromPayment(payment_id, source.transaction_id),
            brand=source.brand,
            last4=source.last4,
            exp_month=source.exp_month,
            exp_year=source.exp_year,
            card_fingerprint=source.card_fingerprint,
            network_transaction_id=source.network_transaction_id,
        )
        return new, login or login_of(caller)


def customer_id_of(request: Request) -> UUID:
    """Return the customer that the path names. Raises NotFound if it can name none."""
    found = ids.parse(ids.CUSTOMER, request.params["id"])
    if found is None:
        raise NotFound("there is no such customer")
    return found


def method_id_of(request: Request) -> UUID:
    """Return the payment method that the path names. Raises NotFound if it can name none."""
    found = ids.parse(ids.PAYMENT_METHOD, request.params["id"])
    if found is None:
        raise NotFound("there is no such payment method")
    return found


def expected_version(request: Request, what: str) -> int | None:
    """Return the version of If-Match. Raises PreconditionFailed if the tag cannot be ours."""
    tag = request.headers.get(b"if-match")
    if tag is None or tag == b"*":
        return None
    version = version_of(tag)
    if version is None:
        raise PreconditionFailed(f'Send the {what}\'s ETag, such as "v2", as you received it.')
    return version


def _method_id(text: str) -> UUID:
    found = ids.parse(ids.PAYMENT_METHOD, text)
    if found is None:
        why = "default_payment_method must be a payment method's id, such as pm_…."
        raise ValidationFailed.of([FieldError("#/default_payment_method", "invalid", why)])
    return found


def _address(body: BillingAddress | None) -> Address | None:
    return None if body is None else Address(*msgspec.structs.astuple(body))


# what is answered --------------------------------------------------------------------------------

_LATER: Final = (b"retry-after", b"%d" % RETRY_AFTER_S)


def _stored(request: Request, kept: Kept) -> Response:
    """Return the answer to a request that stores a method."""
    method = kept.method
    if method.state is State.FAILED:
        return _problem(failure_of(method), request, replayed=kept.replayed)
    if method.state in (State.DELETING, State.DELETED):
        raise NotFound("The payment method that this Idempotency-Key has made was deleted since.")
    shown = ids.typed(ids.PAYMENT_METHOD, method.id)
    headers: Headers = [(b"location", f"{METHODS_PATH}/{shown}".encode())]
    status = 200 if kept.existed else 201
    if method.state is State.MAKING:
        status = 202
        headers.append(_LATER)
    return _replied(status, encode(method_view(method)), headers, replayed=kept.replayed)


def _problem(failure: Failure, request: Request, *, replayed: bool = False) -> Response:
    """Return the problem of a method that the processor refused to store or change."""
    kind = NotExecuted if failure.word in NEW_KEY else ProcessorRejected
    error = kind(why_failed(failure))
    body = render(
        error,
        request_id=request.id,
        processor_code=failure.code,
        processor_message=failure.message,
        decline_code=failure.decline_code,
    )
    response = _replied(error.http_status, body, [], replayed=replayed)
    response.content_type = MEDIA_TYPE.encode()
    response.problem = error.code
    return response


def _replied(status: int, body: bytes, headers: Headers, *, replayed: bool) -> Response:
    if replayed:
        headers.append((b"idempotency-replayed", b"true"))
    return Response(status, body, headers=headers, replayed=replayed)


def _fresh(body: bytes, version: int) -> Response:
    tag = version_tag(version, body)
    return Response(200, body, headers=[(b"etag", tag)], cache_control=PRIVATE)


def _fresh_method(method: Method) -> Response:
    return _fresh(encode(method_view(method)), method.version)
