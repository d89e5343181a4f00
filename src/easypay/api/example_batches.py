"""Examples of batches: a file in each format, what the API answers, and the streams of lines."""

import csv
import io
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from easypay import ids
from easypay.api.examples import AT, MERCHANT_UUID, PAYMENT_ID, Example, Examples, example_id
from easypay.api.http import encode
from easypay.batches.model import Batch, Progress, Sum
from easypay.batches.views import BatchErrorView, BatchLineView, batch_view
from easypay.exporting.statement import Format
from easypay.mode import Mode

BATCH_UUID: Final = example_id(ids.BATCH, "first")
BATCH_ID: Final = ids.typed(ids.BATCH, BATCH_UUID)
_CAPTURE: Final = {"operation": "capture", "payment": PAYMENT_ID, "line_reference": "order-1001"}
_VOID: Final = {"operation": "void", "payment": PAYMENT_ID}
_RUNNING: Final = Batch(
    merchant_id=MERCHANT_UUID,
    id=BATCH_UUID,
    mode=Mode.TEST,
    key="",
    name="november",
    format="jsonl",
    on_error="refuse",
    state="running",
    reason=None,
    digest=None,
    bytes=31_400,
    lines=300,
    wrong=0,
    last_line=300,
    next_line=151,
    lines_per_second=None,
    at_once=128,
    ran_s=0.0,
    running_since=AT,
    created_at=AT,
    started_at=AT,
    ended_at=None,
)


def upload_examples() -> dict[Format, tuple[str, str]]:
    """Return a file in each format: what it shows, and its text."""
    lines = "".join(f"{encode(each).decode()}\n" for each in (_CAPTURE, _VOID))
    return {
        Format.JSONL: ("A capture and a void", lines),
        Format.CSV: (
            "A capture",
            f"operation,payment,line_reference\ncapture,{PAYMENT_ID},order-1001\n",
        ),
    }


def batch_replies() -> dict[tuple[str, int], Examples]:
    """Return the answers to the calls of batches, by operation id and status."""
    sums = (
        Sum("capture", "done", "captured", "USD", 148, 370_000),
        Sum("capture", "failed", "invalid_state", "", 2, 0),
    )
    nothing = Progress(sums=(), claimed=0, open=0, now=AT)
    half = Progress(sums=sums, claimed=0, open=0, now=AT + timedelta(seconds=3))
    change = msgspec.structs.replace
    running = _shown(_RUNNING, half)
    new = _shown(_RUNNING, nothing)
    paused = _shown(change(_RUNNING, state="paused", ran_s=3.0, running_since=None), half)
    invalid = change(
        _RUNNING,
        state="invalid",
        reason="1 line is wrong. Correct the file and upload it again, or upload it with "
        "on_error=skip.",
        lines=0,
        wrong=1,
        started_at=None,
        running_since=None,
        ended_at=AT,
    )
    cancelled = change(_RUNNING, state="cancelled", ran_s=3.0, running_since=None, ended_at=AT)
    page = {"data": [running], "has_more": False, "next_cursor": None}
    return {
        ("batches_upload", 201): {
            "batch": Example("The batch: it runs", new),
            "invalid": Example("A line is wrong: nothing runs", _shown(invalid, nothing)),
        },
        ("batches_upload", 200): {"batch": Example("It was uploaded before", running)},
        ("batches_list_batches", 200): {"page": Example("One batch", page)},
        ("batches_get", 200): {"batch": Example("Half of it is done", running)},
        ("batches_start", 200): {"batch": Example("It runs", new)},
        ("batches_pause", 200): {"batch": Example("Paused", paused)},
        ("batches_resume", 200): {"batch": Example("It runs again", running)},
        ("batches_cancel", 200): {"batch": Example("Cancelled", _shown(cancelled, half))},
    }


def stream_examples(operation_id: str) -> Mapping[Format, str]:
    """Return the lines that a call streams, in each format."""
    line: msgspec.Struct
    if operation_id == "batches_errors":
        why = "amount must be an integer in minor units, such as 2500 for 25.00."
        line, word = BatchErrorView(12, "#/amount", "invalid", why), "errors"
    else:
        line, word = (
            BatchLineView(
                line=1,
                line_reference="order-1001",
                operation="capture",
                state="done",
                outcome="captured",
                detail=None,
                payment_id=PAYMENT_ID,
                operation_id=ids.typed(ids.OPERATION, example_id(ids.OPERATION, "capture")),
                amount=2500,
                currency="USD",
            ),
            "lines",
        )
    text = io.StringIO()
    names = line.__struct_fields__
    rows = [names, msgspec.structs.astuple(line), (word, 1, *[""] * (len(names) - 2))]
    csv.writer(text, lineterminator="\n").writerows(rows)
    end = encode({word: 1}).decode()
    return {Format.CSV: text.getvalue(), Format.JSONL: f"{encode(line).decode()}\n{end}\n"}


def _shown(batch: Batch, progress: Progress) -> Any:
    return msgspec.to_builtins(batch_view(batch, progress))
