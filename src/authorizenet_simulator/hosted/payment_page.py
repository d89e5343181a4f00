"""The payment page: takes a card or bank account and makes the transaction of its token, once.

A payment that fails may be tried again, one that was approved or is held may not.
"""

from typing import Any, Final
from urllib.parse import quote

import msgspec

from authorizenet_simulator import create_transaction
from authorizenet_simulator.hosted import page_html as html
from authorizenet_simulator.hosted import page_settings
from authorizenet_simulator.hosted.page_html import Answer, Form
from authorizenet_simulator.state.hosted_tokens import PageFreed, PageMinted, PageUsed
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.wire import amounts
from authorizenet_simulator.wire.replies import ApiError, Tree
from authorizenet_simulator.wire.schema import Complex, Schema, SchemaError

SHOW: Final = "/payment/payment"
PAY: Final = "/payment/submit"
_URL_MARKS: Final = "%/:=&?~#+!$,;'@()*[]"
_CARD: Final = "card"
_BANK: Final = "bank"
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def show(ledger: Ledger, rules: Schema, page: PageMinted, form: Form, now: int) -> Answer:
    return _payment_form(page, {}, None)


def _payment_form(page: PageMinted, said: Form, problem: str | None) -> Answer:
    """The form, with what was typed before except for the payment method."""
    asked = _decode(page.request)
    wanted = page_settings.options(page.settings, "hostedPaymentPaymentOptions")
    back = page_settings.options(page.settings, "hostedPaymentReturnOptions")
    button = page_settings.options(page.settings, "hostedPaymentButtonOptions").get("text")
    names = _address_fields(page, asked, said)
    parts = [] if problem is None else [html.paragraph(problem, error=True)]
    parts.append(html.facts(_order(page, asked)))
    forms = {
        _CARD: (html.card_fields(needs_code=wanted.get("cardCodeRequired") is True), True),
        _BANK: (_bank_fields(), False),
    }
    shown = {_CARD: wanted.get("showCreditCard"), _BANK: wanted.get("showBankAccount")}
    for method, (fields, default) in forms.items():
        if shown[method] if isinstance(shown[method], bool) else default:
            hidden = {"token": page.token, "method": method}
            parts.append(html.form(PAY, hidden, [*fields, *names], str(button or "Pay")))
    if cancel := back.get("cancelUrl"):
        parts.append(html.link(cancel, str(back.get("cancelUrlText") or "Cancel")))
    leaves = back.get("url") if back.get("showReceipt") is False else None
    form_to = page_settings.origin_of(leaves) if leaves else None
    return html.answer(html.page("Payment", *parts), form_to=form_to)


def _order(page: PageMinted, asked: Tree) -> list[tuple[str, str]]:
    told = page_settings.options(page.settings, "hostedPaymentOrderOptions")
    total = amounts.text(amounts.parse(asked["amount"]) or 0)
    amount = ("Amount", f"{total} {asked.get('currencyCode', '')}".strip())
    if told.get("show") is False:
        return [amount]
    order = asked.get("order", {})
    return [
        ("Merchant", str(told.get("merchantName") or "")),
        ("Invoice", order.get("invoiceNumber", "")),
        ("Description", order.get("description", "")),
        amount,
    ]


def _bank_fields() -> list[str]:
    return [
        html.field("routingNumber", "Routing number", longest=9, digits=True, required=True),
        html.field("accountNumber", "Account number", longest=17, digits=True, required=True),
        html.field("nameOnAccount", "Name on account", longest=22, required=True),
    ]


def _address_fields(page: PageMinted, asked: Tree, said: Form) -> list[str]:
    told = page_settings.options(page.settings, "hostedPaymentBillingAddressOptions")
    if told.get("show") is False:
        return []
    known = {**asked.get("billTo", {}), **said}
    return html.address_fields(known, required=told.get("required") is True)


def pay(ledger: Ledger, rules: Schema, page: PageMinted, form: Form, now: int) -> Answer:
    """Make the payment; the form again where it fails."""
    asked = _decode(page.request)
    request: Tree = {"transactionRequest": _transaction(rules, asked, form)}
    login = page.login
    whole = {"merchantAuthentication": {"name": login, "transactionKey": "-"}, **request}
    try:
        rules.check("createTransactionRequest", whole)
    except SchemaError:
        return _payment_form(page, form, "The payment data is incomplete or has a wrong form.")
    if page.ref_id:
        request["refId"] = page.ref_id
    # Used before it is paid: a crash in between must not leave a token that pays twice.
    ledger.do(PageUsed(page.token))
    try:
        reply = create_transaction.create(ledger, ledger.accounts[login], request, now)
    except ApiError as error:
        ledger.do(PageFreed(page.token))
        return _payment_form(page, form, error.text)
    response: Tree = reply.payload["transactionResponse"]
    if response["responseCode"] not in ("1", "4"):
        ledger.do(PageFreed(page.token))
        return _payment_form(page, form, response["errors"][0]["errorText"])
    return _receipt(page, asked, response)


def _transaction(rules: Schema, asked: Tree, form: Form) -> Tree:
    """The transactionRequest with the payment method and address of the form, in order."""
    if form.get("method") == _BANK:
        names = ("routingNumber", "accountNumber", "nameOnAccount")
        payment = {"bankAccount": {name: form.get(name, "") for name in names}}
    else:
        payment = {"creditCard": html.card_of(form)}
    bill_to = {**asked.get("billTo", {}), **{n: form[n] for n in html.ADDRESS if form.get(n)}}
    tree = {**asked, "payment": payment, **({"billTo": bill_to} if bill_to else {})}
    kind = rules.requests["createTransactionRequest"].fields["transactionRequest"].child
    return tree if kind is None else _in_order(kind, tree)


def _in_order(kind: Complex, tree: Tree) -> Tree:
    """As the schema has them, at this depth and below `billTo`."""
    fields = kind.fields
    ordered = {name: tree[name] for name in sorted(tree, key=lambda name: fields[name].rank)}
    inner = fields["billTo"].child if "billTo" in ordered else None
    if inner is not None:
        ranks = inner.fields
        ordered["billTo"] = dict(sorted(tree["billTo"].items(), key=lambda i: ranks[i[0]].rank))
    return ordered


def _receipt(page: PageMinted, asked: Tree, response: Tree) -> Answer:
    """What was paid, and the way back to the shop."""
    back = page_settings.options(page.settings, "hostedPaymentReturnOptions")
    url = back.get("url")
    if url and back.get("showReceipt") is False:
        status, headers, body = html.answer(html.page("Thank you"), 303)
        return status, [*headers, (b"location", quote(url, safe=_URL_MARKS).encode())], body
    held = response["responseCode"] == "4"
    parts = [
        html.paragraph(response["messages"][0]["description"]),
        html.facts(
            [
                *_order(page, asked),
                ("Payment method", f"{response['accountType']} {response['accountNumber']}"),
                ("Transaction", response["transId"]),
                ("Authorization code", response["authCode"]),
            ]
        ),
    ]
    if url:
        parts.append(html.link(url, str(back.get("urlText") or "Continue")))
    return html.answer(html.page("Your payment is under review" if held else "Thank you", *parts))
