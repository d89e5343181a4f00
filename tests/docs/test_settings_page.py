"""docs/settings.md is generated from the settings, and describes every one of them."""

from pathlib import Path

from easypay.command_line.settings_page import page

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_up_to_date() -> None:
    renew = "run `python -m easypay.command_line.settings_page > docs/settings.md`"
    assert PAGE.read_text("utf-8") == page(), renew
