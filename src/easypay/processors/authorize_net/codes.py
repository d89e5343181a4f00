"""What Authorize.Net's codes mean to us: pure tables, and the page generated from them.

`responseCode` (1 approved, 2 declined, 3 error, 4 held) and the reason code beside it decide;
the top level's `resultCode` never does. Where a code leaves it open whether money moved, the
verdict is "unknown" and an inquiry settles it: waiting is cheap, a second charge is not.

`python -m easypay.processors.authorize_net.codes [FILE]` prints the table, or renews it in FILE.
"""

import sys
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Final, Literal

from easypay.processors.authorize_net.reasons import REASONS

Verdict = Literal["approved", "declined", "rejected", "held_for_review", "unknown"]
Advice = Literal["never", "other_method", "corrected", "later", "after_setup"]

DUPLICATE: Final = "11"


def _codes(spec: str) -> frozenset[str]:
    """`"2 19-21"` is the codes 2, 19, 20 and 21."""
    codes: set[str] = set()
    for part in spec.split():
        first, _, last = part.partition("-")
        codes.update(str(code) for code in range(int(first), int(last or first) + 1))
    return frozenset(codes)


NOTHING_HAPPENED: Final = _codes("310 311")
"""Come with responseCode 1, yet only say that it was voided or captured before."""

MONEY_MAY_HAVE_MOVED: Final = _codes("0 11 36 52 152 235 295 307 318 2103 2106")
"""Duplicates (an original exists), "approved but", "done before" and the unnamed error."""

TRY_AGAIN: Final = _codes("19-23 25 26 57-63 120-122 180 181 192 261")
"""The link between Authorize.Net and the acquirer failed: the issuer may have said yes."""

_DECLINE_CODES: Final[Mapping[str, tuple[frozenset[str], Advice]]] = {
    "generic_decline": (_codes("2 191 202-224"), "later"),
    "call_issuer": (_codes("3"), "other_method"),
    "pick_up_card": (_codes("4"), "never"),
    "invalid_card_number": (_codes("6 37 200 315"), "corrected"),
    "invalid_expiry": (_codes("7 201 316"), "corrected"),
    "expired_card": (_codes("8 317"), "other_method"),
    "invalid_cvc": (_codes("78"), "corrected"),
    "cvc_mismatch": (_codes("44 65 165"), "corrected"),
    "address_mismatch": (_codes("27 127"), "corrected"),
    "address_or_cvc_mismatch": (_codes("45"), "corrected"),
    "fraud_suspected": (_codes("41 141 145 250 251 254"), "never"),
    "transaction_not_allowed": (_codes("66 128"), "other_method"),
    "card_not_accepted": (_codes("17 28 56 155 289"), "other_method"),
    "invalid_payment_token": (_codes("153 156"), "other_method"),
    "invalid_bank_account": (_codes("9 10 71"), "corrected"),
    "bank_account_not_accepted": (_codes("18 243 244 246 247"), "other_method"),
    "invalid_amount": (_codes("5 49"), "corrected"),
    "currency_not_supported": (_codes("39"), "never"),
    "transaction_not_found": (_codes("15 16 308 319"), "never"),
    "amount_exceeds_authorization": (_codes("47"), "corrected"),
    "not_refundable": (_codes("50 54"), "later"),
    "amount_exceeds_captured": (_codes("51 55"), "never"),
    "not_approved": (_codes("64"), "never"),
    "not_voidable": (_codes("175 260 327"), "never"),
    "duplicate": (_codes("11 318"), "never"),
    "processor_unavailable": (TRY_AGAIN | _codes("131 132 901"), "later"),
    "account_not_set_up": (
        _codes("13 24 29-32 34 35 38 43 67 87 90 114 115 123 130 154 170-174 2001"),
        "after_setup",
    ),
}

_DECLINE_CODE_OF: Final = {
    reason: word for word, (reasons, _) in _DECLINE_CODES.items() for reason in reasons
}

RETRY_ADVICE: Final[Mapping[str, Advice]] = {
    word: advice for word, (_, advice) in _DECLINE_CODES.items()
} | {"generic_error": "corrected"}
"""What a merchant may do next, by our decline code. `later`: the same again may work another
time; `corrected`: with other data; `other_method`: with another card; `after_setup`: once the
merchant's account is put right; `never`: not at all."""

