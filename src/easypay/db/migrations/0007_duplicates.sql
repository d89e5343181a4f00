-- Payments that look like one made shortly before: the same card or bank account, amount, currency and
-- order reference under another idempotency key.
--
-- Everything here is added: a gateway that knows nothing of it goes on working beside one that does,
-- and does not check. No default needs a table to be rewritten.

ALTER TABLE merchants
    ADD COLUMN duplicates text NOT NULL DEFAULT 'off'
        CONSTRAINT merchant_duplicates CHECK (duplicates IN ('off', 'flag', 'reject')),
    ADD COLUMN duplicate_window_s integer NOT NULL DEFAULT 120
        CONSTRAINT merchant_duplicate_window CHECK (duplicate_window_s BETWEEN 1 AND 86400);
COMMENT ON COLUMN merchants.duplicates IS 'What happens to a payment that looks like an earlier one.';
COMMENT ON COLUMN merchants.duplicate_window_s IS 'How long a payment is compared with later ones, seconds.';

-- The payment that this one looks like. It is set when the payment begins and never changed; null for
-- merchants who do not check.
ALTER TABLE payments ADD COLUMN possible_duplicate_of uuid;

-- One row for each purchase that was begun within the window of its merchant, only for merchants who
-- check. Its primary key makes two gateways take turns: the second one sees what the first committed.
-- A row goes when its window has passed. No index mentions a column that an update changes.
CREATE TABLE duplicate_guards (
    merchant_id   uuid          NOT NULL,
    mode          text          NOT NULL CONSTRAINT guard_mode CHECK (mode IN ('test', 'live')),
    -- SHA-256 over merchant, mode, fingerprint of the card or account, amount, currency and order.
    digest        bytea         NOT NULL CONSTRAINT guard_digest_length CHECK (length(digest) = 32),
    payment_ids   uuid[]        NOT NULL,   -- the payments of this purchase that count, oldest first
    begun_at      timestamptz[] NOT NULL,   -- when each of them began, by the database's clock
    until         timestamptz   NOT NULL,   -- when the window of the newest one ends
    -- Serves the begin of a payment that is checked.
    PRIMARY KEY (merchant_id, mode, digest),
    CONSTRAINT guard_is_whole CHECK (cardinality(payment_ids) = cardinality(begun_at))
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05);

COMMENT ON TABLE duplicate_guards IS 'What payments/duplicates.py compares a new payment with.';

CREATE TYPE duplicate_check AS (
    digest    bytea,
    window_s  integer,
    refuses   boolean
);
COMMENT ON TYPE duplicate_check IS
    'How one payment to begin is checked: payments.duplicates.CHECK_FIELDS.';
