"""An example of every reply, made by the code that makes real ones.

Money replies go through `decide` (`example_stories`) and all others through the views, so that
they cannot drift from what is sent.
"""

import csv
import io
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Any, Final

import msgspec

from easypay import ids
from easypay.api import admin, duplicates, events, paging, profiles, reading, settlements, webhooks
from easypay.api.customer_bodies import ValidityView
from easypay.api.example_batches import batch_replies
from easypay.api.example_stories import PROCESSOR, Told, as_json, stories
from easypay.api.examples import (
    API_KEY_UUID,
    AT,
    ATTEMPT_UUID,
    BREAK_UUID,
    CURSOR,
    CUSTOMER_UUID,
    ENDPOINT_UUID,
    EVENT_ID,
    EVENT_UUID,
    KEY,
    MERCHANT_UUID,
    METHOD_UUID,
    PAYMENT_ID,
    Example,
    Examples,
    example_id,
)
from easypay.api.http import encode
from easypay.api.notifications import Received
from easypay.api.numbered_pages import NumberedPage, Pagination
from easypay.api.statistics import statistics_view
from easypay.clock import rfc3339
from easypay.customers.erasure import waits_for_processor
from easypay.customers.erasure_rows import Erasure
from easypay.customers.erasure_views import erasure_view
from easypay.customers.model import Customer, Failure, Method, State
from easypay.customers.paying import CustomerOfPayment
from easypay.customers.refusals import why_failed
from easypay.customers.views import customer_view, method_view
from easypay.exporting.columns import COLUMNS
from easypay.exporting.statement import Format, end_of, head_of
from easypay.merchants.model import ApiKey, Merchant
from easypay.mode import Mode
from easypay.payments.duplicate_report import Group, Member
from easypay.payments.event_objects import API_VERSION, FeedEventView
from easypay.payments.expansion import expanded, with_customer
from easypay.payments.statistics import Bucket, Question, Statistics, nothing
from easypay.payments.views import operation_view, payment_view, refund_view
from easypay.reconciliation.model import Break
from easypay.reconciliation.state import AccountState, OpenOfKind
from easypay.reconciliation.views import break_view, state_view
from easypay.settlement.lists import BrandSums, Settled, Settlement
from easypay.settlement.statements import Sum, Sums
from easypay.webhooks.model import Attempt, Endpoint

_REPLIES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "payments_create": (
        ("captured", "Captured: the money is taken"),
        ("by_stored", "Captured with a stored payment method"),
        ("flagged", "Captured, and it looks like an earlier payment"),
        ("authorized", "Authorized: the money is held until it is captured"),
        ("declined", "Declined: the issuer said no; an outcome, not an error"),
        ("in_review", "In review: a person at the processor decides"),
        ("never_happened", "Replayed: unknown at first, then proven never to have happened"),
        ("processing", "Processing: the outcome is not known yet"),
    ),
    "payments_capture": (
        ("capture", "Captured in full"),
        ("capture_part", "Captured in part; the rest of the hold is released"),
        ("capture_unknown", "The outcome is not known yet; the payment is shown as it was"),
    ),
    "payments_void": (
        ("void", "The hold is released"),
        ("void_capture", "A capture that had not settled is undone"),
        ("void_unknown", "The outcome is not known yet; the payment is shown as it was"),
    ),
    "payments_approve": (
        ("approve", "Approved: the money is taken"),
        ("approve_unknown", "The outcome is not known yet; the payment is shown as it was"),
    ),
    "payments_decline": (
        ("decline", "Declined: what was held is released"),
        ("decline_unknown", "The outcome is not known yet; the payment is shown as it was"),
    ),
    "payments_refund": (
        ("refund", "Refunded"),
        ("refund_void", "All of it, before it settled: the payment is voided"),
        ("refund_failed", "The processor declined the refund: no money moved"),
        ("refund_absent", "Replayed: unknown at first, then proven never to have happened"),
        ("refund_unknown", "The outcome is not known yet"),
    ),
}


def reply_examples(operation_id: str, status: int) -> Examples:
    """What the call answers with that status, as JSON values. Empty where there is no body."""
    told = stories()
    if operation_id in _REPLIES:
        return {
            name: Example(summary, told[name].value)
            for name, summary in _REPLIES[operation_id]
            if told[name].status == status
        }
    return _reads().get((operation_id, status), {})


def _page(*data: Any, more: bool = False) -> Any:
    return as_json(paging.Page(list(data), more, CURSOR if more else None))


