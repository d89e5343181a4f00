"""Every kind of difference: planted at the processor's own pages or in our rows, found once, and
cleared by itself when the other side arrives."""

import asyncio

from easypay.reconciliation import breaks
from harness import MASTERCARD, card

from .reconciled import DAY_S, Reconciled


async def test_books_that_agree_are_read_and_nothing_differs(books: Reconciled) -> None:
    paid = await books.shop.paid(25_00)
    held = await books.shop.paid(30_00, capture="manual")
    assert (await books.shop.capture(held["id"], 20_00)).status_code == 201
    await books.settle()
    assert (await books.shop.refund(paid["id"], 5_00)).status_code == 201
    await books.settle()
    result = await books.run()
    assert (result.batches, result.new_breaks) == (2, {})
    rows = await books.stack.fetch(
        "SELECT kind, amount_minor, currency, payment_id IS NOT NULL AS ours, told"
        "  FROM settled_transactions WHERE account = $1 ORDER BY amount_minor",
        await books.account(),
    )
    assert [tuple(row) for row in rows] == [
        ("refund", 5_00, "USD", True, "settled"),
        ("charge", 20_00, "USD", True, "settled"),
        ("charge", 25_00, "USD", True, "settled"),
    ]
    before = await books.everything()
    again = await books.run()
    assert (again.batches, again.new_breaks) == (0, {})
    assert await books.everything() == before, "running again changes nothing"


async def test_a_shop_s_own_charge_and_refund_are_found_before_and_after_they_settle(
    books: Reconciled,
) -> None:
    paid = await books.shop.paid(25_00)
    own = await books.portal.charge(7_77)
    result = await books.run()
    assert result.new_breaks == {"unexplained_charge": 1}
    await books.settle()
    back = await books.portal.refund((await books.transaction(paid)), 3_00)
    result = await books.run()
    assert result.new_breaks == {"unexplained_refund": 1}
    await books.settle()
    assert (await books.run()).new_breaks == {}
    found = await books.breaks(
        "kind", "transaction_id", "their_minor", "their_state", "batch_id IS NOT NULL"
    )
    assert found == [
        ("unexplained_charge", own, 7_77, "settledSuccessfully", True),
        ("unexplained_refund", back, 3_00, "refundSettledSuccessfully", True),
    ]


async def test_what_the_shop_did_itself_at_the_processor_is_found_once(books: Reconciled) -> None:
    """Voids a sale and a hold, captures another hold, charges again under one of our references,
    and charges what we had recorded as declined."""
    sale = await books.shop.paid(11_00)
    hold = await books.shop.paid(12_00, capture="manual")
    taken = await books.shop.paid(13_00, capture="manual")
    twice = await books.shop.paid(14_00)
    declined = await books.shop.paid(15_00, billing_address={"postal_code": "46282"})
    assert declined["status"] == "declined"
    gone = [await books.transaction(one) for one in (sale, hold)]
    for one in gone:
        await books.portal.void(one)
    await books.portal.capture(await books.transaction(taken), 9_00)
    second = await books.portal.charge(14_00, await books.reference(twice), number=MASTERCARD)
    forced = await books.portal.charge(15_00, await books.reference(declined))
    await books.time.advance(3600)
    assert sum((await books.run()).new_breaks.values()) == 5
    assert (await books.run()).new_breaks == {}
    await books.settle()
    assert (await books.run()).new_breaks == {}
    found = await books.breaks(
        "kind", "transaction_id", "our_state", "our_minor", "their_state", "their_minor"
    )
    assert sorted(found) == sorted(
        [
            ("doubled", second, "captured", 14_00, "settledSuccessfully", 14_00),
            ("unexplained_charge", forced, "declined", 15_00, "settledSuccessfully", 15_00),
            (
                *("unexplained_charge", await books.transaction(taken), "authorized", 13_00),
                *("settledSuccessfully", 9_00),
            ),
            ("unexplained_void", gone[0], "captured", 11_00, "voided", None),
            ("unexplained_void", gone[1], "authorized", 12_00, "voided", None),
        ]
    )


async def test_a_void_at_the_processor_is_cleared_once_the_payment_is_voided_here_too(
    books: Reconciled,
) -> None:
    paid = await books.shop.paid(25_00)
    await books.portal.void(await books.transaction(paid))
    await books.time.advance(3600)
    assert (await books.run()).new_breaks == {"unexplained_void": 1}
    assert (await books.shop.void(paid["id"])).status_code == 201
    assert (await books.run()).new_breaks == {}
    assert await books.breaks() == []
    ((reason, by),) = await books.breaks("reason", "closed_by", state="cleared")
    assert (reason, by) == ("the payment is voided here now", "easypay")