API_REJECTED: Final[Mapping[str, tuple[str, Advice]]] = {
    # Refused before any transaction was made: authentication, the shape, or a field.
    "E00002": ("generic_error", "after_setup"),
    "E00003": ("generic_error", "corrected"),
    "E00004": ("generic_error", "after_setup"),
    "E00005": ("account_not_set_up", "after_setup"),
    "E00006": ("account_not_set_up", "after_setup"),
    "E00007": ("account_not_set_up", "after_setup"),
    "E00008": ("account_not_set_up", "after_setup"),
    "E00009": ("account_not_set_up", "after_setup"),
    "E00010": ("account_not_set_up", "after_setup"),
    "E00011": ("account_not_set_up", "after_setup"),
    "E00013": ("generic_error", "corrected"),
    "E00014": ("generic_error", "corrected"),
    "E00015": ("generic_error", "corrected"),
    "E00016": ("generic_error", "corrected"),
    "E00040": ("transaction_not_found", "never"),
    "E00044": ("account_not_set_up", "after_setup"),
    "E00045": ("generic_error", "after_setup"),
    "E00051": ("transaction_not_found", "never"),
    "E00052": ("generic_error", "corrected"),
    "E00059": ("account_not_set_up", "after_setup"),
    "E00060": ("generic_error", "after_setup"),
    "E00082": ("generic_error", "corrected"),
    "E00085": ("generic_error", "corrected"),
    "E00114": ("invalid_payment_token", "other_method"),
    "E00116": ("invalid_payment_token", "other_method"),
}
"""Top-level codes that, with no transactionResponse beside them, prove nothing happened."""

API_UNKNOWN: Final = ("E00001", "E00027", "E00049", "E00053", "E00104")
"""Top-level codes that do not: failures inside Authorize.Net, and "unsuccessful" without a word
on the transaction. Any top-level code not named here or above is unknown too."""


def verdict(response_code: str, reason: str | None) -> Verdict:
    """What a transactionResponse's two codes prove."""
    if response_code == "1":
        return "approved" if reason in (None, "1") else "unknown"
    if response_code == "2":
        return "unknown" if reason in MONEY_MAY_HAVE_MOVED else "declined"
    if response_code == "3":
        if reason not in REASONS or reason in MONEY_MAY_HAVE_MOVED or reason in TRY_AGAIN:
            return "unknown"
        return "unknown" if reason in ("1", *NOTHING_HAPPENED) else "rejected"
    if response_code == "4":
        return "unknown" if reason in MONEY_MAY_HAVE_MOVED else "held_for_review"
    return "unknown"


def api_verdict(codes: Iterable[str]) -> Literal["rejected", "unknown"]:
    """What a reply without a transactionResponse proves, by all of its message codes."""
    known = [code in API_REJECTED for code in codes]
    return "rejected" if known and all(known) else "unknown"


def decline_code(reason: str | None, response_code: str = "2") -> str:
    """Our word for a reason code; the general one where we have no better."""
    if reason is not None and reason in _DECLINE_CODE_OF:
        return _DECLINE_CODE_OF[reason]
    return "generic_decline" if response_code == "2" else "generic_error"


# The page.

BEGIN: Final = "<!-- made by `python -m easypay.processors.authorize_net.codes`: begin -->"
END: Final = "<!-- end -->"


def table() -> str:
    """The outcome tables in Markdown."""
    lines = [
        "### By `responseCode` and reason code",
        "",
        "With `responseCode` 1 a transaction is approved when the reason is 1 or absent, and",
        "unknown with any other (310 and 311: nothing happened). With 4 it is held for review,",
        "but for 295 (a partial approval: unknown). With any other `responseCode` it is unknown.",
        "",
        "| reason | their text | with 2 | with 3 | our `decline_code` | try again |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    numbered = enumerate(sorted(REASONS, key=int))
    # Neighbours that say the same share a row: number minus position is one along a run.
    for (row, _), run in groupby(numbered, key=lambda at: (_row(at[1]), int(at[1]) - at[0])):
        reasons = [reason for _, reason in run]
        span = reasons[0] if len(reasons) == 1 else f"{reasons[0]}–{reasons[-1]}"
        lines.append(f"| {span} | {' | '.join(row)} |")
    lines += [
        "| any other | | declined | unknown | generic | |",
        "",
        "### Without a transaction response, by top-level code",
        "",
        "| code | outcome | our `decline_code` | try again |",
        "| --- | --- | --- | --- |",
    ]
    for code in sorted({*API_REJECTED, *API_UNKNOWN}):
        if code in API_REJECTED:
            word, advice = API_REJECTED[code]
            lines.append(f"| {code} | rejected | {word} | {advice} |")
        else:
            lines.append(f"| {code} | unknown | | |")
    lines += ["| any other, or none | unknown | | |", ""]
    return "\n".join(lines)


def _row(reason: str) -> tuple[str, str, str, str, str]:
    word = decline_code(reason, "2" if "declined" in REASONS[reason] else "3")
    if reason == "1" or reason in NOTHING_HAPPENED:
        return REASONS[reason], verdict("2", reason), verdict("3", reason), "", ""
    text = REASONS[reason].replace("|", "\\|")
    return text, verdict("2", reason), verdict("3", reason), word, RETRY_ADVICE[word]


def renewed(page: str) -> str:
    """`page` with the part between the two marks made anew. Raises ValueError without marks."""
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
