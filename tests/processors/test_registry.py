"""The registry of processors: built-in ones, and those that other packages register."""

from pathlib import Path

import pytest

from easypay.errors import ValidationFailed
from easypay.processors.integration import Integration
from easypay.processors.registry import RegistrationError, installed, named
from second_processor.client import SECOND, SecondProcessor


@pytest.fixture
def entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Yield the file in which a test registers another package's processor."""
    about = tmp_path / "another-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: another\nVersion: 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    return about / "entry_points.txt"


def test_another_package_adds_a_processor_at_the_configured_address(entry_point: Path) -> None:
    entry_point.write_text("[easypay.processors]\nsecond = second_processor.client:SECOND\n")
    found = installed({"second.live": "https://second.example/"})
    assert list(found) == ["authorize_net", "second"]
    assert found["second"].urls == {**SECOND.urls, "live": "https://second.example/"}


@pytest.mark.parametrize(
    ("leads_to", "reason"),
    [
        ("second_processor.client:SecondProcessor", "no Integration"),
        ("easypay.processors.registry:AUTHORIZE_NET", "Two processors are named authorize_net"),
    ],
)
def test_an_unusable_registration_is_refused(entry_point: Path, leads_to: str, reason: str) -> None:
    entry_point.write_text(f"[easypay.processors]\nother = {leads_to}\n")
    with pytest.raises(RegistrationError, match=reason):
        installed({})


def test_an_address_of_a_missing_processor_is_refused() -> None:
    with pytest.raises(RegistrationError, match=r"second.test is not one of authorize_net.live"):
        installed({"second.test": "https://second.example/"})


def test_an_unknown_name_is_refused_with_the_list_of_known_ones() -> None:
    with pytest.raises(ValidationFailed) as refused:
        named(installed({}), "nobody")
    assert "authorize_net" in refused.value.detail


@pytest.mark.parametrize(
    "over", [{"name": "Second!"}, {"credentials": {"key": 9}}, {"urls": {"test": "http://a/"}}]
)
def test_an_incomplete_integration_cannot_be_made(
    over: dict[str, object],
) -> None:
    whole = {"name": "third", "urls": SECOND.urls, "credentials": SECOND.credentials}
    Integration(**whole, make=SecondProcessor)
    with pytest.raises(ValueError, match=r"name|credentials"):
        Integration(**{**whole, **over}, make=SecondProcessor)
