"""Assert the type of an outcome, and return it as that type."""

from typing import TypeVar

from easypay.processors.base import Finding, Found

Kind = TypeVar("Kind")


def expect(kind: type[Kind], outcome: object) -> Kind:
    """Return the outcome, which must be of this kind."""
    assert isinstance(outcome, kind), outcome
    return outcome


def expect_found(kind: type[Kind], finding: Finding) -> Kind:
    """Return the outcome that an inquiry found, which must be of this kind."""
    return expect(kind, expect(Found, finding).outcome)


def shown_by(finding: Finding) -> object:
    """Return the outcome that was found, or else the finding itself."""
    return finding.outcome if isinstance(finding, Found) else finding
