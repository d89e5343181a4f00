"""This API as pages for people: /docs and /problems/{code}, from the OpenAPI document."""

from collections.abc import Iterator
from html import escape
from typing import Any, Final

from easypay.api import docs_guide
from easypay.api.docs_markup import fields, folded, json_block, page, prose, shell, table
from easypay.api.example_problems import example_of
from easypay.api.openapi import document
from easypay.api.retry_advice import KEPT, REPEAT, problems, row_of
from easypay.api.schemas import REF, Schema
from easypay.problem_table import Row

_VARIABLES: Final = {
    ("Payments", "id"): "$PAYMENT",
    ("Administration", "id"): "$MERCHANT",
    ("Administration", "key_id"): "$KEY_ID",
}
_SHOWN_SCHEMAS: Final = (
    "Payment", "PaymentMethod", "Processor", "Refund", "Operation", "Event", "IdempotencyKey",
    "Merchant", "ApiKey", "NewApiKey", "Problem", "BadField",
)  # fmt: skip
_ADMIN_SETUP: Final = (
    'MERCHANT=$(curl -sS "$API/api/v1/admin/merchants" -H "Authorization: Bearer $ADMIN_KEY" |\n'
    '  python3 -c \'import json, sys; print(json.load(sys.stdin)["data"][-1]["id"])\')\n'
    'KEY_ID=$(curl -sS "$API/api/v1/admin/merchants/$MERCHANT/keys"'
    ' -H "Authorization: Bearer $ADMIN_KEY" |\n'
    '  python3 -c \'import json, sys; print(json.load(sys.stdin)["data"][-1]["id"])\')'
)


def docs_page() -> bytes:
    """The whole documentation as one HTML page."""
    whole = document()
    guide = docs_guide.chapters()
    tags = {tag["name"]: tag["description"] for tag in whole["tags"]}
    calls: dict[str, list[tuple[str, str, dict[str, Any]]]] = {name: [] for name in tags}
    for path, methods in whole["paths"].items():
        for method, operation in methods.items():
            calls[operation["tags"][0]].append((method.upper(), path, operation))

    main = [
        "<h1>EasyPay API</h1>",
        f"<p>{prose(whole['info']['summary'])} This page is also there for programs, as "
        '<a href="/openapi.json">OpenAPI 3.1</a>.</p>',
    ]
    for anchor, title, content in guide:
        main.append(f'<h2 id="{anchor}">{escape(title)}</h2>\n{content}')
    for name, said in tags.items():
        main.append(f'<h2 id="tag-{name}">{escape(name)}</h2><p>{prose(said)}</p>')
        if name == "Administration":
            main.append(
                "<p>These calls take the gateway's admin key. Two variables for their lines:</p>"
                + shell(_ADMIN_SETUP)
            )
        main += [_call(*call, whole) for call in calls[name]]
    main += [_schemas(whole["components"]["schemas"]), _problems()]
    return page("EasyPay API", f"{_contents(guide, calls)}\n<main>\n{chr(10).join(main)}\n</main>")


def problem_page(code: str) -> bytes | None:
    """What a problem means and whether to try again. None for a code that is none of ours."""
    error = next((error for error in problems() if error.code == code), None)
    if error is None:
        return None
    body = (
        '<div class="alone"><p><a href="/docs">EasyPay API</a> / '
        '<a href="/docs#problems">Problems</a></p>'
        f"<h1>{escape(error.title)}</h1>"
        f'<p><span class="status s{error.http_status // 100}">{error.http_status}</span>'
        f"<code>{escape(code)}</code></p>{_advice(row_of(error))}"
        f"<h4>Such as</h4>{json_block(example_of(error))}</div>"
    )
    return page(f"{error.title} ({code})", body)


# The parts of the page -----------------------------------------------------------------------


def _contents(
    guide: list[tuple[str, str, str]], calls: dict[str, list[tuple[str, str, dict[str, Any]]]]
) -> str:
    parts = ['<nav><a class="brand" href="#">EasyPay</a><p>API v1</p><h2>Guide</h2><ul>']
    parts += [f'<li><a href="#{anchor}">{escape(title)}</a></li>' for anchor, title, _ in guide]
    for name, operations in calls.items():
        parts.append(f"</ul><h2>{escape(name)}</h2><ul>")
        parts += [
            f'<li><a href="#{operation["operationId"]}"><span class="method {method}">{method}'
            f"</span>{escape(operation['summary'])}</a></li>"
            for method, _, operation in operations
        ]
    parts.append(
        '</ul><h2>Reference</h2><ul><li><a href="#schemas">Objects</a></li>'
        '<li><a href="#problems">Problems</a></li></ul></nav>'
    )
    return "".join(parts)