@cache
def _reads() -> dict[tuple[str, int], Examples]:
    """Replies of the calls that move no money."""
    return (
        _payment_reads()
        | _reads_of_parts()
        | _feed()
        | _statistics()
        | _settlements()
        | batch_replies()
        | _reconciliation()
        | _webhooks()
        | _customers()
        | _administration()
        | {
            ("notifications_receive", 200): {
                "received": Example("Stored, or stored before", as_json(Received(True)))
            }
        }
    )


def _payment_reads() -> dict[tuple[str, int], Examples]:
    told = stories()
    refund = told["refund"]
    with_refunds = expanded(payment_view(refund.payment), [refund.operation], ["refunds"])
    by_stored = payment_view(told["by_stored"].payment)
    with_its_customer = with_customer(by_stored, {_CUSTOMER.id: _CUSTOMER})
    return {
        ("payments_list", 200): {
            "page": Example(
                "Two payments, and more to come",
                _page(
                    payment_view(refund.payment), payment_view(told["declined"].payment), more=True
                ),
            ),
            "last": Example("Nothing (more)", _page()),
            "expanded": Example("With its refunds (`expand=refunds`)", _page(with_refunds)),
            "numbered": Example(
                "The second of two pages (`page=2&size=1`)",
                as_json(
                    NumberedPage(
                        [payment_view(told["declined"].payment)], Pagination(2, 1, 2, 2, False)
                    )
                ),
            ),
        },
        ("payments_get", 200): {
            "captured": Example(
                "Captured, then refunded in part", as_json(payment_view(refund.payment))
            ),
            "processing": Example(
                "Its outcome is still unknown", as_json(payment_view(told["processing"].payment))
            ),
            "declined": Example("Declined", as_json(payment_view(told["declined"].payment))),
            "expanded": Example("With its refunds (`expand=refunds`)", as_json(with_refunds)),
            "customer": Example(
                "With its customer (`expand=customer`)", as_json(with_its_customer)
            ),
        },
    }


_CUSTOMER: Final = CustomerOfPayment(
    CUSTOMER_UUID, "C-7781", "ada@example.com", "Ada Byron", None, deleted=False
)


def _reads_of_parts() -> dict[tuple[str, int], Examples]:
    """Refunds, operations, events and keys."""
    told = stories()
    sold, refund = told["captured"], told["refund"]
    used = reading.KeyView(
        key=KEY,
        payment_id=PAYMENT_ID,
        operation_id=ids.typed(ids.OPERATION, sold.operation.id),
        kind="sale",
        state="approved",
        reply_status=201,
        created_at=rfc3339(AT),
        expires_at=rfc3339(AT + timedelta(days=30)),
    )
    running = msgspec.structs.replace(used, state="in_flight", reply_status=None)
    no = told["never_happened"]
    lost = "No charge was found at the processor, with the evidence"
    return {
        ("payments_list_refunds", 200): {
            "page": Example("One refund", _page(refund_view(refund.operation, PROCESSOR)))
        },
        ("payments_duplicates", 200): {
            "page": Example("One order, charged twice under two keys", _page(_twice(told))),
            "last": Example("Nothing (more)", _page()),
        },
        ("payments_get_refund", 200): {
            "refund": Example("Refunded", as_json(refund_view(refund.operation, PROCESSOR)))
        },
        ("payments_get_operation", 200): {
            "sale": Example("A sale", as_json(operation_view(sold.operation, PROCESSOR)))
        },
        ("payments_refunds", 200): {
            "page": Example("One refund", _page(refund_view(refund.operation, PROCESSOR)))
        },
        ("payments_operations", 200): {
            "page": Example(
                "A sale, and a refund of part of it",
                _page(
                    operation_view(sold.operation, PROCESSOR),
                    operation_view(refund.operation, PROCESSOR),
                ),
            ),
            "absent": Example(lost, _page(operation_view(no.operation, PROCESSOR))),
        },
        ("payments_events", 200): {
            "page": Example("Captured, then refunded", _page(sold.event, refund.event))
        },
        ("payments_key", 200): {
            "answered": Example("It made a payment, and 201 was answered", as_json(used)),
            "running": Example("Still running", as_json(running)),
        },
    }


def _feed() -> dict[tuple[str, int], Examples]:
    """The merchant's events, each with its payment."""
    told = stories()
    found = [
        FeedEventView(
            **msgspec.json.decode(encode(each.event)),
            api_version=API_VERSION,
            mode=Mode.TEST,
            data=payment_view(each.payment),
        )
        for each in (told["captured"], told["refund"])
    ]
    return {
        ("events_list", 200): {
            "page": Example(
                "Captured, then refunded", as_json(events.FeedEventPage(found, False, CURSOR))
            ),
            "none": Example("Nothing new", as_json(events.FeedEventPage([], False, CURSOR))),
        }
    }


