"""The calls of batches."""

from typing import Final

from easypay import errors
from easypay.api import batches
from easypay.api.paging import Page
from easypay.api.route_types import BODY, KEY, Route
from easypay.batches.views import BatchView

_BATCH: Final = f"{batches.PATH}/{{id}}"


def _of_batch(handler: str, summary: str, description: str) -> Route:
    """Return a call that changes the state of a batch."""
    return Route(
        f"POST {_BATCH}/{handler}",
        f"batches_{handler}",
        summary,
        f"{description} Repeating the call changes nothing.",
        body=batches.ChangeBatch,
        body_required=False,
        replies={200: BatchView},
        scope=batches.SCOPE,
        errors=(*KEY, *BODY, errors.NotFound, errors.InvalidState, errors.DatabaseUnavailable),
    )


def _lines_of_batch(handler: str, summary: str, description: str) -> Route:
    """Return a call that streams something of each line of a batch."""
    return Route(
        f"GET {_BATCH}/{handler}",
        f"batches_{handler}",
        summary,
        f"{description} CSV (`Accept: text/csv`) or a JSON object per line "
        "(`Accept: application/jsonl`). The last line says how many there are; without it the file "
        "was cut off.",
        streams=True,
        scope=batches.READ_SCOPE,
        errors=(
            *KEY,
            errors.NotFound,
            errors.NotAcceptable,
            errors.ValidationFailed,
            errors.DatabaseUnavailable,
        ),
    )


BATCHES: Final[tuple[Route, ...]] = (
    Route(
        f"POST {batches.PATH}",
        "batches_upload",
        "Upload a batch",
        "A file of payments, captures, refunds and voids: JSON lines or CSV. Every line is "
        "checked. If one is wrong, the batch is `invalid` and nothing of it runs, unless "
        "`on_error=skip`. Otherwise it starts at once, unless `start=false`. The same file, or the "
        "same Idempotency-Key, is the same batch: 200. The key needs the scope `batches:write`, "
        "and the scopes of the calls that the lines stand for.",
        replies={200: BatchView, 201: BatchView},
        query=batches.QUERY,
        headers=("Idempotency-Key",),
        uploads=True,
        scope=batches.SCOPE,
        errors=(
            *KEY,
            errors.ValidationFailed,
            errors.BodyTooLarge,
            errors.UnsupportedMediaType,
            errors.RequestTimeout,
            errors.IdempotencyKeyMissing,
            errors.IdempotencyKeyInvalid,
            errors.IdempotencyKeyReused,
            errors.RequestInProgress,
            errors.TooManyUploads,
            errors.Overloaded,
            errors.DatabaseUnavailable,
        ),
    ),
    Route(
        f"GET {batches.PATH}",
        "batches_list_batches",
        "List batches",
        "All batches of the key's merchant and mode, newest first.",
        replies={200: Page},
        page_of=BatchView,
        query=("limit", "cursor"),
        scope=batches.READ_SCOPE,
        errors=(*KEY, errors.ValidationFailed, errors.DatabaseUnavailable),
    ),
    Route(
        f"GET {_BATCH}",
        "batches_get",
        "Read a batch",
        "Its state and how far it has come: lines by state, sums by outcome and currency, lines a "
        "second, and how long it will take.",
        replies={200: BatchView},
        scope=batches.READ_SCOPE,
        errors=(*KEY, errors.NotFound, errors.ValidationFailed, errors.DatabaseUnavailable),
    ),
    _of_batch("start", "Start a batch", "Runs a batch that is `ready`."),
    _of_batch(
        "pause",
        "Pause a batch",
        "No more lines begin. Those that are under way end within seconds.",
    ),
    _of_batch("resume", "Resume a batch", "Runs a paused batch on from where it was."),
    _of_batch(
        "cancel",
        "Cancel a batch",
        "No more lines begin, ever. What is done stays done: to undo it, void or refund.",
    ),
    _lines_of_batch(
        "results",
        "Read the results of a batch",
        "Every line with its state and outcome, in the order of the file, also while the batch "
        "runs.",
    ),
    _lines_of_batch(
        "errors",
        "Read what is wrong with a batch",
        "What is wrong with each line that cannot be run, and where.",
    ),
)
