"""The delimited text of the older interface: 68 fields, then the merchant's own fields."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from authorizenet_simulator.wire.amounts import two_decimals

Tree = Mapping[str, Any]
_POSITIONS: Final = 68
_NAME: Final = ("firstName", "lastName", "company", "address", "city", "state", "zip", "country")
_CHARGES: Final = ("tax", "duty", "shipping")
_BRANDS: Final = {"AmericanExpress": "American Express", "DinersClub": "Diners Club"}
"""Brands whose spelling here differs from the rest of the API."""


class Form(NamedTuple):
    """The delimiter and quote character, which the merchant may choose."""

    delimiter: str = ","
    encapsulation: str = ""


PLAIN: Final = Form()


def render(
    response: Tree, request: Tree, kind: str, form: Form = PLAIN, own: Iterable[str] = ()
) -> str:
    """Render a transactionResponse and its transactionRequest; `kind` is the older interface's
    name of the transaction type: auth_capture, auth_only, credit, void, ...; `own` are the values
    of the merchant's own fields."""
    code_and_text = reason(response)
    order, customer = request.get("order") or {}, request.get("customer") or {}
    bill_to, ship_to = request.get("billTo") or {}, request.get("shipTo") or {}
    tax_exempt = request.get("taxExempt")
    brand, prepaid = response["accountType"], response.get("prePaidCard") or {}
    values = [
        response["responseCode"],
        "1",
        *code_and_text,
        response["authCode"],
        response["avsResultCode"],
        response["transId"],
        order.get("invoiceNumber", ""),
        order.get("description", ""),
        two_decimals(prepaid.get("approvedAmount") or request.get("amount", "0")),
        "ECHECK" if brand == "eCheck" else "CC",
        kind,
        customer.get("id", ""),
        *(bill_to.get(name, "") for name in (*_NAME, "phoneNumber", "faxNumber")),
        bill_to.get("email") or customer.get("email", ""),
        *(ship_to.get(name, "") for name in _NAME),
        *(two_decimals(request[name]["amount"]) if request.get(name) else "" for name in _CHARGES),
        "" if tax_exempt is None else "TRUE" if tax_exempt in ("true", "1") else "FALSE",
        request.get("poNumber", ""),
        response.get("transHash", ""),
        response.get("cvvResultCode", ""),
        response.get("cavvResultCode", ""),
        *[""] * 10,
        response["accountNumber"],
        _BRANDS.get(brand, brand),
        response.get("splitTenderId", ""),
        prepaid.get("requestedAmount", ""),
        prepaid.get("balanceOnCard", ""),
    ]
    values += [""] * (_POSITIONS - len(values))
    values += own
    return form.delimiter.join(_quoted(value, form) for value in values)


def reason(response: Tree) -> tuple[str, str]:
    """Return the reason code and text of a transactionResponse."""
    if errors := response.get("errors"):
        return errors[0]["errorCode"], errors[0]["errorText"]
    (message,) = response["messages"]
    return message["code"], message["description"]


def _quoted(value: str, form: Form) -> str:
    """Quote a value and remove the delimiter or quote in it, so that positions stay countable."""
    if form.encapsulation:
        return form.encapsulation + value.replace(form.encapsulation, "") + form.encapsulation
    return value.replace(form.delimiter, "")
