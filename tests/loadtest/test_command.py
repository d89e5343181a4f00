"""`easypay loadtest` and `easypay slo`, run against the whole stack."""

import asyncio
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in import standing_in
from typer.testing import CliRunner, Result

from easypay.command_line.main import app
from harness import (
    ADMIN_KEY,
    VISA,
    Gateway,
    Output,
    Shop,
    Simulator,
    Stack,
    free_port,
    run_easypay,
    until,
)
from harness.forks import Program, end_of, start_logged

EASY = (
    "performance_targets: {api_response_time: {p50: '< 60s', p99: '< 60s'}, "
    "errors: {rate: '<= 100%'}}"
)
HARD = "performance_targets: {api_response_time: {p50: '< 1us'}, errors: {rate: '< 1%'}}"


async def cli(*words: str, **env: str) -> Output:
    """Run a command in a process of its own."""
    return await asyncio.to_thread(run_easypay, *words, **env)


def invoke(*words: str, **env: str) -> Result:
    """Run a command, in this process, that ends before it starts anything."""
    return CliRunner().invoke(app, list(words), env={"EASYPAY_API_KEY": None, **env})


@pytest.fixture
def here(
    shared_stack: Stack, gateway: Gateway, simulator: Simulator, tmp_path: Path
) -> Iterator[Path]:
    """A directory with the file in which `easypay up` records what runs, and two target files."""
    demo = {
        "api_url": gateway.url,
        "admin_key": ADMIN_KEY,
        "simulator_url": simulator.url,
        "database_url": shared_stack.dsn,
    }
    (tmp_path / "demo.json").write_text(json.dumps(demo))
    (tmp_path / "easy.yaml").write_text(EASY)
    (tmp_path / "hard.yaml").write_text(HARD)
    return tmp_path


async def test_a_mixed_load_is_measured_reported_and_accounted_for(here: Path) -> None:
    result = await cli(
        "loadtest", "--data-dir", str(here), "--rate", "50", "--duration", "3", "--warmup", "1",
        "--scenario", "create=3", "--scenario", "create_capture", "--scenario", "void",
        "--scenario", "refund", "--scenario", "get", "--scenario", "list",
        "--targets", str(here / "easy.yaml"),
        "--html", str(here / "report.html"), "--save", str(here / "all.json"), "--json",
    )  # fmt: skip
    assert result.code == 0, result.out + result.err
    report = json.loads(result.out)
    assert report == json.loads((here / "all.json").read_text())
    [step] = report["steps"]
    assert step["due_rps"] == 50
    assert (step["wrong"], step["dropped"]) == ({}, 0)
    assert set(step["counts"]) == {"create", "capture", "void", "refund", "get", "list"}
    assert step["counts"]["create"] >= 150 / 2
    assert sum(step["statuses"].values()) == sum(step["counts"].values())
    assert report["payments"] > step["counts"]["create"], "this includes the warm-up's payments"
    assert report["processor_asked"] is True
    assert report["wrong_accounts"] == []
    verdicts = report["verdicts"]
    assert [verdict["met"] for verdict in verdicts] == [True, None, True]
    assert re.fullmatch(r"not judged: \d+ of 1,000 requests needed", verdicts[1]["why"])
    assert 0 < step["own_ms"]["p50"] < step["total_ms"]["p50"] + 0.001
    assert set(report["cpu_cores"]) >= {"gateway", "postgres", "simulator"}

    page = (here / "report.html").read_text()
    assert not re.search(r"https?://|//\w|<script|<link|<img|<iframe|@import|url\(|\ssrc=", page)
    assert page.count("<svg") >= 5
    assert f"{report['payments']:,} payments, each accounted for here and at the processor" in page
    for secret in (VISA, "ep_test_", "ep_admin"):
        assert secret not in page + result.out + result.err


