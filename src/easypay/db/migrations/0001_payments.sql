-- Tenants, payments and their append-only children.
--
-- Every table leads with merchant_id. payments, operations and events are partitioned by month on
-- their UUIDv7 ids, which begin with the millisecond, so month bounds are id bounds. Rows that are
-- written for every payment carry no foreign key: one statement writes parent and child together,
-- and a key check would lock the merchant's row once per payment (docs/decisions/0004).

CREATE FUNCTION lowest_id_at(moment timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0')
        || '00000000000000000000')::uuid;

COMMENT ON FUNCTION lowest_id_at IS 'The smallest UUIDv7-ordered value of that millisecond.';

CREATE FUNCTION refuse(reason text) RETURNS boolean
LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '%', reason USING ERRCODE = 'check_violation'; END $$;

COMMENT ON FUNCTION refuse IS 'Aborts the statement that calls it: for rules that span rows.';


-- Tenants ------------------------------------------------------------------------------------

CREATE TABLE merchants (
    merchant_id      uuid        PRIMARY KEY,
    name             text        NOT NULL CONSTRAINT merchant_name_length CHECK (length(name) BETWEEN 1 AND 100),
    currencies       text[]      NOT NULL CONSTRAINT merchant_has_currency CHECK (cardinality(currencies) > 0),
    allow_raw_cards  boolean     NOT NULL DEFAULT false,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    disabled_at      timestamptz
);

CREATE TABLE processor_accounts (
    merchant_id   uuid        NOT NULL REFERENCES merchants,
    mode          text        NOT NULL CONSTRAINT account_mode CHECK (mode IN ('test', 'live')),
    processor     text        NOT NULL DEFAULT 'authorize_net',
    credentials   bytea       NOT NULL,      -- AES-256-GCM, bound to merchant and mode
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (merchant_id, mode)
);

CREATE TABLE api_keys (
    merchant_id  uuid        NOT NULL REFERENCES merchants,
    id           uuid        NOT NULL,
    mode         text        NOT NULL CONSTRAINT key_mode CHECK (mode IN ('test', 'live')),
    name         text        NOT NULL,
    digest       bytea       NOT NULL CONSTRAINT key_digest_length CHECK (length(digest) = 32),
    last4        text        NOT NULL,
    scopes       text[]      NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    PRIMARY KEY (merchant_id, id)
);
-- Serves authentication: the SHA-256 of the bearer token finds its row.
CREATE UNIQUE INDEX api_keys_digest ON api_keys (digest);

-- One row whose version every gateway process watches: its cached keys and settings are good
-- only while this has not moved.
CREATE TABLE configuration (
    only_row  boolean PRIMARY KEY DEFAULT true CONSTRAINT configuration_is_one_row CHECK (only_row),
    version   bigint  NOT NULL DEFAULT 1
);
INSERT INTO configuration DEFAULT VALUES;

CREATE FUNCTION configuration_changed() RETURNS trigger
LANGUAGE plpgsql AS $$ BEGIN UPDATE configuration SET version = version + 1; RETURN NULL; END $$;

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON merchants
    FOR EACH STATEMENT EXECUTE FUNCTION configuration_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON processor_accounts
    FOR EACH STATEMENT EXECUTE FUNCTION configuration_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION configuration_changed();


-- Payments -----------------------------------------------------------------------------------

