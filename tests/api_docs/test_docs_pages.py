"""The pages under /docs: their links, and every example, run as a reader would run it."""

import asyncio
import json
import os
import re
import shlex
import uuid
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from easypay import ids
from easypay.api.compression import CODINGS, compressed_once
from easypay.api.doc_files import DOC_FILES
from easypay.api.docs.pages import GUIDES, problem_page, topic_page
from easypay.api.examples import EVENT_ID, KEY, PAYMENT_ID
from easypay.api.openapi import openapi_json
from easypay.api.routes import TOPICS
from easypay.merchants.model import SCOPES
from easypay.problem_table import PROBLEMS
from harness import (
    ADMIN_KEY,
    Gateway,
    Shop,
    Stack,
    card,
    http_client,
    mint_token,
    random_name,
)
from harness.stored import stored_method
from notifications.notified import event, notified, signed
from settlement.books import account_of, read_books

PAGES = {f"/docs/{topic}".rstrip("/"): topic_page(topic) for topic in ("", *TOPICS)}
PAGES |= {f"/problems/{code}": problem_page(code) for code in PROBLEMS}
FILES = {file.path: file.digest for file in DOC_FILES.values()}
HTML = {path: page.decode() for path, page in PAGES.items() if page is not None}


def test_each_page_is_compressed_once_in_each_coding() -> None:
    """Also if somebody reads all of them in all codings again and again: it takes milliseconds."""
    files = [file.content for file in DOC_FILES.values()]
    bodies = [*(html.encode() for html in HTML.values()), *files, openapi_json()]
    missed = []
    for _ in range(2):
        for body in bodies:
            for coding in CODINGS:
                compressed_once(body, coding)
        missed.append(compressed_once.cache_info().misses)
    assert missed[0] == missed[1]


def test_every_link_leads_to_an_existing_page_and_anchor() -> None:
    places = {path: re.findall(r' id="([^"]+)"', html) for path, html in HTML.items()}
    for path, html in HTML.items():
        assert len(places[path]) == len(set(places[path])), path
        assert html.count('aria-current="page"') == 1, path
        for link in re.findall(r' href="([^"]+)"', html):
            target, _, place = link.partition("#")
            if target not in ("/openapi.json", "data:,", *FILES):
                assert (target or path) in HTML, (path, link)
                assert not place or place in places[target or path], (path, link)


def test_a_page_loads_only_its_own_style_and_script() -> None:
    for html in HTML.values():
        assert not re.search(
            r' style=| on[a-z]+="|url\(|@import|https?://', html.split("<main>")[0]
        )
        assert "<style" not in html
        assert html.count("<script") == html.count(" src=") == html.count('rel="stylesheet"') == 1
        for path, digest in FILES.items():
            assert f'="{path}" integrity="{digest}"' in html


async def test_the_files_of_the_pages_are_kept_for_ever(gateway: Gateway) -> None:
    async with http_client(base_url=gateway.url) as client:
        for path, digest in FILES.items():
            file = await client.get(path)
            assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert b64encode(sha256(file.content).digest()).decode() == digest[7:]
        gone = await client.get("/docs/assets/style-0000000000000000.css")
        assert (gone.status_code, gone.headers["cache-control"]) == (404, "no-store")


async def test_the_content_security_policy_allows_nothing_else(gateway: Gateway) -> None:
    async with http_client(base_url=gateway.url) as client:
        for path in ("/docs", "/docs/payments", "/problems/not_settled"):
            page = await client.get(path)
            policy = page.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self';")
            assert "unsafe" not in policy
            assert page.content == PAGES[path]
        assert (await client.get("/docs/none")).status_code == 404


# The guides, run as a reader would paste them ------------------------------------------------


GUIDES_WITH_EXAMPLES = (
    "README",
    "administration",
    "batches",
    "conventions",
    "customers",
    "events",
    "idempotency",
    "payments",
    "settlements",
    "reconciliation",
    "testing",
    "webhooks",
)


