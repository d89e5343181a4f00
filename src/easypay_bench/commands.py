"""`easypay loadtest` and `easypay slo`. A command imports what it needs when it runs."""

import math
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn
from urllib.parse import urlsplit

import typer

from easypay_bench.loadtest import options
from easypay_bench.loadtest.options import KEY_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console

    from easypay_bench.history.results import Result as Saved
    from easypay_bench.loadtest.run import Gateway, Plan, Result
    from easypay_bench.loadtest.schedule import Schedule
    from easypay_bench.scrape import Reading

ADMIN_KEY_VARIABLE: Final = "EASYPAY_ADMIN_KEY"
CANNOT: Final = 2
_GIVEN_KEY: Final = (
    f"the admin key: set {ADMIN_KEY_VARIABLE} to the one that the gateway was started with"
)

DataDir = Annotated[
    Path, typer.Option("--data-dir", help="The data directory of the running `easypay up`.")
]
Targets = Annotated[
    Path | None, typer.Option("--targets", help="A YAML file with performance_targets.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def loadtest(
    data_dir: DataDir = Path(".easypay"),
    url: options.Url = None,
    model: options.Model = "constant",
    rate: options.Rate = 100,
    to: options.To = 0,
    step: options.Step = 0,
    duration: options.Duration = 30,
    warmup: options.Warmup = 5,
    connections: options.Connections = 64,
    max_in_flight: options.MaxInFlight = 10_000,
    processes: options.Processes = 1,
    timeout: options.Timeout = 30,
    scenario: options.Scenarios = None,
    replay: options.Replay = None,
    targets_file: Targets = None,
    html: options.Html = None,
    save: options.Save = None,
    compare: options.Beside = None,
    seed: options.Seed = 1,
    accounting: options.Accounting = True,
    as_json: AsJson = False,
) -> None:
    """Load a gateway at a rate, and measure latency from when each request was due.

    Exit status 0: every target met. 1: one was missed. 2: nothing could be measured. 3: a payment
    is not accounted for. Test keys only: it takes real payments on the account behind the key.

    For the gateway of `easypay up` it makes a merchant and an account at the simulator. At the end,
    even after Ctrl-C or a failure, it disables the merchant; after `kill -9` the next load test
    does. The disabled merchant (`easypay merchant list --all`), its payments, and the simulator's
    account with its transactions stay as the record of what was charged. With `--url` it
    makes only payments, of the merchant whose key you give.

    Example: `easypay loadtest --rate 500 --duration 60 --html report.html`

    Example: `easypay loadtest --rate 500 --save after.json --compare before.json`

    Example: `easypay loadtest --model steps --rate 500 --to 4000 --step 500 --duration 10`

    Example: `easypay loadtest --scenario create=7 --scenario get=2 --scenario refund=1`
    """
    from easypay_bench.loadtest.run import Plan
    from easypay_bench.loadtest.worker import read_replay

    schedule = _schedule(model, duration, rate, to, step)
    _check(warmup, connections, processes, {"--html": html, "--save": save})
    try:
        plan = Plan(
            schedule=schedule,
            weights=_weights(scenario or ["create"]),
            replay=[] if replay is None else read_replay(replay),
            connections=connections,
            max_in_flight=max_in_flight,
            processes=processes,
            warmup_s=warmup,
            answer_within_s=timeout,
            seed=seed,
            accounting=accounting,
        )
    except (OSError, ValueError) as error:
        _fail(str(error))
    earlier = None if compare is None else _earlier(compare)
    console = _console(stderr=as_json)
    result = _load(plan, data_dir, url, targets_file, console)
    _write(result, html, save, earlier, None if as_json else console)
    sys.exit(result.exit_status)


def _check(
    warmup: float, connections: int, processes: int, files: "Mapping[str, Path | None]"
) -> None:
    """End the program with one line if an option is wrong."""
    if not 0 <= warmup < math.inf:
        _fail("--warmup must not be negative")
    if connections < processes:
        _fail(f"--connections must be at least --processes ({processes})")
    for option, path in files.items():
        if path is not None and not os.access(path.parent, os.W_OK):
            _fail(f"{option} {path}: cannot write into {path.parent}")


def _earlier(path: Path) -> "Saved":
    """Read the result to compare with, before the load begins."""
    from easypay_bench.history import results

    try:
        return results.read(path)
    except (OSError, ValueError) as error:
        _fail(f"--compare: {error}")


def _load(
    plan: "Plan",
    data_dir: Path,
    url: str | None,
    targets_file: Path | None,
    console: "Console",
) -> "Result":
    from easypay_bench import targets
    from easypay_bench.http_calls import StackFailed
    from easypay_bench.load import LoadFailed
    from easypay_bench.loadtest import run, terminal_output

    lasts_s = plan.schedule.seconds + plan.warmup_s
    try:
        promised = targets.load(targets_file)
        with (
            _gateway(data_dir, url) as gateway,
            terminal_output.Watcher(console, lasts_s) as watcher,
        ):
            return run.run(
                gateway,
                plan,
                promised,
                watch=watcher,
                say=lambda text: console.print(text, style="dim", highlight=False),
            )
    except (StackFailed, LoadFailed, OSError, ValueError) as error:
        _fail(str(error))


def _write(
    result: "Result",
    html: Path | None,
    save: Path | None,
    earlier: "Saved | None",
    console: "Console | None",
) -> None:
    """Write the files asked for, then the result to the console; without one, as JSON."""
    import json

    from easypay_bench.history import compare, report, results
    from easypay_bench.loadtest import terminal_output
    from easypay_bench.loadtest.html_report import page

    text = terminal_output.as_json(result) + b"\n"
    beside: list[compare.Change] = []
    if earlier is not None:
        beside = list(compare.changes(earlier, results.of(json.loads(text), Path("this run"))))
    if html is not None:
        html.write_text(page(result, beside))
    if save is not None:
        save.write_bytes(text)
    if console is None:
        sys.stdout.buffer.write(text)
        return
    terminal_output.show(result, console)
    if earlier is not None:
        console.print(report.table(f"Beside {earlier.title}", beside))
    if html is not None:
        console.print(f"report: {html}")


def slo(
    data_dir: DataDir = Path(".easypay"),
    url: Annotated[
        str | None,
        typer.Option(help=f"Another gateway; its admin key comes from {ADMIN_KEY_VARIABLE}."),
    ] = None,
    targets_file: Targets = None,
    over: Annotated[
        float, typer.Option(help="Seconds to measure; 0: everything since the gateway started.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Check a running gateway's own metrics against the targets, and say which are missed.

    Exit status 0: no target is missed. 1: a target is missed. 2: the metrics cannot be read.

    A percentile is judged only if at least 10 requests lie above it: a p99 needs 1,000 requests, a
    p95 200, a p50 20. With fewer the target is "not judged": it is neither met nor missed.

    Example: `easypay slo --over 60`
    """
    import msgspec

    from easypay_bench import scrape, targets
    from easypay_bench.http_calls import StackFailed
    from easypay_bench.loadtest import terminal_output

    try:
        promised = targets.load(targets_file)
        if url is None:
            demo = _demo(data_dir)
            url, admin_key, key = demo["api_url"], demo["admin_key"], _demo_key(data_dir)
        else:
            url, admin_key, key = _plain(url), os.environ.get(ADMIN_KEY_VARIABLE, ""), _GIVEN_KEY
        reading = _reading(url, admin_key, over, key)
    except (StackFailed, OSError, ValueError) as error:
        _fail(str(error))
    figures, (_, too_few) = scrape.figures(reading), scrape.percentiles(reading)
    if over > 0:
        answered = scrape.total(reading, f"{scrape.DURATION}_count")
        figures["throughput.sustained_rps"] = answered / over
    verdicts = targets.judge(promised, figures, too_few)
    missed = any(verdict.met is False for verdict in verdicts)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode({"data": verdicts, "missed": missed}) + b"\n")
        sys.exit(int(missed))
    console = _console()
    console.print(terminal_output.verdicts(verdicts))
    for route, count in sorted(scrape.by_route(reading).items(), key=lambda each: -each[1])[:8]:
        console.print(f"{count:>10,.0f}  {route}", style="dim", highlight=False)
    sys.exit(int(missed))


def _schedule(model: str, duration: float, rate: float, to: float, step: float) -> "Schedule":
    from easypay_bench.loadtest.schedule import MODELS, Schedule

    if model not in MODELS:
        _fail(f"--model must be one of {', '.join(MODELS)}")
    schedule = Schedule(
        model=model,  # type: ignore[arg-type]  # one of MODELS
        seconds=duration,
        rate=0 if model == "closed" else rate,
        to=to or (rate * 10 if model in ("ramp", "steps") else 0),
        step=step or rate,
    )
    if (problem := schedule.problem()) is not None:
        _fail(problem)
    return schedule


def _weights(scenarios: list[str]) -> dict[str, float]:
    """Read `["create=3", "get"]` as names and weights."""
    from easypay_bench.loadtest.scenarios import SCENARIOS

    weights = {}
    for each in scenarios:
        name, _, weight = each.partition("=")
        if name not in SCENARIOS:
            _fail(f"--scenario {name} is not one of {', '.join(SCENARIOS)}")
        try:
            weights[name] = float(weight or 1)
        except ValueError:
            weights[name] = math.nan
        if not 0 < weights[name] < math.inf:
            _fail(f"--scenario {each}: the weight must be a number above 0")
    return weights


def _reading(url: str, admin_key: str, over: float, key: str) -> "Reading":
    """Return a gateway's counts since it started, or (`over`) those of the next seconds."""
    import time

    from easypay_bench import scrape

    before = scrape.read(url, admin_key, key)
    if over <= 0:
        return before
    time.sleep(over)
    after = scrape.read(url, admin_key, key)
    age = "easypay_unknown_age_seconds"  # not a count: take the present value
    return scrape.between(before, after) | {
        key: value for key, value in after.items() if key[0] == age
    }


@contextmanager
def _gateway(data_dir: Path, url: str | None) -> "Iterator[Gateway]":
    """Yield the gateway to test, with a temporary merchant if we may make one."""
    from easypay_bench.http_calls import check_key
    from easypay_bench.loadtest.run import Gateway
    from easypay_bench.stack import attached, shop

    if url is not None:
        key = os.environ.get(KEY_VARIABLE)
        if not key:
            _fail(f"--url needs a test key in {KEY_VARIABLE}")
        if not key.startswith("ep_test_"):
            _fail(f"{KEY_VARIABLE} must hold a test key (ep_test_…), to take no live money")
        url = _plain(url)
        check_key(url, key, f"the key in {KEY_VARIABLE}: set it to a test key of a merchant there")
        yield Gateway(url=url, api_key=key)
        return
    demo = _demo(data_dir)
    if not demo.get("simulator_url"):
        _fail("this stack pays through Authorize.Net's sandbox, which must not be load tested")
    stack = attached(data_dir / "demo.json")
    with _ended_by_signals(), shop(stack, _demo_key(data_dir)) as merchant:
        yield Gateway(
            url=demo["api_url"],
            api_key=merchant.api_key,
            admin_key=demo["admin_key"],
            simulator_url=demo["simulator_url"],
            login=merchant.login,
            stack=stack,
        )


@contextmanager
def _ended_by_signals() -> "Iterator[None]":
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does, so that the run cleans up."""
    import signal

    def end(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    before = {each: signal.signal(each, end) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _demo_key(data_dir: Path) -> str:
    """Return which admin key it is, and what to do if it is refused."""
    return f"the admin key in {data_dir / 'demo.json'}: give the --data-dir of the gateway there"


def _plain(url: str) -> str:
    """Return the URL if we can use it: a key must not be sent to an unintended port."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/"):
        _fail(f"--url {url}: write http://HOST:PORT of the gateway itself, not of a TLS proxy")
    return url.rstrip("/")


def _demo(data_dir: Path) -> dict[str, str]:
    import json

    path = data_dir / "demo.json"
    try:
        demo: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        _fail(f"there is no {path}: start `easypay up`, or name a gateway with --url")
    return demo


def _console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr, width=None if sys.stdout.isatty() else 110)


def _fail(line: str) -> NoReturn:
    sys.stderr.write(f"easypay: {line}\n")
    sys.exit(CANNOT)
