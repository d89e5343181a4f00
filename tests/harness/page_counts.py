"""For tests that compare how many pages something reads."""

from typing import Any

_OFF = """
    DO $$
    DECLARE each regclass;
    BEGIN
        FOR each IN SELECT oid FROM pg_class
                     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
        LOOP
            EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = false)', each);
        END LOOP;
    END $$
"""


async def without_autovacuum(connection: Any) -> None:
    """Leave the tables of a database alone: autovacuum's reads are counted like all others, and it
    comes when it likes."""
    await connection.execute(_OFF)
