"""What a group of payments costs on a direct connection: one statement and nothing else."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from row_builders import committer, new_payment

from easypay import ids
from easypay.db.embedded import Cluster
from easypay.payments import statements


def statements_of(log: Path, pid: int) -> list[str]:
    """Return the first word of every statement that this session sent, in order."""
    sent = re.compile(rf"\[{pid}\] LOG: +(?:statement|execute [^:]+):\s*(\S+)")
    return sent.findall(log.read_text())


async def test_a_group_is_one_statement_and_its_commit_is_part_of_it(
    cluster: Cluster, database: str, connection: Any
) -> None:
    name = urlsplit(database).path[1:]
    await connection.execute(f"ALTER DATABASE {name} SET log_statement = 'all'")
    begin = committer(statements.BEGIN, database, lanes=1)
    await begin.submit(new_payment(ids.new_id()))
    pid = await connection.fetchval(
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'easypay begin 1'"
    )
    before = statements_of(cluster.log_path, pid)
    for _ in range(3):
        await begin.submit(new_payment(ids.new_id()))
    more = statements_of(cluster.log_path, pid)[len(before) :]
    assert more == ["WITH"] * 3
    assert not {"BEGIN", "COMMIT", "SET", "RESET"} & set(before)
    await begin.close()
