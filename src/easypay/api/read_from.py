"""Reading from the replica or the primary, as HTTP shows it.

`Read-As-Of` says up to which moment a reply from the replica is complete. A request with
`Cache-Control: no-cache` is read from the primary.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from msgspec.structs import replace

from easypay.api.http import Request, Response
from easypay.clock import rfc3339
from easypay.payments.read_places import ReadPlace, ReadPlaces

READ_AS_OF: Final = b"read-as-of"


async def read_from(
    places: ReadPlaces,
    request: Request,
    ask: Callable[[ReadPlace], Awaitable[Response]],
    *,
    after: int | None = None,
    share: bool = True,
) -> Response:
    """Return the response of `ask` for the place to read, with its header if that is the replica.

    `after`: the position in the request's cursor, if it has one. `share`: whether clients of the
    merchant who ask the same at the same time may get one response; a stream has only one reader.
    Raises what `ask` raises.
    """

    async def answer(place: ReadPlace) -> Response:
        as_of = places.as_of(place)  # asked before reading: what is read is no older
        response = await ask(place)
        response.forms = {}
        if as_of is not None:
            response.headers = [*response.headers, (READ_AS_OF, rfc3339(as_of).encode())]
        return response

    exact = _wants_exact(request)
    read = partial(places.read, answer, exact=exact, after=after)
    if not share:
        return await read()
    caller = request.caller
    assert caller is not None, "whoever reads a list has been recognised by a key"
    # Besides the merchant's own rows, an answer depends on its question only.
    question = (caller.merchant_id, caller.mode, request.path, request.query_string, exact)
    return replace(await places.shared.read(question, read))


def _wants_exact(request: Request) -> bool:
    said = request.headers.get(b"cache-control")
    if said is None:
        return False
    return any(part.strip().lower() == b"no-cache" for part in said.split(b","))