def _call(method: str, path: str, operation: dict[str, Any], whole: dict[str, Any]) -> str:
    """One call: what it is, how to make it, what it takes, what it answers."""
    schemas = whole["components"]["schemas"]
    body = operation.get("requestBody")
    parts = [
        f'<h3 id="{operation["operationId"]}">{escape(operation["summary"])}</h3>',
        f'<p class="call"><span class="method {method}">{method}</span>'
        f'<code>{escape(path)}</code><span class="tag">{_who(operation)}</span></p>',
        f"<p>{prose(operation['description'])}</p>",
        shell(_curl(method, path, operation)),
    ]
    if operation["parameters"]:
        parts.append("<h4>Parameters</h4>" + _parameters(operation["parameters"]))
    if body is not None:
        content = body["content"]["application/json"]
        name = content["schema"]["$ref"].removeprefix(REF)
        if "properties" in schemas[name] and schemas[name]["properties"]:
            parts.append(f"<h4>Body</h4>{fields(schemas[name], schemas)}")
        if len(content["examples"]) > 1:
            parts += _examples(content["examples"])
    parts.append("<h4>Replies</h4>")
    refusals = []
    for status, reply in operation["responses"].items():
        if "application/problem+json" in reply.get("content", {}):
            refusals += list(_refusals(status, reply))
        else:
            parts.append(_reply(status, reply))
    if refusals:
        listed = table(("Status", "Problem", "Such as"), refusals)
        parts.append(folded(f"Problems ({len(refusals)})", listed, plain=True))
    return "\n".join(parts)


def _who(operation: dict[str, Any]) -> str:
    for scheme in operation.get("security", []):
        for name, scopes in scheme.items():
            return f"scope {escape(scopes[0])}" if name == "merchantKey" else "admin key"
    return "no key"


def _curl(method: str, path: str, operation: dict[str, Any]) -> str:
    scheme: dict[str, Any] = next(iter(operation["security"]), {})
    key = "ADMIN_KEY" if "adminKey" in scheme else "KEY" if scheme else ""
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            name = parameter["name"]
            value = _VARIABLES.get((operation["tags"][0], name), str(parameter["example"]))
            path = path.replace(f"{{{name}}}", value)
    body = None
    if "requestBody" in operation:
        examples = operation["requestBody"]["content"]["application/json"]["examples"]
        body = next(iter(examples.values()))["value"]
    money = any(parameter["name"] == "Idempotency-Key" for parameter in operation["parameters"])
    return docs_guide.curl(method, path, key, money=money, body=body)


def _parameters(parameters: list[dict[str, Any]]) -> str:
    """They read like the fields of an object."""
    schema: Schema = {
        "additionalProperties": False,
        "properties": {
            f"{parameter['name']}": {
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
    target = media.get("schema", {}).get("$ref", "").removeprefix(REF)
    shown = target.removesuffix("Page")
    what = f'<a href="#schema-{shown}">{shown}</a>' if shown else ""
    if target != shown:
        what = f"a page of {what}"
    headers = ", ".join(
        f"<code>{escape(name)}</code>" for name in reply.get("headers", {}) if name != "Request-Id"
    )
    said = [prose(reply["description"]), what, f"with {headers}" if headers else ""]
    head = (
        f'<p class="reply"><span class="status s{status[0]}">{status}</span>'
        f"{' '.join(filter(None, said))}</p>"
    )
    return "\n".join([head, *_examples(media.get("examples", {}))])


def _examples(examples: dict[str, Any]) -> list[str]:
    return [
        folded(escape(example.get("summary", name)), json_block(example["value"]))
        for name, example in examples.items()
    ]


def _refusals(status: str, reply: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """A row for every example of a problem; those many calls share are shown once, below."""
    for name, example in reply["content"]["application/problem+json"]["examples"].items():
        shared = "$ref" in example
        value = document()["components"]["examples"][name] if shared else example
        code = value["value"]["code"]
        such = "" if shared else folded(escape(value["summary"]), json_block(value["value"]))
        yield (
            f'<span class="status s{status[0]}">{status}</span>',
            f'<a href="#problem-{code}"><code>{escape(code)}</code></a>',
            such or escape(value["summary"]),
        )


def _schemas(schemas: dict[str, Schema]) -> str:
    parts = ['<h2 id="schemas">Objects</h2><p>What the answers are made of.</p>']
    for name in _SHOWN_SCHEMAS:
        schema = schemas[name]
        parts.append(
            f'<h3 id="schema-{name}">{name}</h3><p>{prose(schema["description"])}</p>'
            + fields(schema, schemas, nested=False)
        )
    return "\n".join(parts)


def _problems() -> str:
    """Every code, what it means, and whether to try again."""
    rows = [
        (
            f'<span id="problem-{error.code}" class="status s{error.http_status // 100}">'
            f'{error.http_status}</span><a href="/problems/{error.code}">'
            f"<code>{error.code}</code></a>",
            prose(error.title),
            "Yes" if row_of(error).kept else "No",
            prose(REPEAT[row_of(error).repeat]),
            folded("What it means", _advice(row_of(error)) + json_block(example_of(error))),
        )
        for error in problems()
    ]
    return (
        '<h2 id="problems">Problems</h2><p>Programs read <code>code</code>. Repeat a request only '
        "where this table says so, and then after <code>Retry-After</code> seconds. An answer that "
        "is kept is given to every repeat with the same Idempotency-Key.</p>"
        + table(("Code", "Title", "Kept?", "Repeat?", ""), rows)
    )


def _advice(row: Row) -> str:
    wait = "" if row.retry_after_s is None else " The answer carries `Retry-After`."
    return (
        f"<p>{prose(row.means)}</p><p>{prose(row.do)}</p>"
        f"<p><strong>Repeat it?</strong> {prose(f'{REPEAT[row.repeat]}.{wait}')}</p>"
        f"<p><strong>Kept under the key?</strong> {prose(KEPT[row.kept])}.</p>"
    )
