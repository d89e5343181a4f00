"""`alert_states`: what fires, and who knows it, so that a restart tells nothing twice."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from easypay.alerts.states import Key, State
from easypay.db.lease import hold

_COLUMNS: Final = "rule, series, since, seen_at, value, firing_at, over_at, told, told_over"
_ALL: Final = f"SELECT {_COLUMNS} FROM alert_states ORDER BY since, rule, series"
_INSERT: Final = (
    f"INSERT INTO alert_states ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
)
_PUT: Final = f"""
    {_INSERT}
    ON CONFLICT (rule, series) DO UPDATE
       SET since = excluded.since, seen_at = excluded.seen_at, value = excluded.value,
           firing_at = excluded.firing_at, over_at = excluded.over_at,
           told = excluded.told, told_over = excluded.told_over
"""
_HAND_OVER: Final = f"{_INSERT} ON CONFLICT DO NOTHING"
_REMOVE: Final = "DELETE FROM alert_states WHERE rule = $1 AND series = $2"


async def load(runner: Any) -> dict[Key, State]:
    """Return every alert that fires, is about to, or whose end is still to be told; and the rules
    that cannot be judged."""
    states = [State(*row) for row in await runner.fetch(_ALL)]
    return {(state.rule, state.series): state for state in states}


async def save(
    pool: Any, lease: str, token: int, put: Sequence[State], remove: Sequence[Key]
) -> bool:
    """Write what changed. Returns False, and writes nothing, if the lease is another's."""
    async with pool.acquire() as connection, connection.transaction():
        if not await hold(connection, lease, token):
            return False
        await write(connection, put, remove)
    return True


async def write(connection: Any, put: Sequence[State], remove: Sequence[Key]) -> None:
    """Write and remove rows."""
    for key in remove:
        await connection.execute(_REMOVE, *key)
    for state in put:
        await connection.execute(_PUT, *msgspec.structs.astuple(state))


async def hand_over(pool: Any, left: Sequence[State]) -> None:
    """Leave to the next leader what was told from memory and never written, so that its end is
    told, too."""
    for state in left:
        await pool.execute(_HAND_OVER, *msgspec.structs.astuple(state))


def differences(
    before: Mapping[Key, State], after: Mapping[Key, State]
) -> tuple[list[State], list[Key]]:
    """Return the states to write and the keys to remove. That an alert still holds, with another
    value, is not worth a write."""

    def told_of(state: State | None) -> tuple[object, ...] | None:
        if state is None:
            return None
        return state.since, state.firing_at, state.over_at, state.told, state.told_over

    put = [state for key, state in after.items() if told_of(before.get(key)) != told_of(state)]
    return put, [key for key in before if key not in after]
