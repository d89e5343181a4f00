"""What a seed makes, and what a database already has of it.

The plan is kept in `audit_entries`, so that a seed that was cut short can be continued with the
same rows, and by anybody who looks later.
"""

import getpass
from datetime import datetime
from typing import Any, Final

import msgspec

from easypay.clock import log_time
from easypay.db import partitions
from easypay.errors import EasyPayError
from easypay.payments.audit_log import write_down
from easypay.seeding.days import Day, days, months_until
from easypay.seeding.shops import HIGHEST, LOWEST

_BEGUN: Final = "seed begun"
_FINISHED: Final = "seed finished"
_CLEARED: Final = "seed cleared"
_SUBJECT: Final = "database"


class CannotSeed(EasyPayError):
    """The database must not be filled, or not like this."""


class Plan(msgspec.Struct, frozen=True):
    """What a seed makes: all rows follow from this."""

    payments: int
    months: int
    merchants: int
    seed: int
    until: datetime
    """The present of the seed, in UTC: nothing happened later."""

    def days(self) -> dict[datetime, list[Day]]:
        """Return the days of each month, the oldest month first."""
        return days(self.payments, self.months, self.until)

    def month_starts(self) -> list[datetime]:
        """Return the starts of the months, the oldest first."""
        return months_until(self.months, self.until)


async def kept(connection: Any) -> tuple[Plan | None, bool]:
    """Return the plan of the seed in this database and whether it was finished."""
    rows = await connection.fetch(
        "SELECT action, detail FROM audit_entries WHERE subject = $1 AND action = ANY ($2)"
        " ORDER BY id DESC LIMIT 1",
        _SUBJECT,
        [_BEGUN, _FINISHED, _CLEARED],
    )
    if not rows or rows[0]["action"] == _CLEARED:
        return None, False
    plan = msgspec.json.decode(rows[0]["detail"], type=Plan)
    return plan, rows[0]["action"] == _FINISHED


async def _keep(connection: Any, action: str, detail: dict[str, Any]) -> None:
    await write_down(connection, getpass.getuser(), action, _SUBJECT, detail)


async def keep_begun(connection: Any, plan: Plan) -> None:
    """Write down what is about to be made."""
    await _keep(connection, _BEGUN, msgspec.structs.asdict(plan))


async def keep_finished(connection: Any, plan: Plan) -> None:
    """Write down that everything was made."""
    await _keep(connection, _FINISHED, msgspec.structs.asdict(plan))


async def keep_cleared(connection: Any) -> None:
    """Write down that the seed is removed."""
    await _keep(connection, _CLEARED, {})


async def check_no_other_payments(connection: Any) -> None:
    """Raise CannotSeed if a payment is there that no seed made."""
    for than, bound, order in (("<", LOWEST, "ASC"), (">", HIGHEST, "DESC")):
        found = await connection.fetchval(
            f"SELECT merchant_id FROM payments WHERE merchant_id {than} $1"
            f" ORDER BY merchant_id {order} LIMIT 1",
            bound,
        )
        if found is not None:
            raise CannotSeed(
                "the database holds payments that no seed made, such as those of merchant "
                f"mer_{found.hex}. A seed must never lie among them: use a database of its own"
            )


def check_same(wanted: Plan, there: Plan) -> None:
    """Raise CannotSeed if the seed that is there has other options. Its `until` does not matter."""
    if msgspec.structs.replace(wanted, until=there.until) != there:
        raise CannotSeed(
            f"the database holds a seed of {there.payments:,} payments over {there.months} months "
            f"for {there.merchants:,} merchants (--seed {there.seed}, until "
            f"{log_time(there.until)}). Remove it with `easypay db seed --clear`, or repeat it "
            "with the same options"
        )


async def months_done(connection: Any, plan: Plan) -> set[datetime]:
    """Return the months of a plan whose rows are there. A month is written in one transaction."""
    present = await partitions.attached(connection)
    done = set()
    for month, its_days in plan.days().items():
        name = partitions.tables_of(month)["payments"]
        if name not in present:
            continue
        if not any(day.payments for day in its_days) or await connection.fetchval(
            f"SELECT EXISTS (SELECT FROM {name})"
        ):
            done.add(month)
    return done
