"""What a shop wants once happens once, and is what the shop was told."""

import math
from typing import Any

from faults.seeds.money import Money
from faults.seeds.shops import Attempt, Intent


def intents_kept(
    intents: list[Intent],
    rows: dict[str, list[Any]],
    money: dict[Any, list[Money]],
    lost_window: tuple[float, float],
) -> list[str]:
    """What a shop wants once happens once, and is what the shop was told.

    An answer in `lost_window` came from a primary that no standby followed. It does not count, and
    neither does how often the shop got what it wanted: the failover may have lost the key that
    such an answer refused, and a repeat under that key is then a new request.
    """
    keys = {row["key"]: row for row in rows["idempotency_keys"]}
    operations = {row["id"]: row for row in rows["operations"]}
    late = {row["operation_id"] for row in rows["late_charges"]}
    wrong = []
    for intent in intents:
        name = f"{intent.kind} {intent.number}"
        counted = [each for each in intent.attempts if not _answered_in(each, lost_window)]
        for attempt in counted:
            row = keys.get(attempt.key)
            if row is None and lost_window[0] < math.inf:
                continue  # lost, or what was lost concerns it
            operation = operations[row["operation_id"]] if row else None
            wrong += [f"{name}: {each}" for each in _told(attempt, operation)]
        if len(counted) < len(intent.attempts):
            continue
        done = [keys[each.key] for each in intent.attempts if each.key in keys]
        if intent.kind == "buy":
            charges = [each for row in done for each in money.get(row["payment_id"], [])]
            kept = [each for each in charges if each.kept > 0 and not each.is_held]
            if len(kept) > 1 + intent.impatient_keys:
                wrong.append(f"{name} is charged {len(kept)} times, under {len(done)} keys")
        else:
            ids = {row["operation_id"] for row in done} - late
            approved = [each for each in ids if operations[each]["state"] == "approved"]
            if len(approved) > 1:
                wrong.append(f"{name} was done {len(approved)} times")
    return wrong


def _answered_in(attempt: Attempt, window: tuple[float, float]) -> bool:
    """Did an answer under this key come, or its request leave, between these moments?"""
    begins, ends = window
    return any(begins <= each.told_at and each.asked_at <= ends for each in attempt.answers)


def _told(attempt: Attempt, operation: Any) -> list[str]:
    """One key: whoever was told an outcome is told it for ever, and it is what happened."""
    wrong = []
    outcome = attempt.outcome
    if outcome is None:
        return _kept_problem(attempt)
    later = [each for each in attempt.answers if each.asked_at > outcome.told_at]
    for answer in later:
        if (answer.status, answer.body) != (outcome.status, outcome.body) and answer.status not in (
            429,
            503,
        ):
            wrong.append(
                f"{attempt.key} was answered {outcome.status} {outcome.body!r:.200}, and later "
                f"{answer.status} {answer.body!r:.200}"
            )
            break
    if operation is None:
        wrong.append(f"{attempt.key} was answered {outcome.status}, and its key is gone")
        return wrong
    if operation["reply_body"] != outcome.body:
        wrong.append(f"{attempt.key}: the reply we keep is not the one that was given")
    told = outcome.json["status"]
    state = operation["state"]
    good = told in ("captured", "authorized", "voided", "succeeded")
    if good and state not in ("approved", "held"):
        wrong.append(f"{attempt.key} was told {told}, and its operation is {state}")
    if told == "declined" and state != "declined":
        wrong.append(f"{attempt.key} was told {told}, and its operation is {state}")
    return wrong


def _kept_problem(attempt: Attempt) -> list[str]:
    """A problem that is kept under its key is the answer to every later repeat."""
    kept = next((each for each in attempt.answers if each.problem and each.problem.kept), None)
    if kept is None:
        return []
    code = kept.json["code"]
    return [
        f"{attempt.key} was refused as {code}, which is kept, and later answered "
        f"{answer.status} {answer.body!r:.200}"
        for answer in attempt.answers
        if answer.asked_at > kept.told_at
        and answer.status not in (429, 503)
        and answer.json.get("code") != code
    ][:1]
