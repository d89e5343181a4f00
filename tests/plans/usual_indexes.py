"""The indexes that a table of payments usually gets, their cost, and what is here instead.

Each is built on a copy of the newest payments, and the same updates are made with and without them:
bytes, write-ahead log and heap-only updates are counted, so a busy machine changes nothing.
"""

import json
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from plans.explain import undone

_ROWS: Final = 20_000
_UPDATED: Final = 2_000


class Usual(NamedTuple):
    """One index, the query that it is for, and what serves that query here."""

    definition: str
    query: str
    here: str
    cases: tuple[str, ...]
    """The cases whose figures show what the query costs here."""


USUAL: Final = (
    Usual("(merchant_id)", "a merchant's payments", "`payments_pkey` begins with it",
          ("list payments, newest first",)),
    Usual("(status)", "payments that still need something, of all merchants",
          "work lists, whose rows are what is left to do: `unresolved_operations_account`, "
          "`watched_operations_due`", ("read an account's open operations",)),
    Usual("(created_at)", "what began in a span of time",
          "ids begin with their time: a span is a range of ids, in the months that it touches; "
          "over all merchants `operations_recent`", ("sweep for lost processes",)),
    Usual("(order_reference)", "the payment of a caller's own number",
          "`payment_search_order`; by the idempotency key `idempotency_keys_pkey`; by the "
          "processor's invoice number `operations_pkey`",
          ("filter payments by order reference", "look up an idempotency key",
           "filter payments by processor's reference")),
    Usual("(merchant_id, status)", "a merchant's payments of one status",
          "`payment_search_status`, in the order of the list", ("filter payments by status",)),
    Usual("(created_at, status)", "how many payments of a status in a span",
          "no index: a count over a span reads it all, so reports read the feed", ()),
    Usual("(merchant_id, created_at)", "a page of a merchant's list",
          "`payments_pkey`: (merchant_id, mode, id) is in the order of time",
          ("list payments, newest first",)),
    Usual("(merchant_id) WHERE status IN ('pending', 'processing', 'captured')",
          "a merchant's active payments",
          "nearly all payments are captured, so this index is as large as the first; what is "
          "really open is in `unresolved_operations_pkey`",
          ("filter payments by an unknown outcome",)),
    Usual("(merchant_id, created_at, status, amount_minor)"
          " INCLUDE (id, method_type, transaction_id)", "a list without reading rows",
          "`payments_pkey` and the rows: a page of 100 reads each once",
          ("list payments, newest first",)),
)  # fmt: skip


@dataclass
class Cost:
    """What the updates of payments cost with some indexes."""

    index_bytes: list[float]
    """Of each index that was added, for each payment."""
    wal_bytes: float
    """For each update."""
    heap_only: float
    """The share of updates that touched no index."""


async def measure(connection: Any) -> tuple[Cost, Cost]:
    """Return the costs without and with the usual indexes. Leaves nothing behind."""
    return await _cost(connection, ()), await _cost(connection, USUAL)


async def _cost(connection: Any, added: tuple[Usual, ...]) -> Cost:
    async with undone(connection):
        await connection.execute(
            "CREATE TABLE copied (LIKE payments INCLUDING DEFAULTS,"
            " PRIMARY KEY (merchant_id, mode, id)) WITH (fillfactor = 42)"
        )
        names = []
        for number, usual in enumerate(added):
            names.append(f"usual_{number}")
            await connection.execute(f"CREATE INDEX usual_{number} ON copied {usual.definition}")
        await connection.execute(
            "INSERT INTO copied SELECT * FROM (SELECT * FROM payments ORDER BY id DESC LIMIT $1)"
            " AS newest ORDER BY id",
            _ROWS,
        )
        plan = await connection.fetchval(
            "EXPLAIN (ANALYZE, WAL, FORMAT JSON) UPDATE copied SET status = 'voided',"
            " captured_minor = 0, version = version + 1, updated_at = now()"
            " WHERE id IN (SELECT id FROM copied ORDER BY id DESC LIMIT $1)",
            _UPDATED,
        )
        hot, updated = await connection.fetchrow(
            "SELECT pg_stat_get_xact_tuples_hot_updated(oid), pg_stat_get_xact_tuples_updated(oid)"
            " FROM pg_class WHERE relname = 'copied'"
        )
        rows = await connection.fetchval("SELECT count(*) FROM copied")
        return Cost(
            [
                await connection.fetchval("SELECT pg_relation_size($1::text::regclass)", name)
                / rows
                for name in names
            ],
            json.loads(plan)[0]["Plan"]["WAL Bytes"] / updated,
            hot / updated,
        )
