"""What the processor tells by itself: checked, stored, answered. Nothing else happens here."""

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from easypay.api.http import Request, Response, encode
from easypay.db.group_commit import GroupCommitter
from easypay.errors import InvalidSignature
from easypay.notifications.accounts import Signers
from easypay.notifications.store import Told
from easypay.processors.notifications import Irrelevant

log = logging.getLogger(__name__)

REFUSED: Final = (
    "The body is not signed with the signature key of this account, or there is no such account."
)


class Received(msgspec.Struct, frozen=True):
    """The notification has arrived. What it means is found out later."""

    received: bool


_OK: Final = encode(Received(True))


class NotificationsApi:
    """The handler. `counted` is called with what became of each notification."""

    def __init__(
        self,
        *,
        signers: Signers,
        committer: GroupCommitter[Told, bool],
        counted: Callable[[str], None],
    ) -> None:
        self._signers = signers
        self._committer = committer
        self._counted = counted

    async def receive(self, request: Request) -> Response:
        """Store a notification whose signature is right. Whatever it says, the answer is then 200:
        after ten others the processor would send no more."""
        signed = await self._signers.signed(
            request.params["processor"], request.params["account"], request.body, request.headers
        )
        if signed is None:
            self._counted("refused")
            raise InvalidSignature(REFUSED)
        account, format = signed
        notification = format.read(request.body)
        if notification is None:
            self._counted("unreadable")
            log.error(
                "a notification of the account %s cannot be understood: request %s",
                request.params["account"],
                request.id,
            )
        elif isinstance(notification, Irrelevant):
            self._counted("irrelevant")
        else:
            new = await self._committer.submit(Told(account, notification))
            self._counted("stored" if new else "repeated")
        return Response(200, _OK)
