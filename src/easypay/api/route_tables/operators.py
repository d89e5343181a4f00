"""The calls of operators, processors and machines; and the documentation."""

from typing import Final

from easypay import errors
from easypay.api import admin, notifications, profiles
from easypay.api.paging import Page
from easypay.api.route_types import BODY, UNCHANGED, Route
from easypay.notifications import accounts

_ADMIN: Final = (errors.InvalidApiKey, errors.DatabaseUnavailable)
_ETAGGED: Final[dict[int, type | None]] = {200: None, 304: None}

ADMIN: Final[tuple[Route, ...]] = (
    Route(
        "POST /api/v1/admin/merchants",
        "admin_create_merchant",
        "Create a merchant",
        "A new tenant. No other merchant can see its data.",
        body=admin.CreateMerchant,
        replies={201: admin.MerchantView},
        scope="admin",
        errors=(*_ADMIN, *BODY),
    ),
    Route(
        "GET /api/v1/admin/merchants",
        "admin_list_merchants",
        "List merchants",
        "All merchants, oldest first.",
        replies={200: Page},
        page_of=admin.MerchantView,
        scope="admin",
        errors=_ADMIN,
    ),
    Route(
        "GET /api/v1/admin/merchants/{id}",
        "admin_get_merchant",
        "Read a merchant",
        "The merchant's settings.",
        replies={200: admin.MerchantView},
        scope="admin",
        errors=(*_ADMIN, errors.NotFound),
    ),
    Route(
        "PATCH /api/v1/admin/merchants/{id}",
        "admin_update_merchant",
        "Change a merchant",
        "Changes the fields that are sent, in every process within a second.",
        body=admin.UpdateMerchant,
        replies={200: admin.MerchantView},
        scope="admin",
        errors=(*_ADMIN, *BODY, errors.NotFound),
    ),
    Route(
        "PUT /api/v1/admin/merchants/{id}/accounts/{mode}",
        "admin_set_account",
        "Set a processor account",
        "Saves the credentials of an account at a processor, for `test` or `live`, encrypted. "
        "EasyPay first asks the processor whether it accepts them. 422: it refuses them. 503: "
        "it cannot be asked. Nothing is saved in either case. `check: false` saves without "
        "asking.",
        body=admin.SetAccount,
        replies={204: None},
        scope="admin",
        errors=(*_ADMIN, *BODY, errors.NotFound, errors.ProcessorUnavailable),
    ),
    Route(
        "POST /api/v1/admin/merchants/{id}/keys",
        "admin_create_key",
        "Create an API key",
        "The reply shows the secret. It cannot be shown again.",
        body=admin.CreateKey,
        replies={201: admin.NewKeyView},
        scope="admin",
        errors=(*_ADMIN, *BODY, errors.NotFound),
    ),
    Route(
        "GET /api/v1/admin/merchants/{id}/keys",
        "admin_list_keys",
        "List a merchant's keys",
        "All keys, revoked ones too, without their secrets.",
        replies={200: Page},
        page_of=admin.KeyView,
        scope="admin",
        errors=(*_ADMIN, errors.NotFound),
    ),
    Route(
        "POST /api/v1/admin/merchants/{id}/keys/{key_id}/rotate",
        "admin_rotate_key",
        "Rotate a key",
        "Creates a new key with the same scopes. The old key works for the overlap.",
        body=admin.RotateKey,
        body_required=False,
        replies={201: admin.NewKeyView},
        scope="admin",
        errors=(*_ADMIN, *BODY, errors.NotFound),
    ),
    Route(
        "POST /api/v1/admin/merchants/{id}/keys/{key_id}/revoke",
        "admin_revoke_key",
        "Revoke a key",
        "The key stops working in every process within a second. Idempotent.",
        replies={200: admin.KeyView},
        scope="admin",
        errors=(*_ADMIN, errors.NotFound),
    ),
    Route(
        "POST /api/v1/admin/profiles",
        "profiles_take",
        "Profile this process",
        "Looks at the process that answers, for so many seconds: its CPU time, where its tasks "
        "wait, or which lines took memory. The answer comes at the end; a proxy must allow that. "
        "One profile is taken at a time; if the client leaves, it ends. `easypay profile` makes a "
        "flame graph of it.",
        body=profiles.TakeProfile,
        body_required=False,
        replies={200: profiles.ProfileView},
        scope="admin",
        errors=(*_ADMIN, *BODY, errors.Overloaded),
    ),
)
NOTIFICATIONS: Final[tuple[Route, ...]] = (
    Route(
        f"POST {accounts.PATH}",
        "notifications_receive",
        "Receive a processor's notification",
        "The processor calls this address, which `easypay processor register-webhooks` gives to "
        "it. The body is in the processor's own form, and signed with the account's signature key. "
        "It is stored and answered with 200 at once; then the processor is asked. One that comes "
        "again changes nothing.",
        replies={200: notifications.Received},
        errors=(
            errors.InvalidSignature,
            errors.MalformedRequest,
            errors.BodyTooLarge,
            errors.Overloaded,
            errors.DatabaseUnavailable,
            errors.Internal,
        ),
    ),
)
SYSTEM: Final[tuple[Route, ...]] = (
    Route(
        "GET /livez",
        "system_livez",
        "Is the process alive?",
        "Does not check the database or the processor.",
    ),
    Route(
        "GET /readyz",
        "system_readyz",
        "Should it get traffic?",
        "503 while the database is unreachable or the process is stopping.",
        replies={200: None, 503: None},
    ),
    Route(
        "GET /metrics",
        "system_metrics",
        "Metrics",
        "In Prometheus' text format, for all processes of this host. The separate listener "
        "(EASYPAY_METRICS_LISTEN) needs no key.",
        scope="admin",
        errors=(errors.InvalidApiKey,),
    ),
    Route(
        "GET /openapi.json",
        "system_openapi",
        "This API as OpenAPI 3.1",
        "Generated from the code.",
        replies=_ETAGGED,
        headers=UNCHANGED,
    ),
    Route(
        "GET /docs",
        "system_docs",
        "The documentation",
        "The start page. It loads nothing from elsewhere.",
        replies=_ETAGGED,
        headers=UNCHANGED,
    ),
    Route(
        "GET /docs/{page}",
        "system_topic",
        "A page of the documentation",
        "The page of one topic.",
        replies=_ETAGGED,
        headers=UNCHANGED,
        errors=(errors.NotFound,),
    ),
    Route(
        "GET /docs/assets/{file}",
        "system_asset",
        "The style or the script of the documentation",
        "Its name changes with its content, so it can be kept for ever.",
        replies=_ETAGGED,
        headers=UNCHANGED,
        errors=(errors.NotFound,),
    ),
    Route(
        "GET /problems/{code}",
        "system_problem",
        "What a problem means",
        "The page behind a problem's `type`.",
        replies=_ETAGGED,
        headers=UNCHANGED,
        errors=(errors.NotFound,),
    ),
)
