"""`easypay reconcile` and `easypay breaks`: killed anywhere, and what people do by hand."""

from datetime import datetime
from typing import Any

import pytest

from easypay import failpoints, ids
from easypay.reconciliation import accounts, reading, run, state
from harness import MASTERCARD, run_easypay

from .reconciled import Reconciled


async def test_killed_at_every_point_the_next_run_does_the_rest(books: Reconciled) -> None:
    paid = await books.shop.paid(25_00)
    gone = await books.shop.paid(26_00)
    own = await books.portal.charge(7_77)
    await books.settle()
    assert (await books.shop.refund(paid["id"], 5_00)).status_code == 201
    back = await books.portal.refund(await books.transaction(paid), 3_00)
    await books.settle()
    late = await books.shop.paid(27_00)
    await books.portal.void(await books.transaction(late))
    await books.time.advance(3600)
    seen = []
    for point in failpoints.RECONCILE_NAMES:
        killed = run_easypay("reconcile", **books.env, EASYPAY_FAILPOINT=point)
        assert killed.code == -9, (point, killed)
        seen.append(await books.everything())
        await books.time.advance(120)  # the dead process's lease ends
    assert seen[0] == seen[1] == seen[2] == seen[3] == [], "a batch is read whole or not at all"
    await books.run()
    assert await books.breaks("kind", "transaction_id") == [
        ("unexplained_charge", own),
        ("unexplained_refund", back),
        ("unexplained_void", await books.transaction(late)),
    ]
    settled = [(await books.shop.payment(one["id"]))["settlement_state"] for one in (paid, gone)]
    assert settled == ["settled", "settled"]
    told = await books.stack.value(
        "SELECT count(*) FROM events WHERE merchant_id = $1 AND type = 'payment.settled'",
        books.shop.merchant_id,
    )
    assert told == 2, "each payment is told once"
    before = await books.everything()
    await books.run()
    assert await books.everything() == before


async def test_a_person_sees_a_difference_takes_it_and_matches_it(books: Reconciled) -> None:
    await books.shop.paid(25_00)
    own = await books.portal.charge(7_77)
    account = (await books.account()).hex()[:12]
    ran = run_easypay("reconcile", "--account", account, "--json", **books.env)
    assert ran.data["data"][0]["new_breaks"] == {"unexplained_charge": 1}
    listed = run_easypay("breaks", "list", "--json", **books.env).data["data"]
    (found,) = [one for one in listed if one["transaction_id"] == own]
    assert found["theirs"] == {
        "state": "capturedPendingSettlement",
        "amount": 7_77,
        "currency": "USD",
    }
    table = run_easypay("breaks", "list", "--wide", **books.env)
    assert own in table.out
    owned = run_easypay("breaks", "own", found["id"], "--owner", "jane", **books.env)
    assert (owned.code, owned.out) == (0, f"jane sees to {found['id']}.\n")
    reason = "by telephone, invoice 4711"
    matched = ("breaks", "match", found["id"], "--because", reason, "--actor", "joe")
    assert run_easypay(*matched, **books.env).code == 0
    again = run_easypay(*matched, **books.env)
    assert (again.code, "matched already" in again.err) == (1, True)
    shown = run_easypay("breaks", "show", found["id"], "--json", **books.env).data
    assert (shown["state"], shown["owner"], shown["closed_by"], shown["reason"]) == (
        *("matched", "jane", "joe"),
        reason,
    )
    entries = await books.stack.fetch(
        "SELECT actor, action, detail ->> 'reason' AS reason FROM audit_entries"
        " WHERE subject = $1 ORDER BY at",
        found["id"],
    )
    assert [(row["action"], row["reason"]) for row in entries] == [
        ("reconciliation.owned", None),
        ("reconciliation.matched", reason),
    ]
    await books.settle()
    assert (await books.run()).new_breaks == {}
    assert await books.breaks() == [], "what is matched stays so"


async def test_books_that_cannot_be_read_end_the_command_with_the_reason(
    books: Reconciled,
) -> None:
    await books.shop.paid(25_00)
    await books.stack.simulator.post("/settings", login=books.shop.login, reporting=False)
    account = (await books.account()).hex()
    ran = run_easypay("reconcile", "--account", account, **books.env)
    assert (ran.code, "E00011" in ran.out) == (1, True)
    assert run_easypay("reconcile", "--account", "mer_nobody", **books.env).code == 1
    assert run_easypay("reconcile", "--from", "yesterday", **books.env).code == 2


async def _said(books: Reconciled) -> list[tuple[str, str, str]]:
    rows = await books.stack.fetch(
        "SELECT actor, action, detail ->> 'reason' FROM audit_entries WHERE subject = $1"
        " ORDER BY at",
        f"books of {(await books.account()).hex()}",
    )
    return [tuple(row) for row in rows]


async def _statement(books: Reconciled) -> tuple[dict[str, Any], str]:
    """Return a statement of the shop's year as JSON and as people read it."""
    year = await books.stack.value("SELECT to_char(db_now(), 'YYYY')")
    words = "statement", year, "--merchant", ids.typed(ids.MERCHANT, books.shop.merchant_id)
    return run_easypay(*words, "--json", **books.env).data, run_easypay(*words, **books.env).out


