"""Webhook endpoints over HTTP: of the key's merchant and mode, under a scope of their own."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from easypay import clock, ids, inputs
from easypay.api.auth import caller_of
from easypay.api.http import Request, Response, decode, encode
from easypay.api.paging import Cursors, limit_of, newest_id, page_response
from easypay.clock import rfc3339, rfc3339_or_none
from easypay.errors import FieldError, NotFound, ValidationFailed
from easypay.merchants.directory import Directory
from easypay.merchants.model import Caller
from easypay.merchants.vault import Vault
from easypay.webhooks import endpoints, log, redelivery, sent_requests
from easypay.webhooks.addresses import MOST_CHARACTERS, Network
from easypay.webhooks.model import TYPES, Attempt, Endpoint

SCOPE: Final = "webhooks:manage"
_Url = Annotated[str, Meta(min_length=1, max_length=MOST_CHARACTERS)]
_Types = Annotated[list[str], Meta(max_length=len(TYPES))]
_Description = Annotated[str, Meta(max_length=endpoints.MOST_DESCRIPTION)]


class CreateEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new endpoint. Without `types` it gets events of every type."""

    url: _Url
    types: _Types = []
    description: _Description = ""


class UpdateEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Omitted fields are left unchanged. `paused: false` also enables a disabled endpoint."""

    url: _Url | None = None
    types: _Types | None = None
    description: _Description | None = None
    paused: bool | None = None


class RotateSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long messages are signed with the old secret, too: a day by default. If an earlier one
    still signs, both do; 0 ends all of them at once. The newest three secrets sign at a time."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=inputs.LONGEST_OVERLAP_S)] = endpoints.OVERLAP_S


class Redeliver(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event by its id, or all of a span of time. `until` is now if it is omitted."""

    event_id: str | None = None
    since: str | None = None
    until: str | None = None


