"""The yardstick's statements and rows: what the gateway of commit 83f2a2e sent for a card sale.

They are frozen. Never change them with the gateway's own: then rates of different years could not
be compared. A migration must keep what they need: the types `payment_intent` and
`recorded_change_2`, and inserts that name no newer column.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from easypay import clock, ids
from easypay.payments.statements import Statement

Row = tuple[Any, ...]
"""A row of a statement's composite type."""

BEGIN_SQL: Final = """
    WITH input AS (
        SELECT * FROM unnest($1::payment_intent[])
    ), claimed AS (
        INSERT INTO idempotency_keys
            (merchant_id, mode, key, fingerprint, operation_id, payment_id, created_at)
        SELECT merchant_id, mode, key, fingerprint, operation_id, payment_id, at FROM input
        ON CONFLICT DO NOTHING
        RETURNING operation_id
    ), fresh AS (
        SELECT i.* FROM input i JOIN claimed USING (operation_id)
    ), new_payments AS (
        INSERT INTO payments (merchant_id, id, mode, status, amount_minor, currency, capture,
            active_operation, method_type, card_brand, card_last4, card_exp_month, card_exp_year,
            card_fingerprint, processor, order_reference, customer_reference, description,
            statement_descriptor, customer, billing_address, metadata, created_at, updated_at)
        SELECT merchant_id, payment_id, mode, 'processing', amount_minor, currency, capture,
            operation_id, method_type, card_brand, card_last4, card_exp_month, card_exp_year,
            card_fingerprint, processor, order_reference, customer_reference, description,
            statement_descriptor, customer, billing_address, metadata, at, at
          FROM fresh
    ), new_operations AS (
        INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor,
            currency, reference, begun_at)
        SELECT merchant_id, operation_id, payment_id, mode, kind, 'in_flight', amount_minor,
            currency, reference, now()
          FROM fresh
    )
    SELECT operation_id FROM claimed
"""

# `easypay.payments.statements.in_months` fills in the month's tables.
RECORD_SQL: Final = """
    WITH input AS (
        SELECT * FROM unnest($1::recorded_change_2[])
    ), finished AS (
        UPDATE {operations} o
           SET state = i.state,
               transaction_id = i.transaction_id,
               auth_code = i.auth_code,
               decline_code = i.decline_code,
               processor_code = i.processor_code,
               processor_message = i.processor_message,
               evidence = coalesce(i.evidence, o.evidence),
               processor_us = coalesce(i.processor_us, o.processor_us),
               reply_status = coalesce(o.reply_status, i.reply_status),
               reply_body = coalesce(o.reply_body, i.reply_body),
               finished_at = i.finished_at,
               voided = i.voided,
               retry = i.retry
          FROM input i
         WHERE o.merchant_id = i.merchant_id AND o.id = i.operation_id
           AND o.payment_id = i.payment_id
           AND o.attempt = i.attempt
           AND o.state = ANY (string_to_array(i.from_states, ' '))
        RETURNING i.*
    ), moved AS (
        UPDATE {payments} p
           SET status = f.status_to,
               version = p.version + 1,
               active_operation = nullif(p.active_operation, f.operation_id),
               authorized_minor = f.authorized_minor,
               captured_minor = f.captured_minor,
               refunded_minor = p.refunded_minor + f.refunded_delta,
               refund_reserved_minor = p.refund_reserved_minor + f.reserved_delta,
               decline_code = CASE WHEN f.describes_payment THEN f.decline_code
                                   ELSE p.decline_code END,
               transaction_id = CASE WHEN f.describes_payment THEN f.transaction_id
                                     ELSE p.transaction_id END,
               network_transaction_id = CASE WHEN f.describes_payment
                   THEN f.network_transaction_id ELSE p.network_transaction_id END,
               auth_code = CASE WHEN f.describes_payment THEN f.auth_code ELSE p.auth_code END,
               avs_result = CASE WHEN f.describes_payment THEN f.avs_result ELSE p.avs_result END,
               cvv_result = CASE WHEN f.describes_payment THEN f.cvv_result ELSE p.cvv_result END,
               avs_word = CASE WHEN f.describes_payment THEN f.avs_word ELSE p.avs_word END,
               cvv_word = CASE WHEN f.describes_payment THEN f.cvv_word ELSE p.cvv_word END,
               retry = CASE WHEN f.describes_payment THEN f.retry ELSE p.retry END,
               processor_code = CASE WHEN f.describes_payment THEN f.processor_code
                                     ELSE p.processor_code END,
               processor_message = CASE WHEN f.describes_payment THEN f.processor_message
                                        ELSE p.processor_message END,
               card_brand = coalesce(p.card_brand, f.card_brand),
               card_last4 = coalesce(p.card_last4, f.card_last4),
               updated_at = f.changed_at
          FROM finished f
         WHERE f.moves_payment
           AND p.merchant_id = f.merchant_id AND p.mode = f.mode AND p.id = f.payment_id
           AND p.status = f.status_from
           AND (p.active_operation = f.operation_id OR p.active_operation IS NULL)
        RETURNING 1
    ), happened AS (
        INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status,
            amount_minor, currency, created_at)
        SELECT merchant_id, event_id, payment_id, operation_id, mode, event_type,
            status_to, amount_minor, currency, changed_at
          FROM finished
         WHERE event_id IS NOT NULL
    ), unresolved AS (
        INSERT INTO unresolved_operations
            (merchant_id, operation_id, payment_id, since, next_inquiry_at, held)
        SELECT merchant_id, operation_id, payment_id, changed_at, next_inquiry_at, state = 'held'
          FROM finished
         WHERE next_inquiry_at IS NOT NULL
        ON CONFLICT (merchant_id, operation_id) DO UPDATE
            SET next_inquiry_at = excluded.next_inquiry_at, held = excluded.held, absences = 0
    )
    SELECT operation_id FROM finished
     WHERE CASE WHEN (SELECT count(*) FROM moved)
                     = (SELECT count(*) FROM finished WHERE moves_payment) THEN true
                ELSE refuse('an operation could not move its payment') END
"""

