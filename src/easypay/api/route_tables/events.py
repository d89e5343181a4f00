"""The calls by which a merchant learns what happened: events, and webhooks."""

from typing import Final

from easypay import errors
from easypay.api import events, webhooks
from easypay.api.paging import Page
from easypay.api.route_types import BODY, KEYED, LIST, Route, list_of_payment
from easypay.payments.views import EventView

_ENDPOINT: Final = "/api/v1/webhook-endpoints/{id}"

EVENTS: Final[tuple[Route, ...]] = (
    list_of_payment(
        EventView,
        "events",
        "List a payment's events",
        "Every change of the payment, oldest first.",
    ),
    Route(
        "GET /api/v1/events",
        "events_list",
        "List events",
        "All that happened to the payments of the key's merchant and mode, oldest first, each with "
        "the payment as it was then. The order never changes, and nothing is put before what was "
        "shown: ask again with `next_cursor` as `after` for what came later. An event may come "
        "twice, with the same id. `Prefer: wait=30` waits for an event if there is none.",
        replies={200: events.FeedEventPage},
        query=events.QUERY,
        headers=("Prefer",),
        scope="events:read",
        errors=LIST,
    ),
)
WEBHOOKS: Final[tuple[Route, ...]] = (
    Route(
        "POST /api/v1/webhook-endpoints",
        "webhooks_create",
        "Create a webhook endpoint",
        "An address that is told of events from now on, of all types or of some. The reply shows "
        "the secret with which messages are signed. It cannot be shown again.",
        body=webhooks.CreateEndpoint,
        replies={201: webhooks.NewEndpointView},
        scope=webhooks.SCOPE,
        errors=(*KEYED, *BODY),
    ),
    Route(
        "GET /api/v1/webhook-endpoints",
        "webhooks_list_endpoints",
        "List webhook endpoints",
        "All endpoints of the key's merchant and mode, oldest first, without their secrets.",
        replies={200: Page},
        page_of=webhooks.EndpointView,
        scope=webhooks.SCOPE,
        errors=(*KEYED, errors.ValidationFailed),
    ),
    Route(
        f"GET {_ENDPOINT}",
        "webhooks_get",
        "Read a webhook endpoint",
        "Its state, and since when it has been failing.",
        replies={200: webhooks.EndpointView},
        scope=webhooks.SCOPE,
        errors=(*KEYED, errors.NotFound),
    ),
    Route(
        f"PATCH {_ENDPOINT}",
        "webhooks_update",
        "Change or pause a webhook endpoint",
        "Changes the fields that are sent. `paused: true` lets events wait; `paused: false` sends "
        "what has waited, and enables an endpoint that was disabled.",
        body=webhooks.UpdateEndpoint,
        replies={200: webhooks.EndpointView},
        scope=webhooks.SCOPE,
        errors=(*KEYED, *BODY, errors.NotFound),
    ),
    Route(
        f"DELETE {_ENDPOINT}",
        "webhooks_delete",
        "Delete a webhook endpoint",
        "Nothing more is sent to it, not even what was waiting.",
        replies={204: None},
        scope=webhooks.SCOPE,
        errors=(*KEYED, errors.NotFound),
    ),
    Route(
        f"POST {_ENDPOINT}/rotate-secret",
        "webhooks_rotate_secret",
        "Rotate a webhook secret",
        "Creates a new secret. Until the overlap ends messages carry a signature of each secret. "
        "The newest three sign.",
        body=webhooks.RotateSecret,
        body_required=False,
        replies={201: webhooks.NewEndpointView},
        scope=webhooks.SCOPE,
        errors=(*KEYED, *BODY, errors.NotFound),
    ),
    Route(
        f"POST {_ENDPOINT}/test",
        "webhooks_send_test",
        "Send a test event",
        "Sends an event of type `webhook.test`, whatever types the endpoint wants. What became of "
        "it is in the list of deliveries.",
        body=webhooks.SendTest,
        body_required=False,
        replies={202: webhooks.TestSentView},
        scope=webhooks.SCOPE,
        errors=(*KEYED, *BODY, errors.NotFound),
    ),
    Route(
        f"GET {_ENDPOINT}/deliveries",
        "webhooks_deliveries",
        "List deliveries",
        "Every attempt of the last 30 days with what the endpoint answered, newest first.",
        replies={200: Page},
        page_of=webhooks.AttemptView,
        query=("limit", "cursor"),
        scope=webhooks.SCOPE,
        errors=(*KEYED, errors.NotFound, errors.ValidationFailed),
    ),
    Route(
        f"GET {_ENDPOINT}/deliveries/{{attempt_id}}",
        "webhooks_delivery",
        "Read a delivery",
        "One attempt with what was sent and what the endpoint answered. The request is made again "
        "from the event, so it has no signature.",
        replies={200: webhooks.DeliveryView},
        scope=webhooks.SCOPE,
        errors=(*KEYED, errors.NotFound),
    ),
    Route(
        f"POST {_ENDPOINT}/redeliver",
        "webhooks_redeliver",
        "Send events again",
        "One event by its `event_id`, or all of the endpoint's types from `since` until `until`. "
        "They keep their ids, so a receiver that remembers ids does nothing twice.",
        body=webhooks.Redeliver,
        replies={202: webhooks.RedeliveryView},
        scope=webhooks.SCOPE,
        errors=(*KEYED, *BODY, errors.NotFound),
    ),
)
