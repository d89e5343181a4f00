"""docs/architecture.md names every package and every table."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def test_every_package_has_a_row() -> None:
    packages = {each.parent.name for each in (ROOT / "src" / "easypay").glob("*/__init__.py")}
    assert packages
    assert packages <= set(re.findall(r"\(\.\./src/easypay/(\w+)\)", PAGE))


def test_every_table_is_named() -> None:
    migrations = sorted((ROOT / "src" / "easypay" / "db" / "migrations").glob("*.sql"))
    sql = "\n".join(each.read_text("utf-8") for each in migrations)
    tables = set(re.findall(r"^CREATE TABLE (\w+) \(", sql, re.M))
    tables -= set(re.findall(r"^DROP TABLE (\w+)", sql, re.M))
    assert {"payments", "audit_entries"} <= tables
    assert tables <= set(re.findall(r"`(\w+)`", PAGE))