async def test_a_load_test_says_its_judgement_first_and_what_changed_since_another(
    here: Path,
) -> None:
    short = (
        *("loadtest", "--data-dir", str(here), "--rate", "50", "--duration", "1", "--warmup", "0"),
        *("--targets", str(here / "impossible.yaml")),
    )
    (here / "impossible.yaml").write_text(
        "performance_targets:\n  api_response_time: {p50: '< 1us'}\n  errors: {rate: '< 5%'}\n"
    )
    first = await cli(*short, "--save", str(here / "first.json"))
    assert first.code == 1, first.out + first.err
    lines = [line for line in first.out.splitlines() if line.strip()]
    judged = next(line for line in lines if "target" in line)
    assert re.match(r"1 target missed: api_response_time.p50 .* \(< 0.001 ms wanted\)", judged)
    assert lines.index(judged) < next(n for n, line in enumerate(lines) if "asked/s" in line)

    second = await cli(
        *short, "--compare", str(here / "first.json"), "--html", str(here / "second.html")
    )
    assert second.code == 1, second.out + second.err
    assert not second.err, second.err
    page = (here / "second.html").read_text()
    for text in (second.out, page):
        assert "steps.total_ms.p50" in text, "a figure of both runs"
    assert page.index("1 target missed") < page.index("<h2>Targets</h2>")
    assert "<polygon" in page, "what was asked lies behind what was answered"

    nothing = await cli(*short, "--compare", str(here / "impossible.yaml"))
    assert (nothing.code, nothing.out) == (2, "")
    assert "is not JSON" in nothing.err


async def test_a_file_is_replayed_line_by_line(here: Path) -> None:
    card = {"number": VISA, "exp_month": 12, "exp_year": 2035, "cvc": "907"}
    pay = {"amount": 700, "currency": "USD", "payment_method": {"type": "card", "card": card}}
    lines = [
        {"path": "/api/v1/payments", "body": pay, "name": "pay"},
        {"method": "GET", "path": "/api/v1/payments/{payment_id}", "name": "read"},
        {"method": "GET", "path": "/api/v1/payments?limit=5"},
    ]
    (here / "lines.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    result = await cli(
        "loadtest", "--data-dir", str(here), "--replay", str(here / "lines.jsonl"),
        "--rate", "15", "--duration", "1", "--warmup", "0", "--connections", "1",
        "--targets", str(here / "easy.yaml"), "--json",
    )  # fmt: skip
    assert result.code == 0, result.out + result.err
    report = json.loads(result.out)
    assert report["steps"][0]["counts"] == {"pay": 5, "read": 5, "GET /api/v1/payments": 5}
    assert report["payments"] == 5, "whatever the lines' names"


async def test_a_charge_the_processor_lost_gives_status_3(here: Path, simulator: Simulator) -> None:
    """Midway the processor forgets this account's transactions, so the gateway has payments without
    a charge."""

    async def logins() -> set[str]:
        return {each["login"] for each in (await simulator.client.get("/accounts")).json()}

    before = await logins()
    loading = asyncio.create_task(
        cli(
            "loadtest", "--data-dir", str(here), "--rate", "40", "--duration", "1.5",
            "--warmup", "0", "--targets", str(here / "hard.yaml"), "--json",
        )
    )  # fmt: skip

    async def charged() -> Any:
        assert not loading.done(), loading.result()
        for login in await logins() - before:
            if len(await simulator.truth(login=login)) >= 5:
                return login
        return None

    await simulator.post("/reset", login=await until(charged, what="the load begins"))
    result = await loading
    assert result.code == 3, "more than a missed target"
    wrong = json.loads(result.out)["wrong_accounts"]
    assert any("0 charges at the processor" in each for each in wrong), wrong


async def test_a_load_test_runs_at_another_gateway_with_an_api_key(
    here: Path, gateway: Gateway, shop: Shop
) -> None:
    """Its processor cannot be asked, and the report says so."""
    result = await cli(
        "loadtest", "--url", gateway.url, "--rate", "20", "--duration", "1", "--warmup", "0",
        "--targets", str(here / "hard.yaml"), EASYPAY_API_KEY=shop.secret,
    )  # fmt: skip
    assert result.code == 1, result.out + result.err
    assert "missed" in result.out
    assert "20 payments, each accounted for here\n" in result.out
    assert len(await shop.all("/payments")) == 20


