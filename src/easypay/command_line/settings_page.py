"""`docs/settings.md`, generated from the settings and their descriptions.

`python -m easypay.command_line.settings_page > docs/settings.md` renews the page; a test fails when
it is stale.
"""

import sys
from collections.abc import Iterator
from types import NoneType
from typing import Any, Final, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from easypay.command_line.data_dir import Environment
from easypay.settings import Settings

_SECTIONS: Final = {
    "database_url": "Always needed, and the admin key",
    "authorize_net_test_url": "The processor",
    "database_pool_size": "The database",
    "database_reading_connections": "Reading: lists, other look-ups, statistics",
    "unknown_first_inquiry_s": "Unknown outcomes and reviews",
    "reconcile_every_s": "Reconciliation",
    "idempotency_key_days": "Housekeeping",
    "cache_lease_s": "The process: cache, stop, metrics, log",
    "traces_url": "Traces",
    "max_head_bytes": "Limits on clients",
    "webhook_private_networks": "Webhooks",
    "alerts_webhook": "Alerts, if workers judge them",
    "failpoint": "For tests only",
}
"""The first setting of each section, in the order of the class, and the section's title."""

_UNITS: Final = {"_s": "seconds", "_bytes": "bytes", "_days": "days", "_months": "months"}
_KINDS: Final = {SecretStr: "secret", bool: "true or false", int: "number", float: "number"}
_BOUNDS: Final = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
_HEAD: Final = "| variable | default | unit | allowed | meaning |\n| --- | --- | --- | --- | --- |"
_BEGIN: Final = """\
# Settings

Made by `python -m easypay.command_line.settings_page`; do not edit. Change the description in
`src/easypay/settings.py` and run it again.

Gateways and workers read their settings from environment variables when they start; restart them
to change one.
A bad value stops the start with one line that names the variable. `easypay up` sets the database,
the keys, the metrics and the test URL of its own gateways, and passes all other variables on."""
_COMMANDS: Final = """
## Read by commands only

`easypay up` and the other commands read these; `easypay serve` and `easypay worker` do not. The
commands also read `EASYPAY_DATABASE_URL`, `EASYPAY_ENCRYPTION_KEY`, `EASYPAY_ADMIN_KEY` and the two
URLs of the processor. If these are unset they use what `easypay up` keeps in its data directory.
"""
_API_KEY: Final = (
    "| `EASYPAY_API_KEY` | | secret | | A test key for `easypay loadtest --url`, which loads a "
    "gateway that `easypay up` did not start |"
)


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([_BEGIN, *_sections(), _COMMANDS, _HEAD, *_commands(), _API_KEY, ""])


def _sections() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        if name in _SECTIONS:
            yield f"\n## {_SECTIONS[name]}\n\n{_HEAD}"
        yield _row(name, field)


def _commands() -> Iterator[str]:
    for name, field in Environment.model_fields.items():
        if name not in Settings.model_fields:
            yield _row(name, field)


def _row(name: str, field: FieldInfo) -> str:
    """One setting as a row. Raises ValueError if it has no description."""
    if not field.description:
        raise ValueError(f"{name} has no description")
    bounds = [
        f"{sign} {getattr(rule, key):,}"
        for rule in field.metadata
        for key, sign in _BOUNDS.items()
        if hasattr(rule, key)
    ]
    cells = (_default(field), _unit(name, field.annotation), ", ".join(bounds), field.description)
    return f"| `EASYPAY_{name.upper()}` | {' | '.join(cells)} |".replace("|  |", "| |")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default in (None, (), ""):
        return "unset"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default:g}`" if isinstance(field.default, float) else f"`{field.default}`"


def _unit(name: str, annotation: Any) -> str:
    found = next((unit for end, unit in _UNITS.items() if name.endswith(end)), None)
    kinds = [kind for kind in (*get_args(annotation), annotation) if kind is not NoneType]
    return found or ("URL" if name.endswith("_url") else _KINDS.get(kinds[0], "text"))


if __name__ == "__main__":
    sys.stdout.write(page())
