"""Authentication: the API keys of merchants, and the admin key.

`merchants/directory.py` checks a merchant's key: whether it exists and has not ended.
"""

import hmac

from easypay.api.http import Request
from easypay.clock import stopwatch
from easypay.errors import Forbidden, InvalidApiKey
from easypay.merchants.directory import Directory
from easypay.merchants.model import Caller, digest_of


async def caller_of(directory: Directory, request: Request, scope: str) -> Caller:
    """Return the key's caller. Raises InvalidApiKey, or Forbidden if the key lacks `scope`."""
    caller = request.caller
    if caller is None:  # nobody has asked for this request yet
        caller = request.caller = directory.known(request.headers.get(b"authorization"))
    if caller is None:
        started = stopwatch()
        caller = request.caller = await directory.caller(bearer(request))
        request.auth_s = stopwatch() - started
    if scope not in caller.scopes:
        raise Forbidden(
            f"The key has the scopes {', '.join(sorted(caller.scopes))}; this needs {scope}."
        )
    return caller


def require_admin(request: Request, admin_digest: bytes | None) -> None:
    """Raise InvalidApiKey unless the request carries the admin key."""
    given = digest_of(bearer(request))
    if admin_digest is None or not hmac.compare_digest(given, admin_digest):
        raise InvalidApiKey("This needs the admin key (EASYPAY_ADMIN_KEY).")


def bearer(request: Request) -> str:
    """Return the key from `Authorization: Bearer <key>`. Raises InvalidApiKey if absent."""
    scheme, _, key = request.headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer" or not key:
        raise InvalidApiKey("Send your key as Authorization: Bearer ep_test_….")
    return key.strip().decode("latin-1")
