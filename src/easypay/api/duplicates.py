"""The list of payments that look alike: its query, its pages and its view."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from easypay import clock, ids
from easypay.api.http import Request, Response
from easypay.api.paging import Cursors, limit_of, moment_of, page_response
from easypay.api.read_from import read_from
from easypay.clock import rfc3339
from easypay.errors import FieldError, ValidationFailed
from easypay.merchants.model import Caller
from easypay.payments.duplicate_report import Group, find_groups
from easypay.payments.read_places import ReadPlace, ReadPlaces
from easypay.payments.views import PaymentMethodView

QUERY: Final = ("limit", "cursor", "created_from", "created_to")
_USUAL: Final = timedelta(days=1)
_LONGEST: Final = timedelta(days=31)


class AlikePaymentView(msgspec.Struct, frozen=True):
    """One payment of a group, with its present status."""

    id: str
    status: str
    created_at: str


class DuplicateGroupView(msgspec.Struct, frozen=True):
    """Payments that look alike, oldest first: each began within the merchant's window of the one
    before."""

    amount: int
    currency: str
    order_reference: str | None
    payment_method: PaymentMethodView
    payments: list[AlikePaymentView]


async def duplicates_page(
    request: Request, caller: Caller, places: ReadPlaces, cursors: Cursors
) -> Response:
    """Return a page of groups. Raises ValidationFailed for a bad query."""
    query = request.query(*QUERY)
    limit = limit_of(query)
    since, until = _range_of(query)
    scope = f"duplicates {query.get('created_from')} {query.get('created_to')}"
    start, end = ids.lowest_id_at(since), ids.lowest_id_at(until)
    after = None
    if "cursor" in query:
        last, after = cursors.read(query["cursor"], caller, scope)
        start = UUID(int=last.int + 1)

    async def ask(place: ReadPlace) -> Response:
        found = await find_groups(
            place.reading,
            caller.merchant_id,
            caller.mode,
            start=start,
            end=end,
            window_s=caller.duplicate_window_s,
            limit=limit,
        )
        cursor = None
        if found.after is not None:
            cursor = cursors.write(found.after, caller, scope, await places.position(place))
        return page_response(request, [group_view(group) for group in found.groups], cursor)

    return await read_from(places, request, ask, after=after)


def _range_of(query: dict[str, str]) -> tuple[datetime, datetime]:
    """Return the range: by default the last day, at most 31 days.

    With a cursor the length is not checked again: "until now" grows from page to page.
    """
    until = moment_of(query, "created_to") or clock.now()
    since = moment_of(query, "created_from") or until - _USUAL
    if until - since > _LONGEST and "cursor" not in query:
        why = f"The range from created_from to created_to must be at most {_LONGEST.days} days."
        raise ValidationFailed.of([FieldError("?created_from", "range_too_long", why)])
    return since, until


def group_view(group: Group) -> DuplicateGroupView:
    """Return a group as the API shows it."""
    return DuplicateGroupView(
        amount=group.amount_minor,
        currency=group.currency,
        order_reference=group.order_reference,
        payment_method=PaymentMethodView(
            group.method_type,
            group.card_brand,
            group.card_last4,
            group.card_exp_month,
            group.card_exp_year,
        ),
        payments=[
            AlikePaymentView(
                ids.typed(ids.PAYMENT, member.id), member.status, rfc3339(member.created_at)
            )
            for member in group.members
        ],
    )
