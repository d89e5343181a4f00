"""Reading over HTTP: payments, refunds, operations and events, alone and in lists.

Everything here reads through the connections for reading, except one payment by its id, which is
read in a group with others, and the totals of long lists, which come from the statistics.
Nothing here waits for, or holds up, what money needs.

The lists of payments and of refunds may come from a read replica. What is named by its id, and what
belongs to one payment, comes from the primary.
"""

import dataclasses
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.api import numbered_pages, payment_filters
from easypay.api.auth import caller_of
from easypay.api.conditional import PRIVATE, held_tag, not_modified, version_tag
from easypay.api.duplicates import duplicates_page
from easypay.api.http import Request, Response, encode
from easypay.api.idempotency import check_key
from easypay.api.paging import (
    CREATED,
    Cursors,
    expand_of,
    limit_of,
    newest_id,
    page_response,
    span_of,
)
from easypay.api.payments import payment_id_of
from easypay.api.read_from import read_from
from easypay.api.waiting import Waiting, wait_of
from easypay.clock import rfc3339
from easypay.customers.paying import customers_of
from easypay.db.partitions import Months
from easypay.errors import NotFound
from easypay.merchants.directory import Directory
from easypay.merchants.model import Caller
from easypay.payments import expansion, search, store, totals
from easypay.payments.flows import Payments
from easypay.payments.lists import (
    EVENTS_OF_PAYMENT,
    OPERATIONS_OF_PAYMENT,
    PAYMENTS,
    REFUNDS,
    Lists,
    Source,
    Span,
)
from easypay.payments.model import Kind, Operation, Payment, operation_of
from easypay.payments.read_places import UNKNOWN, ReadPlace, ReadPlaces
from easypay.payments.views import (
    EventView,
    event_view,
    listed_payment_views,
    operation_view,
    payment_view,
    refund_view,
)

NO_SUCH_KEY: Final = "This key was never used, or so long ago that it is no longer stored."


class KeyView(msgspec.Struct, frozen=True):
    """The use of an idempotency key. `reply_status` is null until the request was answered."""

    key: str
    payment_id: str
    operation_id: str
    kind: str
    state: str
    reply_status: int | None
    created_at: str
    expires_at: str


