"""A text of a payment is named in four places; everything else is made from PaymentDetails."""

import functools
import re
from pathlib import Path

import pytest

from easypay.payment_details import DETAIL_DESCRIPTIONS, DETAIL_FIELDS
from easypay.payments.views import PaymentView

SOURCES = Path(__file__).parents[2] / "src" / "easypay"
PLACES = {
    "payment_details.py",
    "db/migrations",
    "processors/authorize_net/messages.py",
    "payments/views.py",
}
SPECIAL = {
    "every text": {"api/idempotency.py": "the order that the first fields have in fingerprints"},
    "order_reference": {
        "api/examples.py": "another order in the short example",
        "api/example_replies.py": "the duplicates' page is by order",
        "api/duplicates.py": "purchases with different orders are no duplicates",
        "payments/duplicates.py": "the same",
        "payments/duplicate_report.py": "the same",
        "settlement/statements.py": "statements can be by order",
        "command_line/statement.py": "the same",
        "reconciliation/matching.py": "it goes with what has settled",
        "payments/restored.py": "a repeat of a lost payment is recognised by its order",
        "processors/books.py": "the processor's books have it, and no other text",
        "restoring/rows.py": "it comes back from the books",
        "restoring/story.py": "the same",
        "restoring/writing.py": "the same",
        "command_line/after_restore.py": "the same",
    },
    "customer_reference": {
        "payments/begin.py": "it may come as customer.reference, too",
        "payments/requests.py": "the two may not differ",
        "customers/erasing_payments.py": "it finds the payments of a customer",
        "customers/erasing_batches.py": "it finds the lines of a customer",
    },
}
"""What a text may mean beyond being one. A new text that only is one has no entry here."""
FILTERS = {
    *(
        "api/openapi_parameters.py",
        "api/payment_filters.py",
        "archiving/feed.py",
        "command_line/export.py",
    ),
    *("db/indexes.py", "payments/feed_fold.py", "payments/search.py"),
    "payments/search_sql.py",
    *("payments/search_of_unknown.py", "payments/statistics_check.py"),
    "customers/personal_data.py",
}
"""Where a field by which lists can be filtered is named: it has a column of the search table."""
FILTERED = ("order_reference", "customer_reference")
COMMON_WORD = "description"
"""Also a word of JSON Schema, of settings and of English; so it is not searched for."""


@functools.cache
def sources() -> dict[str, str]:
    """Return the text of every file of the sources."""
    return {
        path.relative_to(SOURCES).as_posix(): path.read_text("utf-8")
        for pattern in ("*.py", "*.sql")
        for path in SOURCES.rglob(pattern)
    }


@functools.cache
def named_in(word: str) -> set[str]:
    """Return the files that have the word; all migrations count as one."""
    found = {name for name, text in sources().items() if re.search(rf"\b{word}\b", text)}
    return {"db/migrations" if name.startswith("db/migrations/") else name for name in found}


@pytest.mark.parametrize("name", [name for name in DETAIL_FIELDS if name != COMMON_WORD])
def test_a_text_of_a_payment_is_named_in_at_most_four_places(name: str) -> None:
    special = SPECIAL["every text"] | SPECIAL.get(name, {})
    expected = PLACES | (FILTERS if name in FILTERED else set())
    surplus = named_in(name) - expected - set(special)
    assert not surplus, f"make it from DETAIL_FIELDS, or give a reason in SPECIAL: {surplus}"


@pytest.mark.parametrize("name", SPECIAL)
def test_no_exception_is_out_of_date(name: str) -> None:
    words = DETAIL_FIELDS[:4] if name == "every text" else (name,)
    for file in SPECIAL[name]:
        assert all(file in named_in(word) for word in words), file
    if name in FILTERED:
        assert named_in(name) >= FILTERS


def test_a_payment_shows_its_texts_in_their_order() -> None:
    """`payment_view` fills the fields by position."""
    shown = PaymentView.__struct_fields__
    at = shown.index(DETAIL_FIELDS[0])
    assert shown[at : at + len(DETAIL_FIELDS)] == DETAIL_FIELDS


def test_every_text_has_a_description() -> None:
    assert DETAIL_DESCRIPTIONS.keys() == set(DETAIL_FIELDS)
