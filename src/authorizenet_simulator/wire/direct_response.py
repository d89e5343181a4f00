"""The delimited text of the older interface: a transaction in 68 fields, then one's own."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from authorizenet_simulator.wire.amounts import two_decimals

Tree = Mapping[str, Any]
_POSITIONS: Final = 68
_NAME: Final = ("firstName", "lastName", "company", "address", "city", "state", "zip", "country")
_CHARGES: Final = ("tax", "duty", "shipping")
_BRANDS: Final = {"AmericanExpress": "American Express", "DinersClub": "Diners Club"}
"""Where this text spells a brand otherwise than the rest of the wire."""


class Form(NamedTuple):
    """How the positions are set apart; the merchant may choose."""

    delimiter: str = ","
    encapsulation: str = ""


PLAIN: Final = Form()


def render(
    response: Tree, asked: Tree, kind: str, form: Form = PLAIN, own: Iterable[str] = ()
) -> str:
    """`response` is a transactionResponse, `asked` its transactionRequest, `kind` the older
    name of the transaction type: auth_capture, auth_only, credit, void, ...; `own` the values
    of the merchant's own fields."""
    told = reason(response)
    order, customer = asked.get("order") or {}, asked.get("customer") or {}
    bill_to, ship_to = asked.get("billTo") or {}, asked.get("shipTo") or {}
    tax_exempt = asked.get("taxExempt")
    brand, prepaid = response["accountType"], response.get("prePaidCard") or {}
    values = [
        response["responseCode"],
        "1",
        *told,
        response["authCode"],
        response["avsResultCode"],
        response["transId"],
        order.get("invoiceNumber", ""),
        order.get("description", ""),
        two_decimals(prepaid.get("approvedAmount") or asked.get("amount", "0")),
        "ECHECK" if brand == "eCheck" else "CC",
        kind,
        customer.get("id", ""),
        *(bill_to.get(name, "") for name in (*_NAME, "phoneNumber", "faxNumber")),
        bill_to.get("email") or customer.get("email", ""),
        *(ship_to.get(name, "") for name in _NAME),
        *(two_decimals(asked[name]["amount"]) if asked.get(name) else "" for name in _CHARGES),
        "" if tax_exempt is None else "TRUE" if tax_exempt in ("true", "1") else "FALSE",
        asked.get("poNumber", ""),
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
    return form.delimiter.join(_set_apart(value, form) for value in values)


def reason(response: Tree) -> tuple[str, str]:
    """Reason code and text of a transactionResponse."""
    if errors := response.get("errors"):
        return errors[0]["errorCode"], errors[0]["errorText"]
    (message,) = response["messages"]
    return message["code"], message["description"]


def _set_apart(value: str, form: Form) -> str:
    """A value never holds what ends it, so that the positions can be counted."""
    if form.encapsulation:
        return form.encapsulation + value.replace(form.encapsulation, "") + form.encapsulation
    return value.replace(form.delimiter, "")
