-- Queued payments: accepted and answered at once, sent by a worker (docs/decisions/0036).
--
-- Everything here is added: a gateway that knows nothing of it goes on working beside one that does,
-- as long as shops do not ask for `respond-async`. No default needs a table to be rewritten.

-- Two more states: accepted and waiting to be sent; ended while it waited, so that nothing was sent.
-- What stands there was let in by the narrower rule, so nothing is looked through.
-- Words are one array, as one value is read faster than many.
ALTER TABLE operations
    DROP CONSTRAINT operation_state,
    ADD CONSTRAINT operation_state CHECK (state = ANY ('{in_flight, unknown, not_sent, approved,
        declined, rejected, held, absent, queued, cancelled}')) NOT VALID;

-- Two more edges: a payment that was never sent is voided without a call. It is `processing` if a worker
-- tried to send it and nothing left.
CREATE OR REPLACE TRIGGER payment_status_edge BEFORE UPDATE OF status ON payments FOR EACH ROW
    WHEN (OLD.status <> NEW.status AND OLD.status || '>' || NEW.status <> ALL ('{
        pending>processing, pending>failed, pending>voided,
        processing>authorized, processing>captured, processing>declined, processing>failed,
        processing>in_review, processing>voided,
        in_review>authorized, in_review>captured, in_review>declined, in_review>voided,
        in_review>expired,
        authorized>captured, authorized>voided, authorized>expired,
        captured>voided,
        failed>authorized, failed>captured}'))
    EXECUTE FUNCTION refuse_status();

-- The work that is left: one row for each operation from its acceptance until a worker is done with it.
-- Few rows, and gone when the work ends: with them goes the payment's token.
CREATE TABLE queued_operations (
    merchant_id       uuid         NOT NULL,
    operation_id      uuid         NOT NULL,
    payment_id        uuid         NOT NULL,
    mode              text         NOT NULL,
    kind              text         NOT NULL,
    -- The order of a payment's operations. Ids carry the clocks of gateways, which differ.
    place             bigint       NOT NULL GENERATED ALWAYS AS IDENTITY,
    -- What the processor is to be told of a new payment, with its token: encrypted, and bound to the
    -- operation. Null for what acts on a payment.
    sealed            bytea,
    asked_minor       bigint,
    whole             boolean      NOT NULL DEFAULT false,
    expected_version  integer,
    -- Nothing is sent after this: a token is dead by then.
    expires_at        timestamptz  NOT NULL,
    due_at            timestamptz  NOT NULL DEFAULT db_now(),
    attempt           integer      NOT NULL DEFAULT 0,
    created_at        timestamptz  NOT NULL DEFAULT db_now(),
    reason            text,
    parked_at         timestamptz,
    -- Serves the end of the work, and repeats of a request.
    PRIMARY KEY (merchant_id, operation_id)
);
-- Serves claims: what is due, oldest first.
CREATE INDEX queued_operations_due ON queued_operations (due_at) WHERE parked_at IS NULL;
-- Serves claims: whether an earlier operation of the same payment is still waiting.
CREATE INDEX queued_operations_of_payment ON queued_operations (merchant_id, payment_id, place);

COMMENT ON TABLE queued_operations IS 'The work list of accepted operations: payments.queue_rows.';

CREATE TYPE queued_payment AS (
    sealed    bytea,
    lives_s   double precision,
    event_id  uuid
);
COMMENT ON TYPE queued_payment IS 'What a new payment has beside its intent if it is queued: payments.queue_rows.QUEUED_FIELDS.';
