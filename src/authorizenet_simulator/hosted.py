"""Hosted pages: the requests that give a token, and the pages that a browser opens with it.

A payment page takes the card in the simulator's own form and makes the transaction of its token,
once: a payment that fails may be tried again, one that was approved or is held may not.
"""

import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote

import msgspec

from authorizenet_simulator import (
    amounts,
    hosted_settings,
    instruments,
    schema,
    transactions,
)
from authorizenet_simulator import hosted_html as html
from authorizenet_simulator.answers import ApiError, Reply
from authorizenet_simulator.asks import AUTH, SALE
from authorizenet_simulator.hosted_tokens import LIFETIME_MS, PageFreed, PageMinted, PageUsed
from authorizenet_simulator.ledger import Account, Ledger

if TYPE_CHECKING:
    from authorizenet_simulator.simulator import Simulator

Tree = dict[str, Any]
Form = Mapping[str, str]
Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]
"""HTTP status, headers, body."""

_PAY: Final = "/payment/submit"
_URL_MARKS: Final = "%/:=&?~#+!$,;'@()*[]"
_CARD: Final = "card"
_BANK: Final = "bank"
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def payment_page(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getHostedPaymentPageRequest: a token for one payment. Raises ApiError."""
    settings = hosted_settings.read(body.get("hostedPaymentSettings"), hosted_settings.PAYMENT)
    asked: Tree = body["transactionRequest"]
    if asked["transactionType"] not in (SALE, AUTH):
        raise ApiError("E00060")
    if "amount" not in asked:
        raise ApiError("E00014", "Amount is required.")
    if not amounts.parse(asked["amount"]) or asked["amount"].strip().startswith("-"):
        raise ApiError("E00013", "Amount is invalid.")
    kept = {key: value for key, value in asked.items() if key not in ("payment", "profile")}
    request = instruments.without_card_numbers(_encode(kept).decode())
    return _mint(ledger, account, body, now, request, 0, settings)


def profile_page(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getHostedProfilePageRequest: a token for one customer's page. Raises ApiError E00040."""
    hosted_settings.read(body.get("hostedProfileSettings"), hosted_settings.PROFILE)
    raise ApiError("E00040")


def _mint(
    ledger: Ledger,
    account: Account,
    body: Tree,
    now: int,
    request: str,
    profile_id: int,
    settings: dict[str, str],
) -> Reply:
    token = secrets.token_urlsafe(96)
    ref_id = body.get("refId", "")
    ledger.do(
        PageMinted(token, account.login, now + LIFETIME_MS, request, profile_id, ref_id, settings)
    )
    return Reply({"token": token})


METHODS: Final[dict[str, Callable[[Ledger, Account, Tree, int], Reply]]] = {
    "getHostedPaymentPageRequest": payment_page,
    "getHostedProfilePageRequest": profile_page,
}


class _Refusal(Exception):
    """What is shown in place of the page, and its HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def answer(simulator: "Simulator", method: str, path: str, data: bytes) -> Answer:
    """The page at one of `PATHS`."""
    ledger = simulator.ledger
    now = ledger.tick()
    try:
        if method != "POST":
            raise _Refusal(405, "This page is opened by a form that posts its token.")
        form = _form(data)
        page = _open(ledger, form.get("token", ""), now, profile=PATHS[path][0])
        return PATHS[path][1](simulator, page, form, now)
    except _Refusal as refusal:
        body = html.page("This page cannot be shown", html.paragraph(str(refusal)))
        return _answer(body, refusal.status)
    finally:
        ledger.journal.flush()


def _form(data: bytes) -> Form:
    try:
        fields = parse_qs(data.decode(), max_num_fields=50)
    except ValueError:
        raise _Refusal(400, "The form cannot be read.") from None
    return {name: values[-1].strip() for name, values in fields.items()}


def _open(ledger: Ledger, token: str, now: int, *, profile: bool) -> PageMinted:
    if not token:
        raise _Refusal(400, "Missing or invalid token.")
    page = ledger.pages.find(token)
    if page is None or bool(page.profile_id) != profile:
        raise _Refusal(404, "Missing or invalid token: it is unknown, or expired long ago.")
    if ledger.pages.is_used(token):
        raise _Refusal(410, "This token has been used: the payment was made before.")
    if page.expires <= now:
        raise _Refusal(410, "This token has expired. Go back to the shop and begin again.")
    return page


def _answer(body: bytes, status: int = 200, policy: bytes | None = None) -> Answer:
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", policy or html.policy()),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-length", b"%d" % len(body)),
    ]
    return status, headers, body


# The payment page.


def _show_payment(simulator: "Simulator", page: PageMinted, form: Form, now: int) -> Answer:
    return _payment_form(page, {}, None)


def _payment_form(page: PageMinted, said: Form, problem: str | None) -> Answer:
    """The form, with what was typed before except for the payment method."""
    asked = _decode(page.request)
    wanted = hosted_settings.options(page.settings, "hostedPaymentPaymentOptions")
    back = hosted_settings.options(page.settings, "hostedPaymentReturnOptions")
    button = hosted_settings.options(page.settings, "hostedPaymentButtonOptions").get("text")
    names = _address_fields(page, asked, said)
    parts = [] if problem is None else [html.paragraph(problem, error=True)]
    parts.append(html.facts(_order(page, asked)))
    forms = {
        _CARD: (_card_fields(needs_code=wanted.get("cardCodeRequired") is True), True),
        _BANK: (_bank_fields(), False),
    }
    shown = {_CARD: wanted.get("showCreditCard"), _BANK: wanted.get("showBankAccount")}
    for method, (fields, default) in forms.items():
        if shown[method] if isinstance(shown[method], bool) else default:
            hidden = {"token": page.token, "method": method}
            parts.append(html.form(_PAY, hidden, [*fields, *names], str(button or "Pay")))
    if cancel := back.get("cancelUrl"):
        parts.append(html.link(cancel, str(back.get("cancelUrlText") or "Cancel")))
    leaves = back.get("url") if back.get("showReceipt") is False else None
    policy = html.policy(None if not leaves else hosted_settings.origin_of(leaves))
    return _answer(html.page("Payment", *parts), policy=policy)


def _order(page: PageMinted, asked: Tree) -> list[tuple[str, str]]:
    told = hosted_settings.options(page.settings, "hostedPaymentOrderOptions")
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


def _card_fields(*, needs_code: bool) -> list[str]:
    return [
        html.field("cardNumber", "Card number", longest=23, digits=True, required=True),
        html.field("expirationDate", "Expires (MM/YY)", longest=7, required=True),
        html.field("cardCode", "Card code", longest=4, digits=True, required=needs_code),
    ]


def _bank_fields() -> list[str]:
    return [
        html.field("routingNumber", "Routing number", longest=9, digits=True, required=True),
        html.field("accountNumber", "Account number", longest=17, digits=True, required=True),
        html.field("nameOnAccount", "Name on account", longest=22, required=True),
    ]


_ADDRESS: Final = {
    "firstName": ("First name", 50),
    "lastName": ("Last name", 50),
    "address": ("Address", 60),
    "city": ("City", 40),
    "state": ("State", 40),
    "zip": ("ZIP", 20),
    "country": ("Country", 60),
}


def _address_fields(page: PageMinted, asked: Tree, said: Form) -> list[str]:
    told = hosted_settings.options(page.settings, "hostedPaymentBillingAddressOptions")
    if told.get("show") is False:
        return []
    known = {**asked.get("billTo", {}), **said}
    return [
        html.field(
            name,
            label,
            value=known.get(name, ""),
            longest=longest,
            required=told.get("required") is True,
        )
        for name, (label, longest) in _ADDRESS.items()
    ]


def _pay(simulator: "Simulator", page: PageMinted, form: Form, now: int) -> Answer:
    """Make the payment; the form again where it fails."""
    asked = _decode(page.request)
    request: Tree = {"transactionRequest": _transaction(simulator.rules, asked, form)}
    login = page.login
    whole = {"merchantAuthentication": {"name": login, "transactionKey": "-"}, **request}
    try:
        simulator.rules.check("createTransactionRequest", whole)
    except schema.SchemaError:
        return _payment_form(page, form, "The payment data is incomplete or has a wrong form.")
    if page.ref_id:
        request["refId"] = page.ref_id
    ledger = simulator.ledger
    # Used before it is paid: a crash in between must not leave a token that pays twice.
    ledger.do(PageUsed(page.token))
    try:
        reply = transactions.create(ledger, ledger.accounts[login], request, now)
    except ApiError as error:
        ledger.do(PageFreed(page.token))
        return _payment_form(page, form, error.text)
    response: Tree = reply.payload["transactionResponse"]
    if response["responseCode"] not in ("1", "4"):
        ledger.do(PageFreed(page.token))
        return _payment_form(page, form, response["errors"][0]["errorText"])
    return _receipt(page, asked, response)


def _transaction(rules: schema.Schema, asked: Tree, form: Form) -> Tree:
    """The transactionRequest with the payment method and address of the form, in order."""
    if form.get("method") == _BANK:
        names = ("routingNumber", "accountNumber", "nameOnAccount")
        payment = {"bankAccount": {name: form.get(name, "") for name in names}}
    else:
        number = form.get("cardNumber", "").replace(" ", "").replace("-", "")
        card = {"cardNumber": number, "expirationDate": form.get("expirationDate", "")}
        if code := form.get("cardCode"):
            card["cardCode"] = code
        payment = {"creditCard": card}
    bill_to = {**asked.get("billTo", {}), **{n: form[n] for n in _ADDRESS if form.get(n)}}
    tree = {**asked, "payment": payment, **({"billTo": bill_to} if bill_to else {})}
    kind = rules.requests["createTransactionRequest"].fields["transactionRequest"].child
    return tree if kind is None else _in_order(kind, tree)


def _in_order(kind: schema.Complex, tree: Tree) -> Tree:
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
    back = hosted_settings.options(page.settings, "hostedPaymentReturnOptions")
    url = back.get("url")
    if url and back.get("showReceipt") is False:
        status, headers, body = _answer(html.page("Thank you"), 303)
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
    return _answer(html.page("Your payment is under review" if held else "Thank you", *parts))


Shower = Callable[["Simulator", PageMinted, Form, int], Answer]
PATHS: Final[dict[str, tuple[bool, Shower]]] = {
    "/payment/payment": (False, _show_payment),
    _PAY: (False, _pay),
}
"""Where the pages are: whether a profile's, and what answers."""
