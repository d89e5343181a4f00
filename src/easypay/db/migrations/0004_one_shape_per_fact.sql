-- One learned outcome as the gateway hands it over: what it does to the operation, what to the
-- payment, and what the processor said, each in one piece.
--
-- Everything here is added: a gateway that writes recorded_change_2 goes on working beside one that
-- writes this.

CREATE TYPE recorded_change_3 AS (
    merchant_id             uuid,
    mode                    text,
    payment_id              uuid,
    operation_id            uuid,
    attempt                 integer,
    amount_minor            bigint,
    currency                text,
    changed_at              timestamptz,
    -- payments.outcome_changes.OperationEffect
    from_states             text[],
    state                   text,
    evidence                jsonb,
    processor_us            integer,
    reply_status            smallint,
    reply_body              bytea,
    finished_at             timestamptz,
    next_inquiry_at         timestamptz,
    voided                  boolean,
    -- payments.outcome_changes.PaymentEffect
    moves_payment           boolean,
    describes_payment       boolean,
    status_from             text,
    status_to               text,
    authorized_minor        bigint,
    captured_minor          bigint,
    refunded_delta          bigint,
    reserved_delta          bigint,
    -- processors.base.ProcessorAnswer
    transaction_id          text,
    auth_code               text,
    decline_code            text,
    processor_code          text,
    processor_message       text,
    retry                   text,
    avs_result              text,
    cvv_result              text,
    avs_word                text,
    cvv_word                text,
    network_transaction_id  text,
    card_brand              text,
    card_last4              text,
    event_id                uuid,
    event_type              text
);
COMMENT ON TYPE recorded_change_3 IS
    'What one learned outcome changes: payments.statements.CHANGE_FIELDS.';

-- The comments of these named modules that have moved since.
COMMENT ON TYPE payment_intent_2 IS
    'One payment to begin: payments.statements.INTENT_FIELDS.';
COMMENT ON TYPE follow_up_intent IS
    'One capture, void, refund or review to begin: payments.begin.FollowUp, field by field.';
