"""Calls, objects and problems as HTML, from the OpenAPI document."""

import json
import shlex
from collections.abc import Iterator
from html import escape
from typing import Any, Final

from easypay.api.docs.markup import code_block, fields, folded, json_block, prose, table, tabs
from easypay.api.example_problems import example_of
from easypay.api.openapi import document
from easypay.api.retry_advice import KEPT, REPEAT, problems, row_of
from easypay.api.schema_words import REF
from easypay.api.schemas import Schema
from easypay.problem_table import Row

_VARIABLES: Final = {
    "/payments/{id}": "/payments/$PAYMENT",
    "/refunds/{id}": "/refunds/$REFUND",
    "/operations/{id}": "/operations/$OPERATION",
    "/customers/{id}": "/customers/$CUSTOMER",
    "/payment_methods/{id}": "/payment_methods/$METHOD",
    "/webhook-endpoints/{id}": "/webhook-endpoints/$ENDPOINT",
    "/batches/{id}": "/batches/$BATCH",
    "/settlements/{batch_id}": "/settlements/$BATCH_ID",
    "/breaks/{id}": "/breaks/$BREAK",
    "/merchants/{id}": "/merchants/$MERCHANT",
    "/keys/{key_id}": "/keys/$KEY_ID",
    "/deliveries/{attempt_id}": "/deliveries/$ATTEMPT_ID",
}
_OBJECTS: Final = (
    *("Payment", "PaymentMethod", "Processor", "Refund", "Operation", "Event", "FeedEvent"),
    *("ExpandedRefunds", "ExpandedOperations", "ExpandedCustomer"),
    *("NumberedPaymentPage", "Pagination"),
    *("Statistics", "Bucket", "Total", "Count", "Rates"),
    *("IdempotencyKey", "DuplicateGroup", "AlikePayment", "Merchant", "ApiKey", "NewApiKey"),
    *("Profile", "ProfileStack"),
    *("Erasure", "ErasedFields", "KeptFields", "NotReached"),
    *("StoredCustomer", "StoredMethod", "MethodAddress", "MethodFailure", "Validity"),
    *("Endpoint", "NewEndpoint", "Attempt", "Delivery", "SentRequest", "TestSent", "Redelivery"),
    *("Batch", "BatchSum", "Received"),
    *("Settlement", "SettlementTotal", "Sum", "Settled"),
    *("Reconciliation", "ReadBooks", "OpenBreaks", "Break", "Side"),
    *("Problem", "BadField", "Currency"),
)
_FILES: Final = ("application/jsonl", "text/csv")
_LONGEST_LINE: Final = 76
_IDEMPOTENCY: Final = '-H "Idempotency-Key: $(date +%s)-$RANDOM"'


def call(method: str, path: str, operation: dict[str, Any]) -> str:
    """One call: what it does, a request to paste, its fields and its replies."""
    schemas = document()["components"]["schemas"]
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    bodies = [
        (example["summary"], _curl(method, path, operation, example["value"]))
        for example in content.get("examples", {}).values()
    ]
    files = [
        (example["summary"], _curl(method, path, operation, file=(media, example["value"])))
        for media, each in operation.get("requestBody", {}).get("content", {}).items()
        for example in each["examples"].values()
        if media in _FILES
    ]
    parts = [
        f'<section><h3 id="{operation["operationId"]}">{escape(operation["summary"])}</h3>',
        f'<p class="call"><span class="method {method}">{method}</span>'
        f'<code>{escape(path)}</code><span class="tag">{_who(operation)}</span></p>',
        f"<p>{prose(operation['description'])}</p>",
        tabs(operation["operationId"], [(name, code_block(line)) for name, line in bodies + files])
        if bodies or files
        else code_block(_curl(method, path, operation)),
    ]
    if operation["parameters"]:
        parts.append("<h4>Parameters</h4>" + _parameters(operation["parameters"]))
    if content:
        schema = schemas[content["schema"]["$ref"].removeprefix(REF)]
        if schema.get("properties"):
            parts.append(f"<h4>Body</h4>{fields(schema, schemas)}")
    parts.append("<h4>Replies</h4>")
    refusals = []
    for status, reply in operation["responses"].items():
        if "application/problem+json" in reply.get("content", {}):
            refusals += list(_refusals(status, reply))
        else:
            parts.append(_reply(status, reply))
    if refusals:
        listed = table(("Problem", "Example"), refusals)
        parts.append(folded(f"Problems ({len(refusals)})", listed, plain=True))
    return "\n".join([*parts, "</section>"])


def objects() -> list[tuple[str, str]]:
    """Every object of the replies: its name, and its fields as HTML."""
    schemas = document()["components"]["schemas"]
    return [
        (
            name,
            f'<h2 id="schema-{name}">{name}</h2><p>{prose(schemas[name]["description"])}</p>'
            + (
                fields(schemas[name], schemas, nested=False)
                if "properties" in schemas[name]
                else prose(", ".join(f"`{word}`" for word in schemas[name]["enum"]))
            ),
        )
        for name in _OBJECTS
    ]


