"""Many payments of one merchant in a moment, for tests that need bytes and not their story."""

import uuid

from harness.sessions import connected

_COLUMNS = """
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)
      FROM pg_attribute
     WHERE attrelid = 'payments'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'id'
"""


async def copies_of(dsn: str, payment: uuid.UUID, count: int) -> None:
    """Add copies of a payment. Their ids are of the same millisecond, so of the same month."""
    async with connected(dsn) as connection:
        columns = await connection.fetchval(_COLUMNS)
        await connection.execute(
            f"INSERT INTO payments (id, {columns})"
            " SELECT overlay(id::text PLACING lpad(to_hex(n), 12, '0') FROM 25)::uuid,"
            f"       {columns}"
            "   FROM payments, generate_series(1, $2::int) AS n WHERE id = $1",
            payment,
            count,
        )
