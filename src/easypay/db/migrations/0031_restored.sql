-- The time after a restore (docs/decisions/0049).
--
-- Everything here is added. A gateway that knows nothing of it goes on working beside it.

-- By which a gateway notices at its start that the database is a copy from an earlier time. All NULL
-- until the first start. A dump that is restored gets another `copy`; a failover and a recovery to a
-- point in time get another `timeline`.
ALTER TABLE configuration
    ADD COLUMN copy      text,
    ADD COLUMN timeline  text,
    ADD COLUMN alive_at  timestamptz;     -- when a gateway or a worker last served this database

-- What a restore had lost and the processor still had: charges and refunds, each once. The keys of
-- these requests are lost, so their repeats are recognised by what they ask for.
CREATE TABLE restored_operations (
    merchant_id     uuid        NOT NULL,
    operation_id    uuid        NOT NULL,      -- the lowest id of its reference
    mode            text        NOT NULL,
    kind            text        NOT NULL
        CONSTRAINT restored_kind CHECK (kind IN ('charge', 'refund')),
    payment_id      uuid,                      -- NULL: several merchants share the account
    transaction_id  text        NOT NULL,
    amount_minor    bigint      NOT NULL,
    currency        text        NOT NULL,
    order_digest    bytea,                     -- of the order reference; NULL: the processor has none
    last4           text,
    restored_at     timestamptz NOT NULL DEFAULT db_now(),
    PRIMARY KEY (merchant_id, operation_id)
);
-- Serves authentication (has the merchant any?) and the look for what a request repeats.
CREATE INDEX restored_operations_alike
    ON restored_operations (merchant_id, mode, amount_minor, restored_at);

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON restored_operations
    FOR EACH STATEMENT EXECUTE FUNCTION configuration_changed();