class ReadingApi:
    """The handlers for what clients read."""

    def __init__(
        self,
        *,
        payments: Payments,
        directory: Directory,
        places: ReadPlaces,
        months: Months,
        cursors: Cursors,
        key_days: int,
        is_draining: Callable[[], bool],
    ) -> None:
        self._payments = payments
        self._directory = directory
        self._places = places
        self._months = months
        self._cursors = cursors
        self._key_days = key_days
        self._waiting = Waiting(is_draining)

    # payments --------------------------------------------------------------------------------

    async def get(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, "payments:read")
        query = request.query("expand", "wait") if request.query_string else {}
        expand, wait_s = expand_of(query) if query else (), wait_of(query)
        payment_id = payment_id_of(request)
        payment = await self._payments.get(caller, payment_id)
        if wait_s:
            read = partial(self._payments.get, caller, payment_id)
            payment = await self._waiting.until_sent(payment, wait_s, read, request.left)
        if expand:
            lists = self._places.primary.lists
            view, payment_ids = payment_view(payment), [payment.id]
            (view,) = await self._expanded(lists, caller, [view], payment_ids, expand)
            body = encode(view)
            # The children change without the payment's version.
            tag = version_tag(payment.version, body)
            return Response(200, body, headers=[(b"etag", tag)], cache_control=PRIVATE)
        tag = version_tag(payment.version)
        held = held_tag(request, tag)
        if held is not None:
            return not_modified(held)
        body = encode(payment_view(payment))
        return Response(200, body, headers=[(b"etag", tag)], cache_control=PRIVATE)

    async def list(self, request: Request) -> Response:
        """List payments. Their order is that of their ids, so of their creation."""
        caller = await caller_of(self._directory, request, "payments:read")
        query = request.query(
            "limit", "cursor", *CREATED, "order", "expand", "page", "size", *payment_filters.NAMES
        )  # fmt: skip
        expand = expand_of(query)
        filters = payment_filters.filters_of(query)
        span, scope = span_of(caller, query, "payments")
        if filters:
            scope = f"{scope} {payment_filters.scope_of(query)}"

        def source(place: ReadPlace) -> Source:
            if filters:
                return search.source(place.lists, filters)
            return place.lists.source(PAYMENTS)

        if "page" in query or "size" in query:

            async def ask_numbered(place: ReadPlace) -> Response:
                total = partial(totals.of, place.questions, self._months, filters)
                counted = dataclasses.replace(source(place), total=total)
                page = await numbered_pages.read(query, counted, span)
                views = await self._payment_views(place.lists, caller, page.rows, expand)
                return numbered_pages.response(request, views, page)

            return await read_from(self._places, request, ask_numbered)
        limit = limit_of(query)
        rest, after = self._after_cursor(caller, query, span, scope)

        async def ask(place: ReadPlace) -> Response:
            rows = await source(place).rows(rest, limit + 1)
            views = await self._payment_views(place.lists, caller, rows[:limit], expand)
            return await self._page(request, rows, limit, views, caller, scope, place)

        return await read_from(self._places, request, ask, after=after)

    async def duplicates(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, "payments:read")
        return await duplicates_page(request, caller, self._places, self._cursors)

    async def _payment_views(
        self, lists: Lists, caller: Caller, rows: Sequence[Any], expand: Sequence[str]
    ) -> Sequence[Any]:
        views = listed_payment_views(rows)
        if not expand or not views:
            return views
        return await self._expanded(lists, caller, views, [row["id"] for row in rows], expand)

    async def _expanded(
        self,
        lists: Lists,
        caller: Caller,
        views: Sequence[Any],
        payments: Sequence[UUID],
        expand: Sequence[str],
    ) -> Sequence[Any]:
        """Add children and customers to payments, with one statement for all of each."""
        if "customer" in expand:
            wanted = expansion.customer_ids(views)
            customers = await customers_of(lists, caller.merchant_id, caller.mode, wanted)
            views = [expansion.with_customer(view, customers) for view in views]
            expand = [each for each in expand if each != "customer"]
            if not expand:
                return views
        children = await lists.operations_of(
            caller.merchant_id,
            caller.mode,
            payments,
            kind=None if "operations" in expand else Kind.REFUND,
            limit=expansion.LIMIT + 1,
            since=store.earliest_child(min(payments)),
            until=newest_id(),
        )
        return [
            expansion.expanded(view, children[payment], expand)
            for view, payment in zip(views, payments, strict=True)
        ]

    # refunds and operations --------------------------------------------------------------------

    async def list_refunds(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, "payments:read")
        query = request.query("limit", "cursor", *CREATED, "order")
        limit = limit_of(query)
        span, scope = span_of(caller, query, "refunds")
        rest, after = self._after_cursor(caller, query, span, scope)

        async def ask(place: ReadPlace) -> Response:
            rows = await place.lists.page(REFUNDS, rest, limit + 1)
            refunds = [operation_of(row) for row in rows[:limit]]
            processors = await place.lists.processors_of(
                caller.merchant_id, caller.mode, {refund.payment_id for refund in refunds}
            )
            # A payment of an earlier month can be archived when its refund is not: then both are
            # in no list.
            views = [
                refund_view(refund, processors[refund.payment_id])
                for refund in refunds
                if refund.payment_id in processors
            ]
            return await self._page(request, rows, limit, views, caller, scope, place)

        return await read_from(self._places, request, ask, after=after)

    async def get_refund(self, request: Request) -> Response:
        operation, payment = await self._operation(request, ids.REFUND, "refund")
        if operation.kind is not Kind.REFUND:
            raise NotFound(f"there is no refund {ids.typed(ids.REFUND, operation.id)}")
        return _fresh(refund_view(operation, payment.processor))

    async def get_operation(self, request: Request) -> Response:
        operation, payment = await self._operation(request, ids.OPERATION, "operation")
        return _fresh(operation_view(operation, payment.processor))

    async def _operation(
        self, request: Request, prefix: str, word: str
    ) -> tuple[Operation, Payment]:
        """Return one of the caller's operations and its payment. Raises NotFound."""
        caller = await caller_of(self._directory, request, "payments:read")
        request.query()
        operation_id = ids.parse(prefix, request.params["id"])
        operation = None
        if operation_id is not None:
            lists = self._places.primary.lists
            operation = await lists.operation(caller.merchant_id, caller.mode, operation_id)
        if operation is None:
            raise NotFound(f"there is no such {word}")
        return operation, await self._payments.get(caller, operation.payment_id)

    # what belongs to a payment -----------------------------------------------------------------

    async def refunds(self, request: Request) -> Response:
        return await self._operations_of_payment(request, Kind.REFUND, refund_view)

    async def operations(self, request: Request) -> Response:
        return await self._operations_of_payment(request, None, operation_view)

    async def events(self, request: Request) -> Response:
        caller, payment, span, limit, scope = await self._child_page(request, "events")
        lists = self._places.primary.lists
        rows = await lists.page(EVENTS_OF_PAYMENT, span, limit + 1, payment.id)
        views: list[EventView] = [event_view(row) for row in rows[:limit]]
        return await self._page(request, rows, limit, views, caller, scope)

    async def _operations_of_payment(
        self, request: Request, kind: Kind | None, view: Callable[[Operation, str], Any]
    ) -> Response:
        caller, payment, span, limit, scope = await self._child_page(request, kind or "operations")
        lists = self._places.primary.lists
        rows = await lists.page(OPERATIONS_OF_PAYMENT, span, limit + 1, payment.id, kind)
        views = [view(operation_of(row), payment.processor) for row in rows[:limit]]
        return await self._page(request, rows, limit, views, caller, scope)

    async def _child_page(
        self, request: Request, name: str
    ) -> tuple[Caller, Payment, Span, int, str]:
        caller = await caller_of(self._directory, request, "payments:read")
        payment_id = payment_id_of(request)
        query = request.query("limit", "cursor")
        limit = limit_of(query)
        payment = await self._payments.get(caller, payment_id)
        scope = f"{name} {payment_id.hex}"
        span = Span(
            caller.merchant_id, caller.mode, store.earliest_child(payment_id), newest_id(), False
        )  # fmt: skip
        rest, _ = self._after_cursor(caller, query, span, scope)
        return caller, payment, rest, limit, scope

    # keys --------------------------------------------------------------------------------------

    async def key(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, "payments:read")
        key = check_key(request.params["key"])
        reading = self._places.primary.reading
        use = await store.find_key(reading, caller.merchant_id, caller.mode, key)
        if use is None:
            raise NotFound(NO_SUCH_KEY)
        operation = use.operation
        view = KeyView(
            key=key,
            payment_id=ids.typed(ids.PAYMENT, operation.payment_id),
            operation_id=ids.typed(ids.OPERATION, operation.id),
            kind=operation.kind,
            state=operation.state,
            reply_status=operation.reply_status,
            created_at=rfc3339(use.created_at),
            expires_at=rfc3339(use.created_at + timedelta(days=self._key_days)),
        )
        return Response(200, encode(view))

    # pages -------------------------------------------------------------------------------------

    def _after_cursor(
        self, caller: Caller, query: dict[str, str], span: Span, scope: str
    ) -> tuple[Span, int | None]:
        """Return what is left after the page before, and that page's position."""
        if "cursor" not in query:
            return span, None
        before = self._cursors.read(query["cursor"], caller, scope)
        return span.continuing(before.last), before.position

    async def _page(
        self,
        request: Request,
        rows: Sequence[Any],
        limit: int,
        views: Sequence[Any],
        caller: Caller,
        scope: str,
        place: ReadPlace | None = None,
    ) -> Response:
        """Return a page. `rows` has one more than `limit` if there is another page. `place`: where
        it was read, if the next page may be read elsewhere."""
        cursor = None
        if len(rows) > limit:
            position = UNKNOWN if place is None else await self._places.position(place)
            cursor = self._cursors.write(rows[limit - 1]["id"], caller, scope, position)
        return page_response(request, list(views), cursor)


def _fresh(view: Any) -> Response:
    return Response(200, encode(view), cache_control=PRIVATE)