async def test_a_shop_s_charge_that_it_voids_is_cleared(books: Reconciled) -> None:
    await books.shop.paid(25_00)
    own = await books.portal.charge(7_77)
    assert (await books.run()).new_breaks == {"unexplained_charge": 1}
    await books.portal.void(own)
    await books.run()
    assert await books.breaks() == []
    ((reason,),) = await books.breaks("reason", state="cleared")
    assert reason == "it moves no money: the processor has it as voided"


async def test_what_was_matched_is_opened_again_if_its_money_changes(books: Reconciled) -> None:
    """A person has explained 24.00 beside 25.00, and not 14.00, nor a chargeback."""
    paid = await books.shop.paid(25_00)
    transaction = await books.transaction(paid)
    ours = (
        "UPDATE payments SET captured_minor = $3 WHERE merchant_id = $1 AND transaction_id = $2",
        books.shop.merchant_id,
        transaction,
    )

    async def match() -> None:
        ((break_id,),) = await books.breaks("id")
        async with books.pool.acquire() as connection, connection.transaction():
            assert await breaks.match_by_hand(connection, break_id, "jane", "a tip")

    await books.stack.fetch(*ours, 24_00)
    await books.settle()
    await books.run()
    await match()
    await books.stack.fetch(*ours, 14_00)
    await _read_again(books)
    changed = "it has changed since jane matched it: a tip"
    assert await books.breaks("our_minor", "reason") == [(14_00, changed)]
    await match()
    await _read_again(books)
    assert await books.breaks() == []
    await books.stack.simulator.post("/status", trans_id=transaction, status="chargeback")
    await books.run()
    assert await books.breaks("their_state", "reason") == [("chargeback", changed)]


async def _read_again(books: Reconciled) -> None:
    key = await books.account()
    await books.stack.fetch("UPDATE settled_batches SET read_at = NULL WHERE account = $1", key)
    await books.run()


async def test_an_amount_and_a_currency_that_differ_are_told_with_both_sides(
    books: Reconciled,
) -> None:
    less, other = await books.shop.paid(25_00), await books.shop.paid(26_00)
    await books.stack.fetch(
        "UPDATE payments SET captured_minor = 2400 WHERE merchant_id = $1 AND transaction_id = $2",
        books.shop.merchant_id,
        await books.transaction(less),
    )
    await books.stack.fetch(
        "UPDATE operations SET currency = 'EUR' WHERE merchant_id = $1 AND reference = $2",
        books.shop.merchant_id,
        await books.reference(other),
    )
    await books.settle()
    assert (await books.run()).new_breaks == {"amount_differs": 1, "currency_differs": 1}
    found = await books.breaks(
        "kind", "our_minor", "our_currency", "their_minor", "their_currency", "last4"
    )
    assert found == [
        ("amount_differs", 24_00, "USD", 25_00, "USD", "1111"),
        ("currency_differs", 26_00, "EUR", 26_00, "USD", "1111"),
    ]


async def test_what_does_not_settle_is_told_after_three_days_and_cleared_when_it_does(
    books: Reconciled,
) -> None:
    paid = await books.shop.paid(25_00)
    failed = await books.shop.paid(26_00)
    await books.time.advance(2 * DAY_S)
    assert (await books.run()).new_breaks == {}
    await books.time.advance(1.1 * DAY_S)
    assert (await books.run()).new_breaks == {"not_settled": 2}
    await books.settle()
    await books.stack.simulator.post(
        "/status", trans_id=await books.transaction(failed), status="settlementError"
    )
    await books.run()
    found = await books.breaks("transaction_id", "their_state")
    assert found == [(await books.transaction(failed), "settlementError")]
    ((cleared, reason),) = await books.breaks("transaction_id", "reason", state="cleared")
    assert (cleared, reason) == (await books.transaction(paid), "both sides agree")
    assert (await books.shop.payment(paid["id"]))["settlement_state"] == "settled"


async def test_what_waits_for_a_review_there_and_not_here_is_told_after_three_days(
    books: Reconciled,
) -> None:
    """Somebody approved it here, and at the processor it is held all the same."""
    paid = await books.shop.paid(25_00)
    transaction = await books.transaction(paid)

    async def becomes(status: str) -> None:
        await books.stack.simulator.post("/status", trans_id=transaction, status=status)

    await becomes("FDSPendingReview")
    await books.time.advance(2 * DAY_S)
    assert (await books.run()).new_breaks == {}
    await books.time.advance(1.1 * DAY_S)
    assert (await books.run()).new_breaks == {"not_settled": 1}
    assert await books.breaks("transaction_id", "their_state") == [
        (transaction, "FDSPendingReview")
    ]
    assert (await books.run()).new_breaks == {}
    await becomes("capturedPendingSettlement")
    await books.settle()
    await books.run()
    assert await books.breaks() == []


