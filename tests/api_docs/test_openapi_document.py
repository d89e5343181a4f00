"""The OpenAPI document is valid, complete and up to date."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from easypay.api.docs.pages import GUIDES
from easypay.api.examples import CALLER, CURSORS, request_examples
from easypay.api.idempotency import MAX_KEY, check_key
from easypay.api.openapi import document
from easypay.api.openapi_parameters import KEY_SCHEMA
from easypay.api.routes import ROUTES, TOPICS
from easypay.errors import IdempotencyKeyInvalid
from easypay.payments.requests import CreatePayment
from easypay.problem_table import PROBLEMS
from harness import Gateway, http_client

CHECKED_IN = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_document_is_valid_and_complete() -> None:
    spec = document()
    validate(spec)
    assert spec["openapi"].startswith("3.1")
    named = {
        operation["operationId"] for path in spec["paths"].values() for operation in path.values()
    }
    assert named == {route.operation_id for route in ROUTES}


def test_the_checked_in_document_is_up_to_date() -> None:
    assert json.loads(CHECKED_IN.read_text()) == document()


async def test_the_gateway_serves_it_and_a_page_for_every_call(gateway: Gateway) -> None:
    async with http_client(base_url=gateway.url) as client:
        assert (await client.get("/openapi.json")).json() == document()
        pages = [await client.get(f"/docs/{topic}") for topic in TOPICS]
        assert {page.headers["content-type"] for page in pages} == {"text/html; charset=utf-8"}
        shown = "".join(page.text for page in pages)
        assert all(f'<h3 id="{route.operation_id}">' in shown for route in ROUTES)
        for code in PROBLEMS:
            assert (await client.get(f"/problems/{code}")).status_code == 200, code
        assert (await client.get("/problems/none")).status_code == 404


def test_a_payment_method_is_exactly_one_of_the_four() -> None:
    schemas = document()["components"]["schemas"]
    method = schemas["CreatePayment"]["properties"]["payment_method"]
    assert method["discriminator"]["propertyName"] == "type"
    assert set(method["discriminator"]["mapping"]) == {
        *("card", "accept_token", "bank_account", "stored")
    }
    one_of = Draft202012Validator({"oneOf": method["oneOf"], "components": {"schemas": schemas}})
    bodies = request_examples(CreatePayment)
    for kind in method["discriminator"]["mapping"]:
        given = bodies[kind].value["payment_method"]
        assert one_of.is_valid(given)
        for other in method["discriminator"]["mapping"]:
            if other != kind:
                assert not one_of.is_valid({**given, "type": other})
                assert not one_of.is_valid({**given, **bodies[other].value["payment_method"]})


def test_the_example_cursor_can_be_decoded() -> None:
    parameters = document()["paths"]["/api/v1/payments"]["get"]["parameters"]
    cursor = next(parameter for parameter in parameters if parameter["name"] == "cursor")
    assert CURSORS.read(cursor["example"], CALLER, "payments None None").last.version == 7
    assert Draft202012Validator(cursor["schema"]).is_valid(cursor["example"])


def test_the_document_and_the_guide_state_the_longest_key() -> None:
    assert check_key("k" * MAX_KEY) == "k" * MAX_KEY
    with pytest.raises(IdempotencyKeyInvalid, match=f"1 to {MAX_KEY} "):
        check_key("k" * (MAX_KEY + 1))
    assert KEY_SCHEMA["maxLength"] == MAX_KEY
    assert f"1 to {MAX_KEY} printable" in (GUIDES / "idempotency.md").read_text()


def test_every_call_has_examples_and_each_fits_its_schema() -> None:
    spec = document()
    checked = 0
    for path, operations in spec["paths"].items():
        for method, operation in operations.items():
            bodies = [operation["requestBody"]] if "requestBody" in operation else []
            for body in [*bodies, *operation["responses"].values()]:
                if "$ref" in body:
                    body = spec["components"]["responses"][body["$ref"].rpartition("/")[2]]
                for media_type, content in body.get("content", {}).items():
                    if not media_type.endswith("json") or path == "/openapi.json":
                        continue
                    schema = {**content["schema"], "components": spec["components"]}
                    examples = content.get("examples", {})
                    assert examples, (method, path, media_type)
                    for name, example in examples.items():
                        if "$ref" in example:
                            example = spec["components"]["examples"][
                                example["$ref"].rpartition("/")[2]
                            ]
                        problems = list(Draft202012Validator(schema).iter_errors(example["value"]))
                        assert problems == [], (method, path, name)
                        checked += 1
    assert checked >= 100
