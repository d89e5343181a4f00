"""Mutations that each remove one protection: a seed must find that it is missing."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Mutation:
    """Replace `old` by `new` in `file`, relative to the source. `old` occurs exactly once."""

    name: str
    file: str
    old: str
    new: str
    finds: tuple[str, ...]
    """Findings that count for this mutation; others do not."""

    def is_found_by(self, found: list[str]) -> bool:
        return any(words in each for each in found for words in self.finds)


_NOT_TOLD = "is absent, but the processor did it"
_EARLY = "was called absent"
_WRONG_ACCOUNT = "was asked of an account that did not take the payment"

_STRAY: Final = "the processor has a card that nobody has"

MUTATIONS: Final[tuple[Mutation, ...]] = (
    Mutation(
        "watch_dropped",  # an absent operation is never looked for again
        "easypay/payments/account_pass.py",
        "        if absent:  # before it is called absent",
        "        if absent and not absent:  # before it is called absent",
        finds=(_NOT_TOLD,),
    ),
    Mutation(
        "a_minute_is_enough",  # absence is believed a minute after the call, without a witness
        "easypay/payments/absence_rules.py",
        "    if listed and misses_its_witness(call_ended_at, look):\n"
        "        return False\n"
        "    return look.began_at - call_ended_at >= timedelta(seconds=schedule.absent_after_s)\n",
        "    return look.began_at - call_ended_at >= timedelta(seconds=60)\n",
        finds=(_EARLY,),
    ),
    Mutation(
        "follow_ups_go_to_todays_account",
        "easypay/payments/flows.py",
        "if payment.login_id is not None and (login is None or login.id != payment.login_id):",
        "if payment.login_id is not None and login is None:",
        finds=(_WRONG_ACCOUNT,),
    ),
    Mutation(
        "inquiries_go_to_todays_account",
        "easypay/payments/account_lease.py",
        "AND l.id = p.login_id\n     WHERE w.account IS NULL",
        "AND l.saved_at = (SELECT max(n.saved_at) FROM processor_logins n"
        " WHERE n.merchant_id = p.merchant_id)\n     WHERE w.account IS NULL",
        finds=(_NOT_TOLD, _EARLY, "after everything"),
    ),
    Mutation(
        "late_charges_stay",  # late charges are noted, but not given back
        "easypay/payments/watched_operations.py",
        "            done = await self._late.give_back_again(case, account)\n",
        "            done = False\n",
        finds=("is still being given back after everything",),
    ),
    Mutation(
        "sweep_dropped",  # a dead process's operations in flight are never found
        "easypay/payments/resolver.py",
        '            ("sweep", self._sweep.step, self._poll_s),\n',
        "",
        finds=("is in_flight after everything",),
    ),
    Mutation(
        "lines_begin_again",  # whoever takes a line over begins it anew, whatever was begun before
        "easypay/batches/group_run.py",
        "            if ended_unsent(operation) and not cancelled:\n",
        "            if not cancelled:\n",
        finds=("is charged 2 times", "was done 2 times"),
    ),
    Mutation(
        "late_cards_stay",  # what the vault stores after it was called failed is not looked for
        "easypay/customers/mending.py",
        "                return await self._late.look_for(work, method)",
        "                return Done()",
        finds=(_STRAY,),
    ),
)
BY_NAME: Final = {each.name: each for each in MUTATIONS}


@contextmanager
def mutated(source: Path, name: str) -> Iterator[Path]:
    """Yield a copy of the source with one protection removed."""
    mutation = BY_NAME[name]
    with tempfile.TemporaryDirectory(prefix="easypay-mutated-") as folder:
        copy = Path(folder) / "src"
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        file = copy / mutation.file
        text = file.read_text()
        if text.count(mutation.old) != 1:
            raise ValueError(
                f"{mutation.file} has the text of {name} {text.count(mutation.old)} times"
            )
        file.write_text(text.replace(mutation.old, mutation.new))
        yield copy