async def test_what_the_processor_does_not_have_is_told_after_three_days(books: Reconciled) -> None:
    paid = await books.shop.paid(25_00)
    await books.stack.simulator.post("/reset", login=books.shop.login)
    await books.time.advance(3600)
    assert (await books.run()).new_breaks == {}, "reporting may be late"
    await books.time.advance(3 * DAY_S)
    assert (await books.run()).new_breaks == {"missing_at_processor": 1}
    await books.time.advance(30 * DAY_S)
    assert (await books.run()).new_breaks == {}
    ((kind, subject, ours),) = await books.breaks("kind", "subject", "our_minor")
    assert (kind, subject, ours) == ("missing_at_processor", await books.reference(paid), 25_00)


async def test_a_hold_that_expired_is_no_difference(books: Reconciled) -> None:
    """No gateway has asked about it since: the books are the first to learn it."""
    await books.shop.paid(24_00, capture="manual")
    await books.run()
    books.stack.rest()
    try:
        await books.time.advance(28 * DAY_S)
        await books.stack.fetch(  # as a gateway that was away for days tells it
            "INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status,"
            "                    amount_minor, currency, created_at)"
            " SELECT merchant_id, lowest_id_at(db_now()), payment_id, operation_id, mode,"
            "        'authorization.expiring', status, amount_minor, currency, db_now()"
            "   FROM events WHERE merchant_id = $1",
            books.shop.merchant_id,
        )
        await books.run()
        await books.time.advance(4 * DAY_S)
        assert (await books.run()).new_breaks == {}
    finally:
        books.stack.wake()


async def test_an_operation_without_an_outcome_is_left_to_the_resolver(books: Reconciled) -> None:
    """Reconciliation meets its charge, says nothing, and lets the resolver ask at once."""
    await books.shop.paid(20_00)
    await books.stack.simulator.fault("drop_reply", books.shop.login)
    lost = (await books.shop.pay(25_00)).json()
    books.stack.rest()
    try:
        await books.stack.fetch(
            "UPDATE unresolved_operations SET next_inquiry_at = db_now() + interval '9 days',"
            " since = db_now() WHERE merchant_id = $1",
            books.shop.merchant_id,
        )
        await books.stack.simulator.post("/settle")
        assert (await books.run()).new_breaks == {}
        due = await books.stack.value(
            "SELECT next_inquiry_at <= db_now() FROM unresolved_operations WHERE merchant_id = $1",
            books.shop.merchant_id,
        )
        assert due
    finally:
        books.stack.wake()
    await books.shop.becomes(lost["id"], "captured")
    await books.run()
    assert (await books.shop.payment(lost["id"]))["settlement_state"] == "settled"


async def test_an_unknown_that_cannot_be_proven_and_a_late_charge_are_told_until_they_end(
    books: Reconciled,
) -> None:
    """Two charges carry its reference, so that the resolver cannot say which is ours."""
    paid = await books.shop.paid(20_00)
    await books.stack.simulator.fault("drop_reply", books.shop.login)
    lost = (await books.shop.pay(25_00)).json()
    await books.portal.charge(25_00, await books.reference(lost), number=MASTERCARD)
    await books.stack.fetch(
        "INSERT INTO late_charges (merchant_id, operation_id, payment_id, mode, kind,"
        " transaction_id, amount_minor, currency, state, reason, evidence, found_at, changed_at)"
        " SELECT merchant_id, id, payment_id, mode, kind, '4711', 100, 'USD', 'needs_person', 'x',"
        " 'x', db_now(), db_now() FROM operations WHERE merchant_id = $1 AND reference = $2",
        books.shop.merchant_id,
        await books.reference(paid),
    )
    assert (await books.run()).new_breaks == {"late_charge_open": 1}
    await books.time.advance(1.1 * DAY_S)
    assert (await books.run()).new_breaks == {"unknown_unproven": 1}
    await books.stack.fetch(
        "UPDATE late_charges SET state = 'closed' WHERE merchant_id = $1", books.shop.merchant_id
    )
    await books.run()
    assert await books.breaks("kind") == [("unknown_unproven",)]
    ((reason,),) = await books.breaks("reason", state="cleared")
    assert reason == "the late charge is closed"


