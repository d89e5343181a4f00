"""What a database error means: one table of SQLSTATEs, for every caller.

- GONE: the connection cannot be used any more, and an answer may be lost with it. Repeat the
  statement over a new connection: every statement here takes effect once.
- TEMPORARY: the statement failed and wrote nothing. It may work soon: the cause is a lock, a
  timeout, a full disk, or a privilege that an operator took away.
- OURS: the statement fails every time: a broken constraint, a bug.

Every failure to connect is CannotConnect, and so GONE: a server that is starting, a changed
password, a database that refuses connections.
Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from enum import Enum
from typing import Final

import asyncpg

from easypay.errors import DatabaseUnavailable, EasyPayError, Overloaded


class Failure(Enum):
    """What an error means for the statement that met it."""

    GONE = "gone"
    TEMPORARY = "temporary"
    OURS = "ours"


class ConnectionLost(Exception):
    """The connection was lost together with the answer: the statement may have committed."""


class CannotConnect(ConnectionError):
    """No connection to a server that takes writes could be made, for whatever reason."""


_MEANING: Final[dict[str, Failure]] = {
    # Whole classes.
    "08": Failure.GONE,  # connection exceptions
    "28": Failure.GONE,  # role or password refused
    "53": Failure.TEMPORARY,  # disk full, out of memory
    "57": Failure.TEMPORARY,  # canceled, also by statement_timeout
    "58": Failure.TEMPORARY,  # input and output of the server
    "XX": Failure.TEMPORARY,  # an internal error of the server, such as a race with DDL
    # Single codes, which override their class.
    "25006": Failure.GONE,  # read only: after a failover the primary is elsewhere
    "25P03": Failure.GONE,  # idle_in_transaction_session_timeout
    "25P04": Failure.GONE,  # transaction_timeout
    "26000": Failure.GONE,  # unknown prepared statement: a pooler changed the server
    "3D000": Failure.GONE,  # no such database
    "40001": Failure.TEMPORARY,  # serialization failure
    "40003": Failure.GONE,  # statement completion unknown
    "40P01": Failure.TEMPORARY,  # deadlock
    "42501": Failure.TEMPORARY,  # insufficient privilege: an operator took it away
    "53300": Failure.GONE,  # too many connections
    "55006": Failure.TEMPORARY,  # object in use
    "55P03": Failure.TEMPORARY,  # lock_timeout
    "57P01": Failure.GONE,  # admin shutdown
    "57P02": Failure.GONE,  # crash shutdown
    "57P03": Failure.GONE,  # cannot connect now
    "57P04": Failure.GONE,  # database dropped
    "57P05": Failure.GONE,  # idle_session_timeout
}
_GONE: Final = (
    ConnectionLost,
    asyncpg.InterfaceError,
    # A connection cut between two states of the protocol; no host that takes writes.
    asyncpg.InternalClientError,
    asyncpg.InvalidCachedStatementError,
    OSError,  # CannotConnect and TimeoutError among them
)
_NO_PARTITION: Final = "no partition of relation"


def failure_of(error: BaseException) -> Failure:
    """Return what this error means."""
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return Failure.GONE
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        known = _MEANING.get(state) or _MEANING.get(state[:2])
        if known is not None:
            return known
        if isinstance(error, asyncpg.CheckViolationError) and _NO_PARTITION in str(error):
            return Failure.TEMPORARY  # the month is missing; a chore will make it
        return Failure.OURS
    if isinstance(error, DatabaseUnavailable | Overloaded):
        return Failure.TEMPORARY
    if isinstance(error, EasyPayError):
        return Failure.OURS
    return Failure.GONE if isinstance(error, _GONE) else Failure.OURS


def is_passing(error: BaseException) -> bool:
    """Whether the database is at fault, so that the same request may work later."""
    return failure_of(error) is not Failure.OURS
