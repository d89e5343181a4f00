"""The page of a customer profile: stored payment methods, masked, and a form to add a card."""

from typing import Final

from authorizenet_simulator.hosted import page_html as html
from authorizenet_simulator.hosted.page_html import Answer, Form
from authorizenet_simulator.profiles import profile_reader, profile_requests
from authorizenet_simulator.state.customer_profiles import PaymentProfile, Profile
from authorizenet_simulator.state.hosted_tokens import PageMinted
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.wire.replies import ApiError, Tree
from authorizenet_simulator.wire.schema import Schema, SchemaError

SHOW: Final = "/customer/manage"
ADD: Final = "/customer/addPayment"
_REQUEST: Final = "createCustomerPaymentProfileRequest"


def show(ledger: Ledger, rules: Schema, page: PageMinted, form: Form, now: int) -> Answer:
    """Show the page when it is opened."""
    return _manage(ledger, page, {}, None)


def add(ledger: Ledger, rules: Schema, page: PageMinted, form: Form, now: int) -> Answer:
    """Store the form's card and show the page again, with the error if it failed."""
    settings = page.settings
    bill_to = {name: form[name] for name in html.ADDRESS if form.get(name)}
    payment_profile: Tree = {"billTo": bill_to} if bill_to else {}
    payment_profile["payment"] = {"creditCard": html.card_of(form)}
    body: Tree = {
        "merchantAuthentication": {"name": page.login, "transactionKey": "-"},
        "customerProfileId": str(page.profile_id),
        "paymentProfile": payment_profile,
        "validationMode": settings.get("hostedProfileValidationMode", "none"),
    }
    try:
        rules.check(_REQUEST, body)
        reply = profile_requests.create_payment(ledger, ledger.accounts[page.login], body, now)
    except SchemaError:
        problem = "The payment data is incomplete or badly formatted."
        return _manage(ledger, page, form, problem)
    except ApiError as error:
        return _manage(ledger, page, form, error.text)
    if reply.result != "Ok":
        return _manage(ledger, page, form, reply.text)
    return _manage(ledger, page, {}, None)


def _manage(ledger: Ledger, page: PageMinted, entered: Form, problem: str | None) -> Answer:
    profile = ledger.profiles.find(page.login, page.profile_id)
    if profile is None:
        gone = html.paragraph("This customer profile no longer exists.", error=True)
        return html.answer(html.page("Payment methods", gone), 410)
    settings = page.settings
    parts = [] if problem is None else [html.paragraph(problem, error=True)]
    parts.append(html.facts(_stored(profile)))
    needs_code = settings.get("hostedProfileCardCodeRequired", "").lower() == "true"
    fields = html.card_fields(needs_code=needs_code)
    if settings.get("hostedProfileBillingAddressOptions") != "showNone":
        needed = settings.get("hostedProfileBillingAddressRequired", "").lower() == "true"
        fields += html.address_fields(entered, required=needed)
    button = settings.get("hostedProfileSaveButtonText") or "Add this card"
    parts.append(html.form(ADD, {"token": page.token}, fields, button))
    if url := settings.get("hostedProfileReturnUrl"):
        parts.append(html.link(url, settings.get("hostedProfileReturnUrlText") or "Continue"))
    return html.answer(html.page("Payment methods", *parts))


def _stored(profile: Profile) -> list[tuple[str, str]]:
    if not profile.payments:
        return [("Stored payment methods", "none")]
    return [(_kind(each), _holder(each)) for each in profile.payments]


def _kind(payment: PaymentProfile) -> str:
    method = payment.method
    return f"{method.brand} XXXX{method.last4}".strip()


def _holder(payment: PaymentProfile) -> str:
    bill_to = profile_reader.tree(payment.bill_to)
    named = " ".join(bill_to[name] for name in ("firstName", "lastName") if name in bill_to)
    return named or "no name"
