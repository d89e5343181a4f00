-- A refund that undoes a payment which has not settled, and payments that wait for a reviewer.
--
-- Everything here is added: a gateway that knows nothing of it goes on working beside one that does
-- (docs/decisions/0012). No default needs a table to be rewritten.

ALTER TABLE operations
    ADD COLUMN voided boolean NOT NULL DEFAULT false,
    ADD COLUMN retry text;

COMMENT ON COLUMN operations.voided IS 'Of an approved refund: the processor voided the payment, which had not settled.';

-- Two more kinds. What stands there was let in by the narrower rule, so nothing is looked through.
ALTER TABLE operations DROP CONSTRAINT operation_kind;
ALTER TABLE operations ADD CONSTRAINT operation_kind CHECK (kind IN ('authorize', 'sale', 'capture',
    'void', 'refund', 'approve', 'decline')) NOT VALID;

-- The address and card code checks in our words, beside the processor's letters, and what may be
-- tried after a decline. Null for payments recorded before.
ALTER TABLE payments
    ADD COLUMN avs_word text,
    ADD COLUMN cvv_word text,
    ADD COLUMN retry text;

-- Operations held for review are asked about too, on a schedule of their own. They are not unknown:
-- whoever counts what is unknown leaves them out.
ALTER TABLE unresolved_operations ADD COLUMN held boolean NOT NULL DEFAULT false;

-- Those that wait already. Newer ones than this finds are listed by the resolver's wide sweep.
-- Authorize.Net keeps nothing for review longer than 5 days.
INSERT INTO unresolved_operations
    (merchant_id, operation_id, payment_id, since, next_inquiry_at, held)
SELECT o.merchant_id, o.id, o.payment_id, now(), now(), true
  FROM operations o
  JOIN payments p ON p.merchant_id = o.merchant_id AND p.mode = o.mode AND p.id = o.payment_id
 WHERE o.id >= lowest_id_at(now() - interval '30 days') AND o.state = 'held'
   AND p.id >= lowest_id_at(now() - interval '31 days') AND p.status = 'in_review'
ON CONFLICT DO NOTHING;

CREATE TYPE recorded_change_2 AS (
    merchant_id             uuid,
    mode                    text,
    payment_id              uuid,
    operation_id            uuid,
    attempt                 integer,
    from_states             text,
    state                   text,
    transaction_id          text,
    auth_code               text,
    decline_code            text,
    processor_code          text,
    processor_message       text,
    evidence                jsonb,
    processor_us            integer,
    reply_status            smallint,
    reply_body              bytea,
    finished_at             timestamptz,
    moves_payment           boolean,
    describes_payment       boolean,
    status_from             text,
    status_to               text,
    authorized_minor        bigint,
    captured_minor          bigint,
    refunded_delta          bigint,
    reserved_delta          bigint,
    network_transaction_id  text,
    avs_result              text,
    cvv_result              text,
    card_brand              text,
    card_last4              text,
    event_id                uuid,
    event_type              text,
    amount_minor            bigint,
    currency                text,
    changed_at              timestamptz,
    next_inquiry_at         timestamptz,
    voided                  boolean,
    avs_word                text,
    cvv_word                text,
    retry                   text
);
COMMENT ON TYPE recorded_change_2 IS 'What one learned outcome changes: payments.changes.Change, field by field.';
