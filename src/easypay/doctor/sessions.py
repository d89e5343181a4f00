"""Checks of sessions: connections, transactions, snapshots, locks, replication."""

from typing import Any, Final

from easypay.doctor.findings import Finding, Level, Thresholds, level_of, size, span

_CONNECTIONS: Final = """
    SELECT count(*) FILTER (WHERE backend_type = 'client backend') AS used,
           current_setting('max_connections')::int
               - current_setting('superuser_reserved_connections')::int AS most
      FROM pg_stat_activity
"""
# Only the longest of each kind: the others wait behind it.
_SESSIONS: Final = """
    SELECT pid, application_name, state LIKE 'idle in transaction%' AS idle,
           extract(epoch FROM clock_timestamp() - xact_start)::float8 AS open_s,
           extract(epoch FROM clock_timestamp() - state_change)::float8 AS since_s,
           left(regexp_replace(query, '\\s+', ' ', 'g'), 60) AS query
      FROM pg_stat_activity
     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
       AND state <> 'idle'
     ORDER BY xact_start LIMIT 1000
"""
_BLOCKED: Final = """
    SELECT a.pid, pg_blocking_pids(a.pid) AS blockers,
           extract(epoch FROM clock_timestamp() - l.waitstart)::float8 AS waited_s,
           coalesce(l.relation::regclass::text, l.locktype) AS what
      FROM pg_locks l JOIN pg_stat_activity a USING (pid)
     WHERE NOT l.granted AND l.waitstart IS NOT NULL AND l.database = (
           SELECT oid FROM pg_database WHERE datname = current_database())
     ORDER BY l.waitstart LIMIT 1
"""
# A snapshot of another database holds back only what all databases share.
_SNAPSHOTS: Final = """
    SELECT 'session ' || pid || ' (' || application_name || ')' AS holder,
           age(coalesce(backend_xmin, backend_xid)) AS transactions,
           extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds,
           format('SELECT pg_terminate_backend(%s)', pid) AS mend
      FROM pg_stat_activity
     WHERE pid <> pg_backend_pid() AND coalesce(backend_xmin, backend_xid) IS NOT NULL
       AND datname = current_database() AND backend_type = 'client backend'
    UNION ALL
    SELECT 'prepared transaction ' || gid, age(transaction),
           extract(epoch FROM clock_timestamp() - prepared)::float8,
           format('ROLLBACK PREPARED %L', gid)
      FROM pg_prepared_xacts WHERE database = current_database()
    UNION ALL
    SELECT 'replication slot ' || slot_name, age(coalesce(xmin, catalog_xmin)),
           CASE WHEN active THEN 0 ELSE 'infinity'::float8 END,
           format('SELECT pg_drop_replication_slot(%L)', slot_name)
      FROM pg_replication_slots
     WHERE xmin IS NOT NULL OR (catalog_xmin IS NOT NULL AND database = current_database())
     ORDER BY 3 DESC NULLS LAST, 2 DESC LIMIT 1
"""
_LOCKS: Final = """
    SELECT coalesce(max(held), 0)::int AS most, coalesce(sum(held), 0)::int AS total,
           (array_agg(pid ORDER BY held DESC))[1] AS pid,
           (current_setting('max_locks_per_transaction')::int
               * (current_setting('max_connections')::int
                  + current_setting('max_prepared_transactions')::int)) AS room
      FROM (SELECT pid, count(*) AS held FROM pg_locks
             WHERE NOT fastpath AND pid <> pg_backend_pid() GROUP BY pid) AS l
"""
_STANDBYS: Final = """
    SELECT application_name, sync_state, state,
           pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(replay_lsn, sent_lsn))::float8 AS behind,
           coalesce(extract(epoch FROM replay_lag), 0)::float8 AS seconds
      FROM pg_stat_replication
     WHERE state <> 'backup' ORDER BY 4 DESC NULLS FIRST
"""
_SLOTS: Final = """
    SELECT slot_name,
           coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::float8 AS kept
      FROM pg_replication_slots WHERE NOT active ORDER BY 2 DESC
"""


async def connections(db: Any, limits: Thresholds) -> list[Finding]:
    """Are there connections left?"""
    used, most = await db.fetchrow(_CONNECTIONS)
    level = level_of(used / most, limits["connections in use, share"])
    return [
        Finding(
            "connections",
            level,
            f"{used} of {most} in use",
            "a gateway that cannot connect answers 503" if level else "",
            "easypay db connections shows who uses them; raise max_connections and restart, run "
            "fewer gateways, or put PgBouncer between"
            if level
            else "",
        )
    ]


