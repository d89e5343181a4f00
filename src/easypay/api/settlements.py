"""Settlements over HTTP: what was paid out with which batch, and what banks took back."""

import re
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from easypay import clock, ids
from easypay.api.auth import caller_of
from easypay.api.conditional import PRIVATE
from easypay.api.http import Request, Response, encode
from easypay.api.paging import Page, moment_of
from easypay.api.payments import payment_id_of
from easypay.api.read_from import read_from
from easypay.clock import rfc3339, rfc3339_or_none
from easypay.errors import FieldError, NotFound, ValidationFailed
from easypay.merchants.directory import Directory
from easypay.payments.read_places import ReadPlace, ReadPlaces
from easypay.settlement import lists
from easypay.settlement.lists import Settled, Settlement
from easypay.settlement.statements import Sum, Sums

SCOPE: Final = "settlements:read"
PATH: Final = "/api/v1/settlements"
QUERY: Final = ("from", "to")
BATCH_ID: Final = r"^[0-9A-Za-z_-]{1,64}$"
NO_SUCH_BATCH: Final = "there is no such batch, or nothing in it is this merchant's"
NO_SUCH_PAYMENT: Final = "there is no such payment"
_batch_id: Final = re.compile(BATCH_ID)
_USUAL: Final = timedelta(days=30)
LONGEST: Final = timedelta(days=93)


class SettlementTotalView(msgspec.Struct, frozen=True):
    """What a batch paid out in one currency, and what became of that later."""

    currency: str
    brand: Annotated[
        str | None, Meta(description="The card's brand. Null: all brands, or not known.")
    ]
    charged: Annotated[Sum, Meta(description="Payments that were paid out.")]
    refunded: Annotated[Sum, Meta(description="Refunds in the batch.")]
    returned: Annotated[
        Sum,
        Meta(description="Returned by banks, by now. A returned refund makes the amount less."),
    ]
    charged_back: Annotated[Sum, Meta(description="Charged back, by now.")]
    reversed: Annotated[Sum, Meta(description="Of these, what came back to the merchant.")]
    net: Annotated[int, Meta(description="What is left, before fees, in minor units.")]


class SettlementView(msgspec.Struct, frozen=True):
    """A batch of the processor, with what is the merchant's in it."""

    batch_id: Annotated[str, Meta(description="The processor's id of the batch.")]
    settled_at: str
    method: Annotated[
        str | None, Meta(description="`card` or `bank_account`; null if it is not known.")
    ]
    totals: Annotated[list[SettlementTotalView], Meta(description="For each currency.")]
    brands: Annotated[list[SettlementTotalView], Meta(description="For each currency and brand.")]


class SettledView(msgspec.Struct, frozen=True):
    """A charge or a refund of a payment in a batch, and what became of it."""

    batch_id: Annotated[str, Meta(description="The processor's id of the batch.")]
    settled_at: str
    kind: str
    operation_id: str
    amount: int
    currency: str
    transaction_id: Annotated[str, Meta(description="The processor's id.")]
    settlement_state: str
    code: Annotated[
        str | None, Meta(description="Why it was returned: the bank's code, such as `R01`.")
    ]
    message: Annotated[str | None, Meta(description="The processor's words for that.")]
    changed_at: str | None


def settlement_view(settlement: Settlement) -> SettlementView:
    """Return a batch as the API shows it."""
    return SettlementView(
        settlement.batch_id,
        rfc3339(settlement.settled_at),
        settlement.method,
        [_total(currency, None, sums) for currency, sums in settlement.totals.items()],
        [_total(each.currency, each.brand, each.sums) for each in settlement.brands],
    )


def settled_view(settled: Settled) -> SettledView:
    """Return a transaction of a batch as the API shows it."""
    return SettledView(
        settled.batch_id,
        rfc3339(settled.settled_at),
        settled.kind,
        ids.typed(ids.OPERATION, settled.operation_id),
        settled.amount_minor,
        settled.currency,
        settled.transaction_id,
        settled.state,
        settled.code,
        settled.message,
        rfc3339_or_none(settled.changed_at),
    )


def _total(currency: str, brand: str | None, sums: Sums) -> SettlementTotalView:
    return SettlementTotalView(
        currency,
        brand,
        sums.charged,
        sums.refunded,
        sums.returned,
        sums.charged_back,
        sums.reversed,
        sums.net,
    )


class SettlementsApi:
    """The handlers for settlements."""

    def __init__(self, *, directory: Directory, places: ReadPlaces) -> None:
        self._directory = directory
        self._places = places

    async def list_batches(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, SCOPE)
        since, until = _range_of(request.query(*QUERY))

        async def ask(place: ReadPlace) -> Response:
            found = await lists.in_time(
                place.reading, caller.merchant_id, caller.mode, since, until
            )
            return _page([settlement_view(each) for each in found])

        return await read_from(self._places, request, ask)

    async def get(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, SCOPE)
        request.query()
        batch_id = request.params["batch_id"]
        if _batch_id.fullmatch(batch_id) is None:
            raise NotFound(NO_SUCH_BATCH)

        async def ask(place: ReadPlace) -> Response:
            found = await lists.one(place.reading, caller.merchant_id, caller.mode, batch_id)
            if found is None:
                raise NotFound(NO_SUCH_BATCH)
            return _private(encode(settlement_view(found)))

        return await read_from(self._places, request, ask)

    async def of_payment(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, SCOPE)
        request.query()
        payment_id = payment_id_of(request)

        async def ask(place: ReadPlace) -> Response:
            found = await lists.of_payment(
                place.reading, caller.merchant_id, caller.mode, payment_id
            )
            if found is None:
                raise NotFound(NO_SUCH_PAYMENT)
            return _page([settled_view(each) for each in found])

        return await read_from(self._places, request, ask)


def _page(data: list[SettlementView] | list[SettledView]) -> Response:
    """Return all there is as one page."""
    return _private(encode(Page(list(data), False, None)))


def _private(body: bytes) -> Response:
    response = Response(200, body)
    response.cache_control = PRIVATE
    return response


def _range_of(query: dict[str, str]) -> tuple[datetime, datetime]:
    """Return from and to: by default the last 30 days."""
    until = moment_of(query, "to") or clock.now()
    since = moment_of(query, "from") or until - _USUAL
    if not timedelta() < until - since <= LONGEST:
        why = f"It must be before to, and at most {LONGEST.days} days before it."
        raise ValidationFailed.of([FieldError("?from", "range_too_long", why)])
    return since, until
