"""Grafana's dashboards: valid by its panels' schema, up to date, and about metrics that exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest

from easypay.alerts import dashboards
from easypay.alerts.targets import OBJECTIVES
from easypay.observability.metrics import Instruments

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads(Path(__file__).with_name("grafana_dashboard.schema.json").read_text())
FAMILIES = Instruments().registry.families
BOARDS = {board.uid: dashboards.dashboard(board) for board in dashboards.BOARDS}


@pytest.mark.parametrize("uid", BOARDS)
def test_a_dashboard_is_one_by_grafanas_schema(uid: str) -> None:
    board = BOARDS[uid]
    jsonschema.Draft202012Validator(SCHEMA).validate(board)
    cells = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]}
    assert len(cells) == len(board["panels"]), "two panels lie on each other"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


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
