"""The documentation is generated, valid, and what is checked in is current."""

import json
from pathlib import Path

import httpx
from openapi_spec_validator import validate

from easypay.api.openapi import document
from easypay.api.routes import ROUTES
from easypay.errors import EasyPayError
from harness import Gateway

CHECKED_IN = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_document_is_valid_and_complete() -> None:
    said = document()
    validate(said)
    assert said["openapi"].startswith("3.1")
    named = {
        operation["operationId"] for path in said["paths"].values() for operation in path.values()
    }
    assert named == {route.operation_id for route in ROUTES}


def test_the_checked_in_document_is_current() -> None:
    assert json.loads(CHECKED_IN.read_text()) == document()


async def test_the_gateway_serves_it_and_pages_to_read(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        assert (await client.get("/openapi.json")).json() == document()
        page = await client.get("/docs")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        for route in ROUTES:
            assert route.summary in page.text or route.summary.replace("'", "&#x27;") in page.text
        for error in EasyPayError.__subclasses__():
            if error.__module__ == "easypay.errors":
                meaning = await client.get(f"/problems/{error.code}")
                assert meaning.status_code == 200, error.code
        assert (await client.get("/problems/none")).status_code == 404
