"""Which endpoint a path leads to, and what its parameters are."""

from typing import Any

import pytest

from easypay.api.routes import ROUTES
from easypay.api.routing import lookup

SOME = [
    ("GET", "/payments"),
    ("POST", "/payments"),
    ("GET", "/payments/stats"),
    ("GET", "/payments/{id}"),
    ("POST", "/payments/{id}/void"),
    ("GET", "/merchants/{id}/keys/{key}"),
    ("GET", "/keys/{key:path}"),
    ("GET", "/"),
]


def found(method: str, path: str, routes: Any = SOME) -> tuple[Any, dict[str, str]]:
    """What a request gets: a route, `none`, or the methods that its path takes."""
    endpoints = [(method, path, (method, path)) for method, path in routes]
    scope = {"method": method, "path": path}
    endpoint = lookup(endpoints, "none", tuple)(scope)
    return endpoint, scope.get("path_params", {})


@pytest.mark.parametrize(
    ("method", "path", "route", "parameters"),
    [
        ("GET", "/", "/", {}),
        ("GET", "/payments", "/payments", {}),
        ("GET", "/payments/stats", "/payments/stats", {}),
        ("GET", "/payments/pay_1", "/payments/{id}", {"id": "pay_1"}),
        ("GET", "/payments/stats2", "/payments/{id}", {"id": "stats2"}),
        ("POST", "/payments/pay_1/void", "/payments/{id}/void", {"id": "pay_1"}),
        ("POST", "/payments/stats/void", "/payments/{id}/void", {"id": "stats"}),
        ("GET", "/merchants/a/keys/b", "/merchants/{id}/keys/{key}", {"id": "a", "key": "b"}),
        ("GET", "/keys/a/b//c", "/keys/{key:path}", {"key": "a/b//c"}),
        ("GET", "/keys/", "/keys/{key:path}", {"key": ""}),
        ("GET", "/keys/a?b#c\n", "/keys/{key:path}", {"key": "a?b#c\n"}),
    ],
)
def test_a_path_leads_to_its_endpoint(
    method: str, path: str, route: str, parameters: dict[str, str]
) -> None:
    assert found(method, path) == ((method, route), parameters)


@pytest.mark.parametrize(
    "path",
    [
        *("", "x", "//", "/payments/", "//payments", "/payments//void", "/payments/pay_1/"),
        *("/payments/pay_1/void/", "/payments/pay_1/refund", "/keys", "/payments\n", "/Payments"),
    ],
)
def test_a_path_that_is_nearly_one_leads_nowhere(path: str) -> None:
    for method in ("GET", "POST", "BREW"):
        assert found(method, path) == ("none", {})


def test_head_is_served_by_get_and_other_methods_are_told_what_there_is() -> None:
    assert found("HEAD", "/payments/pay_1") == (("GET", "/payments/{id}"), {"id": "pay_1"})
    assert found("HEAD", "/payments") == (("GET", "/payments"), {})
    assert found("DELETE", "/payments")[0] == ("GET", "HEAD", "POST")
    assert found("POST", "/payments/stats")[0] == ("GET", "HEAD")
    assert found("GET", "/payments/pay_1/void")[0] == ("POST",)


def test_every_route_of_the_api_is_found() -> None:
    routes = [(route.method, route.path) for route in ROUTES]
    for method, path in routes:
        filled = path.replace("{", "").replace(":path}", "").replace("}", "")
        endpoint, parameters = found(method, filled, routes)
        assert endpoint == (method, path)
        assert sorted(parameters.values()) == sorted(parameters)