async def test_a_returned_item_and_a_chargeback_are_read_again_months_later(
    books: Reconciled,
) -> None:
    bank = {
        "type": "bank_account",
        "bank_account": {
            "account_type": "checking",
            "routing_number": "121000248",
            "account_number": "12345678",
            "name_on_account": "Jane Doe",
        },
    }
    card, account = await books.shop.paid(25_00), await books.shop.paid(30_00, payment_method=bank)
    await books.settle()
    await books.run()
    await books.time.advance(60 * DAY_S)
    returned, disputed = [await books.transaction(one) for one in (account, card)]
    await books.stack.simulator.post("/returns", trans_id=returned, code="R01")
    await books.stack.simulator.post("/status", trans_id=disputed, status="chargeback")
    result = await books.run()
    assert (result.batches, result.new_breaks) == (2, {})
    states = [(await books.shop.payment(one["id"]))["settlement_state"] for one in (account, card)]
    assert states == ["returned", "charged_back"]
    changes = await books.stack.fetch(
        "SELECT became, code, amount_minor FROM settlement_changes WHERE account = $1 ORDER BY 1",
        await books.account(),
    )
    assert [tuple(row) for row in changes] == [
        ("charged_back", None, 25_00),
        ("returned", "R01", 30_00),
    ]


async def test_books_that_are_closed_to_us_are_a_failure_with_a_reason(books: Reconciled) -> None:
    await books.shop.paid(25_00)
    await books.stack.simulator.post("/settings", login=books.shop.login, reporting=False)
    key = await books.account()
    result = await books.reconciliation.run(key)
    assert result is not None
    assert "E00011" in (result.failure or "")
    row = (await books.stack.fetch("SELECT * FROM account_books WHERE account = $1", key))[0]
    assert (row["last_failure"], row["last_ended_at"]) == (result.failure, None)
    await books.stack.simulator.post("/settings", login=books.shop.login, reporting=True)
    assert (await books.run()).failure is None


async def test_of_a_shared_account_nobody_sees_what_is_nobody_s(books: Reconciled) -> None:
    await books.shop.paid(25_00)
    other = await books.stack.shop(books.stack.only_gateway)
    await books.stack.set_account(other, login=books.shop.login)
    paid = await other.paid(26_00, payment_method=card(MASTERCARD))
    own = await books.portal.charge(7_77)
    reference = await books.stack.value(
        "SELECT reference FROM operations WHERE merchant_id = $1", other.merchant_id
    )
    twice = await books.portal.charge(paid["amount"], reference)
    await books.time.advance(3600)
    assert (await books.run()).new_breaks == {"unexplained_charge": 1, "doubled": 1}
    assert await books.breaks("kind", "transaction_id", "merchant_id") == [
        ("doubled", twice, other.merchant_id),
        ("unexplained_charge", own, None),
    ]
    await other.client.aclose()


async def test_a_batch_that_cannot_be_read_stands_in_the_way_of_no_other(
    books: Reconciled,
) -> None:
    first = await books.shop.paid(25_00)
    await books.settle()
    second = await books.shop.paid(26_00)
    await books.settle()
    for _ in range(3):  # every try of the first batch
        await books.stack.simulator.fault(
            "garbage", books.shop.login, method="getTransactionListRequest"
        )
    result = await books.reconciliation.run(await books.account())
    assert result is not None
    assert (result.batches, "batch" in (result.failure or "")) == (1, True)
    assert (await books.shop.payment(second["id"]))["settlement_state"] == "settled"
    assert (await books.run()).batches == 1
    assert (await books.shop.payment(first["id"]))["settlement_state"] == "settled"


async def test_one_process_at_a_time_reads_an_account(books: Reconciled) -> None:
    await books.shop.paid(25_00)
    await books.settle()
    key = await books.account()
    both = await asyncio.gather(*(books.reconciliation.run(key) for _ in range(2)))
    assert [each is None for each in both].count(True) == 1
    assert len(await books.everything()) == 1


async def test_what_was_charged_before_the_shop_came_is_not_ours_to_explain(
    books: Reconciled,
) -> None:
    """The account was used by another program before; its batches are read for statements only."""
    await books.portal.charge(7_77)
    await books.stack.simulator.post("/settle")
    await books.time.advance(2 * DAY_S)
    await books.shop.paid(25_00)
    await books.stack.fetch(
        "UPDATE processor_logins SET created_at = db_now() WHERE merchant_id = $1",
        books.shop.merchant_id,
    )
    assert (await books.run()).new_breaks == {}
