"""The documentation is generated, valid, and what is checked in is current."""

import json
from pathlib import Path

import httpx
from jsonschema import Draft202012Validator
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


def test_every_call_has_examples_and_each_fits_its_schema() -> None:
    said = document()
    checked = 0
    for path, operations in said["paths"].items():
        for method, operation in operations.items():
            bodies = [operation["requestBody"]] if "requestBody" in operation else []
            for body in [*bodies, *operation["responses"].values()]:
                if "$ref" in body:
                    body = said["components"]["responses"][body["$ref"].rpartition("/")[2]]
                for media_type, content in body.get("content", {}).items():
                    if not media_type.endswith("json") or path == "/openapi.json":
                        continue
                    schema = {**content["schema"], "components": said["components"]}
                    examples = content.get("examples", {})
                    assert examples, (method, path, media_type)
                    for name, example in examples.items():
                        if "$ref" in example:
                            example = said["components"]["examples"][
                                example["$ref"].rpartition("/")[2]
                            ]
                        problems = list(Draft202012Validator(schema).iter_errors(example["value"]))
                        assert problems == [], (method, path, name)
                        checked += 1
    assert checked >= 100
