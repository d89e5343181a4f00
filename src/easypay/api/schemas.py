"""The JSON Schemas (2020-12) of every body and reply: from the types, and a word on each field.

The types give shape and limits; what they cannot say stands here: formats, closed sets of words
that views hold as text, and descriptions. A test keeps both in step.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

import msgspec

from easypay.merchants.model import MODES, SCOPES
from easypay.payments.model import Kind
from easypay.payments.views import REFUND_METHODS, REFUND_STATUS
from easypay.problems import Problem
from easypay.processors.base import AvsMatch, CvvMatch, Retry

Schema = dict[str, Any]

REF: Final = "#/components/schemas/"

_NAMES: Final[Mapping[str, str]] = {
    "easypay.api.payments.KeyView": "IdempotencyKey",
    "easypay.api.admin.KeyView": "ApiKey",
    "NewKeyView": "NewApiKey",
    "CardBody": "Card",
    "AcceptTokenBody": "AcceptToken",
    "BankAccountBody": "BankAccount",
    "StoredCredentialBody": "StoredCredential",
    "Status": "PaymentStatus",
}


def _line(text: str) -> str:
    return " ".join(text.split())


_STATUSES: Final = _line("""
What the payment is now. `processing`: the outcome is not known yet; read it again. `authorized`:
the money is held. `captured`: it is taken. `declined`: the issuer said no. `failed`: the processor
would not take it, or it never happened. `in_review`: a person at the processor decides. `voided`:
released or undone. `expired`: the hold ran out. `pending`: accepted, not sent yet.""")

_STATES: Final = _line("""
`in_flight`: being asked. `approved`, `declined`, `rejected`, `held`: what the processor answered.
`unknown`: asked, and no clear answer yet. `not_sent`: proven never to have left; the same
Idempotency-Key sends it again. `absent`: proven never to have arrived.""")

_RETRY: Final = _line("""
Of what was declined or rejected: may it be tried again? `later`: the same may work another time.
`fix_data`: with other data, or another card. `never`: it will not. Null where nothing is known.""")
_CURRENCY: Final = {"description": "ISO 4217, upper case.", "pattern": "^[A-Z]{3}$"}
_DECLINE: Final = (
    "Why, in one of our words: `generic_decline`, `expired_card`, `cvc_mismatch` and so on. "
    "Null where nothing was declined."
)
_WORDS: Final[Mapping[str, Mapping[str, Any]]] = {
    # By field, wherever it stands, or by Schema.field where that one differs.
    "id": {"description": "Its id. Ids sort by the time they were made."},
    "payment_id": {"description": "The payment it belongs to."},
    "operation_id": {"description": "The operation: one call to the processor."},
    "merchant_id": {"description": "The merchant it belongs to."},
    "amount": {"description": "Minor units of the currency: 2500 is USD 25.00."},
    "currency": _CURRENCY,
    "captured_amount": {"description": "Taken so far, in minor units."},
    "refunded_amount": {"description": "Given back so far, in minor units."},
    "capture": {
        "description": "`automatic`: the money is taken at once. `manual`: it is held first.",
        "enum": ["automatic", "manual"],
    },
    "payment_method": {"description": "What pays."},
    "decline_code": {"description": _DECLINE},
    "processor": {"description": "What the processor said."},
    "order_reference": {"description": "The merchant's order number."},
    "customer_reference": {"description": "The merchant's id of the customer."},
    "description": {"description": "What was bought."},
    "statement_descriptor": {"description": "What the cardholder reads on the statement."},
    "metadata": {"description": "The merchant's own keys and values."},
    "mode": {"description": "`test` or `live`; the two never mix.", "enum": list(MODES)},
    "version": {"description": "Grows with every change; the ETag is made of it.", "minimum": 1},
    "created_at": {"description": "When it was made.", "format": "date-time"},
    "updated_at": {"description": "When it last changed.", "format": "date-time"},
    "begun_at": {"description": "When the call began.", "format": "date-time"},
    "finished_at": {"description": "When its outcome was recorded.", "format": "date-time"},
    "expires_at": {"description": "When it ends. RFC 3339, with an offset.", "format": "date-time"},
    "revoked_at": {"description": "When it was revoked, if it was.", "format": "date-time"},
    "kind": {"description": "What was asked.", "enum": sorted(Kind)},
    "state": {"description": _STATES, "enum": list(REFUND_STATUS)},
    "name": {"description": "A name to know it by."},
    "last4": {"description": "The last four digits."},
    "scopes": {"description": f"What the key may do: {', '.join(SCOPES)}."},
    "type": {"description": "Which kind it is."},
    "code": {"description": "A stable word for programs."},
    "detail": {"description": "What happened, why, and what to do; for people."},
    "currencies": {"description": "The ISO 4217 codes that the account takes."},
    "late_charges": {
        "description": _line("""
            What becomes of a charge that the processor turns out to have made after its payment
            was called failed: `return` gives it back, and the payment stays failed; `keep` makes
            the payment what the processor says.""")
    },
    "allow_raw_cards": {
        "description": "Whether `card` is taken beside tokens. It widens your PCI DSS scope."
    },
    "disabled": {"description": "Whether all its keys are stopped."},
    "exp_month": {"description": "The card's month of expiry, 1 to 12."},
    "exp_year": {"description": "The card's year of expiry, four digits."},
    "login_id": {"description": "The API login id."},
    "transaction_key": {"description": "The transaction key."},
    "email": {"description": "The customer's e-mail address."},
    "first_name": {"description": "Given name."},
    "last_name": {"description": "Family name."},
    "company": {"description": "Company."},
    "city": {"description": "City."},
    "country": {"description": "Country."},
    "phone": {"description": "Telephone number."},
    "postal_code": {"description": "Postal code; the address check reads it."},
    "status": {"description": "What it is now."},
    "AcceptToken.data_descriptor": {"description": "`opaqueData.dataDescriptor`, as received."},
    "AcceptToken.data_value": {"description": "`opaqueData.dataValue`, as received."},
    "AcceptTokenMethod.accept_token": {"description": "The token."},
    "ApiKey.last4": {"description": "The secret's last four characters."},
    "BankAccount.account_number": {"description": "The account's number. Never stored or logged."},
    "BankAccount.account_type": {"description": "What kind of account it is."},
    "BankAccount.name_on_account": {"description": "Whose account it is."},
    "BankAccount.routing_number": {"description": "The bank's ABA number. Never stored or logged."},
    "BankAccountMethod.bank_account": {"description": "The bank account (eCheck)."},
    "BillingAddress.state": {"description": "State or province.", "enum": None},
    "BillingAddress.line1": {"description": "Street and number; the address check reads it."},
    "Card.cvc": {"description": "The card code. Never stored."},
    "Card.number": {"description": "The card number, digits only. Never stored or logged."},
    "CardMethod.card": {"description": "The card."},
    "CreatePayment.billing_address": {"description": "Where the card's statements go."},
    "CreatePayment.customer": {"description": "Who pays."},
    "CreatePayment.stored_credential": {
        "description": "For a card that the merchant keeps on file with the customer's consent."
    },
    "Customer.ip_address": {"description": "Where the customer's request came from, IPv4 or IPv6."},
    "Event.status": {"description": "The payment's status after it."},
    "Event.type": {
        "description": _line("""
            What happened. `payment.` and the payment's new status, such as `payment.captured` and
            `payment.expired`; `refund.succeeded` and `refund.failed`; `capture.failed`,
            `void.failed`, `approve.failed` and `decline.failed`; `late_charge.found`, when the
            processor turned out to have done what had failed here, and `late_charge.returned`,
            when that money was given back. More may come.""")
    },
    "IdempotencyKey.key": {"description": "The key, as it was sent."},
    "IdempotencyKey.reply_status": {
        "description": "The HTTP status that was answered; null while nothing was."
    },
    "NewApiKey.key": {"description": "The key, without its secret."},
    "NewApiKey.secret": {"description": "The bearer key itself. Shown this once: keep it safe."},
    "Operation.attempt": {"description": "1, and more where it was sent again.", "minimum": 1},
    "Operation.evidence": {
        "description": "Why an outcome that was not the call's own reply is believed.",
        "type": ["object", "null"],
    },
    "Operation.processor_ms": {"description": "How long the processor took, in milliseconds."},
    "Operation.reference": {
        "description": "The 20 characters by which the processor knows it (invoice number)."
    },
    "PaymentMethod.type": {"description": "`card`, `accept_token` or `bank_account`."},
    "PaymentMethod.brand": {
        "description": _line("""
            `visa`, `mastercard`, `amex`, `discover`, `jcb`, `diners`, `unionpay`; `echeck` of a
            bank account.""")
    },
    "Processor.name": {"description": "Which processor."},
    "Processor.auth_code": {"description": "The issuer's authorization code."},
    "Processor.avs_result": {"description": "The address check's letter, verbatim."},
    "Processor.avs": {
        "description": "The address check in a word, the same for every processor.",
        "enum": [*AvsMatch, None],
    },
    "Processor.cvv_result": {"description": "The card code check's letter, verbatim."},
    "Processor.cvv": {
        "description": "The card code check in a word, the same for every processor.",
        "enum": [*CvvMatch, None],
    },
    "Processor.retry": {
        "description": _RETRY,
        "enum": [*get_args(Retry), None],
    },
    "Processor.code": {"description": "The processor's code, verbatim."},
    "Processor.message": {"description": "The processor's message, verbatim."},
    "Processor.network_transaction_id": {
        "description": _line("""
            The card network's id of it. Keep that of the first payment with a card on file:
            later ones name it.""")
    },
    "Processor.transaction_id": {"description": "The processor's id of it."},
    "Problem.type": {
        "description": "The address of the problem's page: /problems/ and the code.",
        "format": "uri-reference",
    },
    "Problem.title": {"description": "The kind of problem, in a sentence."},
    "Problem.status": {"description": "The HTTP status.", "minimum": 400, "maximum": 599},
    "Problem.request_id": {"description": "Quote it when you ask for help."},
    "Problem.errors": {"description": "Every bad field."},
    "Problem.payment_id": {"description": "The payment it concerns."},
    "Problem.operation_id": {"description": "The operation it concerns."},
    "Problem.processor_code": {"description": "The processor's code, verbatim."},
    "Problem.processor_message": {"description": "The processor's message, verbatim."},
    "Problem.decline_code": {"description": "Why, in one of our words, where it is known."},
    "BadField.pointer": {
        "description": "A JSON pointer into the body (`#/amount`), or `?name` of the query."
    },
    "BadField.code": {"description": "A stable word: `missing`, `unknown_field`, `invalid`, ..."},
    "Refund.method": {
        "description": _line("""
            How the money went back: `refund`, or `void` where the payment had not settled and was
            undone. Null until it has succeeded."""),
        "enum": [*REFUND_METHODS, None],
    },
    "Refund.status": {
        "description": "`processing` until the outcome is known.",
        "enum": sorted(set(REFUND_STATUS.values())),
    },
    "SetAccount.check": {
        "description": "Ask the processor first whether it accepts them; save them only if so."
    },
    "StoredCredential.initiator": {
        "description": "Who asks: the `customer`, present, or the `merchant`, by agreement."
    },
    "StoredCredential.first": {
        "description": "Whether this is the payment with which the customer agrees to it."
    },
    "StoredCredential.recurring": {"description": "Whether it is one of a series."},
    "StoredCredential.network_transaction_id": {
        "description": "`processor.network_transaction_id` of the first payment."
    },
    "RotateKey.overlap_seconds": {"description": "How long the old key goes on working."},
    "Page.data": {"description": "This page."},
    "Page.has_more": {"description": "Whether there is another page."},
}  # fmt: skip
_IDS: Final = {
    "Payment": "pay", "Refund": "re", "Operation": "op", "Event": "evt", "Merchant": "mer",
    "ApiKey": "key", "payment_id": "pay", "operation_id": "op", "merchant_id": "mer",
}  # fmt: skip


def components(types: Iterable[type]) -> dict[str, Schema]:
    """The schemas of these types, of what they hold, and of problems, by public name."""
    wanted = list(dict.fromkeys([*types, Problem]))
    _, found = msgspec.json.schema_components(wanted, ref_template=REF + "{name}")
    names = {name: _public(name) for name in found}
    return {
        names[name]: _refined(names[name], _renamed(schema, names))
        for name, schema in sorted(found.items(), key=lambda item: names[item[0]])
    }


def name_of(kind: type) -> str:
    """The public name of a type's schema."""
    full = f"{kind.__module__}.{kind.__name__}"
    return _NAMES.get(full) or _public(kind.__name__)


