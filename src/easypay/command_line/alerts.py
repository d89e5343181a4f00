"""`easypay alerts …`: what is firing, a test of the ways, and files for Prometheus and Grafana."""

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from easypay.command_line.console import (
    DATA_DIR,
    Columns,
    DataDir,
    Json,
    fail,
    new_group,
    run_async,
    show,
    show_rows,
    with_access,
)

if TYPE_CHECKING:
    from easypay.alerts.states import State
    from easypay.settings import Settings

alerts = new_group(
    "Show which alerts fire; write rules for Prometheus and dashboards for Grafana.", alone=True
)
FIRING: Final = Columns(
    ("alert", "where", "state", "severity", "since", "value", "told", "summary"),
    left_out_first=("value", "told", "severity"),
)
WAYS: Final = Columns(("way", "told", "why"))


class Firing(msgspec.Struct, frozen=True):
    """What fires, or a rule that cannot be judged."""

    alert: str
    where: str
    state: str
    severity: str
    since: datetime
    value: float
    told: str
    summary: str


class Told(msgspec.Struct, frozen=True):
    """What became of a test message."""

    way: str
    told: bool
    why: str


@alerts.callback()
def what_fires(ctx: typer.Context, data_dir: DataDir = DATA_DIR, as_json: Json = False) -> None:
    """List what is firing, if no command is named.

    Example: `easypay alerts`
    """
    if ctx.invoked_subcommand is None:
        firing(data_dir, as_json)


@alerts.command("list")
def firing(data_dir: DataDir = DATA_DIR, as_json: Json = False) -> None:
    """List what is firing, as the workers judge it, and the rules that they cannot judge because
    nobody shows their metrics. Prometheus' own alerts are not among them.

    Example: `easypay alerts list`
    """
    from easypay.alerts import store

    async def read(connection: Any, _: object) -> list[Firing]:
        states = await store.load(connection)
        return [found for each in states.values() if (found := _firing(each)) is not None]

    show_rows(as_json, with_access(data_dir, read), FIRING, "Nothing is firing.")


def _firing(state: "State") -> Firing | None:
    from easypay.alerts.states import NOT_JUDGED
    from easypay.alerts.watch import JUDGED

    judged = state.rule != NOT_JUDGED
    rule = next(
        (each for each in JUDGED if each.key == (state.rule if judged else state.series)), None
    )
    if rule is None or state.firing_at is None or state.over_at is not None:
        return None
    return Firing(
        alert=rule.name,
        where=state.series if judged else "",
        state="firing" if judged else NOT_JUDGED,
        severity=rule.severity,
        since=state.since,
        value=round(state.value, 6),
        told=", ".join(state.told),
        summary=rule.summary if judged else "nobody shows its metric, so it would not fire",
    )


@alerts.command("test")
def send_test(data_dir: DataDir = DATA_DIR, as_json: Json = False) -> None:
    """Send a test message by each way that EASYPAY_ALERTS_* sets up, and say what happened.

    Exit status 0: every receiver took it. 1: one did not, or none is set up.

    Example: `easypay alerts test`
    """
    from easypay.alerts.ways import ways_of

    ways = ways_of(_settings(data_dir))
    if not ways:
        fail(
            "no way is set up: set EASYPAY_ALERTS_WEBHOOK, EASYPAY_ALERTS_SMTP or "
            "EASYPAY_ALERTS_COMMAND"
        )
    results = run_async(lambda: _try(ways))
    show_rows(as_json, results, WAYS, "")
    sys.exit(0 if all(each.told for each in results) else 1)


async def _try(ways: Any) -> list[Told]:
    from easypay import clock
    from easypay.alerts.states import Message
    from easypay.alerts.ways import NotTold, tell

    now = clock.now()
    text = "a test of the way: nothing is wrong"
    message = Message(
        id=f"test/{now.isoformat()}",
        alert="EasyPayTest",
        state="firing",
        severity="ticket",
        where="",
        value=0.0,
        since=now,
        over_at=None,
        summary=text,
        means="Somebody ran `easypay alerts test`.",
        look="Nothing.",
        do="Nothing.",
        over_when="it is read.",
    )
    results = []
    for way in ways:
        try:
            await tell(way, [message])
            results.append(Told(way.name, True, ""))
        except NotTold as error:
            results.append(Told(way.name, False, str(error)))
    return results


def _settings(data_dir: Path) -> "Settings":
    """Return the settings of the environment, with the database and key of `easypay up` if those
    are not among them."""
    from pydantic import SecretStr, ValidationError

    from easypay.command_line.data_dir import DataDirectory, what_is_wrong
    from easypay.settings import Settings

    try:
        access = DataDirectory(data_dir).access()
        return Settings(
            database_url=SecretStr(access.database_url),
            encryption_key=SecretStr(access.encryption_key),
        )
    except LookupError as error:
        fail(str(error))
    except ValidationError as error:
        fail(what_is_wrong(error))


@alerts.command("rules")
def rules() -> None:
    """Print Prometheus' rules: the targets' burn rates and every alert.

    Example: `easypay alerts rules > easypay.rules.yml`
    """
    from easypay.alerts import prometheus

    print(prometheus.text(), end="")  # noqa: T201


@alerts.command("dashboards")
def write_dashboards(
    to: Annotated[Path, typer.Option(help="Directory to write them to.")],
    as_json: Json = False,
) -> None:
    """Write Grafana's dashboards, one JSON file each.

    Example: `easypay alerts dashboards --to deploy/grafana`
    """
    from easypay.alerts import dashboards

    try:
        to.mkdir(parents=True, exist_ok=True)
        for name, text in dashboards.files().items():
            (to / name).write_text(text, "utf-8")
    except OSError as error:
        fail(f"cannot write to {to}: {error}")
    names = list(dashboards.files())
    show(as_json, {"written": names}, f"Wrote {', '.join(names)} to {to}.")
