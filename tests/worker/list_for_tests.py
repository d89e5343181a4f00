"""A work list for tests: letters that are sent, fail, hang or come back, as their words say."""

import asyncio
import sys
from typing import Any

from easypay.db.work_list import Work, WorkList
from easypay.db.work_loop import Done, End, EndWatcher, GiveUp, Later, Schedule, WorkLoop
from easypay.worker.registry import Listed, Parts

LETTERS = WorkList("letters", (("id", "uuid"),), ("words",))
TABLE = """
    CREATE TABLE letters (
        id uuid PRIMARY KEY, words text NOT NULL,
        due_at timestamptz NOT NULL DEFAULT db_now(),
        attempt integer NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT db_now(),
        reason text, parked_at timestamptz);
    CREATE INDEX ON letters (due_at) WHERE parked_at IS NULL;
    CREATE TABLE sent (id uuid, attempt integer);
"""
SCHEDULE = Schedule(first_s=0.02, most_s=0.05, attempts=3)


def sender(runner: Any) -> Any:
    """What sends a letter: it writes a row."""

    async def send(work: Work) -> End:
        (words,) = work.payload
        await runner.execute("INSERT INTO sent VALUES ($1, $2)", work.key[0], work.attempt)
        match words:
            case "fails":
                raise ConnectionResetError("they hung up")
            case "hangs":
                await asyncio.sleep(600)
            case "is refused":
                return GiveUp("410 Gone")
            case "comes back":
                return Later(0.0, "503") if work.attempt == 1 else Done()
            case _:
                pass
        return Done()

    return send


def make(parts: Parts, ended: EndWatcher) -> WorkLoop:
    return WorkLoop(
        "letters",
        LETTERS,
        parts.settings.database_url.get_secret_value(),
        sender(parts.pool),
        at_once=8,
        lease_s=1.0,
        schedule=Schedule(first_s=0.02, most_s=0.05, attempts=1000),
        ended=ended,
    )


LISTS = (Listed("letters", LETTERS, make),)

if __name__ == "__main__":
    from easypay.settings import Settings
    from easypay.worker.process import work

    sys.exit(work(Settings(), lists=LISTS))  # type: ignore[call-arg]  # from the environment
