"""Administration over HTTP: merchants, processor accounts and keys, under the admin key."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from easypay import clock, ids, inputs
from easypay.api.auth import require_admin
from easypay.api.http import Request, Response, decode, encode
from easypay.clock import rfc3339, rfc3339_or_none
from easypay.errors import FieldError, NotFound, ValidationFailed
from easypay.merchants import admin, credential_check
from easypay.merchants.model import (
    LONGEST_WINDOW_S,
    MOST_STALENESS_MS,
    USUAL_SCOPES,
    ApiKey,
    Merchant,
)
from easypay.merchants.vault import Vault
from easypay.mode import MODE
from easypay.processors.base import Processors
from easypay.processors.integration import Integration
from easypay.processors.registry import DEFAULT, named

_AT_MOST: Final = "At most {} characters of plain ASCII, as issued."
_Text = Annotated[str, Meta(min_length=1, max_length=64)]
_TimeZone = Annotated[str, Meta(min_length=1, max_length=64)]
_Credential = Annotated[str, Meta(min_length=1, max_length=1024)]
Scope = Literal[
    "payments:read",
    "payments:write",
    "refunds:write",
    "payments:export",
    "events:read",
    "webhooks:manage",
    "customers:read",
    "customers:write",
    "batches:write",
    "customers:erase",
    "settlements:read",
    "reconciliation:read",
    "reconciliation:write",
]


class CreateMerchant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new merchant. Names are unique, ignoring case; blanks around them are removed."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    currencies: list[str] = msgspec.field(default_factory=lambda: ["USD"])
    allow_raw_cards: bool = False
    time_zone: _TimeZone = "UTC"


class UpdateMerchant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Omitted fields are left unchanged."""

    name: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    currencies: list[str] | None = None
    allow_raw_cards: bool | None = None
    disabled: bool | None = None
    late_charges: Literal["return", "keep"] | None = None
    time_zone: _TimeZone | None = None
    duplicates: Literal["off", "flag", "reject"] | None = None
    duplicate_window_seconds: Annotated[int, Meta(ge=1, le=LONGEST_WINDOW_S)] | None = None
    read_staleness_ms: Annotated[int, Meta(ge=0, le=MOST_STALENESS_MS)] | None = None


class SetAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Credentials of an account at a processor, stored encrypted and never shown. Blanks, line ends
    and byte order marks around them are ignored."""

    processor: Annotated[str, Meta(min_length=1, max_length=32)] = DEFAULT
    login_id: Annotated[_Text, Meta(description=_AT_MOST.format(25))] | UnsetType = UNSET
    transaction_key: Annotated[_Text, Meta(description=_AT_MOST.format(16))] | UnsetType = UNSET
    signature_key: Annotated[str, Meta(min_length=1, max_length=128)] | UnsetType = UNSET
    credentials: Annotated[dict[str, _Credential], Meta(max_length=16)] | UnsetType = UNSET
    check: bool = True

    def __repr__(self) -> str:
        return "SetAccount(***)"

    def given(self) -> tuple[dict[str, str], str]:
        """The credentials, and the pointer to what they are fields of. Raises ValidationFailed if
        they are given twice."""
        named = {
            "login_id": self.login_id,
            "transaction_key": self.transaction_key,
            "signature_key": self.signature_key,
        }
        flat = {name: text for name, text in named.items() if isinstance(text, str)}
        if isinstance(self.credentials, UnsetType):
            return flat, "#"
        if flat:
            why = "{0} and credentials exclude each other: send {0} in credentials."
            raise ValidationFailed.of(
                [FieldError(f"#/{name}", "contradiction", why.format(name)) for name in flat]
            )
        return self.credentials, "#/credentials"


class CreateKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new API key."""

    mode: Literal["test", "live"]
    name: Annotated[str, Meta(min_length=1, max_length=100)] = "default"
    scopes: Annotated[list[Scope], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: list(USUAL_SCOPES)
    )
    expires_at: (
        Annotated[
            str,
            Meta(
                description="RFC 3339 with an offset. The key works until then.",
                extra_json_schema={"format": "date-time"},
            ),
        ]
        | None
    ) = None


class RotateKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the old key keeps working: a day by default."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=inputs.LONGEST_OVERLAP_S)] = 86_400


class MerchantView(msgspec.Struct, frozen=True):
    """A merchant."""

    id: str
    name: str
    currencies: list[str]
    allow_raw_cards: bool
    disabled: bool
    late_charges: str
    time_zone: str
    duplicates: str
    duplicate_window_seconds: int
    read_staleness_ms: int
    created_at: str
    updated_at: str


class KeyView(msgspec.Struct, frozen=True):
    """An API key without its secret."""

    id: str
    merchant_id: str
    mode: str
    name: str
    last4: str
    scopes: list[str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None


class NewKeyView(msgspec.Struct, frozen=True):
    """A new key with its secret, which is shown only once."""

    key: KeyView
    secret: str


def merchant_view(merchant: Merchant) -> MerchantView:
    """Return a merchant as the API and the command line show it."""
    return MerchantView(
        id=ids.typed(ids.MERCHANT, merchant.merchant_id),
        name=merchant.name,
        currencies=merchant.currencies,
        allow_raw_cards=merchant.allow_raw_cards,
        disabled=merchant.disabled_at is not None,
        late_charges=merchant.late_charges,
        time_zone=merchant.time_zone,
        duplicates=merchant.duplicates,
        duplicate_window_seconds=merchant.duplicate_window_s,
        read_staleness_ms=merchant.read_staleness_ms,
        created_at=rfc3339(merchant.created_at),
        updated_at=rfc3339(merchant.updated_at),
    )


def key_view(key: ApiKey) -> KeyView:
    """Return a key as the API and the command line show it."""
    return KeyView(
        id=ids.typed(ids.API_KEY, key.id),
        merchant_id=ids.typed(ids.MERCHANT, key.merchant_id),
        mode=key.mode,
        name=key.name,
        last4=key.last4,
        scopes=key.scopes,
        created_at=rfc3339(key.created_at),
        expires_at=rfc3339_or_none(key.expires_at),
        revoked_at=rfc3339_or_none(key.revoked_at),
    )


_create_merchant = msgspec.json.Decoder(CreateMerchant)
_update_merchant = msgspec.json.Decoder(UpdateMerchant)
_set_account = msgspec.json.Decoder(SetAccount)
_create_key = msgspec.json.Decoder(CreateKey)
_rotate_key = msgspec.json.Decoder(RotateKey)


class AdminApi:
    """The handlers for administration. Without an `admin_digest`, every call is refused.

    `on_change` is called with a merchant whose settings have changed.
    """

    def __init__(
        self,
        *,
        pool: Any,
        vault: Vault,
        admin_digest: bytes | None,
        integrations: Mapping[str, Integration],
        processors: Processors,
        on_change: Callable[[UUID], None] = lambda _: None,
    ) -> None:
        self._pool = pool
        self._vault = vault
        self._integrations = integrations
        self._processors = processors
        self._admin_digest = admin_digest
        self._on_change = on_change

    async def create_merchant(self, request: Request) -> Response:
        require_admin(request, self._admin_digest)
        body = decode(request, _create_merchant)
        async with self._pool.acquire() as connection:
            merchant = await admin.create_merchant(
                connection,
                name=body.name,
                currencies=body.currencies,
                allow_raw_cards=body.allow_raw_cards,
                time_zone=body.time_zone,
            )
        return Response(201, encode(merchant_view(merchant)))

    async def list_merchants(self, request: Request) -> Response:
        require_admin(request, self._admin_digest)
        request.query()
        data = [merchant_view(merchant) for merchant in await admin.list_merchants(self._pool)]
        return Response(200, encode({"data": data, "has_more": False, "next_cursor": None}))

    async def get_merchant(self, request: Request) -> Response:
        require_admin(request, self._admin_digest)
        merchant = await admin.get_merchant(self._pool, _id(request, ids.MERCHANT, "id"))
        return Response(200, encode(merchant_view(merchant)))

    async def update_merchant(self, request: Request) -> Response:
        require_admin(request, self._admin_digest)
        body = decode(request, _update_merchant)
        merchant_id = _id(request, ids.MERCHANT, "id")
        async with self._pool.acquire() as connection:
            merchant = await admin.update_merchant(
                connection,
                merchant_id,
                name=body.name,
                currencies=body.currencies,
                allow_raw_cards=body.allow_raw_cards,
                disabled=body.disabled,
                late_charges=body.late_charges,
                time_zone=body.time_zone,
                duplicates=body.duplicates,
                duplicate_window_s=body.duplicate_window_seconds,
                read_staleness_ms=body.read_staleness_ms,
            )
        self._on_change(merchant_id)
        return Response(200, encode(merchant_view(merchant)))

    async def set_account(self, request: Request) -> Response:
        require_admin(request, self._admin_digest)
        body = decode(request, _set_account)
        merchant_id = _id(request, ids.MERCHANT, "id")
        mode = admin.mode_of(request.params["mode"])
        integration = named(self._integrations, body.processor)
        given, within = body.given()
        credentials = integration.read_credentials(given, within=within)
        if body.check:
            await admin.get_merchant(self._pool, merchant_id)
            await credential_check.check(
                self._processors[integration.name],
                integration,
                integration.account(mode, credentials),
                within=within,
            )
        await admin.set_processor_account(
            self._pool, self._vault, integration, merchant_id, mode, credentials
        )
        return Response(204)

    async def create_key(self, request: Request) -> Response:
        require_admin(request, self._admin_digest)
        body = decode(request, _create_key)
        key, secret = await admin.create_key(
            self._pool,
            _id(request, ids.MERCHANT, "id"),
            mode=MODE[body.mode],
            name=body.name,
            scopes=body.scopes,
            expires_at=_expires_at(body.expires_at),
        )
        return Response(201, encode(NewKeyView(key_view(key), secret)))

    async def list_keys(self, request: Request) -> Response:
        require_admin(request, self._admin_digest)
        merchant_id = _id(request, ids.MERCHANT, "id")
        await admin.get_merchant(self._pool, merchant_id)
        data = [key_view(key) for key in await admin.list_keys(self._pool, merchant_id)]
        return Response(200, encode({"data": data, "has_more": False, "next_cursor": None}))

    async def rotate_key(self, request: Request) -> Response:
        require_admin(request, self._admin_digest)
        body = decode(request, _rotate_key, may_be_empty=True)
        key, secret = await admin.rotate_key(
            self._pool,
            _id(request, ids.MERCHANT, "id"),
            _id(request, ids.API_KEY, "key_id"),
            overlap_s=body.overlap_seconds,
        )
        return Response(201, encode(NewKeyView(key_view(key), secret)))

    async def revoke_key(self, request: Request) -> Response:
        require_admin(request, self._admin_digest)
        key = await admin.revoke_key(
            self._pool,
            _id(request, ids.MERCHANT, "id"),
            _id(request, ids.API_KEY, "key_id"),
        )
        return Response(200, encode(key_view(key)))


def _expires_at(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = inputs.moment(text)
    if moment is None:
        detail = "expires_at must be RFC 3339 with an offset, such as 2027-11-24T00:00:00Z."
        raise ValidationFailed.of([FieldError("#/expires_at", "invalid", detail)])
    if moment <= clock.now():
        detail = "expires_at must be in the future."
        raise ValidationFailed.of([FieldError("#/expires_at", "in_the_past", detail)])
    return moment


def _id(request: Request, kind: str, name: str) -> UUID:
    value = ids.parse(kind, request.params[name])
    if value is None:
        raise NotFound(f"there is no such {'merchant' if kind == ids.MERCHANT else 'key'}")
    return value