class SendTest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No fields."""


class EndpointView(msgspec.Struct, frozen=True):
    """A webhook endpoint, without its secret."""

    id: str
    url: str
    types: list[str]
    description: str
    state: Literal["enabled", "paused", "disabled"]
    reason: str | None
    failing_since: str | None
    old_secret_until: str | None
    mode: str
    created_at: str
    updated_at: str


class NewEndpointView(msgspec.Struct, frozen=True):
    """An endpoint with its secret, which is shown only once."""

    endpoint: EndpointView
    secret: str


class AttemptView(msgspec.Struct, frozen=True):
    """One attempt to deliver an event to an endpoint, and what it answered."""

    id: str
    event_id: str
    type: str
    attempt: int
    outcome: Literal["delivered", "failed", "parked"]
    url: str
    sent_at: str
    took_ms: int
    status: int | None
    reason: str | None
    answer: str


class SentRequestView(msgspec.Struct, frozen=True):
    """What an attempt sent, without its signature."""

    headers: dict[str, str]
    body: str | None


class DeliveryView(msgspec.Struct, frozen=True):
    """One attempt with its request and its answer."""

    delivery: AttemptView
    request: SentRequestView


class TestSentView(msgspec.Struct, frozen=True):
    """The test event that will be sent."""

    event_id: str


class RedeliveryView(msgspec.Struct, frozen=True):
    """How many events will be sent again."""

    events: int


def endpoint_view(endpoint: Endpoint) -> EndpointView:
    """Return an endpoint as the API and the command line show it."""
    return EndpointView(
        id=ids.typed(ids.ENDPOINT, endpoint.id),
        url=endpoint.url,
        types=endpoint.types,
        description=endpoint.description,
        state=endpoint.state,  # type: ignore[arg-type]  # the table allows no other
        reason=endpoint.reason,
        failing_since=rfc3339_or_none(endpoint.failing_since),
        old_secret_until=rfc3339_or_none(endpoint.old_secret_until),
        mode=endpoint.mode,
        created_at=rfc3339(endpoint.created_at),
        updated_at=rfc3339(endpoint.updated_at),
    )


def attempt_view(attempt: Attempt) -> AttemptView:
    """Return an attempt as the API and the command line show it."""
    return AttemptView(
        id=ids.typed(ids.ATTEMPT, attempt.id),
        event_id=ids.typed(ids.EVENT, attempt.event_id),
        type=attempt.type,
        attempt=attempt.attempt,
        outcome=attempt.outcome,  # type: ignore[arg-type]  # the table allows no other
        url=attempt.url,
        sent_at=rfc3339(attempt.sent_at),
        took_ms=attempt.took_ms,
        status=attempt.status,
        reason=attempt.reason,
        answer=attempt.answer,
    )


async def delivery_view(runner: Any, endpoint: Endpoint, attempt: Attempt) -> DeliveryView:
    """Return an attempt with its request, as the API and the command line show it."""
    sent = await sent_requests.sent_request(runner, endpoint, attempt)
    return DeliveryView(attempt_view(attempt), SentRequestView(sent.headers, sent.body))


_create = msgspec.json.Decoder(CreateEndpoint)
_update = msgspec.json.Decoder(UpdateEndpoint)
_rotate = msgspec.json.Decoder(RotateSecret)
_redeliver = msgspec.json.Decoder(Redeliver)
_test = msgspec.json.Decoder(SendTest)


class WebhooksApi:
    """The handlers for webhook endpoints. `private`: networks to which webhooks may be sent."""

    def __init__(
        self,
        *,
        directory: Directory,
        pool: Any,
        vault: Vault,
        cursors: Cursors,
        private: Iterable[Network],
    ) -> None:
        self._directory = directory
        self._pool = pool
        self._vault = vault
        self._cursors = cursors
        self._private = tuple(private)

    async def create(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, SCOPE)
        body = decode(request, _create)
        async with self._pool.acquire() as connection:
            endpoint, secret = await endpoints.create(
                connection,
                self._vault,
                caller.merchant_id,
                caller.mode,
                url=body.url,
                types=body.types,
                description=body.description,
                private=self._private,
            )
        return Response(201, encode(NewEndpointView(endpoint_view(endpoint), secret)))

    async def list_endpoints(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, SCOPE)
        request.query()
        found = await endpoints.list_all(self._pool, caller.merchant_id, caller.mode)
        data = [endpoint_view(endpoint) for endpoint in found]
        return Response(200, encode({"data": data, "has_more": False, "next_cursor": None}))

    async def get(self, request: Request) -> Response:
        _, endpoint = await self._endpoint(request)
        return Response(200, encode(endpoint_view(endpoint)))

    async def update(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, SCOPE)
        body = decode(request, _update)
        endpoint = await endpoints.update(
            self._pool,
            caller.merchant_id,
            caller.mode,
            _endpoint_id(request),
            url=body.url,
            types=body.types,
            description=body.description,
            paused=body.paused,
            private=self._private,
        )
        return Response(200, encode(endpoint_view(endpoint)))

    async def delete(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, SCOPE)
        endpoint_id = _endpoint_id(request)
        async with self._pool.acquire() as connection:
            await endpoints.delete(connection, caller.merchant_id, caller.mode, endpoint_id)
        return Response(204)

    async def rotate_secret(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, SCOPE)
        body = decode(request, _rotate, may_be_empty=True)
        async with self._pool.acquire() as connection:
            endpoint, secret = await endpoints.rotate_secret(
                connection,
                self._vault,
                caller.merchant_id,
                caller.mode,
                _endpoint_id(request),
                overlap_s=body.overlap_seconds,
            )
        return Response(201, encode(NewEndpointView(endpoint_view(endpoint), secret)))

    async def send_test(self, request: Request) -> Response:
        _, endpoint = await self._endpoint(request)
        decode(request, _test, may_be_empty=True)
        event_id = await endpoints.send_test(self._pool, endpoint)
        return Response(202, encode(TestSentView(ids.typed(ids.EVENT, event_id))))

    async def deliveries(self, request: Request) -> Response:
        caller, endpoint = await self._endpoint(request)
        query = request.query("limit", "cursor")
        limit, scope = limit_of(query), f"deliveries {endpoint.id.hex}"
        text = query.get("cursor")
        below = newest_id() if text is None else self._cursors.read(text, caller, scope).last
        found = await log.attempts(
            self._pool, endpoint.merchant_id, endpoint.id, below=below, limit=limit + 1
        )
        more = len(found) > limit
        cursor = self._cursors.write(found[limit - 1].id, caller, scope) if more else None
        return page_response(request, [attempt_view(each) for each in found[:limit]], cursor)

    async def delivery(self, request: Request) -> Response:
        _, endpoint = await self._endpoint(request)
        request.query()
        attempt_id = ids.parse(ids.ATTEMPT, request.params["attempt_id"])
        if attempt_id is None:
            raise NotFound("there is no such delivery")
        attempt = await log.attempt(self._pool, endpoint, attempt_id)
        return Response(200, encode(await delivery_view(self._pool, endpoint, attempt)))

    async def redeliver(self, request: Request) -> Response:
        _, endpoint = await self._endpoint(request)
        body = decode(request, _redeliver)
        if (body.event_id is None) == (body.since is None):
            why = "Send either event_id or since."
            raise ValidationFailed.of([FieldError("#/event_id", "contradiction", why)])
        if body.event_id is not None:
            event_id = ids.parse(ids.EVENT, body.event_id)
            if event_id is None:
                raise _invalid("event_id", "event_id must be an event's id, such as evt_….")
            await redelivery.redeliver_one(self._pool, endpoint, event_id)
            return Response(202, encode(RedeliveryView(1)))
        since, until = _time("since", body.since), _time("until", body.until)
        count = await redelivery.redeliver(self._pool, endpoint, since=since, until=until)
        return Response(202, encode(RedeliveryView(count)))

    async def _endpoint(self, request: Request) -> tuple[Caller, Endpoint]:
        caller = await caller_of(self._directory, request, SCOPE)
        found = await endpoints.get(
            self._pool, caller.merchant_id, caller.mode, _endpoint_id(request)
        )
        return caller, found


def _endpoint_id(request: Request) -> UUID:
    value = ids.parse(ids.ENDPOINT, request.params["id"])
    if value is None:
        raise NotFound("there is no such webhook endpoint")
    return value


def _time(name: str, text: str | None) -> datetime:
    if text is None:
        return clock.now()
    moment = inputs.moment(text)
    if moment is None:
        raise _invalid(name, f"{name} must be RFC 3339 with an offset: 2026-11-24T00:00:00Z.")
    return moment


def _invalid(name: str, why: str) -> ValidationFailed:
    return ValidationFailed.of([FieldError(f"#/{name}", "invalid", why)])
