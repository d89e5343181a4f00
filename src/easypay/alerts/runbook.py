"""The alerts' entries of docs/runbook.md, made from the table.

python -m easypay.alerts.runbook docs/runbook.md
"""

import re
import sys
from pathlib import Path

from easypay.alerts.model import Rule
from easypay.alerts.table import RULES

_ENDS = {"page": "Wakes somebody.", "ticket": "For the morning."}
_PART = re.compile(r"^## Alerts\n.*?(?=^## )", re.MULTILINE | re.DOTALL)


def part() -> str:
    """Return the section `## Alerts`."""
    names = dict.fromkeys(rule.name for rule in RULES)
    entries = [_entry([rule for rule in RULES if rule.name == name]) for name in names]
    return (
        "## Alerts\n\n"
        "This section is made from the table of rules (`python -m easypay.alerts.runbook "
        "docs/runbook.md`), as\n"
        "[Prometheus' rules](../deploy/prometheus/easypay.rules.yml) are;\n"
        "[monitoring](monitoring.md#alerts) says how they reach you.\n\n" + "\n".join(entries)
    )


def _entry(rules: list[Rule]) -> str:
    first = rules[0]
    severities = {rule.severity for rule in rules}
    ends = (
        _ENDS[first.severity]
        if len(severities) == 1
        else ("Wakes somebody while it burns fast (`burn` 6 or more), else for the morning.")
    )
    alone = "" if not all(rule.needs_prometheus for rule in rules) else " Needs Prometheus."
    over = (
        first.over
        if len(rules) == 1
        else "there are few enough misses in the alert's short window again."
    )
    return (
        f"### {first.name}\n\n{first.means} {ends}{alone}\n\n"
        f"- Look: {first.look}\n- Do: {first.do}\n- Over when {over}\n"
    )


def renewed(page: str) -> str:
    """Return the page with the section as it is now."""
    return _PART.sub(lambda _: part() + "\n", page)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(renewed(path.read_text("utf-8")), "utf-8")
