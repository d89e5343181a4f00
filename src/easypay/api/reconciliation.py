"""Differences between the processor's books and ours over HTTP: of the key's merchant and mode."""

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.api.auth import caller_of
from easypay.api.http import Request, Response, decode, encode, invalid_query
from easypay.api.paging import Cursors, limit_of, newest_id, page_response
from easypay.errors import FieldError, InvalidState, NotFound, ValidationFailed
from easypay.merchants.directory import Directory
from easypay.merchants.model import Caller
from easypay.payments.manual_resolution import LONGEST_REASON, wrong_reason
from easypay.reconciliation import breaks, state
from easypay.reconciliation.model import Break, BreakKind, BreakState
from easypay.reconciliation.views import break_view, state_view

READ: Final = "reconciliation:read"
WRITE: Final = "reconciliation:write"
PATH: Final = "/api/v1/reconciliation"
NO_SUCH_BREAK: Final = "there is no such difference"
STATES: Final = tuple(each.value for each in BreakState)
KINDS: Final = tuple(each.value for each in BreakKind)


class MatchBreak(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a difference is explained. It is kept for ever."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_REASON)]


_match = msgspec.json.Decoder(MatchBreak)


class ReconciliationApi:
    """The handlers for differences."""

    def __init__(self, *, directory: Directory, pool: Any, cursors: Cursors) -> None:
        self._directory = directory
        self._pool = pool
        self._cursors = cursors

    async def state(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, READ)
        request.query()
        of = caller.merchant_id, caller.mode
        accounts = await state.accounts(self._pool, of)
        still_open = await state.open_by_kind(self._pool, of)
        return Response(200, encode(state_view(accounts, still_open)))

    async def list_breaks(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, READ)
        query = request.query("limit", "cursor", "state", "kind")
        wanted = _one_of(query, "state", STATES), _one_of(query, "kind", KINDS)
        limit, scope = limit_of(query), f"breaks {wanted}"
        text = query.get("cursor")
        below = newest_id() if text is None else self._cursors.read(text, caller, scope).last
        found = await state.page(
            self._pool,
            caller.merchant_id,
            caller.mode,
            below,
            state=wanted[0],
            kind=wanted[1],
            limit=limit + 1,
        )
        more = len(found) > limit
        cursor = self._cursors.write(found[limit - 1].id, caller, scope) if more else None
        return page_response(request, [break_view(each) for each in found[:limit]], cursor)

    async def get(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, READ)
        request.query()
        found = await self._find(self._pool, caller, _break_id(request))
        return Response(200, encode(break_view(found)))

    async def match(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, WRITE)
        reason = decode(request, _match).reason
        if wrong := wrong_reason(reason):
            raise ValidationFailed.of([FieldError("#/reason", "invalid", f"{wrong}.")])
        break_id = _break_id(request)
        async with self._pool.acquire() as connection, connection.transaction():
            found = await self._find(connection, caller, break_id)
            if found.state != BreakState.MATCHED or found.reason != reason:
                actor = ids.typed(ids.API_KEY, caller.key_id)
                matched = await breaks.match_by_hand(connection, break_id, actor, reason)
                if matched is None:
                    now = await self._find(connection, caller, break_id)
                    raise InvalidState(why_not(now))
                found = matched
        return Response(200, encode(break_view(found)))

    async def _find(self, runner: Any, caller: Caller, break_id: UUID) -> Break:
        found = await state.one(runner, caller.merchant_id, caller.mode, break_id)
        if found is None:
            raise NotFound(NO_SUCH_BREAK)
        return found


def why_not(found: Break) -> str:
    """Return why a difference cannot be matched."""
    return f"{ids.typed(ids.BREAK, found.id)} is {found.state}; only an open one can be matched."


def _break_id(request: Request) -> UUID:
    found = ids.parse(ids.BREAK, request.params["id"])
    if found is None:
        raise NotFound(NO_SUCH_BREAK)
    return found


def _one_of(query: dict[str, str], name: str, known: tuple[str, ...]) -> str | None:
    text = query.get(name)
    if text is not None and text not in known:
        raise invalid_query(name, f"Use {', '.join(known)}.")
    return text