def _statistics() -> dict[tuple[str, int], Examples]:
    flows = {"sold": (110, 275_000), "refunded": (4, 10_000), "declined": (10, 25_000)}
    now = {"captured": (110, 275_000), "declined": (10, 25_000)}
    tally = nothing()
    for name, numbers in (flows | {f"now_{name}": each for name, each in now.items()}).items():
        tally.add(name, *numbers)
    for code, count in (("insufficient_funds", 7), ("expired_card", 3)):
        tally.add_decline(code, count)
    days = [
        AT.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=n) for n in (0, 1, 2)
    ]
    found = Statistics(
        "UTC", [Bucket(days[0], days[1], {("USD", None): tally}), Bucket(days[1], days[2])]
    )
    question = Question(MERCHANT_UUID, Mode.TEST, days[0], days[2], "day")
    return {
        ("statistics_read", 200): {
            "days": Example(
                "Two days; nothing happened on the second",
                as_json(statistics_view(question, found)),
            )
        }
    }


def _settlements() -> dict[tuple[str, int], Examples]:
    sums = Sums(Sum(110, 275_000), Sum(4, 10_000), Sum(0, 0), Sum(1, 2_500), Sum(0, 0))
    settled = AT.replace(hour=23, minute=0, second=12, microsecond=0)
    batch = settlements.settlement_view(
        Settlement("12345678", settled, "card", [BrandSums("USD", "visa", sums)])
    )
    sold = stories()["captured"]
    charge = settlements.settled_view(
        Settled(
            *("12345678", settled, "charge", sold.operation.id, sold.payment.captured_minor, "USD"),
            *(sold.payment.answer.transaction_id or "", "charged_back", None, None, None),
        )
    )
    return {
        ("settlements_list_batches", 200): {
            "page": Example("One batch, with a chargeback that was found later", _page(batch)),
            "last": Example("Nothing has settled", _page()),
        },
        ("settlements_get", 200): {"batch": Example("A batch", as_json(batch))},
        ("settlements_of_payment", 200): {
            "page": Example("A charge that was charged back", _page(charge)),
            "last": Example("Nothing has settled yet", _page()),
        },
    }


def export_examples() -> dict[Format, str]:
    """An export with one payment, in each format that the API gives."""
    payment = as_json(payment_view(stories()["captured"].payment))
    cells = io.StringIO()
    csv.writer(cells, lineterminator="\n").writerow(_cell(payment, each.field) for each in COLUMNS)
    lines = {Format.CSV: cells.getvalue(), Format.JSONL: f"{encode(payment).decode()}\n"}
    return {
        format: f"{head_of(format).decode()}{line}{end_of(format, 1).decode()}"
        for format, line in lines.items()
    }


def _cell(payment: Any, field: str) -> Any:
    """Return a field of a payment, in CSV."""
    value = payment
    for name in field.split("."):
        value = value.get(name)
    return None if value == {} else value


def _twice(told: Mapping[str, Told]) -> duplicates.DuplicateGroupView:
    first, second = told["captured"].payment, told["flagged"].payment
    return duplicates.group_view(
        Group(
            amount_minor=first.amount_minor,
            currency=first.currency,
            order_reference=first.details.order_reference,
            method_type=first.method_type,
            card_brand=first.card_brand,
            card_last4=first.card_last4,
            card_exp_month=first.card_exp_month,
            card_exp_year=first.card_exp_year,
            members=[Member(each.id, each.status, each.created_at) for each in (first, second)],
        )
    )


def _reconciliation() -> dict[tuple[str, int], Examples]:
    found = Break(
        id=BREAK_UUID,
        account=b"",
        kind="unexplained_charge",
        subject="60012345678",
        state="open",
        owner=None,
        merchant_id=MERCHANT_UUID,
        mode="test",
        payment_id=None,
        operation_id=None,
        batch_id="12345678",
        transaction_id="60012345678",
        reference="INV-4711",
        our_state=None,
        our_minor=None,
        our_currency=None,
        their_state="settledSuccessfully",
        their_minor=4_900,
        their_currency="USD",
        last4="1111",
        happened_at=AT,
        found_at=AT + timedelta(hours=1),
        closed_at=None,
        closed_by=None,
        reason=None,
    )
    matched = msgspec.structs.replace(
        found,
        state="matched",
        closed_at=AT + timedelta(hours=2),
        closed_by="key_019b2f64a1d2700088f1c2a3b4d5e6f7",
        reason="taken by telephone, invoice 4711",
    )
    read = AccountState(
        bytes.fromhex("5d0f3a61c2b7"), AT, AT, AT + timedelta(seconds=4), None, None, None, 0.0
    )
    told = state_view([read], [OpenOfKind("unexplained_charge", 1, found.found_at, 0.0)])
    shown, closed = break_view(found), break_view(matched)
    return {
        ("reconciliation_state", 200): {"state": Example("One difference", as_json(told))},
        ("reconciliation_list_breaks", 200): {
            "page": Example("A charge that nobody explains", _page(shown)),
            "last": Example("Nothing differs", _page()),
        },
        ("reconciliation_get", 200): {"break": Example("A difference", as_json(shown))},
        ("reconciliation_match", 200): {"matched": Example("Explained", as_json(closed))},
    }


