"""Hosted pages: the API requests that issue a token, and the pages opened with it."""

import secrets
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs

import msgspec

from authorizenet_simulator.hosted import page_html as html
from authorizenet_simulator.hosted import page_settings, payment_page, profile_page
from authorizenet_simulator.hosted.page_html import Answer, Form
from authorizenet_simulator.profiles import profile_queries
from authorizenet_simulator.state import payment_methods
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.hosted_tokens import LIFETIME_MS, PageMinted
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.transactions.transaction_request import AUTH, CUSTOMER_KEPT, SALE
from authorizenet_simulator.wire import amounts
from authorizenet_simulator.wire.replies import ApiError, Handler, Reply, Tree
from authorizenet_simulator.wire.schema import Schema

_encode = msgspec.json.Encoder().encode


def mint_payment_page(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getHostedPaymentPageRequest: issue a token for one payment. Raises ApiError."""
    settings = page_settings.read(body.get("hostedPaymentSettings"), page_settings.PAYMENT)
    transaction: Tree = body["transactionRequest"]
    if transaction["transactionType"] not in (SALE, AUTH):
        raise ApiError("E00060")
    if "amount" not in transaction:
        raise ApiError("E00014", "Amount is required.")
    if not amounts.parse(transaction["amount"]) or transaction["amount"].strip().startswith("-"):
        raise ApiError("E00013", "Amount is invalid.")
    kept = {key: value for key, value in transaction.items() if key not in ("payment", "profile")}
    if (customer := kept.get("customer")) is not None:  # only the fields that transactions keep
        kept["customer"] = {key: customer[key] for key in customer if key in CUSTOMER_KEPT}
    request = payment_methods.without_card_numbers(_encode(kept).decode())
    return _mint(ledger, account, body, now, request, 0, settings)


def mint_profile_page(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getHostedProfilePageRequest: issue a token for a customer's page. Raises ApiError E00040."""
    settings = page_settings.read(body.get("hostedProfileSettings"), page_settings.PROFILE)
    profile = profile_queries.find(ledger, account, body)
    return _mint(ledger, account, body, now, "", profile.profile_id, settings)


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


METHODS: Final[dict[str, Handler]] = {
    "getHostedPaymentPageRequest": mint_payment_page,
    "getHostedProfilePageRequest": mint_profile_page,
}


PageHandler = Callable[[Ledger, Schema, PageMinted, Form, int], Answer]
PATHS: Final[dict[str, tuple[bool, PageHandler]]] = {
    payment_page.SHOW: (False, payment_page.show),
    payment_page.PAY: (False, payment_page.pay),
    profile_page.SHOW: (True, profile_page.show),
    profile_page.ADD: (True, profile_page.add),
}
"""Path -> whether the page is a profile's, and the function that answers."""


class _Refusal(Exception):
    """The error text shown instead of the page, and its HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def answer(ledger: Ledger, rules: Schema, method: str, path: str, data: bytes) -> Answer:
    """Answer a request for one of `PATHS`."""
    now = ledger.tick()
    try:
        if method != "POST":
            raise _Refusal(405, "This page is opened by a form that posts its token.")
        form = _form(data)
        page = _open(ledger, form.get("token", ""), now, profile=PATHS[path][0])
        return PATHS[path][1](ledger, rules, page, form, now)
    except _Refusal as refusal:
        body = html.page("This page cannot be shown", html.paragraph(str(refusal)))
        return html.answer(body, refusal.status)
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
