"""Conditional requests: a client's copy is used exactly as long as it is right."""

import re
from typing import Any

import pytest
from msgspec import defstruct
from msgspec.json import schema_components

from easypay.api.conditional import ANY_TAG, VERSION_TAG, version_of
from easypay.payments import views
from easypay.payments.views import PAYMENT_FORM
from harness import Gateway, Shop, Stack, http_client, payment_uuid, until
from harness.many_payments import copies_of
from raw import dial

LONG = {f"key{n}": "v" * 300 for n in range(5)}
"""Metadata that makes a payment long enough to be compressed."""


def today(tags: str) -> str:
    """Return tags with the form that a payment has today, after `v2`."""
    return tags.replace("v2", f"v2.{PAYMENT_FORM}")


def test_the_form_of_a_payment_is_that_of_all_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that an upgrade adds changes the tag of a payment that did not change. The lists of
    children have digests."""
    shown = str(schema_components([views.PaymentView], ref_template="{name}"))
    parts = set(re.findall(r"'(\w+View)'", shown))
    assert parts == {
        "PaymentView",
        "PaymentMethodView",
        "ProcessorView",
        "RefundView",
        "OperationView",
    }
    longer = defstruct("PaymentView", [("added", int, 0)], bases=(views.PaymentView,))
    usual = views.form_of(views.PaymentView)
    assert views.form_of(longer) != usual
    monkeypatch.setattr(views, "__version__", "0.0.1")
    assert views.form_of(views.PaymentView) != usual


def test_the_version_is_read_from_the_tag_of_every_form() -> None:
    digest = "kUfcY1Mj2nVvJq0y3b5L8w"
    for tag in ("v2", "v2-gzip", "v2-br", "v2-zstd", f"v2.{digest}", f"v2.{digest}-zstd",
                "v2.3f9a1c", "v2.3f9a1c-br"):  # fmt: skip
        assert version_of(f'"{tag}"'.encode()) == 2
        assert re.fullmatch(VERSION_TAG, f'"{tag}"')
        assert re.fullmatch(ANY_TAG, f'"{tag}"')
    for wrong in (
        "v2", 'W/"v2"', '"v2-deflate"', '"v2-"', '"v2."', '"v-1"', '"v02"', '"2"', '"v2" ', "*", "",
        f'"{digest}"', f'"v2-gzip.{digest}"', '"v1234567890"', '"v2", "v3"', '"v²"', '"v2.3f9a1"',
    ):  # fmt: skip
        assert version_of(wrong.encode()) is None, wrong


async def test_a_copy_of_a_payment_is_good_in_the_coding_it_came_in(shop: Shop) -> None:
    path = f"/payments/{(await shop.paid(metadata=LONG))['id']}"
    for had, takes, status, now in (
        ('"v2"', None, 304, '"v2"'),
        ('W/"v2"', None, 304, '"v2"'),
        ('"v1", "v2" , "v3"', "identity", 304, '"v2"'),
        ('"v2-gzip"', "gzip", 304, '"v2-gzip"'),
        ('W/"v2-gzip"', "gzip", 304, '"v2-gzip"'),
        ('"v2-br"', "gzip, br", 304, '"v2-br"'),
        ('"v2"', "gzip", 304, '"v2"'),  # it takes both, and has one
        ('"v2-gzip"', None, 304, '"v2-gzip"'),  # it takes all
        ('"v2-gzip"', "identity", 200, '"v2"'),
        ('"v2-zstd"', "gzip", 200, '"v2-gzip"'),
        ('"v2"', "gzip, identity;q=0", 200, '"v2-gzip"'),
        ('"v1-gzip"', "gzip", 200, '"v2-gzip"'),
        ("*", "gzip", 304, '"v2"'),
        ("*", "zstd, identity;q=0", 304, '"v2-zstd"'),
        ("v2", None, 200, '"v2"'),
        ('"v2', None, 200, '"v2"'),
        ('"v22", "xv2", "*"', None, 200, '"v2"'),
    ):
        had, now = today(had), today(now)
        headers = {"if-none-match": had, "accept-encoding": "identity"}
        request = shop.client.build_request("GET", path, headers=headers)
        if takes is None:
            del request.headers["accept-encoding"]
        else:
            request.headers["accept-encoding"] = takes
        answer = await shop.client.send(request)
        assert (answer.status_code, answer.headers["etag"]) == (status, now), (had, takes)
        assert answer.headers["cache-control"] == "private, no-cache"
        assert answer.headers["vary"] == "Authorization, Accept-Encoding"
        if status == 304:
            assert answer.content == b""
            assert not {"content-length", "content-type", "content-encoding"} & set(answer.headers)
        request.method = "HEAD"
        head = await shop.client.send(request)
        assert (head.status_code, head.headers["etag"]) == (status, now)
        assert head.content == b""


async def test_a_change_ends_every_copy(shop: Shop) -> None:
    payment = await shop.paid(capture="manual", metadata=LONG)
    path = f"/payments/{payment['id']}"
    seen = {}
    for coding in ("identity", "gzip", "br", "zstd"):
        answer = await shop.client.get(path, headers={"accept-encoding": coding})
        seen[coding] = answer.headers["etag"]
    assert len(set(seen.values())) == 4
    many = ", ".join(seen.values())
    assert (await shop.client.get(path, headers={"if-none-match": many})).status_code == 304
    assert (await shop.capture(payment["id"])).status_code == 201
    for coding in seen:
        headers = {"if-none-match": many, "accept-encoding": coding}
        answer = await shop.client.get(path, headers=headers)
        assert answer.status_code == 200
        assert answer.json()["status"] == "captured"
        assert answer.headers["etag"] not in many


@pytest.mark.parametrize("coding", ["identity", "gzip", "br", "zstd"])
@pytest.mark.parametrize("query", ["", "?expand=operations"])
async def test_the_tag_that_a_client_saw_guards_its_change(
    shop: Shop, coding: str, query: str
) -> None:
    payment = await shop.paid(capture="manual", metadata=LONG)
    path = f"/payments/{payment['id']}"
    read = await shop.client.get(path + query, headers={"accept-encoding": coding})
    tag = read.headers["etag"]
    assert read.headers.get("content-encoding", "identity") == coding
    stale = tag.replace("v2", "v1")
    for sent, status in ((stale, 412), (f"W/{tag}", 412), (tag, 201)):
        answer = await shop.client.post(
            f"{path}/capture",
            json={},
            headers={"idempotency-key": f"{payment['id']} {status} {sent[:2]}", "if-match": sent},
        )
        assert answer.status_code == status, (sent, answer.text)
    again = await shop.client.post(
        f"{path}/refunds", json={}, headers={"idempotency-key": payment["id"], "if-match": tag}
    )
    assert (again.status_code, again.json()["code"]) == (412, "precondition_failed")


async def test_children_change_the_tag_of_a_payment_that_shows_them(
    simulated: Stack, shop: Shop
) -> None:
    payment = await shop.paid()
    await simulated.simulator.post("/settle")
    path = f"/payments/{payment['id']}"
    plain = await shop.client.get(path, headers={"accept-encoding": "identity"})
    tags = {plain.headers["etag"]}
    for expand in ("refunds", "operations", "operations,refunds"):
        shown = await _same_then(shop, path, expand=expand)
        assert shown.headers["etag"].startswith('"v2.')
        tags.add(shown.headers["etag"])
        wrong = await shop.client.get(
            path, params={"expand": expand}, headers={"if-none-match": plain.headers["etag"]}
        )
        assert wrong.status_code == 200, "the plain payment is something else"
    assert len(tags) == 4
    had = (await shop.client.get(path, params={"expand": "operations"})).headers["etag"]
    await shop.refund(payment["id"], 100)
    now = await shop.client.get(
        path, params={"expand": "operations"}, headers={"if-none-match": had}
    )
    assert now.status_code == 200
    assert len(now.json()["operations"]["data"]) == 2


async def test_lists_and_all_else_that_is_read_have_tags(simulated: Stack, shop: Shop) -> None:
    payment = await shop.paid()
    await simulated.simulator.post("/settle")
    refund = (await shop.refund(payment["id"], 100)).json()["id"]

    async def is_found() -> bool:  # a filtered list is a moment behind
        answer = await shop.client.get("/payments", params={"refunded": "true"})
        return bool(answer.json()["data"])

    await until(is_found, what="the payment is in filtered lists")
    one = f"/payments/{payment['id']}"
    time = {"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"}
    reads: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/payments", {}),
        ("/payments", {"limit": 1}),
        ("/payments", {"expand": "refunds"}),
        ("/payments", {"page": 1}),
        ("/payments", {"status": "captured"}),
        ("/payments/duplicates", {"created_from": payment["created_at"]}),
        ("/payments/stats", time),
        ("/refunds", {}),
        (f"/refunds/{refund}", {}),
        (f"/operations/{refund.replace('re_', 'op_')}", {}),
        (f"{one}/refunds", {}),
        (f"{one}/operations", {}),
        (f"{one}/events", {}),
    )
    tags = [(await _same_then(shop, path, **query)).headers["etag"] for path, query in reads]
    assert all(re.fullmatch(ANY_TAG, tag) for tag in tags)
    assert len(set(tags[:2])) == 1, "the same page, the same bytes"
    await shop.paid(999)
    for (path, query), tag in zip(reads[:4], tags, strict=False):
        answer = await shop.client.get(path, params=query, headers={"if-none-match": tag})
        assert answer.status_code == 200
        assert answer.headers["etag"] != tag


async def test_nobody_learns_of_a_foreign_payment_by_its_version(stack_of_two: Any) -> None:
    mine, other = stack_of_two
    ours, theirs = await mine.paid(), await other.paid()
    assert ours["version"] == theirs["version"]
    for had in ('"v2"', '"v2-gzip"', "*", 'W/"v2"', '"v1", "v2"'):
        for query in ("", "?expand=refunds"):
            answer = await other.client.get(
                f"/payments/{ours['id']}{query}", headers={"if-none-match": today(had)}
            )
            assert answer.status_code == 404, had
            assert "etag" not in answer.headers
    # Both have one payment, of the same version: the lists differ all the same.
    listed = await mine.client.get("/payments")
    foreign = await other.client.get("/payments", headers={"if-none-match": listed.headers["etag"]})
    assert foreign.status_code == 200
    wrong_key = await other.client.get(
        f"/payments/{theirs['id']}",
        headers={"if-none-match": today('"v2"'), "authorization": "Bearer ep_test_sk_no"},
    )
    assert wrong_key.status_code == 401


@pytest.fixture
async def stack_of_two(simulated: Stack, gateway: Gateway, shop: Shop) -> Any:
    other = await simulated.shop(gateway)
    yield shop, other
    await other.client.aclose()


async def test_a_thousand_tags_are_read_and_more_than_a_head_holds_are_refused(
    gateway: Gateway, shop: Shop
) -> None:
    path = f"/payments/{(await shop.paid())['id']}"
    many = ", ".join(f'"v{n}"' for n in range(1000, 2000))
    for had, status in (
        (many, 200),
        (f'{many}, "v2"', 304),
        ('"' * 8000, 200),
        ('"v2" ' * 600, 304),
        ('W/"' * 2500, 200),
        ("," * 8000 + '"v2"', 304),
        (f'{many}, {many}, {many}, "v2"', 431),
    ):
        async with dial(gateway) as line:
            line.writer.write(
                f"GET /api/v1{path} HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {shop.secret}"
                f"\r\nIf-None-Match: {today(had)}\r\n\r\n".encode()
            )
            assert int((await line.head())[0].split()[1]) == status, had[:20]
    async with dial(gateway) as line:  # twice: it is not clear which one counts
        line.writer.write(
            f"GET /api/v1{path} HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {shop.secret}"
            '\r\nIf-None-Match: "v2"\r\nIf-None-Match: "v3"\r\n\r\n'.encode()
        )
        assert (await line.head())[0] == b"HTTP/1.1 400 Bad Request"


async def test_two_clients_of_one_merchant_see_the_same_tags(
    simulated: Stack, gateway: Gateway, shop: Shop
) -> None:
    """Over two keys, and whoever asks first: what one has seen is good for the other."""
    payment = await shop.paid()
    await copies_of(simulated.dsn, payment_uuid(payment["id"]), 30)
    second = await simulated.with_key(shop)
    for path in (f"/payments/{payment['id']}", "/payments?limit=10", "/payments/stats"):
        first = await shop.client.get(path)
        same = await second.client.get(path, headers={"if-none-match": first.headers["etag"]})
        assert same.status_code == 304, path
    await second.client.aclose()


async def test_what_cannot_be_read_has_no_tag(gateway: Gateway, shop: Shop) -> None:
    for path in ("/payments/pay_no", "/payments?limit=0", "/refunds/re_no"):
        answer = await shop.client.get(path, headers={"if-none-match": "*"})
        assert answer.status_code in (404, 422)
        assert answer.headers["cache-control"] == "no-store"
        assert "etag" not in answer.headers
    async with http_client(base_url=gateway.url) as client:
        for path in ("/livez", "/readyz"):
            answer = await client.get(path, headers={"if-none-match": "*"})
            assert (answer.status_code, "etag" in answer.headers) == (200, False)


async def _same_then(shop: Shop, path: str, **query: Any) -> Any:
    """Read something twice; the second time it must be 304. Return the first answer."""
    first = await shop.client.get(path, params=query)
    assert first.status_code == 200, first.text
    assert first.headers["cache-control"] == "private, no-cache"
    same = await shop.client.get(
        path, params=query, headers={"if-none-match": first.headers["etag"]}
    )
    assert (same.status_code, same.content) == (304, b""), path
    assert same.headers["etag"] == first.headers["etag"]
    return first
