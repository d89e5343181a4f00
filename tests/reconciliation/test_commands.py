"""`easypay reconcile` and `easypay breaks`: killed anywhere, and what people do by hand."""

from easypay import failpoints
from harness import run_easypay

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