def _webhooks() -> dict[tuple[str, int], Examples]:
    endpoint = Endpoint(
        MERCHANT_UUID, Mode.TEST, ENDPOINT_UUID, "https://shop.example/easypay", "The web shop",
        [], "enabled", None, None, None, AT, AT,
    )  # fmt: skip
    change = msgspec.structs.replace
    shown = webhooks.endpoint_view(endpoint)
    until = AT + timedelta(hours=1)
    rotated = webhooks.endpoint_view(change(endpoint, old_secret_until=until))
    paused = webhooks.endpoint_view(change(endpoint, state="paused"))
    failed = Attempt(
        ATTEMPT_UUID, MERCHANT_UUID, ENDPOINT_UUID, EVENT_UUID,
        "payment.captured", 1, "failed", endpoint.url, AT, 38, 500, "the endpoint answered 500",
        "Internal Server Error",
    )  # fmt: skip
    delivered = change(
        failed,
        id=example_id(ids.ATTEMPT, "second", AT + timedelta(seconds=5)),
        attempt=2,
        outcome="delivered",
        sent_at=AT + timedelta(seconds=5),
        status=200,
        reason=None,
        answer="ok",
    )
    secret = "whsec_<44 characters>"  # noqa: S105
    made = as_json(webhooks.NewEndpointView(shown, secret))
    renewed = as_json(webhooks.NewEndpointView(rotated, secret))
    attempts = _page(*map(webhooks.attempt_view, (delivered, failed)))
    sent = as_json(webhooks.TestSentView(EVENT_ID))
    told = {
        "Content-Type": "application/json",
        "webhook-id": EVENT_ID,
        "webhook-timestamp": str(int(AT.timestamp())),
    }
    request = webhooks.SentRequestView(told, '{"type":"payment.captured",…}')
    shown_failure = webhooks.DeliveryView(webhooks.attempt_view(failed), request)
    return {
        ("webhooks_create", 201): {"endpoint": Example("The endpoint and its secret", made)},
        ("webhooks_list_endpoints", 200): {"page": Example("One endpoint", _page(shown))},
        ("webhooks_get", 200): {"endpoint": Example("The endpoint", as_json(shown))},
        ("webhooks_update", 200): {"paused": Example("Paused", as_json(paused))},
        ("webhooks_rotate_secret", 201): {"secret": Example("The new secret", renewed)},
        ("webhooks_send_test", 202): {"event": Example("The event that is sent", sent)},
        ("webhooks_deliveries", 200): {"page": Example("A failure, then a success", attempts)},
        ("webhooks_delivery", 200): {"delivery": Example("A failure", as_json(shown_failure))},
        ("webhooks_redeliver", 202): {
            "count": Example("How many are sent", as_json(webhooks.RedeliveryView(12)))
        },
    }


