"""Each intent of a shop happens at most once, and agrees with the responses to the shop."""

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
    """Return what is wrong with the shops' intents.

    A response in `lost_window` came from a primary that no standby followed. It does not count, nor
    does how often that intent was done: the failover may have lost the key that such a response
    refused, and a repeat under that key is then a new request.
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
                continue  # lost in the failover, or related to what was
            operation = operations[row["operation_id"]] if row else None
            wrong += [f"{name}: {each}" for each in _key_broken(attempt, operation)]
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
    """Return whether a response under this key came, or its request left, in the window."""
    begins, ends = window
    return any(begins <= each.answered_at and each.sent_at <= ends for each in attempt.answers)


def _key_broken(attempt: Attempt, operation: Any) -> list[str]:
    """For one key: every response after an outcome equals it, and the row agrees with it."""
    wrong = []
    outcome = attempt.outcome
    if outcome is None:
        return _kept_problem(attempt)
    later = [each for each in attempt.answers if each.sent_at > outcome.answered_at]
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
    status = outcome.json["status"]
    state = operation["state"]
    good = status in ("captured", "authorized", "voided", "succeeded")
    if good and state not in ("approved", "held"):
        wrong.append(f"{attempt.key} was answered {status}, but its operation is {state}")
    if status == "declined" and state != "declined":
        wrong.append(f"{attempt.key} was answered {status}, but its operation is {state}")
    return wrong


def _kept_problem(attempt: Attempt) -> list[str]:
    """A problem that is kept under its key is the response to every later repeat."""
    kept = next((each for each in attempt.answers if each.problem and each.problem.kept), None)
    if kept is None:
        return []
    code = kept.json["code"]
    return [
        f"{attempt.key} was refused as {code}, which is kept, and later answered "
        f"{answer.status} {answer.body!r:.200}"
        for answer in attempt.answers
        if answer.sent_at > kept.answered_at
        and answer.status not in (429, 503)
        and answer.json.get("code") != code
    ][:1]
