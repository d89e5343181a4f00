"""Writes the tables of the connector's page from the tables that decide.

`python -m easypay.processors.authorize_net.docs_page [FILE]` prints them, or updates FILE.
"""

import sys
from itertools import groupby
from pathlib import Path
from typing import Final

from easypay.processors.authorize_net import replies, vault_codes
from easypay.processors.authorize_net.message_codes import ACCOUNT_REFUSED, API_REJECTED, TEXTS
from easypay.processors.authorize_net.reason_meanings import (
    RETRY,
    RETRY_ADVICE,
    decline_code,
    retry,
    verdict,
)
from easypay.processors.authorize_net.reason_texts import REASONS
from easypay.processors.authorize_net.statuses import COLUMNS, IN_BOOKS, MEANINGS, STATUSES
from easypay.processors.customer_vault import VAULT_WORDS

BEGIN: Final = "<!-- made by `python -m easypay.processors.authorize_net.docs_page`: begin -->"
END: Final = "<!-- end -->"


def table() -> str:
    """Return the tables in Markdown."""
    return "\n".join([*_reasons(), *_api_codes(), *_vault(), *_statuses(), *_checks()])


def _reasons() -> list[str]:
    lines = [
        "### By `responseCode` and reason code",
        "",
        "Each column is a `responseCode`: 1 approved, 2 declined, 3 error, 4 held. With no reason",
        "code these are approved, declined, unknown and held for review. With any other",
        "`responseCode` the outcome is unknown. Reason 13 with `responseCode` 3 and without a",
        "transaction id refuses our account: nothing was started, so it counts as not sent.",
        "",
        "| reason | their text | 1 | 2 | 3 | 4 | our `decline_code` | try again | `retry` |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    numbered = enumerate(sorted(REASONS, key=int))
    # Neighbours with equal rows share one: number minus position is constant along a run.
    for (row, _), run in groupby(numbered, key=lambda at: (_row(at[1]), int(at[1]) - at[0])):
        reasons = [reason for _, reason in run]
        span = reasons[0] if len(reasons) == 1 else f"{reasons[0]}–{reasons[-1]}"
        lines.append(f"| {span} | {' | '.join(row)} |")
    verdicts = " | ".join(_words(verdict(code, "99999")) for code in "1234")
    return [*lines, f"| any other | | {verdicts} | generic | | |", ""]


def _row(reason: str) -> tuple[str, ...]:
    verdicts = tuple(_words(verdict(code, reason)) for code in "1234")
    text = REASONS[reason].replace("|", "\\|")
    if "declined" not in verdicts and "rejected" not in verdicts:
        return text, *verdicts, "", "", ""
    word = decline_code(reason, "2" if "declined" in REASONS[reason] else "3")
    return text, *verdicts, word, RETRY_ADVICE[word], retry(word)


def _api_codes() -> list[str]:
    lines = [
        "### Without a transaction response, by top-level code",
        "",
        "| code | their text | outcome | our `decline_code` | try again | `retry` |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for code in sorted(TEXTS):
        text = TEXTS[code].replace("|", "\\|")
        if code in ACCOUNT_REFUSED:
            lines.append(f"| {code} | {text} | not sent: our account is refused | | | |")
        elif code in API_REJECTED:
            word, advice = API_REJECTED[code]
            lines.append(f"| {code} | {text} | rejected | {word} | {advice} | {RETRY[advice]} |")
        else:
            lines.append(f"| {code} | {text} | unknown | | | |")
    return [*lines, "| any other, or none | | unknown | | | |", ""]


def _vault() -> list[str]:
    lines = [
        "### In the customer vault, by top-level code",
        "",
        "A code of the table above that is rejected or refuses our account means the same here.",
        "These mean something else. Any other is unknown.",
        "",
        "| code | their text | in a call to | outcome | our `word` | try again | `retry` |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = [(code, "any", *meaning) for code, meaning in vault_codes.REFUSED.items()]
    rows += [
        (code, _words(call), *meaning) for (code, call), meaning in vault_codes.BY_CALL.items()
    ]
    for code, call, word, advice in sorted(rows):
        text = f"{code} | {TEXTS[code]} | {call}"
        lines.append(f"| {text} | refused | {word} | {advice} | {RETRY[advice]} |")
    checks = ", ".join(sorted(map(_words, vault_codes.CHECKS)))
    special = (
        (vault_codes.NOT_FOUND, "delete", "done: it was gone"),
        (vault_codes.DUPLICATE, "store, store from transaction", "looked for, and adopted"),
        (vault_codes.UNSUCCESSFUL, checks, "refused, by the reason beside it"),
    )
    lines += [f"| {code} | {TEXTS[code]} | {call} | {what} | | | |" for code, call, what in special]
    lines += ["", "| word | meaning |", "| --- | --- |"]
    lines += [f"| {word} | {text} |" for word, text in VAULT_WORDS.items()]
    return [*lines, ""]


def _statuses() -> list[str]:
    lines = [
        "### By status, in an inquiry",
        "",
        "An authorization, a sale, a refund and a review are judged by their own transaction, a",
        "capture and a void by the one they change; the last column is the payment of a refund.",
        "Any status not named here proves nothing.",
        "",
        f"| status | {' | '.join(COLUMNS)} |",
        f"| --- |{' --- |' * len(COLUMNS)}",
    ]
    for status, meanings in STATUSES.items():
        lines.append(f"| {status} | {' | '.join(_words(meanings[kind]) for kind in COLUMNS)} |")
    lines += ["", "| word | meaning |", "| --- | --- |"]
    lines += [f"| {_words(word)} | {text} |" for word, text in MEANINGS.items()]
    lines += [
        "",
        "### By status, in the books",
        "",
        "Where it says whose, the status alone tells whether a charge or a refund is meant.",
        "",
        "| status | the money | whose |",
        "| --- | --- | --- |",
    ]
    for status, (meaning, kind) in IN_BOOKS.items():
        lines.append(f"| {status} | {_words(meaning)} | {kind or ''} |")
    return [*lines, ""]


def _checks() -> list[str]:
    lines: list[str] = []
    for name, words in (
        ("AVS (address): `avs_result`, `avs`", replies.AVS),
        ("CVV (card code): `cvv_result`, `cvv`", replies.CVV),
    ):
        lines += [f"### {name}", "", "| theirs | ours |", "| --- | --- |"]
        lines += [f"| {letter} | {word} |" for letter, word in words.items()]
        lines += ["| any other, or none | |", ""]
    return lines


def _words(name: str) -> str:
    return name.replace("_", " ")


def renewed(page: str) -> str:
    """Return `page` with new tables between the marks. Raises ValueError if it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page has no marks to put the table between")
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        page = Path(sys.argv[1])
        page.write_text(renewed(page.read_text("utf-8")), "utf-8")
    else:
        sys.stdout.write(table())