CREATE TABLE payments (
    merchant_id            uuid        NOT NULL,
    id                     uuid        NOT NULL,
    mode                   text        NOT NULL,
    status                 text        NOT NULL,
    amount_minor           bigint      NOT NULL,
    authorized_minor       bigint      NOT NULL DEFAULT 0,
    captured_minor         bigint      NOT NULL DEFAULT 0,
    refunded_minor         bigint      NOT NULL DEFAULT 0,
    refund_reserved_minor  bigint      NOT NULL DEFAULT 0,   -- held by refunds whose outcome is open
    version                integer     NOT NULL DEFAULT 1,
    currency               text        NOT NULL,
    capture                text        NOT NULL,
    -- The operation that alone may change this payment until its outcome is known; NULL when none.
    active_operation       uuid,
    method_type            text        NOT NULL,
    card_brand             text,
    card_last4             text,
    card_exp_month         smallint,
    card_exp_year          smallint,
    card_fingerprint       bytea,      -- keyed hash of the card number, for duplicate signals
    decline_code           text,
    processor              text        NOT NULL,
    transaction_id         text,       -- the processor's
    network_transaction_id text,
    auth_code              text,
    avs_result             text,
    cvv_result             text,
    processor_code         text,
    processor_message      text,
    order_reference        text,
    customer_reference     text,
    description            text,
    statement_descriptor   text,
    customer               jsonb,
    billing_address        jsonb,
    metadata               jsonb,
    settled_at             timestamptz,
    created_at             timestamptz NOT NULL,
    updated_at             timestamptz NOT NULL,

    -- Serves every read and write by id, and (merchant_id, mode) newest first: the list.
    PRIMARY KEY (merchant_id, mode, id),
    CONSTRAINT payment_mode CHECK (mode IN ('test', 'live')),
    CONSTRAINT payment_status CHECK (status IN ('pending', 'processing', 'in_review', 'authorized',
        'captured', 'declined', 'failed', 'voided', 'expired')),
    CONSTRAINT payment_capture CHECK (capture IN ('automatic', 'manual')),
    CONSTRAINT amount_is_positive CHECK (amount_minor > 0),
    CONSTRAINT authorized_within_amount CHECK (authorized_minor BETWEEN 0 AND amount_minor),
    CONSTRAINT capture_within_authorization CHECK (captured_minor BETWEEN 0 AND authorized_minor),
    CONSTRAINT refund_within_capture CHECK (refunded_minor >= 0 AND refund_reserved_minor >= 0
        AND refunded_minor + refund_reserved_minor <= captured_minor),
    CONSTRAINT captured_means_money CHECK ((status = 'captured') = (captured_minor > 0))
) PARTITION BY RANGE (id);

-- The status table once more, where nobody can go round it (payments/status.py holds the first
-- copy, and a test compares them). The condition costs a microsecond; the function runs only for
-- an edge that must not be.
CREATE FUNCTION refuse_status() RETURNS trigger
LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'a payment that is % cannot become %', OLD.status, NEW.status
        USING ERRCODE = 'check_violation', CONSTRAINT = 'payment_status_edge';
END $$;

CREATE TRIGGER payment_status_edge BEFORE UPDATE OF status ON payments FOR EACH ROW
    WHEN (OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (
        ('pending', 'processing'), ('pending', 'failed'), ('processing', 'authorized'),
        ('processing', 'captured'), ('processing', 'declined'), ('processing', 'failed'),
        ('processing', 'in_review'), ('in_review', 'authorized'), ('in_review', 'captured'),
        ('in_review', 'declined'), ('in_review', 'voided'), ('in_review', 'expired'),
        ('authorized', 'captured'), ('authorized', 'voided'), ('authorized', 'expired'),
        ('captured', 'voided'), ('failed', 'authorized'), ('failed', 'captured')))
    EXECUTE FUNCTION refuse_status();


-- Operations: one row per processor call ------------------------------------------------------

CREATE TABLE operations (
    merchant_id            uuid        NOT NULL,
    id                     uuid        NOT NULL,
    payment_id             uuid        NOT NULL,
    mode                   text        NOT NULL,
    kind                   text        NOT NULL,
    state                  text        NOT NULL,
    attempt                integer     NOT NULL DEFAULT 1,   -- fences a late writer of an older try
    amount_minor           bigint      NOT NULL,
    currency               text        NOT NULL,
    reference              text        NOT NULL,   -- ours on the wire: the first 100 bits of id
    parent_transaction_id  text,                   -- the processor's, for capture, void and refund
    transaction_id         text,
    auth_code              text,
    decline_code           text,
    processor_code         text,
    processor_message      text,
    evidence               jsonb,                  -- what an inquiry found, and why we believed it
    processor_us           integer,                -- how long the call took, microseconds
    reply_status           smallint,               -- what the merchant was answered, byte for byte
    reply_body             bytea,
    begun_at               timestamptz NOT NULL,
    finished_at            timestamptz,

    -- Serves record (by operation) and the way back from a reference (a range of ids).
    PRIMARY KEY (merchant_id, id),
    CONSTRAINT operation_mode CHECK (mode IN ('test', 'live')),
    CONSTRAINT operation_kind CHECK (kind IN ('authorize', 'sale', 'capture', 'void', 'refund')),
    CONSTRAINT operation_state CHECK (state IN ('in_flight', 'unknown', 'not_sent', 'approved',
        'declined', 'rejected', 'held', 'absent')),
    CONSTRAINT operation_amount CHECK (amount_minor >= 0),
    CONSTRAINT reference_length CHECK (length(reference) = 20),
    CONSTRAINT reply_is_whole CHECK ((reply_status IS NULL) = (reply_body IS NULL))
) PARTITION BY RANGE (id);

