"""Profiles of this process over HTTP, under the admin key. One at a time."""

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from easypay.api.auth import require_admin
from easypay.api.http import ClientLeft, Request, Response, decode, encode
from easypay.errors import FieldError, Overloaded, ValidationFailed
from easypay.observability.profiles import cpu, memory, waits
from easypay.observability.profiles.model import CannotProfile, Kind, Profile

LONGEST_S: Final = 300
ANOTHER: Final = "Another profile of this process is being taken. Wait for its end."


class TakeProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to look at, and for how long. `cpu`: where it computes. `wait`: where its tasks wait.
    `memory`: which lines took the memory that it has more of at the end."""

    what: Literal["cpu", "wait", "memory"] = "cpu"
    seconds: Annotated[int, Meta(ge=1, le=LONGEST_S)] = 10


class StackView(msgspec.Struct, frozen=True):
    """Frames from the outermost to the innermost. The first is the route, or the task."""

    frames: list[str]
    value: int


class ProfileView(msgspec.Struct, frozen=True):
    """Stacks with values: samples, or bytes. `pid`: the process that answered."""

    what: str
    unit: str
    pid: int
    seconds: float
    stacks: list[StackView]


_take = msgspec.json.Decoder(TakeProfile)


class ProfilesApi:
    """The handler. `running` is told of 1 while a profile is taken, and of 0 afterwards."""

    def __init__(
        self, *, admin_digest: bytes | None, longest_s: int, running: Callable[[int], None]
    ) -> None:
        self._admin_digest = admin_digest
        self._longest_s = longest_s
        self._running = running
        self._stop: asyncio.Event | None = None

    def stop(self) -> None:
        """End the profile that is taken, with what it has: the process drains."""
        if self._stop is not None:
            self._stop.set()

    async def take(self, request: Request) -> Response:
        require_admin(request, self._admin_digest)
        body = decode(request, _take, may_be_empty=True)
        if self._stop is not None:
            raise Overloaded(ANOTHER)
        self._stop = asyncio.Event()
        self._running(1)
        try:
            if not self._longest_s:
                raise CannotProfile("EASYPAY_PROFILE_LONGEST_S is 0")
            seconds = min(body.seconds, self._longest_s)
            found = await self._while_there(request, body.what, seconds, self._stop)
        except CannotProfile as error:
            raise ValidationFailed.of(
                [FieldError("#/what", "not_available", f"No profile can be taken: {error}.")]
            ) from None
        finally:
            self._stop = None
            self._running(0)
        return Response(200, encode(found))

    async def _while_there(
        self, request: Request, kind: Kind, seconds: float, stop: asyncio.Event
    ) -> Profile:
        """Take a profile. Raises ClientLeft if the client leaves first: then nothing runs on."""
        taking = asyncio.create_task(_TAKERS[kind](seconds, stop))
        left = asyncio.create_task(request.left())
        try:
            await asyncio.wait({taking, left}, return_when=asyncio.FIRST_COMPLETED)
            if not taking.done():
                raise ClientLeft
            found: Profile = taking.result()
            return found
        finally:
            left.cancel()
            if taking.cancel():
                await asyncio.wait({taking})


async def _cpu(seconds: float, stop: asyncio.Event) -> Profile:
    return await cpu.take(os.getpid(), seconds, stop)


_TAKERS: Final[Mapping[Kind, Any]] = {"cpu": _cpu, "wait": waits.take, "memory": memory.take}