def page_of(name: str, page: Schema) -> Schema:
    """The schema of a page whose `data` holds `name`, from the one of any page."""
    data = {**page["properties"]["data"], "items": {"$ref": REF + name}}
    return {**page, "title": f"{name}Page", "properties": {**page["properties"], "data": data}}


def _public(name: str) -> str:
    return _NAMES.get(name) or name.rpartition(".")[2].removesuffix("View")


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The schema with its references by public name."""
    if isinstance(value, dict):
        return {
            key: _reference(item, names)
            if key == "$ref" or (isinstance(item, str) and item.startswith(REF))
            else _renamed(item, names)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return value


def _reference(ref: str, names: Mapping[str, str]) -> str:
    return REF + names[ref.removeprefix(REF)]


def _refined(name: str, schema: Schema) -> Schema:
    schema = {**schema, "title": name}
    if name == "PaymentStatus":
        schema = {"title": name, "type": "string", "description": _STATUSES, "enum": schema["enum"]}
    required = schema.get("required", [])
    properties = {  # those that must be sent come first
        field: _field(name, field, shape)
        for field, shape in sorted(
            schema.get("properties", {}).items(), key=lambda item: item[0] not in required
        )
    }
    if "properties" in schema:
        schema["properties"] = properties
    if schema.get("required") == []:
        del schema["required"]
    return schema


def _field(owner: str, field: str, shape: Schema) -> Schema:
    """One field: nullability as a type, the words on it, and its format."""
    shape = _typed(_nullable(shape))
    words = {**_WORDS.get(field, {}), **_WORDS.get(f"{owner}.{field}", {})}
    if "type" in words and "anyOf" in shape:
        del shape["anyOf"]
    own = shape.get("description")
    shape = {**shape, **{key: value for key, value in words.items() if value is not None}}
    if own and "description" not in _WORDS.get(f"{owner}.{field}", {}):
        shape["description"] = own
    if not _is(shape, "string"):
        for key in ("enum", "pattern"):
            if key in words:
                shape.pop(key)
    if field == "amount" or field.endswith("_amount"):
        shape["format"] = "int64"
    kind = _IDS.get(owner if field == "id" else field)
    if kind is not None:
        shape["pattern"] = f"^{kind}_[0-9a-f]{{32}}$"
    return shape


def _nullable(shape: Schema) -> Schema:
    """`anyOf: [X, null]` as X with `type: [x, "null"]`, where X has a type of its own."""
    choices = shape.get("anyOf", [])
    if len(choices) != 2 or choices[1] != {"type": "null"} or "type" not in choices[0]:
        return dict(shape)
    rest = {key: value for key, value in shape.items() if key != "anyOf"}
    return {**choices[0], **rest, "type": [choices[0]["type"], "null"]}


def _typed(shape: Schema) -> Schema:
    """An enum of words says that it is text."""
    return {"type": "string", **shape} if "enum" in shape else shape


def _is(shape: Schema, kind: str) -> bool:
    said = shape.get("type", [])
    return kind == said or (isinstance(said, list) and kind in said)
