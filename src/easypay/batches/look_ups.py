"""Reads and writes of lines by their numbers, whatever the table was like when it was planned.

A plan that was made while there were few lines reads all of them, and a connection keeps its plans.
Then a file of a million lines comes.
"""

from typing import Any

Pool = Any
_BY_KEY = "SET LOCAL enable_seqscan = off"


async def fetch(pool: Pool, sql: str, *arguments: object) -> list[Any]:
    """Run a statement by its indexes, and return its rows."""
    async with pool.acquire() as connection, connection.transaction():
        return await fetch_within(connection, sql, *arguments)


async def fetch_within(connection: Any, sql: str, *arguments: object) -> list[Any]:
    """Do the same within a transaction. What follows in it is run by its indexes, too."""
    await connection.execute(_BY_KEY)
    rows: list[Any] = await connection.fetch(sql, *arguments)
    return rows