_MERCHANT, _PAYMENT, _OPERATION = 0, 4, 5
"""Places in a row to begin with."""
_CHANGED_PAYMENT, _CHANGED_OPERATION = 2, 3
"""Places in a row to record."""

_FINGERPRINT: Final = bytes(range(32))
_ADDRESS: Final = (
    '{"first_name":"Ada","last_name":"Lovelace","line1":"1 Main St","city":"Springfield",'
    '"state":"IL","postal_code":"62701","country":"US"}'
)
_REPLY: Final = (
    '{"id":"pay_%s","status":"captured","amount":2500,"currency":"USD","captured_amount":2500,'
    '"refunded_amount":0,"capture":"automatic","payment_method":{"type":"card","brand":"visa",'
    '"last4":"1111","exp_month":12,"exp_year":2030},"decline_code":null,"processor":{"name":'
    '"authorize_net","transaction_id":"53060941377","auth_code":"D8AVUV","avs_result":"Y",'
    '"cvv_result":"M","code":"1","message":"This transaction has been approved.","avs":'
    '"full_match","cvv":"match","retry":null,"network_transaction_id":"MYC1KVRK2YGK83D3KFWKD0O"},'
    '"order_reference":"order-a-000000081","customer_reference":null,"description":null,'
    '"statement_descriptor":null,"metadata":{},"mode":"test","version":2,'
    '"created_at":"2026-11-25T15:39:18.826Z","updated_at":"2026-11-25T15:39:18.846Z"}'
)


def begin_row(merchant_id: UUID) -> Row:
    """Return the row of a new payment, as `payment_intent`."""
    payment_id, operation_id = ids.new_id(), ids.new_id()
    return (
        *(merchant_id, "test", f"yard-{operation_id.hex}", _FINGERPRINT, payment_id, operation_id),
        *("sale", 2500, "USD", "automatic", "card", "visa", "1111", 12, 2030, _FINGERPRINT),
        *("authorize_net", "order-a-000000081", None, None, None, None, _ADDRESS, None),
        *(ids.reference(operation_id), clock.now()),
    )


def record_row(begun: Row) -> Row:
    """Return the row that records the approval of a begun payment, as `recorded_change_2`."""
    payment_id, at = begun[_PAYMENT], clock.now()
    return (
        *(begun[_MERCHANT], "test", payment_id, begun[_OPERATION], 1),
        *("in_flight unknown not_sent", "approved", "53060941377", "D8AVUV", None, "1"),
        *(
            "This transaction has been approved.",
            None,
            8267,
            201,
            (_REPLY % payment_id.hex).encode(),
        ),
        *(at, True, True, "processing", "captured", 2500, 2500, 0, 0, "MYC1KVRK2YGK83D3KFWKD0O"),
        *("Y", "M", "visa", "1111", ids.new_id(), "payment.captured", 2500, "USD", at, None),
        *(False, "full_match", "match", None),
    )


def _rows_as_argument(rows: Sequence[Row]) -> Sequence[object]:
    return [list(rows)]


def _begun(rows: Sequence[Row], answered: list[asyncpg.Record]) -> list[bool]:
    claimed = {answer[0] for answer in answered}
    return [row[_OPERATION] in claimed for row in rows]


def _recorded(rows: Sequence[Row], answered: list[asyncpg.Record]) -> list[bool]:
    recorded = {answer[0] for answer in answered}
    return [row[_CHANGED_OPERATION] in recorded for row in rows]


BEGIN: Final = Statement[Row, bool](
    "begin",
    BEGIN_SQL,
    _rows_as_argument,
    _begun,
    order=lambda row: row[:3],
    touches=lambda row: (row[:3],),
    months=lambda row: (),
)
RECORD: Final = Statement[Row, bool](
    "record",
    RECORD_SQL,
    _rows_as_argument,
    _recorded,
    order=lambda row: row[_CHANGED_OPERATION],
    touches=lambda row: (row[_CHANGED_PAYMENT],),
    months=lambda row: (row[_CHANGED_PAYMENT], row[_CHANGED_OPERATION]),
)