-- Serves GET /payments/{id}/operations and /refunds.
CREATE INDEX operations_of_payment ON operations (merchant_id, payment_id, id);
-- Serves the sweep for calls whose process died: the last seconds of ids, across merchants. Rows
-- arrive in id order, so a block range index finds them and costs a write next to nothing. No
-- index mentions state, so finishing an operation stays a heap-only update.
CREATE INDEX operations_recent ON operations USING brin (id) WITH (pages_per_range = 16, autosummarize = on);

-- Events: what happened, in an order a cursor can follow ---------------------------------------

CREATE TABLE events (
    merchant_id   uuid        NOT NULL,
    id            uuid        NOT NULL,
    payment_id    uuid        NOT NULL,
    operation_id  uuid        NOT NULL,
    mode          text        NOT NULL,
    type          text        NOT NULL,
    status        text        NOT NULL,     -- the payment's, after it
    amount_minor  bigint      NOT NULL,
    currency      text        NOT NULL,
    created_at    timestamptz NOT NULL,
    -- Ids are made before they commit; a feed that must miss nothing reads below the oldest
    -- transaction still running (pg_snapshot_xmin) in this order.
    written_by    xid8        NOT NULL DEFAULT pg_current_xact_id(),

    PRIMARY KEY (merchant_id, id),
    CONSTRAINT event_mode CHECK (mode IN ('test', 'live'))
) PARTITION BY RANGE (id);

-- Serves GET /payments/{id}/events.
CREATE INDEX events_of_payment ON events (merchant_id, payment_id, id);


-- Idempotency: written once, never updated; the reply lives on the operation -------------------

CREATE TABLE idempotency_keys (
    merchant_id   uuid        NOT NULL,
    mode          text        NOT NULL,
    key           text        NOT NULL CONSTRAINT key_length CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint   bytea       NOT NULL CONSTRAINT fingerprint_length CHECK (length(fingerprint) = 32),
    operation_id  uuid        NOT NULL,
    payment_id    uuid        NOT NULL,
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (merchant_id, mode, key)
);
-- Serves the daily purge of keys past their time.
CREATE INDEX idempotency_keys_age ON idempotency_keys USING brin (created_at) WITH (autosummarize = on);


-- Unresolved operations: the resolver's work list. Few rows, and gone when the outcome is known --

CREATE TABLE unresolved_operations (
    merchant_id       uuid        NOT NULL,
    operation_id      uuid        NOT NULL,
    payment_id        uuid        NOT NULL,
    since             timestamptz NOT NULL,
    next_inquiry_at   timestamptz NOT NULL,
    inquiries         integer     NOT NULL DEFAULT 0,
    absences          integer     NOT NULL DEFAULT 0,   -- inquiries in a row that did not find it
    last_finding      text,
    PRIMARY KEY (merchant_id, operation_id)
);
-- Serves the resolver: what is due, oldest first.
CREATE INDEX unresolved_operations_due ON unresolved_operations (next_inquiry_at);

-- Everything the sweep has looked through already lies below this id.
CREATE TABLE sweeps (
    only_row     boolean PRIMARY KEY DEFAULT true CONSTRAINT sweeps_is_one_row CHECK (only_row),
    swept_below  uuid    NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
);
INSERT INTO sweeps DEFAULT VALUES;


-- What the gateway hands to its group statements: arrays of these. A statement that needs other
-- fields gets a new type in a new migration, so that an older gateway goes on working.

CREATE TYPE payment_intent AS (
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
    at                    timestamptz
);
COMMENT ON TYPE payment_intent IS 'One payment to begin: payments.store.NewPayment, field by field.';

CREATE TYPE follow_up_intent AS (
    merchant_id       uuid,
    mode              text,
    key               text,
    fingerprint       bytea,
    payment_id        uuid,
    operation_id      uuid,
    kind              text,
    asked_minor       bigint,
    whole             boolean,
    expected_version  integer,
    reference         text,
    at                timestamptz
);
COMMENT ON TYPE follow_up_intent IS 'One capture, void or refund to begin: payments.store.FollowUp, field by field.';

CREATE TYPE recorded_change AS (
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
    next_inquiry_at         timestamptz
);
COMMENT ON TYPE recorded_change IS 'What one learned outcome changes: payments.model.Change, field by field.';
