"""Differences over HTTP: a merchant sees its own and matches them; nobody else does."""

from harness import Shop

from .reconciled import Reconciled

READ, WRITE = "reconciliation:read", "reconciliation:write"


async def match(shop: Shop, break_id: str, reason: str) -> tuple[int, str]:
    answer = await shop.client.post(
        f"/reconciliation/breaks/{break_id}/match", json={"reason": reason}
    )
    told = answer.json()
    return answer.status_code, told.get("code") or told["state"]


async def test_a_merchant_reads_and_matches_its_own_differences(books: Reconciled) -> None:
    await books.shop.paid(25_00)
    charges = [await books.portal.charge(7_77 + n) for n in range(3)]
    await books.run()
    reader = await books.stack.with_key(books.shop, scopes=[READ])
    writer = await books.stack.with_key(books.shop, scopes=[READ, WRITE])
    other = await books.stack.shop(books.stack.only_gateway)
    stranger = await books.stack.with_key(other, scopes=[READ, WRITE])

    found = await reader.all("/reconciliation/breaks", state="open", kind="unexplained_charge")
    assert sorted(one["transaction_id"] for one in found) == sorted(charges)
    answer = await reader.client.get("/reconciliation/breaks", params={"limit": "2"})
    assert answer.json()["has_more"]
    rest = await reader.client.get(
        "/reconciliation/breaks", params={"limit": "2", "cursor": answer.json()["next_cursor"]}
    )
    assert [one["id"] for one in rest.json()["data"]] == [found[-1]["id"]]
    state = (await reader.client.get("/reconciliation")).json()
    assert [(one["kind"], one["count"]) for one in state["open"]] == [("unexplained_charge", 3)]
    assert state["accounts"][0]["failure"] is None
    assert state["accounts"][0]["last_ended_at"]

    first = found[0]["id"]
    assert (await stranger.client.get(f"/reconciliation/breaks/{first}")).status_code == 404
    assert await match(stranger, first, "mine") == (404, "not_found")
    assert await stranger.all("/reconciliation/breaks") == []
    assert await match(reader, first, "no scope") == (403, "forbidden")
    assert await match(writer, first, "4111 1111 1111 1111") == (422, "validation_failed")
    assert await match(writer, first, "by telephone") == (200, "matched")
    assert await match(writer, first, "by telephone") == (200, "matched")
    assert await match(writer, first, "another reason") == (409, "invalid_state")
    shown = (await reader.client.get(f"/reconciliation/breaks/{first}")).json()
    assert (shown["reason"], shown["closed_by"][:4]) == ("by telephone", "key_")
    entries = await books.stack.value(
        "SELECT count(*) FROM audit_entries WHERE subject = $1", first
    )
    assert entries == 1
    for shop in (reader, writer, other, stranger):
        await shop.client.aclose()
