"""`easypay alerts …`: what is firing, and the files that Prometheus and Grafana read."""

from pathlib import Path
from typing import Annotated

import typer

from easypay.command_line.console import Json, fail, new_group, show

alerts = new_group("What to wake somebody for: rules, dashboards, and what is firing.")


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
