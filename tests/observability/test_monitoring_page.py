"""docs/monitoring.md names every metric, label and option, and only existing ones."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from easypay.command_line.main import app
from easypay.observability.access_log import Line
from easypay.observability.metric_registry import Family
from easypay.observability.metrics import SECONDS, Instruments
from easypay_bench import targets

PAGE = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
FAMILIES = Instruments().registry.families
ROWS = {
    found[1]: line
    for line in PAGE.splitlines()
    if (found := re.match(r"\| `((?:http|easypay|db|process|system)_\w+)` \|", line))
}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_every_metric_has_a_row_with_its_labels_and_what_to_do(family: Family) -> None:
    assert family.name in ROWS, "not on the page"
    _, _, labels, normal, moves, _ = [cell.strip() for cell in ROWS[family.name].split("|")]
    assert tuple(re.findall(r"`(\w+)`", labels)) == family.labels
    assert normal
    assert moves


def test_the_page_names_only_existing_metrics() -> None:
    samples = set(FAMILIES)
    for family in FAMILIES.values():
        if family.kind == "histogram":
            samples |= {f"{family.name}_{end}" for end in ("bucket", "count", "sum")}
    labels = {label for family in FAMILIES.values() for label in family.labels}
    named = set(
        re.findall(r"\b(?:http_server|easypay|db_client|process|system)_[a-z_]*[a-z]\b", PAGE)
    )
    assert named - samples - labels <= {"easypay_bench"}


def test_queries_select_by_labels_and_bounds_that_exist() -> None:
    labels = {label for family in FAMILIES.values() for label in family.labels}
    used = re.findall(r"[{,]\s*(\w+)(?:=~|!=|=)\"", PAGE)
    assert used
    assert set(used) <= labels | {"le", "job"}
    bounds = re.findall(r'le="([^"]+)"', PAGE)
    assert bounds
    assert {float(bound) for bound in bounds} <= set(SECONDS)


def test_the_options_on_the_page_exist() -> None:
    commands: Any = typer.main.get_command(app)
    known = [commands.commands[name].params for name in ("loadtest", "profile", "slo")]
    options = {option for params in known for each in params for option in each.opts}
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= options


def test_the_page_has_every_log_field_and_a_real_example() -> None:
    section = PAGE[PAGE.index("## One line for each request") : PAGE.index("## In the headers")]
    rows = "\n".join(line for line in section.splitlines() if line.startswith("| `"))
    named = {
        name for row in rows.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert named == set(Line.__struct_fields__)
    example = re.search(r"^ {4}(\{\"time\".*?\})$", section, re.MULTILINE | re.DOTALL)
    assert example is not None
    assert set(json.loads(example[1])) <= named


def test_the_targets_on_the_page_are_valid(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    path = tmp_path / "targets.yaml"
    path.write_text(found[1])
    assert set(targets.load(path)) <= set(targets.load()), "targets of EasyPay's own"
