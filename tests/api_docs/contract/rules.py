"""Refusals that schemathesis must expect: API rules that JSON schema cannot state.

Everything else that a schema allows must be accepted.
"""

import os
import re
import uuid
from collections import Counter
from typing import Any

import schemathesis
from schemathesis.generation.meta import coverage_scenario

from easypay.api.openapi_parameters import KEY_SCHEMA
from easypay.api.waiting import WAIT_PATTERN

CURRENCIES = ("JPY", "KWD", "USD")
PROBLEMS = {
    "precondition_failed": "the ETag is of a version that the payment does not have",
    "processor_rejected": "the processor has rules of its own, such as which tokens it issued",
}
FIELDS = {
    "?cursor": "a cursor is signed for one key and one list",
    "?after": "a cursor is signed, or it is `latest`",
    "?from": "from is before to",
    "?interval": "an answer has at most 400 parts",
    "#/time_zone": "which time zones there are depends on the database",
    "invalid_card_number": "the check digit",
    "invalid_routing_number": "the check digit",
    "invalid_cvc": "its length depends on the card's brand",
    "#/url": "its host leads to a public address, and is no number in disguise",
    "too_many": "how many endpoints there are already",
    "expired_card": "depends on today",
    "cannot_be_queued": "a field and the header Prefer together",
    "in_the_past": "depends on today",
    "card_number_in_text": "a check digit and the brands' ranges, in any text",
    "unknown_payment_method": "which payment methods are stored",
    "name_taken": "another merchant has the name",
    "reference_taken": "another customer has the reference",
    "#/default_payment_method": "it is a stored method of this customer",
    "#/payment_method/payment": "it is a payment of this merchant that the processor has",
    "contradiction": "two fields together",
    "range_too_long": "two parameters together",
    "unknown_processor": "which processors there are depends on what is installed",
    "not_available": "no profile is taken here: the operator has turned them off",
    "refused_by_processor": "the processor is asked whether it accepts the credentials",
}


@schemathesis.serializer("application/jsonl")
def as_lines(context: Any, value: Any) -> bytes:
    """Send the file of a batch as it is: whatever its lines are, the answer says so."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Leave three currencies, because schemathesis tries every value of an enum."""
    raw_schema["components"]["schemas"]["Currency"]["enum"] = list(CURRENCIES)


EVERY = 1 if int(os.environ.get("EASYPAY_BREADTH", "0")) else 4
"""Of boundary cases that are alike, the suite sends every fourth. `make breadth` sends all."""
alike: Counter[tuple[Any, ...]] = Counter()


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Return whether to send the case. Of three thousand boundary cases, the suite leaves out most
    of those that differ only in the field of the body or in the value: each operation gets each
    kind of right and wrong value in each parameter and in its body."""
    scenario = coverage_scenario(case)
    if scenario is None:
        return True
    data = case._meta.phase.data
    kind = (case.operation.label, scenario, data.parameter_location, data.parameter)
    alike[kind] += 1
    return alike[kind] % EVERY == 1 % EVERY


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Replace a valid key by a fresh one, so that every request is new, and a valid wait by a short
    one: nothing here sends what is queued."""
    key = (case.headers or {}).get("Idempotency-Key")
    if key and len(key) <= KEY_SCHEMA["maxLength"] and re.search(KEY_SCHEMA["pattern"], key):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
    wait = (case.query or {}).get("wait")
    if isinstance(wait, str) and re.search(WAIT_PATTERN, wait):
        case.query["wait"] = "0.1"


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Return whether the failure counts."""
    if failure.code == "ST201" and case.path == "/api/v1/batches" and "in body" in failure.message:
        return False  # any bytes are a file; what is wrong with them is in the batch's report
    if failure.code != "ST202":  # schema-valid request rejected
        return True
    problem = response.json()
    if problem["code"] in PROBLEMS:
        return False
    fields = problem.get("errors", [])
    return not fields or not all(_is_expected(field, case.body) for field in fields)


def _is_expected(field: dict[str, str], body: Any) -> bool:
    if field["code"] in FIELDS or field["pointer"] in FIELDS:
        return True
    if field["pointer"].startswith("#/credentials/"):  # the fields depend on the processor
        return True
    value = body
    for name in field["pointer"].split("/")[1:]:
        value = value.get(name) if isinstance(value, dict) else None
    return isinstance(value, float)  # JSON Schema counts 2500.0 as an integer; the API does not
