-- A payment remembers the customer and the stored payment method that it was paid with.
--
-- Everything here is added: a gateway that knows nothing of it goes on working beside one that does.
-- The columns have no default, so no row is touched; payments wait for an instant.

-- Both are set when the payment begins and never changed; null if no stored method was used. No index
-- has them: a filter by customer would cost every payment.
ALTER TABLE payments
    ADD COLUMN customer_id uuid,
    ADD COLUMN payment_method_id uuid;
COMMENT ON COLUMN payments.customer_id IS 'The customer whose stored payment method was used.';
COMMENT ON COLUMN payments.payment_method_id IS
    'The stored payment method: payment_methods.id. It may have been deleted since.';

CREATE TYPE payment_intent_3 AS (
    merchant_id           uuid,
    mode                  text,
    key                   text,
    fingerprint           bytea,
    payment_id            uuid,
    operation_id          uuid,
    kind                  text,
    amount_minor          bigint,
    currency              text,
    capture               text,
    method_type           text,
    card_brand            text,
    card_last4            text,
    card_exp_month        smallint,
    card_exp_year         smallint,
    card_fingerprint      bytea,
    processor             text,
    order_reference       text,
    customer_reference    text,
    description           text,
    statement_descriptor  text,
    customer              jsonb,
    billing_address       jsonb,
    metadata              jsonb,
    reference             text,
    at                    timestamptz,
    login_id              uuid,
    customer_id           uuid,
    payment_method_id     uuid
);
COMMENT ON TYPE payment_intent_3 IS 'One payment to begin: payments.statements.INTENT_FIELDS.';
