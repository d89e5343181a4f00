"""Which processors there are: those built in, and those that other packages register."""

from pathlib import Path

import pytest

from easypay.errors import ValidationFailed
from easypay.processors.integration import Integration
from easypay.processors.registry import RegistrationError, installed, named
from second_processor.client import SECOND, SecondProcessor


@pytest.fixture
def entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test writes what another package registers."""
    about = tmp_path / "another-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: another\nVersion: 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    return about / "entry_points.txt"


def test_another_package_adds_a_processor_at_the_address_that_is_set(entry_point: Path) -> None:
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
def test_a_registration_that_cannot_be_used_is_refused(
    entry_point: Path, leads_to: str, reason: str
) -> None:
    entry_point.write_text(f"[easypay.processors]\nother = {leads_to}\n")
    with pytest.raises(RegistrationError, match=reason):
        installed({})


def test_an_address_of_a_processor_that_is_not_there_is_refused() -> None:
    with pytest.raises(RegistrationError, match=r"second.test is not one of authorize_net.live"):
        installed({"second.test": "https://second.example/"})


def test_a_name_that_nobody_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValidationFailed) as refused:
        named(installed({}), "nobody")
    assert "authorize_net" in refused.value.detail


@pytest.mark.parametrize(
    "over", [{"name": "Second!"}, {"credentials": {"key": 9}}, {"urls": {"test": "http://a/"}}]
)
def test_an_integration_without_what_a_gateway_needs_cannot_be_made(
    over: dict[str, object],
) -> None:
    whole = {"name": "third", "urls": SECOND.urls, "credentials": SECOND.credentials}
    Integration(**whole, make=SecondProcessor)
    with pytest.raises(ValueError, match=r"name|credentials"):
        Integration(**{**whole, **over}, make=SecondProcessor)