async def transactions(db: Any, limits: Thresholds) -> list[Finding]:
    """Is a transaction open for too long, working or idle?"""
    rows = await db.fetch(_SESSIONS)
    found = []
    for check, idle, column, why in (
        (
            "long transactions",
            False,
            "open_s",
            "it keeps vacuum from removing rows that died since, and may hold locks",
        ),
        (
            "idle in transaction",
            True,
            "since_s",
            "it holds its locks and its snapshot and does nothing; others wait for it",
        ),
    ):
        mine = [row for row in rows if row["idle"] == idle]
        if not mine:
            found.append(Finding(check, Level.OK, "none"))
            continue
        row = max(mine, key=lambda each: each[column])
        level = level_of(row[column], limits[f"{_LIMIT[check]}, seconds"])
        who = f"{row['application_name'] or 'a session'}, pid {row['pid']}"
        shown = f"{len(mine)}; the longest for {span(row[column])} ({who})"
        found.append(
            Finding(check, level, shown, why, _end(row["pid"]))
            if level
            else Finding(check, level, shown)
        )
    return found


_LIMIT: Final = {
    "long transactions": "long transaction",
    "idle in transaction": "idle in transaction",
}


def _end(pid: int) -> str:
    return f"psql -c 'SELECT pg_terminate_backend({pid})'"


async def blocked(db: Any, limits: Thresholds) -> list[Finding]:
    """Does a session wait for a lock?"""
    row = await db.fetchrow(_BLOCKED)
    if row is None:
        return [Finding("lock waits", Level.OK, "nobody waits")]
    level = level_of(row["waited_s"], limits["waiting for a lock, seconds"])
    shown = f"pid {row['pid']} has waited {span(row['waited_s'])} for {row['what']}"
    if not level or not row["blockers"]:
        return [Finding("lock waits", level, shown)]
    return [
        Finding(
            "lock waits",
            level,
            f"{shown}, behind pid {', '.join(map(str, row['blockers']))}",
            "payments that need the same table or row wait, too, and end with 503",
            _end(row["blockers"][0]),
        )
    ]


async def snapshots(db: Any, limits: Thresholds) -> list[Finding]:
    """How old is the oldest snapshot that anybody holds?"""
    row = await db.fetchrow(_SNAPSHOTS)
    if row is None:
        return [Finding("oldest snapshot", Level.OK, "none is held")]
    level = level_of(row["seconds"] or 0, limits["oldest snapshot, seconds"])
    age = "unknown time" if row["seconds"] in (None, float("inf")) else span(row["seconds"])
    shown = f"{age}, {row['transactions'] or 0:,} transactions ago, by {row['holder']}"
    if not level:
        return [Finding("oldest snapshot", level, shown)]
    return [
        Finding(
            "oldest snapshot",
            level,
            shown,
            "vacuum removes no row that died since then, so tables and indexes grow",
            f'psql -c "{row["mend"]}"',
        )
    ]


async def locks(db: Any, limits: Thresholds) -> list[Finding]:
    """Do plans lock very many tables?"""
    most, total, pid, room = await db.fetchrow(_LOCKS)
    level = max(
        level_of(most, limits["locks of one session"]),
        level_of(total / room, limits["locks in use, share"]),
    )
    shown = f"{total:,} of about {room:,} places in use; at most {most:,} by one session"
    if not level:
        return [Finding("many locks", level, shown)]
    return [
        Finding(
            "many locks",
            level,
            f"{shown}, pid {pid}",
            "a statement over all months locks each table and index; if the places run out, "
            "statements fail with `out of shared memory`",
            f"psql -c 'SELECT query FROM pg_stat_activity WHERE pid = {pid}' shows it; name its "
            "month in the statement, or raise max_locks_per_transaction and restart",
        )
    ]


async def replication(db: Any, limits: Thresholds) -> list[Finding]:
    """Do standbys follow, and does one answer commits if commits wait for one?"""
    if await db.fetchval("SELECT pg_is_in_recovery()"):
        return [Finding("replication", Level.OK, "this server is a standby")]
    found = []
    standbys = await db.fetch(_STANDBYS)
    wanted = await db.fetchval("SELECT current_setting('synchronous_standby_names')")
    if wanted and not any(row["sync_state"] in ("sync", "quorum") for row in standbys):
        found.append(
            Finding(
                "replication",
                Level.BAD,
                f"no synchronous standby of {wanted!r} is connected",
                "every commit waits for it, so no payment can begin",
                'start the standby, or, if its loss may cost commits: psql -c "ALTER SYSTEM SET '
                "synchronous_standby_names = ''\" -c 'SELECT pg_reload_conf()'",
            )
        )
    for row in standbys:
        level = level_of(row["behind"] or 0, limits["replication lag, bytes"])
        name = row["application_name"]
        shown = f"{name} ({row['sync_state']}) is {size(row['behind'] or 0)} behind"
        why = "if it is promoted now, the commits that it lacks are lost" if level else ""
        mend = "look at the standby's log, disk and network" if level else ""
        found.append(Finding("replication", level, shown, why, mend))
    for row in await db.fetch(_SLOTS):
        level = level_of(row["kept"], limits["log kept for an inactive slot, bytes"])
        if level:
            found.append(
                Finding(
                    "replication",
                    level,
                    f"slot {row['slot_name']} is inactive and keeps {size(row['kept'])} of log",
                    "the log fills the disk, and a full disk stops payments",
                    f"psql -c \"SELECT pg_drop_replication_slot('{row['slot_name']}')\"",
                )
            )
    return found or [Finding("replication", Level.OK, "no standby")]
