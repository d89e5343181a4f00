"""The payment page: takes a card or bank account and pays its token's transaction once.

A failed payment may be tried again; an approved or held one may not.
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


def _payment_form(page: PageMinted, entered: Form, problem: str | None) -> Answer:
    """Build the form, filled with earlier input except for the payment method."""
    transaction = _decode(page.request)
    wanted = page_settings.options(page.settings, "hostedPaymentPaymentOptions")
    back = page_settings.options(page.settings, "hostedPaymentReturnOptions")
    button = page_settings.options(page.settings, "hostedPaymentButtonOptions").get("text")
    names = _address_fields(page, transaction, entered)
    parts = [] if problem is None else [html.paragraph(problem, error=True)]
    parts.append(html.facts(_order(page, transaction)))
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


def _order(page: PageMinted, transaction: Tree) -> list[tuple[str, str]]:
    shown = page_settings.options(page.settings, "hostedPaymentOrderOptions")
    total = amounts.text(amounts.parse(transaction["amount"]) or 0)
    amount = ("Amount", f"{total} {transaction.get('currencyCode', '')}".strip())
    if shown.get("show") is False:
        return [amount]
    order = transaction.get("order", {})
    return [
        ("Merchant", str(shown.get("merchantName") or "")),
        ("Invoice", order.get("invoiceNumber", "")),
        ("Description", order.get("description", "")),
        amount,
    ]


def _bank_fields() -> list[str]:
    return [
        html.field("routingNumber", "Routing number", max_length=9, digits=True, required=True),
        html.field("accountNumber", "Account number", max_length=17, digits=True, required=True),
        html.field("nameOnAccount", "Name on account", max_length=22, required=True),
    ]


def _address_fields(page: PageMinted, transaction: Tree, entered: Form) -> list[str]:
    shown = page_settings.options(page.settings, "hostedPaymentBillingAddressOptions")
    if shown.get("show") is False:
        return []
    known = {**transaction.get("billTo", {}), **entered}
    return html.address_fields(known, required=shown.get("required") is True)


def pay(ledger: Ledger, rules: Schema, page: PageMinted, form: Form, now: int) -> Answer:
    """Make the payment; show the form again if it fails."""
    transaction = _decode(page.request)
    request: Tree = {"transactionRequest": _transaction(rules, transaction, form)}
    login = page.login
    whole = {"merchantAuthentication": {"name": login, "transactionKey": "-"}, **request}
    try:
        rules.check("createTransactionRequest", whole)
    except SchemaError:
        return _payment_form(page, form, "The payment data is incomplete or badly formatted.")
    if page.ref_id:
        request["refId"] = page.ref_id
    # Marked as used before the payment: after a crash the token must not pay again.
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
    return _receipt(page, transaction, response)


def _transaction(rules: Schema, transaction: Tree, form: Form) -> Tree:
    """Add the form's payment method and address to the transactionRequest, in schema order."""
    if form.get("method") == _BANK:
        names = ("routingNumber", "accountNumber", "nameOnAccount")
        payment = {"bankAccount": {name: form.get(name, "") for name in names}}
    else:
        payment = {"creditCard": html.card_of(form)}
    bill_to = {**transaction.get("billTo", {}), **{n: form[n] for n in html.ADDRESS if form.get(n)}}
    tree = {**transaction, "payment": payment, **({"billTo": bill_to} if bill_to else {})}
    kind = rules.requests["createTransactionRequest"].fields["transactionRequest"].child
    return tree if kind is None else _in_order(kind, tree)


def _in_order(kind: Complex, tree: Tree) -> Tree:
    """Put the fields into the schema's order, at this level and below `billTo`."""
    fields = kind.fields
    ordered = {name: tree[name] for name in sorted(tree, key=lambda name: fields[name].rank)}
    inner = fields["billTo"].child if "billTo" in ordered else None
    if inner is not None:
        ranks = inner.fields
        ordered["billTo"] = dict(sorted(tree["billTo"].items(), key=lambda i: ranks[i[0]].rank))
    return ordered


def _receipt(page: PageMinted, transaction: Tree, response: Tree) -> Answer:
    """Build the receipt with a link back to the shop."""
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
                *_order(page, transaction),
                ("Payment method", f"{response['accountType']} {response['accountNumber']}"),
                ("Transaction", response["transId"]),
                ("Authorization code", response["authCode"]),
            ]
        ),
    ]
    if url:
        parts.append(html.link(url, str(back.get("urlText") or "Continue")))
    return html.answer(html.page("Your payment is under review" if held else "Thank you", *parts))
