"""Grafana's dashboards: valid by its panels' schema, up to date, and about metrics that exist."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from easypay.alerts import dashboards
from easypay.alerts.targets import OBJECTIVES
from easypay.observability.metrics import Instruments

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads(Path(__file__).with_name("grafana_dashboard.schema.json").read_text())
FAMILIES = Instruments().registry.families
BOARDS = {board.uid: dashboards.dashboard(board) for board in dashboards.BOARDS}
Board = dict[str, Any]


@pytest.mark.parametrize("uid", BOARDS)
def test_a_dashboard_is_one_by_grafanas_schema(uid: str) -> None:
    board = BOARDS[uid]
    jsonschema.Draft202012Validator(SCHEMA).validate(board)
    assert _faults(board) == []


def _faults(board: Board) -> list[str]:
    """Return what Grafana would show wrongly although the schema allows it."""
    faults = []
    panels = board["panels"]
    sources = {f"${{{each['name']}}}" for each in board["templating"]["list"]}
    taken: dict[tuple[int, int], int] = {}
    for panel in panels:
        at, number = panel["gridPos"], panel["id"]
        if at["x"] + at["w"] > 24:
            faults.append(f"panel {number} is wider than the page")
        for x, y in product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
            if taken.setdefault((x, y), number) != number:
                faults.append(f"panels {taken[x, y]} and {number} lie on each other at {x}, {y}")
        asked = [panel, *panel["targets"]]
        if {each.get("datasource", {}).get("uid") for each in asked} - sources:
            faults.append(f"panel {number} has a source that is no variable of the dashboard")
        for names, of in ((panel["targets"], "refId"), (panels, "id"), (panels, "title")):
            if len({each[of] for each in names}) < len(names):
                faults.append(f"panel {number}: {of} twice")
    return faults


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda first, second: second["gridPos"].update(first["gridPos"], x=2), "lie on each"),
        (lambda first, _: first["gridPos"].update(x=20), "wider"),
        (lambda first, second: second.update(id=first["id"]), "id twice"),
        (lambda first, _: first["targets"].append(first["targets"][0]), "refId twice"),
        (lambda first, _: first["datasource"].update(uid="prometheus"), "source"),
        (lambda first, _: first["targets"][0].pop("datasource"), "source"),
    ],
)
def test_a_fault_in_a_dashboard_is_found(change: Callable[[Any, Any], object], fault: str) -> None:
    board = deepcopy(BOARDS["easypay-payments"])
    change(*board["panels"][:2])
    assert fault in " ".join(_faults(board))


@pytest.mark.parametrize("where", [(), ("panels", 0), ("panels", 0, "fieldConfig", "defaults")])
def test_a_field_that_grafana_does_not_know_is_found(where: tuple[str | int, ...]) -> None:
    board = deepcopy(BOARDS["easypay-payments"])
    inner: Any = board
    for step in where:
        inner = inner[step]
    inner["no_such_field"] = 1
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(board)


def _queries() -> list[str]:
    return [
        target["expr"]
        for board in BOARDS.values()
        for panel in board["panels"]
        for target in panel["targets"]
    ]


def test_the_panels_read_only_metrics_that_exist_and_show_every_target() -> None:
    queries = "\n".join(_queries())
    named = set(re.findall(r"\b(?:http_server|easypay|db_client|process)_[a-z_]+\b", queries))
    labels = {label for family in FAMILIES.values() for label in family.labels}
    known = {*FAMILIES} | {f"{n}_{end}" for n in FAMILIES for end in ("bucket", "count", "sum")}
    assert named - labels
    assert named - labels - known == set()
    assert {each.key for each in OBJECTIVES} == set(re.findall(r'target="([^"]+)"', queries))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")
def test_promtool_reads_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{n}", "expr": query.replace("$__rate_interval", "1m")}
        for n, query in enumerate(_queries())
    ]
    (tmp_path / "rules.yml").write_text(
        json.dumps({"groups": [{"name": "panels", "rules": rules}]})
    )
    done = subprocess.run(
        ["promtool", "check", "rules", "rules.yml"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_are_up_to_date() -> None:
    folder = ROOT / "deploy" / "grafana"
    written = {path.name: path.read_text("utf-8") for path in folder.glob("*.json")}
    assert written == dashboards.files(), "easypay alerts dashboards --to deploy/grafana"
