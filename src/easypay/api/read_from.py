"""Reading from the replica or the primary, as HTTP shows it.

`Read-As-Of` says up to which moment a reply from the replica is complete. A request with
`Cache-Control: no-cache` is read from the primary.
"""

from collections.abc import Awaitable, Callable
from typing import Final

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
) -> Response:
    """Return the response of `ask` for the place to read, with its header if that is the replica.

    `after`: the position in the request's cursor, if it has one. Raises what `ask` raises.
    """

    async def answer(place: ReadPlace) -> Response:
        as_of = places.as_of(place)  # asked before reading: what is read is no older
        response = await ask(place)
        if as_of is not None:
            response.headers = [*response.headers, (READ_AS_OF, rfc3339(as_of).encode())]
        return response

    return await places.read(answer, exact=_wants_exact(request), after=after)


def _wants_exact(request: Request) -> bool:
    said = request.headers.get(b"cache-control", b"")
    return any(part.strip().lower() == b"no-cache" for part in said.split(b","))
