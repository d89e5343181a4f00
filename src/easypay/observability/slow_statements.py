"""Slow statements, logged with their plan and without any value.

PostgreSQL's own `auto_explain` logs plans in which it has put the values of the parameters. So a
process that met a slow statement asks for its generic plan, which holds for any values. That may
differ from the plan that ran; docs/monitoring.md says how to see that one.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

import asyncpg

from easypay.clock import monotonic
from easypay.db.failures import is_passing
from easypay.db.group_commit import GroupCommitter
from easypay.observability.call_metrics import without_months

log = logging.getLogger(__name__)

Settings = Mapping[str, str]
_AS_IT_IS: Final[Settings] = {}
QUIET_S: Final = 600.0
"""How long a statement that was logged is not logged again."""
_MOST_WAITING: Final = 8
_MOST_KNOWN: Final = 500
_LONGEST: Final = 4_000
_NAME: Final = "easypay_slow_statement"
_LIMITS: Final = """
    SELECT set_config('statement_timeout', '2s', true), set_config('lock_timeout', '100ms', true),
           set_config('plan_cache_mode', 'force_generic_plan', true)
"""
_SET: Final = (
    "SELECT set_config(name, value, true) FROM unnest($1::text[], $2::text[]) s(name, value)"
)
_PARAMETERS: Final = """
    SELECT coalesce(cardinality(parameter_types), 0) FROM pg_prepared_statements WHERE name = $1
"""


class SlowStatements:
    """Logs statements that took `limit_s` or longer; with 0 none."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s or float("inf")
        self._quiet_until: dict[int, float] = {}
        self._met: asyncio.Queue[tuple[str, float, Settings]] = asyncio.Queue(_MOST_WAITING)

    def watch(self, committer: GroupCommitter[Any, Any]) -> None:
        """See the statements of groups, too. Costs a comparison for each group."""
        committer.slow_s, committer.on_slow = self._limit_s, self.saw

    def saw(self, sql: str, took_s: float, planned: Settings = _AS_IT_IS) -> None:
        """Take note of a statement that has ended. Costs a comparison if it was quick.

        `planned`: settings of its session that make its plan."""
        if took_s < self._limit_s or self._met.full():
            return
        now, key = monotonic(), hash(without_months(sql))
        if now < self._quiet_until.get(key, 0.0):
            return
        if len(self._quiet_until) >= _MOST_KNOWN:
            self._quiet_until.clear()
        self._quiet_until[key] = now + QUIET_S
        self._met.put_nowait((sql, took_s, planned))

    async def run(self, pool: Any) -> None:
        """Log what was met, with its plan, until cancelled."""
        while True:
            sql, took_s, planned = await self._met.get()
            plan = await _plan(pool, sql, planned)
            log.warning(
                "a statement took %.1f s, with its wait for a connection: %s\n%s",
                *(took_s, " ".join(sql.split())[:_LONGEST], plan[:_LONGEST]),
            )


async def _plan(pool: Any, sql: str, planned: Settings) -> str:
    """Return the plan of a statement for any values, or why there is none."""
    try:
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            await connection.fetchrow(_LIMITS)
            await connection.fetch(_SET, list(planned), list(planned.values()))
            async with connection.transaction():
                await connection.execute(f"PREPARE {_NAME} AS {sql}")
            try:
                async with connection.transaction():
                    return await _explained(connection)
            finally:
                await connection.execute(f"DEALLOCATE {_NAME}")
    except asyncpg.PostgresError as error:
        return f"its plan cannot be shown: {error}"
    except Exception as error:
        if not is_passing(error):
            raise
        return "its plan cannot be shown: the database does not answer"


async def _explained(connection: Any) -> str:
    parameters = await connection.fetchval(_PARAMETERS, _NAME)
    values = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
    rows = await connection.fetch(f"EXPLAIN EXECUTE {_NAME}{values}")
    return "\n".join(row[0] for row in rows)
