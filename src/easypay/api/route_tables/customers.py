"""The calls of customers and of their stored payment methods."""

from typing import Final

from easypay import errors
from easypay.api import customer_bodies, customers
from easypay.api.paging import Page
from easypay.api.route_types import BODY, KEYED, LISTED, UNCHANGED, Route
from easypay.customers.views import ErasureView, StoredCustomerView, StoredMethodView

_CUSTOMER: Final = "/api/v1/customers/{id}"
_METHOD: Final = "/api/v1/payment_methods/{id}"
_CREATES: Final = (
    *BODY,
    errors.IdempotencyKeyMissing,
    errors.IdempotencyKeyInvalid,
    errors.IdempotencyKeyReused,
)

CUSTOMERS: Final[tuple[Route, ...]] = (
    Route(
        "POST /api/v1/customers",
        "customers_create",
        "Create a customer",
        "A customer whose payment methods can be stored. `reference` is your own id of the "
        "customer, and belongs to one customer at a time. A repeat with the same Idempotency-Key "
        "gets the same customer.",
        body=customer_bodies.CreateCustomer,
        replies={201: StoredCustomerView},
        headers=("Idempotency-Key",),
        scope=customers.WRITE,
        errors=(*KEYED, *_CREATES, errors.NotFound),
    ),
    Route(
        "GET /api/v1/customers",
        "customers_list",
        "List customers",
        "Newest first, without those that were deleted; all, or those with a `reference` or an "
        "`email`.",
        replies={200: Page, 304: None},
        page_of=StoredCustomerView,
        query=customers.CUSTOMERS_QUERY,
        headers=UNCHANGED,
        scope=customers.READ,
        errors=(*KEYED, errors.ValidationFailed),
    ),
    Route(
        f"GET {_CUSTOMER}",
        "customers_get",
        "Read a customer",
        "Returns the version as an ETag.",
        replies={200: StoredCustomerView, 304: None},
        headers=UNCHANGED,
        scope=customers.READ,
        errors=(*KEYED, errors.NotFound, errors.ValidationFailed),
    ),
    Route(
        f"PATCH {_CUSTOMER}",
        "customers_update",
        "Change a customer",
        "Changes the fields that are sent; null removes one. `default_payment_method` is one of "
        "the customer's stored payment methods.",
        body=customer_bodies.UpdateCustomer,
        replies={200: StoredCustomerView},
        headers=("If-Match",),
        scope=customers.WRITE,
        errors=(*KEYED, *BODY, errors.NotFound, errors.PreconditionFailed),
    ),
    Route(
        f"DELETE {_CUSTOMER}",
        "customers_delete",
        "Delete a customer",
        "With all stored payment methods, here and at the processor. Payments that were made stay. "
        "What the processor does not confirm at once is repeated until it does.",
        replies={204: None},
        headers=("If-Match",),
        scope=customers.WRITE,
        errors=(*KEYED, errors.NotFound, errors.PreconditionFailed),
    ),
    Route(
        f"POST {_CUSTOMER}/erase",
        "customers_erase",
        "Erase a customer's personal data",
        "Deletes the customer with all stored payment methods, here and at the processor, and "
        "removes its personal data here, also from its payments. What bookkeeping needs stays. "
        "200: it is done. 202: it goes on; read the customer to see how far it is. You can ask "
        "for it again.",
        body=customer_bodies.EraseCustomer,
        body_required=False,
        replies={200: ErasureView, 202: ErasureView},
        scope=customers.ERASE,
        errors=(*KEYED, *BODY, errors.NotFound),
    ),
    Route(
        f"POST {_CUSTOMER}/payment_methods",
        "customers_store_method",
        "Store a payment method",
        "Stores a token, a card, a bank account, or what an earlier payment was made with, in the "
        "processor's vault. 202 means that the processor has not answered clearly: the method is "
        "`making`; read it at its Location. 200 means that the customer has this card already. "
        "`validate` lets the issuer be asked first.",
        body=customer_bodies.StorePaymentMethod,
        replies={200: StoredMethodView, 201: StoredMethodView, 202: StoredMethodView},
        headers=("Idempotency-Key",),
        scope=customers.WRITE,
        errors=(
            *KEYED,
            *_CREATES,
            errors.NotFound,
            errors.NotExecuted,
            errors.ProcessorRejected,
            errors.ProcessorNotSetUp,
            errors.ProcessorAccountRefused,
            errors.ProcessorUnavailable,
        ),
    ),
    Route(
        f"GET {_CUSTOMER}/payment_methods",
        "customers_list_methods",
        "List a customer's payment methods",
        "Newest first: those that are stored, and those that are being stored.",
        replies={200: Page, 304: None},
        page_of=StoredMethodView,
        query=("limit", "cursor"),
        headers=LISTED,
        scope=customers.READ,
        errors=(*KEYED, errors.NotFound, errors.ValidationFailed),
    ),
    Route(
        f"GET {_METHOD}",
        "customers_get_method",
        "Read a stored payment method",
        "Returns the version in an ETag. Never more of a card than its last four digits.",
        replies={200: StoredMethodView, 304: None},
        headers=UNCHANGED,
        scope=customers.READ,
        errors=(*KEYED, errors.NotFound, errors.ValidationFailed),
    ),
    Route(
        f"PATCH {_METHOD}",
        "customers_update_method",
        "Change a stored payment method",
        "Changes the expiry date or the billing address at the processor, or makes it the "
        "customer's default. 202 means that the processor has not answered clearly: the change is "
        "repeated until it does.",
        body=customer_bodies.UpdatePaymentMethod,
        replies={200: StoredMethodView, 202: StoredMethodView},
        headers=("If-Match",),
        scope=customers.WRITE,
        errors=(
            *KEYED,
            *BODY,
            errors.NotFound,
            errors.PreconditionFailed,
            errors.RequestInProgress,
            errors.ProcessorRejected,
            errors.ProcessorNotSetUp,
            errors.ProcessorAccountRefused,
            errors.ProcessorUnavailable,
        ),
    ),
    Route(
        f"DELETE {_METHOD}",
        "customers_delete_method",
        "Delete a stored payment method",
        "Nothing can be charged to it any more. What the processor does not confirm at once is "
        "repeated until it does.",
        replies={204: None},
        headers=("If-Match",),
        scope=customers.WRITE,
        errors=(
            *KEYED,
            errors.NotFound,
            errors.PreconditionFailed,
            errors.RequestInProgress,
            errors.ProcessorNotSetUp,
        ),
    ),
    Route(
        f"POST {_METHOD}/validate",
        "customers_validate_method",
        "Validate a stored payment method",
        "Lets the processor ask the issuer whether the card is good. No money moves. `valid` is "
        "null if nobody answered.",
        body=customer_bodies.ValidatePaymentMethod,
        body_required=False,
        replies={200: customer_bodies.ValidityView},
        scope=customers.WRITE,
        errors=(
            *KEYED,
            *BODY,
            errors.NotFound,
            errors.InvalidState,
            errors.ProcessorNotSetUp,
        ),
    ),
)
