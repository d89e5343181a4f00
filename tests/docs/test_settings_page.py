"""docs/settings.md is generated from the settings, and describes every one of them."""

import re
from pathlib import Path
from typing import Any

from easypay.command_line.settings_page import page
from easypay.settings import Settings
from harness import ENCRYPTION_KEY

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_up_to_date() -> None:
    renew = "run `python -m easypay.command_line.settings_page > docs/settings.md`"
    assert PAGE.read_text("utf-8") == page(), renew


def test_each_default_can_be_copied_into_the_environment() -> None:
    shown = re.findall(r"^\| `EASYPAY_(\w+)` \| `([^`]+)` \|", PAGE.read_text("utf-8"), re.M)
    shown = [(name.lower(), text) for name, text in shown if name.lower() in Settings.model_fields]
    assert len(shown) > 50
    required: dict[str, Any] = {"database_url": "postgresql://", "encryption_key": ENCRYPTION_KEY}
    settings = Settings(**required, **dict(shown))
    for name, _ in shown:
        assert getattr(settings, name) == Settings.model_fields[name].default, name
