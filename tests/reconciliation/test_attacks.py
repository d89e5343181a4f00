"""What would leave money uncounted, counted twice or told wrongly: each found by attacking it."""

from .reconciled import DAY_S, Reconciled

LATE_TEXT = "ZZZZZZZZZXZZZFZZZZZZ"
"""An invoice number that is a reference of the year 10889."""


async def _told(books: Reconciled) -> list[tuple[str, int]]:
    rows = await books.stack.fetch(
        "SELECT type, amount_minor FROM events WHERE merchant_id = $1"
        " AND (type LIKE '%.settled' OR type LIKE '%.returned') ORDER BY type, amount_minor",
        books.shop.merchant_id,
    )
    return [tuple(row) for row in rows]


async def test_an_invoice_number_of_a_far_year_stands_in_no_one_s_way(books: Reconciled) -> None:
    await books.shop.paid(25_00)
    await books.portal.charge(7_77, LATE_TEXT)
    assert (await books.run()).new_breaks == {"unexplained_charge": 1}


async def test_what_the_processor_does_not_have_is_told_after_a_gap_of_weeks(
    books: Reconciled,
) -> None:
    """Nobody could read the books while it was between three and four days old."""
    await books.shop.paid(24_00)
    await books.run()
    paid = await books.shop.paid(25_00)
    await books.stack.simulator.post("/reset", login=books.shop.login)
    await books.time.advance(9 * DAY_S)
    await books.run()
    found = await books.breaks("kind", "subject")
    assert ("missing_at_processor", await books.reference(paid)) in found


async def test_a_refund_at_the_portal_with_our_reference_is_not_told_as_ours(
    books: Reconciled,
) -> None:
    """The processor's pages copy the invoice number of the charge that is refunded."""
    paid = await books.shop.paid(25_00)
    await books.settle()
    await books.portal.refund(await books.transaction(paid), 3_00, await books.reference(paid))
    await books.settle()
    assert (await books.run()).new_breaks == {"unexplained_refund": 1}
    assert await _told(books) == [("payment.settled", 25_00)]


async def test_a_refund_that_is_there_twice_is_told_once(books: Reconciled) -> None:
    paid = await books.shop.paid(25_00)
    await books.settle()
    refund = (await books.shop.refund(paid["id"], 5_00)).json()
    reference = await books.stack.value(
        "SELECT reference FROM operations WHERE merchant_id = $1 AND kind = 'refund'",
        books.shop.merchant_id,
    )
    assert refund
    await books.portal.refund(await books.transaction(paid), 4_00, reference)
    await books.settle()
    assert (await books.run()).new_breaks == {"doubled": 1}
    assert await _told(books) == [("payment.settled", 25_00), ("refund.settled", 5_00)]