async def test_books_of_a_login_that_no_longer_works_are_retired(
    books: Reconciled, caplog: pytest.LogCaptureFixture
) -> None:
    await books.shop.paid(25_00)
    own = await books.portal.charge(7_77)
    await books.run()
    key = await books.account()
    account = key.hex()[:12]
    await books.stack.simulator.post("/settings", login=books.shop.login, reporting=False)
    for _ in range(3):
        result = await books.reconciliation.run(key)
        assert result is not None
        assert "E00011" in (result.failure or "")
    assert f"`easypay processor books --retire {account}`" in caplog.text
    for minutes, refusals, is_due in (
        *((19, None, False), (21, None, True)),
        *((59, 60, False), (61, 60, True)),
    ):
        await books.stack.fetch(
            "UPDATE account_books SET refusals = coalesce($3::int, refusals),"
            " last_started_at = db_now() - make_interval(mins => $2::int) WHERE account = $1",
            *(key, minutes, refusals),
        )
        assert (key in await run.due(books.pool, 7200.0)) == is_due, minutes

    reason = "the shop has left this bank"
    words = "processor", "books", "--retire", account, "--actor", "jane"
    assert run_easypay(*words, **books.env).code == 2, "without a reason"
    retired = run_easypay(*words, "--because", reason, "--json", **books.env)
    (shown,) = [each for each in retired.data["data"] if each["account"] == account]
    assert shown["retired_at"]
    again = run_easypay(*words, "--because", reason, **books.env)
    assert (again.code, "so already" in again.err) == (1, True)
    assert key not in await run.due(books.pool, 60.0)
    (kept,) = [each for each in await state.accounts(books.pool) if each.account == key]
    assert kept.retired_at
    read = run_easypay("reconcile", "--account", account, **books.env)
    assert (read.code, f"--resume {account}" in read.err) == (1, True)
    found, text = await _statement(books)
    assert [each["what"] for each in found["open"]] == ["unexplained_charge", "books_retired"]
    assert "books_retired: 1" in text
    assert await books.breaks() == [("unexplained_charge", own)]

    resumed = "processor", "books", "--resume", account, "--actor", "jane", "--because", "back"
    assert run_easypay(*resumed, **books.env).code == 0
    assert key in await run.due(books.pool, 60.0)
    await books.stack.simulator.post("/settings", login=books.shop.login, reporting=True)
    await books.run()
    assert [each["what"] for each in (await _statement(books))[0]["open"]] == ["unexplained_charge"]
    assert await _said(books) == [
        ("jane", "books.retire", reason),
        ("jane", "books.resume", "back"),
    ]


async def test_what_other_programs_do_in_a_shared_account_is_added_up(
    books: Reconciled,
) -> None:
    """What has a reference of our form is not theirs, nor is what gives that back."""
    paid = await books.shop.paid(25_00)
    till, _ = [await books.portal.charge(minor) for minor in (7_77, 8_00)]
    lost = await books.portal.charge(9_00, ids.reference(ids.new_id()))
    twice = await books.portal.charge(25_00, await books.reference(paid), number=MASTERCARD)
    await books.settle()
    await books.portal.refund(till, 1_01)
    given_back = await books.portal.refund(await books.transaction(paid), 3_00)
    await books.settle()
    found = {"unexplained_charge": 3, "unexplained_refund": 2, "doubled": 1}
    assert (await books.run()).new_breaks == found
    account = (await books.account()).hex()[:12]
    said = "processor", "books", "--share", account, "--because", "the till", "--actor", "jane"
    assert run_easypay(*said, **books.env).code == 0
    await books.run()
    ours = [
        *(("doubled", twice), ("unexplained_charge", lost)),
        ("unexplained_refund", given_back),
    ]
    assert await books.breaks() == ours
    assert {row[0] for row in await books.breaks("reason", state="cleared")} == {
        "it is another program's: the account is shared"
    }
    await books.portal.charge(1_23)
    await books.portal.refund(till, 2_02)
    assert (await books.run()).new_breaks == {}
    await books.settle()
    assert (await books.run()).new_breaks == {}
    assert await books.breaks() == ours
    found, text = await _statement(books)
    assert [
        (each["currency"], each["charged"]["amount"], each["refunded"]["amount"])
        for each in found["other_programs"]
    ] == [("USD", 15_77, 0), ("USD", 0, 1_01), ("USD", 1_23, 2_02)]
    assert found["differences"] == []
    assert "before EasyPay knew the account: 3, 17.00 USD, in 2 batches." in text
    assert "Refunded by other programs" in text
    assert "the account: 2, 3.03 USD, in 2 batches." in text
    assert await _said(books) == [("jane", "books.share", "the till")]


async def test_what_is_said_while_a_batch_is_read_holds_for_it(
    books: Reconciled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is shared, which is said between the list of its batches and their transactions:
    the run knows nothing of it and finds the refund unexplained. The next one asks whose it is."""
    await books.shop.paid(25_00)
    till = await books.portal.charge(8_00)
    await books.settle()
    refund = await books.portal.refund(till, 1_01)
    await books.settle()
    key, listed = await books.account(), reading.Reader.batches

    async def then_shared(self: reading.Reader, since: datetime, until: datetime) -> Any:
        found = await listed(self, since, until)
        async with books.pool.acquire() as connection, connection.transaction():
            await accounts.mark(connection, key, "share", "jane", "the till")
        return found

    monkeypatch.setattr(reading.Reader, "batches", then_shared)
    await books.run()
    assert ("unexplained_refund", refund) in await books.breaks("kind", "transaction_id")
    monkeypatch.undo()
    await books.time.advance(86_400)
    await books.run()
    assert await books.breaks("kind", "transaction_id") == []