def _customers() -> dict[tuple[str, int], Examples]:
    change = msgspec.structs.replace
    customer = Customer(
        MERCHANT_UUID, Mode.TEST, CUSTOMER_UUID, "C-7781", "ada@example.com", "Ada Byron", None,
        None, METHOD_UUID, 2, AT, AT, None, None,
    )  # fmt: skip
    stored = Method(
        MERCHANT_UUID, Mode.TEST, METHOD_UUID, CUSTOMER_UUID, METHOD_UUID, METHOD_UUID, PROCESSOR,
        "921048213", "912874461", State.ACTIVE, "card", "accept_token", None, "visa", "1111", 12,
        2030, None, None, None, None, 2, b"", AT, AT, AT, is_default=True,
    )  # fmt: skip
    making = change(
        stored, state=State.MAKING, brand=None, last4=None, exp_month=None, exp_year=None,
        version=1, is_default=False,
    )  # fmt: skip
    new = as_json(customer_view(change(customer, default_method=None, version=1)))
    shown, method = as_json(customer_view(customer)), as_json(method_view(stored))
    renewed = as_json(method_view(change(stored, exp_month=11, exp_year=2034, version=3)))
    declined = why_failed(Failure("card_declined"))
    return {
        ("customers_create", 201): {"customer": Example("The new customer", new)},
        ("customers_list", 200): {"page": Example("One customer", _page(customer_view(customer)))},
        ("customers_get", 200): {"customer": Example("The customer", shown)},
        ("customers_update", 200): {"customer": Example("The customer", shown)},
        **_erasures(customer),
        ("customers_store_method", 200): {
            "existed": Example("The customer has this card already", method)
        },
        ("customers_store_method", 201): {"stored": Example("Stored", method)},
        ("customers_store_method", 202): {
            "making": Example("The processor has not answered yet", as_json(method_view(making)))
        },
        ("customers_list_methods", 200): {"page": Example("One card", _page(method_view(stored)))},
        ("customers_get_method", 200): {"method": Example("A card", method)},
        ("customers_update_method", 200): {"renewed": Example("The card was renewed", renewed)},
        ("customers_update_method", 202): {
            "wanted": Example("The processor has not answered yet; it is shown as it was", method)
        },
        ("customers_validate_method", 200): {
            "valid": Example("Good", as_json(ValidityView(True, None, None, None))),
            "declined": Example(
                "Declined",
                as_json(ValidityView(False, declined, "2", "This transaction has been declined.")),
            ),
        },
    }


def _erasures(customer: Customer) -> dict[tuple[str, int], Examples]:
    begun = Erasure(
        MERCHANT_UUID, Mode.TEST, CUSTOMER_UUID, "erasing", False, "methods", METHOD_UUID,
        METHOD_UUID, METHOD_UUID, METHOD_UUID, [], {"payments": 3, "operations": 3},
        waits_for_processor(1, 1), AT, AT, None,
    )  # fmt: skip
    done = msgspec.structs.replace(
        begun, state="erased", step="done", waiting_for=None, erased_at=AT,
        rows={**begun.rows, "customers": 1, "payment_methods": 1, "customer_events": 4},
    )  # fmt: skip
    return {
        ("customers_erase", 200): {
            "erased": Example("Erased", as_json(erasure_view(done, customer, [])))
        },
        ("customers_erase", 202): {
            "erasing": Example(
                "The processor has not answered yet", as_json(erasure_view(begun, customer, []))
            )
        },
    }


def _profile() -> profiles.ProfileView:
    call = "HttpClient.post (easypay/processors/authorize_net/http_client.py:212)"
    frames = ["POST /api/v1/payments", call, "waits for: processor"]
    return profiles.ProfileView("wait", "samples", 4711, 30.0, [profiles.StackView(frames, 1_284)])


def _administration() -> dict[tuple[str, int], Examples]:
    merchant = Merchant(
        MERCHANT_UUID, "Example Shop", ["USD"], False, AT, AT, None, "return", "off", 120, "UTC",
        0,
    )  # fmt: skip
    key = ApiKey(
        MERCHANT_UUID, API_KEY_UUID, Mode.TEST, "checkout", "x7Qp",
        ["payments:read", "payments:write", "refunds:write"], AT, None, None,
    )  # fmt: skip
    secret = admin.NewKeyView(admin.key_view(key), "ep_test_sk_<8 characters>_<38 more>")
    revoked = msgspec.structs.replace(key, revoked_at=AT + timedelta(days=9))
    shop = admin.merchant_view(merchant)
    return {
        ("admin_create_merchant", 201): {"merchant": Example("The new merchant", as_json(shop))},
        ("admin_list_merchants", 200): {"page": Example("All merchants", _page(shop))},
        ("admin_get_merchant", 200): {"merchant": Example("The merchant", as_json(shop))},
        ("admin_update_merchant", 200): {
            "disabled": Example(
                "Disabled",
                as_json(admin.merchant_view(msgspec.structs.replace(merchant, disabled_at=AT))),
            )
        },
        ("admin_create_key", 201): {"key": Example("The key and its secret", as_json(secret))},
        ("admin_list_keys", 200): {"page": Example("One key", _page(admin.key_view(key)))},
        ("admin_rotate_key", 201): {
            "key": Example("The successor and its secret", as_json(secret))
        },
        ("profiles_take", 200): {"wait": Example("Where tasks waited", as_json(_profile()))},
        ("admin_revoke_key", 200): {
            "revoked": Example("Revoked", as_json(admin.key_view(revoked)))
        },
    }