LOCAL = "http://127.0.0.1:1"
TEST_KEY = {"EASYPAY_API_KEY": "ep_test_x"}


@pytest.mark.parametrize(
    ("words", "env", "text"),
    [
        (["--model", "sine"], {}, "--model must be one of constant, ramp, steps, closed"),
        (["--rate", "0"], {}, "--rate must be positive"),
        (["--rate", "nan"], {}, "--rate must be positive"),
        (["--duration", "-1"], {}, "--duration must be positive"),
        (["--warmup", "-1"], {}, "--warmup must not be negative"),
        (["--model", "ramp", "--rate", "9", "--to", "3"], {}, "--to must not be below --rate"),
        (["--connections", "1", "--processes", "2"], {}, "--connections must be at least"),
        (["--scenario", "steal"], {}, "--scenario steal is not one of create,"),
        (
            ["--scenario", "get=much"],
            {},
            "--scenario get=much: the weight must be a number above 0",
        ),
        (["--scenario", "get=0"], {}, "--scenario get=0: the weight must be a number above 0"),
        (["--scenario", "get=-1"], {}, "--scenario get=-1: the weight must be a number above 0"),
        (["--html", "/no/such/place/report.html"], {}, "cannot write into /no/such/place"),
        (["--replay", "/no/such/lines"], {}, "/no/such/lines"),
        (["--targets", "/no/such/file"], {}, "/no/such/file"),
        (["--data-dir", "/no/such/place"], {}, "start `easypay up`"),
        (["--url", LOCAL], {}, "--url needs a test key in EASYPAY_API_KEY"),
        (["--url", LOCAL], {"EASYPAY_API_KEY": "ep_live_x"}, "must hold a test key"),
        (["--url", "https://pay.example"], TEST_KEY, "write http://HOST:PORT"),
        (["--url", "pay.example:8000"], TEST_KEY, "write http://HOST:PORT"),
        (["--url", "http://pay.example/proxy"], TEST_KEY, "write http://HOST:PORT"),
    ],
)
def test_invalid_options_give_one_line_and_status_2(
    words: list[str], env: dict[str, str], text: str
) -> None:
    result = invoke("loadtest", *words, **env)
    assert result.exit_code == 2
    assert result.stderr.startswith("easypay: ")
    assert result.stderr.count("\n") == 1
    assert text in result.stderr


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("", "has no requests"),
        ('{"path": "/a"}\nnot json', "line 2"),
        ('{"body": {}}', "line 1"),
        ('{"path": "payments"}', "line 1"),
        ('{"path": "/a", "method": "DELETE"}', "line 1"),
        ('{"path": "/a", "verb": "GET"}', "line 1"),
    ],
)
def test_a_line_that_cannot_be_replayed_is_named(tmp_path: Path, line: str, text: str) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text(line)
    result = invoke("loadtest", "--replay", str(lines))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert text in result.stderr


async def test_the_status_of_slo_says_whether_a_target_is_missed(here: Path, shop: Shop) -> None:
    for _ in range(20):  # a median needs that many
        assert (await shop.client.get("/payments")).status_code == 200
    for name, status in (("easy", 0), ("hard", 1)):
        targets = str(here / f"{name}.yaml")
        result = invoke("slo", "--data-dir", str(here), "--targets", targets, "--json")
        assert result.exit_code == status, result.output
        report = json.loads(result.stdout)
        assert report["missed"] is bool(status)
        assert {each["target"]["section"] for each in report["data"]} == {
            "api_response_time",
            "errors",
        }
    shown = invoke("slo", "--data-dir", str(here), "--targets", str(here / "hard.yaml"))
    assert shown.exit_code == 1
    assert "missed" in shown.output
    assert "/api/v1/payments" in shown.output