def problem_list() -> str:
    """Every code, with whether to repeat the request."""
    return "\n".join(
        folded(
            f'<span id="problem-{error.code}" class="status s{error.http_status // 100}">'
            f"{error.http_status}</span><code>{error.code}</code> {prose(error.title)}"
            f'<span class="tag">{"kept · " * row_of(error).kept}'
            f"repeat: {_REPEAT[row_of(error).repeat]}</span>",
            advice(row_of(error))
            + json_block(example_of(error))
            + f'<p><a href="/problems/{error.code}">/problems/{error.code}</a></p>',
        )
        for error in problems()
    )


_REPEAT: Final = {"no": "no", "same_key": "same key", "new_key": "new key"}


def advice(row: Row) -> str:
    """A problem's meaning, what to do, and whether to repeat the request."""
    wait = "" if row.retry_after_s is None else " The answer carries `Retry-After`."
    return (
        f"<p>{prose(row.means)}</p><p>{prose(row.do)}</p>"
        f"<p><strong>Repeat it?</strong> {prose(f'{REPEAT[row.repeat]}.{wait}')}</p>"
        f"<p><strong>Kept under the key?</strong> {prose(KEPT[row.kept])}.</p>"
    )


# The parts of a call -------------------------------------------------------------------------


def _who(operation: dict[str, Any]) -> str:
    for scheme in operation.get("security", []):
        for name, scopes in scheme.items():
            return f"scope {escape(scopes[0])}" if name == "merchantKey" else "admin key"
    return "no key"


def _curl(
    method: str,
    path: str,
    operation: dict[str, Any],
    body: Any = None,
    file: tuple[str, str] | None = None,
) -> str:
    """A line for a terminal, with the variables that the start page sets."""
    for named, variable in _VARIABLES.items():
        path = path.replace(named, variable)
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
    usual = "GET" if body is None and file is None else "POST"
    said = "" if method == usual else f" -X {method}"
    parts = [f'curl -sS{said} "$API{path}"']
    scheme: dict[str, Any] = next(iter(operation["security"]), {})
    if scheme:
        key = "ADMIN_KEY" if "adminKey" in scheme else "KEY"
        parts.append(f'-H "Authorization: Bearer ${key}"')
    if any(parameter["name"] == "Idempotency-Key" for parameter in operation["parameters"]):
        parts.append(_IDEMPOTENCY)
    if body is not None:
        parts.append("-H 'Content-Type: application/json'")
        parts.append(f"-d {shlex.quote(_lines(body, '  '))}")
    if file is not None:
        media, text = file
        parts.append(f"-H 'Content-Type: {media}'")
        parts.append(f"--data-binary {shlex.quote(text)}")
    return " \\\n  ".join(parts)


def _lines(value: Any, pad: str) -> str:
    """JSON, with a line for each field of an object that is too long for one."""
    text = json.dumps(value)
    if len(text) <= _LONGEST_LINE or not isinstance(value, dict):
        return text
    lines = [
        f"{pad}  {json.dumps(name)}: {_lines(each, f'{pad}  ')}" for name, each in value.items()
    ]
    return "{\n" + ",\n".join(lines) + f"\n{pad}}}"


def _parameters(parameters: list[dict[str, Any]]) -> str:
    """A table of the parameters, like the fields of an object."""
    schema: Schema = {
        "additionalProperties": False,
        "properties": {
            parameter["name"]: {
                **parameter["schema"],
                "description": f"{parameter['description']} ({parameter['in']})",
            }
            for parameter in parameters
        },
        "required": [parameter["name"] for parameter in parameters if parameter["required"]],
    }
    return fields(schema, {})


def _reply(status: str, reply: dict[str, Any]) -> str:
    media: dict[str, Any] = next(iter(reply.get("content", {}).values()), {})
    schema = media.get("schema", {})
    what = ", or ".join(
        _object(each["$ref"].removeprefix(REF))
        for each in schema.get("oneOf", [schema])
        if "$ref" in each
    )
    headers = ", ".join(
        f"<code>{escape(name)}</code>" for name in reply.get("headers", {}) if name != "Request-Id"
    )
    said = [prose(reply["description"]), what, f"with {headers}" if headers else ""]
    head = (
        f'<p class="reply"><span class="status s{status[0]}">{status}</span>'
        f"{' '.join(filter(None, said))}</p>"
    )
    examples = [
        folded(escape(example.get("summary", name)), json_block(example["value"]))
        for name, example in media.get("examples", {}).items()
    ]
    return "\n".join([head, *examples])


def _object(name: str) -> str:
    shown = name if name in _OBJECTS else name.removesuffix("Page")
    link = f'<a href="/docs/objects#schema-{shown}">{shown}</a>'
    return link if shown == name else f"a page of {link}"


def _refusals(status: str, reply: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A row for every example of a problem. Examples that many calls share are on its own page."""
    for name, example in reply["content"]["application/problem+json"]["examples"].items():
        shared = "$ref" in example
        value = document()["components"]["examples"][name] if shared else example
        code = value["value"]["code"]
        summary = escape(value["summary"])
        yield (
            f'<span class="status s{status[0]}">{status}</span>'
            f'<a href="/problems/{code}"><code>{escape(code)}</code></a>',
            summary if shared else folded(summary, json_block(value["value"])),
        )