@pytest.mark.parametrize("guide", GUIDES_WITH_EXAMPLES)
async def test_the_examples_of_a_guide_work(
    guide: str, simulated: Stack, gateway: Gateway, shop: Shop, tmp_path: Path
) -> None:
    """Every shell block succeeds, and its last reply contains the JSON shown after it."""
    demo = {"api_url": gateway.url, "api_key": shop.secret, "admin_key": ADMIN_KEY}
    (tmp_path / ".easypay").mkdir()
    (tmp_path / ".easypay/demo.json").write_text(
        json.dumps({**demo, "simulator_url": simulated.simulator.url})
    )
    (tmp_path / ".curlrc").write_text('write-out = "\\n%{stderr}%{http_code}\\n"')
    await shop.paid()
    await shop.paid()
    set_up, *first = _blocks("README")
    blocks = [set_up, *(first if guide == "README" else _blocks(guide))]
    run = await asyncio.create_subprocess_exec(
        "bash", "-ec", "\necho; echo ----\n".join(block for block, _ in blocks),
        cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(run.communicate(), 30)
    await simulated.simulator.post("/settings", held_above=None)
    statuses = err.decode().split()
    assert run.returncode == 0, (out, err)
    assert statuses, "no request was sent"
    assert all(status[0] == "2" or status == "304" for status in statuses), (out, statuses)
    for (_, expected), output in zip(blocks, out.decode().split("----"), strict=True):
        if expected is not None:
            reply = json.loads(output.strip().splitlines()[-1])
            assert {name: reply.get(name) for name in expected} == expected


def _blocks(guide: str) -> list[tuple[str, Any]]:
    """Return every shell block with the JSON between it and the next."""
    found = re.findall(r"```(sh|json)\n(.*?)```", (GUIDES / f"{guide}.md").read_text(), re.DOTALL)
    return [
        (text, json.loads(after[1]) if after[0] == "json" else None)
        for (kind, text), after in zip(found, [*found[1:], ("", "")], strict=True)
        if kind == "sh"
    ]


# The requests of the calls -------------------------------------------------------------------


async def test_every_request_on_the_pages_is_accepted(
    simulated: Stack, gateway: Gateway, shop: Shop
) -> None:
    await simulated.simulator.post("/settings", login=shop.login, held_above="500.00")
    returned, settled = (await shop.paid())["id"], (await shop.paid())["id"]
    await simulated.simulator.post("/settle")
    await shop.pay(key=KEY)
    refund = (await shop.refund(returned)).json()["id"]
    exporter = await simulated.with_key(shop, scopes=SCOPES)
    await exporter.client.aclose()
    await read_books(simulated, shop)
    batch = "SELECT batch_id FROM settled_transactions WHERE account = $1 LIMIT 1"
    variables = {
        "BATCH_ID": await simulated.value(batch, await account_of(simulated, shop)),
        "API": "",
        "KEY": exporter.secret,
        "ADMIN_KEY": ADMIN_KEY,
        "PAYMENT": settled,
        "REFUND": refund,
        "OPERATION": refund.replace("re_", "op_"),
    }
    event_id = (await shop.all(f"/payments/{settled}/events"))[0]["id"]
    tried = 0
    async with http_client(base_url=gateway.url, timeout=30) as client:
        for operation, text in _requests():
            if operation in ("payments_capture", "payments_void"):
                variables["PAYMENT"] = (await shop.paid(12_500, capture="manual"))["id"]
            elif operation in ("payments_approve", "payments_decline"):
                variables["PAYMENT"] = (await shop.paid(60_000))["id"]
            elif operation == "payments_refund":
                variables["PAYMENT"] = settled
            elif operation.startswith("admin_"):
                variables |= await _new_merchant(client)
            elif operation == "profiles_take":
                text = text.replace('"seconds": 30', '"seconds": 1')
            elif operation.startswith("customers_"):
                variables |= await _new_customer(exporter.at(gateway.url))
                text = text.replace(PAYMENT_ID, settled)
            elif operation.startswith("batches_"):
                variables["BATCH"] = await _new_batch(client, exporter.secret, operation)
            elif operation.startswith("reconciliation_"):
                variables["BREAK"] = await _new_break(simulated, shop)
            elif operation.startswith("webhooks_"):
                variables["ENDPOINT"] = await _new_endpoint(client, exporter.secret)
                text = text.replace(EVENT_ID, event_id)
                variables["ATTEMPT_ID"] = await _new_attempt(simulated, shop, variables["ENDPOINT"])
            method, path, headers, body = _read(text, variables)
            if "data_value" in body:
                given = json.loads(body)
                token = await mint_token(simulated.simulator, shop.login)
                given["payment_method"]["accept_token"] = token
                body = json.dumps(given)
            elif '"stored":' in body:
                stored = await stored_method(simulated, shop)
                body = json.dumps(json.loads(body) | {"payment_method": stored.pays()})
            if operation == "notifications_receive":  # the processor's own body, signed
                told = await notified(simulated, gateway)
                path, body = told.url.removeprefix(gateway.url), event(transaction_id="0").decode()
                headers |= signed(body.encode())
                await told.close()
            answer = await client.request(method, path, headers=headers, content=body)
            assert answer.status_code < 300, (operation, text, answer.text)
            tried += 1
    assert tried > 35


async def _new_customer(shop: Shop) -> dict[str, str]:
    """Make a customer with a stored card."""
    async with shop.client:
        made = (await shop.post("/customers", {})).json()["id"]
        stored = await shop.post(
            f"/customers/{made}/payment_methods", {"payment_method": card(exp_year=2038)}
        )
    return {"CUSTOMER": made, "METHOD": stored.json()["id"]}


async def _new_batch(client: httpx.AsyncClient, secret: str, operation: str) -> str:
    """Upload a batch that allows the operation."""
    start = "false" if operation == "batches_start" else "true"
    headers = {
        "authorization": f"Bearer {secret}",
        "idempotency-key": str(uuid.uuid4()),
        "content-type": "application/jsonl",
    }
    line = {"operation": "void", "payment": "pay_" + uuid.uuid4().hex}
    made = await client.post(
        f"/api/v1/batches?start={start}", content=json.dumps(line), headers=headers
    )
    batch_id = str(made.json()["id"])
    if operation == "batches_resume":
        await client.post(
            f"/api/v1/batches/{batch_id}/pause",
            headers=headers | {"content-type": "application/json"},
        )
    return batch_id


async def _new_break(stack: Stack, shop: Shop) -> str:
    """Write down a difference."""
    value = ids.new_id()
    await stack.fetch(
        "INSERT INTO reconciliation_breaks (id, account, kind, subject, merchant_id, mode)"
        " VALUES ($1, 'a', 'unexplained_charge', $2, $3, 'test')",
        value,
        value.hex,
        shop.merchant_id,
    )
    return f"brk_{value.hex}"


async def _new_endpoint(client: httpx.AsyncClient, secret: str) -> str:
    """Make the only endpoint: a merchant can have twenty."""
    path, headers = "/api/v1/webhook-endpoints", {"authorization": f"Bearer {secret}"}
    for each in (await client.get(path, headers=headers)).json()["data"]:
        await client.delete(f"{path}/{each['id']}", headers=headers)
    made = await client.post(path, json={"url": "https://shop.example/"}, headers=headers)
    return str(made.json()["endpoint"]["id"])


async def _new_attempt(stack: Stack, shop: Shop, endpoint: str) -> str:
    """Write down an attempt to deliver a test event."""
    attempt = ids.new_id()
    await stack.fetch(
        "INSERT INTO webhook_attempts (id, merchant_id, endpoint_id, event_id, type, attempt,"
        " outcome, url, sent_at, took_ms, answer)"
        " VALUES ($1, $2, $3, $1, 'webhook.test', 1, 'failed', '', now(), 1, '')",
        *(attempt, shop.merchant_id, ids.parse(ids.ENDPOINT, endpoint)),
    )
    return ids.typed(ids.ATTEMPT, attempt)


async def _new_merchant(client: httpx.AsyncClient) -> dict[str, str]:
    admin = {"authorization": f"Bearer {ADMIN_KEY}"}
    made = await client.post("/api/v1/admin/merchants", json={"name": random_name()}, headers=admin)
    assert made.status_code == 201, made.text
    keys = f"/api/v1/admin/merchants/{made.json()['id']}/keys"
    key = await client.post(keys, json={"mode": "test"}, headers=admin)
    return {"MERCHANT": made.json()["id"], "KEY_ID": key.json()["key"]["id"]}


def _requests() -> Iterator[tuple[str, str]]:
    """Yield each example request: the operation's id and the curl command."""
    for html in HTML.values():
        for section in html.split('<section><h3 id="')[1:]:
            for text in re.findall(r"<pre><code>(curl .*?)</code>", section, re.DOTALL):
                yield section.partition('"')[0], unescape(text)


def _read(text: str, variables: dict[str, str]) -> tuple[str, str, dict[str, str], str]:
    """Return what curl would send: method, path, headers and body."""
    for name in sorted(variables, key=len, reverse=True):
        text = text.replace(f"${name}", variables[name])
    words = iter(shlex.split(text.replace("\\\n", ""))[1:])
    method, path, headers, body = "", "", {}, ""
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word in ("-d", "--data-binary"):
            body = next(words)
        elif word != "-sS":
            path = word
    if "Idempotency-Key" in headers:
        headers["Idempotency-Key"] = str(uuid.uuid4())
    return method or ("POST" if body else "GET"), path, headers, body


# The tables of the testing page --------------------------------------------------------------


def _rows(heading: str) -> list[list[str]]:
    section = (GUIDES / "testing.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


async def test_the_test_cards_and_triggers_work_as_the_page_says(shop: Shop) -> None:
    for number, brand in _rows("Test cards"):
        number = number.strip("`")
        cvc = "1234" if brand == "`amex`" else "123"
        card = {"number": number, "exp_month": 12, "exp_year": 2035, "cvc": cvc}
        paid = await shop.paid(payment_method={"type": "card", "card": card})
        assert (paid["status"], paid["payment_method"]["brand"]) == ("captured", brand.strip("`"))
    for sent, status, result in _rows("Declines and checks"):
        field, value = sent.replace("`", "").split()
        path, expected = re.findall(r"`([^`]+)`", result)
        card = {"number": "4111111111111111", "exp_month": 12, "exp_year": 2035}
        address = {"postal_code": value} if field == "postal_code" else {"city": "Bellevue"}
        if field == "cvc":
            card["cvc"] = value
        paid = await shop.paid(
            payment_method={"type": "card", "card": card}, billing_address=address
        )
        found: Any = paid
        for name in path.split("."):
            found = found[name]
        assert (paid["status"], found) == (status.strip("`"), expected), sent


async def test_the_faults_work_as_the_page_says(simulated: Stack, shop: Shop) -> None:
    ends = []
    for fault, effect in _rows("Faults"):
        await simulated.simulator.post(
            "/faults",
            **json.loads(fault.strip("`")),
            **({} if "refuse" in fault else {"login": shop.login}),
        )
        answer = await shop.pay()
        status, word = re.findall(r"(\d{3}) `(\w+)`", effect)[0]
        assert (answer.status_code, answer.json().get("code") or answer.json()["status"]) == (
            int(status),
            word,
        )
        ends += [
            shop.becomes(answer.json()["id"], end) for end in re.findall(r"then `(\w+)`", effect)
        ]
    await simulated.simulator.clear_faults()
    assert len(await asyncio.gather(*ends)) == 2