async def test_slo_does_not_judge_a_percentile_of_a_few_requests(here: Path, shop: Shop) -> None:
    await shop.paid()
    tail = here / "tail.yaml"
    tail.write_text(HARD.replace("p50", "p99"))
    words = ("slo", "--data-dir", str(here), "--targets", str(tail), "--over", "0.3")
    few = re.compile(r"not judged: (\d+) of 1,000 requests needed")
    for more in ([], ["--json"]):
        asking = asyncio.create_task(cli(*words, *more))
        while not asking.done():
            await shop.client.get("/payments")
            await asyncio.sleep(0.1)
        result = await asking
        assert result.code == 0, result.out + result.err
        found = few.search(result.out)
        assert found, result.out
        assert 1 <= int(found[1]) < 1000
    [p99, errors] = json.loads(result.out)["data"]
    assert (p99["met"], errors["met"]) == (None, True)
    assert p99["figure"] > 0


WRONG_KEY = "ep_test_sk_nobody"


@pytest.mark.parametrize("command", ["slo", "loadtest"])
def test_a_wrong_address_and_a_wrong_key_give_different_errors(
    command: str, gateway: Gateway
) -> None:
    """Each gives one line that says what to correct."""
    nobody = f"http://127.0.0.1:{free_port()}"
    key = {"slo": "EASYPAY_ADMIN_KEY", "loadtest": "EASYPAY_API_KEY"}[command]
    with standing_in() as other, standing_in(garbage_every=1) as no_http:
        for url, text in (
            (nobody, f"nothing listens at {nobody}: start the gateway there, or correct the addr"),
            (other.url, f"{other.url} answers, but not as an EasyPay gateway: correct the address"),
            (no_http.url, f"{no_http.url} answers, but not as an EasyPay gateway: correct the"),
            (gateway.url, f"{gateway.url} refuses the "),
            ("https://pay.example", "write http://HOST:PORT"),
        ):
            result = invoke(command, "--url", url, **{key: WRONG_KEY})
            assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
            assert text in result.stderr
            assert (key in result.stderr) == (url == gateway.url)
            assert WRONG_KEY not in result.stderr


@pytest.mark.parametrize("command", ["slo", "loadtest"])
def test_a_data_directory_of_another_gateway_is_named(command: str, here: Path) -> None:
    demo = json.loads((here / "demo.json").read_text())
    for change, text in (
        ({"admin_key": "ep_admin_other"}, f"{here / 'demo.json'}: give the --data-dir of the gate"),
        ({"api_url": f"http://127.0.0.1:{free_port()}"}, "nothing listens at http://127.0.0.1:"),
    ):
        (here / "demo.json").write_text(json.dumps(demo | change))
        result = invoke(command, "--data-dir", str(here))
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
        assert text in result.stderr


async def enabled_runs(stack: Stack) -> set[str]:
    rows = await stack.fetch(
        "SELECT name FROM merchants WHERE disabled_at IS NULL AND name LIKE 'Load test %'"
    )
    return {row["name"] for row in rows}


async def test_a_load_test_leaves_no_merchant_enabled(here: Path, shared_stack: Stack) -> None:
    """Stopped by Ctrl-C or SIGTERM, it disables its own merchant. After kill -9 the next run does,
    and leaves the merchant of a run still in progress alone."""
    assert await enabled_runs(shared_stack) == set()

    async def begun(count: int) -> list[Program]:
        before = await enabled_runs(shared_stack)
        words = ("easypay", "loadtest", "--data-dir", str(here), "--rate", "5")
        runs = [
            start_logged((*words, "--connections", "1"), os.environ, here / "runs.log")
            for _ in range(count)
        ]

        async def have_their_merchants() -> bool:
            return len(await enabled_runs(shared_stack) - before) == count

        await until(have_their_merchants, within_s=40, what="each run has a merchant")
        return runs

    [killed] = await begun(1)
    killed.kill()
    killed.wait()
    (left,) = await enabled_runs(shared_stack)
    runs = await begun(2)
    now = await enabled_runs(shared_stack)
    assert len(now) == 2, now
    assert left not in now
    for process, number in zip(runs, (signal.SIGINT, signal.SIGTERM), strict=True):
        process.send_signal(number)
    assert 0 not in await asyncio.gather(*map(end_of, runs))
    assert await enabled_runs(shared_stack) == set()
