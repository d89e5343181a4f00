-- What is believed absent stays watched, and an operation belongs to the account that was asked.
--
-- Everything here is added: a gateway that knows nothing of it goes on working beside one that does.
-- No default needs a table to be rewritten.

-- One clock for every age and every due time: the database's. Tests put another in its place to
-- move time forward. It is inlined, so it costs what now() costs.
CREATE FUNCTION db_now() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN now();

COMMENT ON FUNCTION db_now IS 'The moment by which ages and due times are counted.';


-- Accounts -----------------------------------------------------------------------------------

-- Every (URL, login) through which a merchant's money ever went, with the newest key that was saved
-- for it. `processor_accounts` says which one takes new payments. Rows stay: a payment must be
-- captured, voided, refunded and asked about at the account that took it.
CREATE TABLE processor_logins (
    merchant_id   uuid        NOT NULL REFERENCES merchants,
    id            uuid        NOT NULL,
    mode          text        NOT NULL CONSTRAINT login_mode CHECK (mode IN ('test', 'live')),
    processor     text        NOT NULL DEFAULT 'authorize_net',
    url           text        NOT NULL,
    -- Keyed hash over URL and login: the same for all merchants that share an account.
    account       bytea       NOT NULL CONSTRAINT account_digest_length CHECK (length(account) = 32),
    credentials   bytea       NOT NULL,      -- sealed as in processor_accounts
    saved_at      timestamptz NOT NULL,      -- when these credentials were saved there
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (merchant_id, id),
    CONSTRAINT login_once UNIQUE (merchant_id, mode, account)
);
-- Serves the resolver: whose operations are proven by this account's lists.
CREATE INDEX processor_logins_account ON processor_logins (account);

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON processor_logins
    FOR EACH STATEMENT EXECUTE FUNCTION configuration_changed();

-- The login that took the payment. Null for payments taken before this was kept: theirs is the
-- account of today.
ALTER TABLE payments ADD COLUMN login_id uuid;

ALTER TABLE merchants ADD COLUMN late_charges text NOT NULL DEFAULT 'return'
    CONSTRAINT merchant_late_charges CHECK (late_charges IN ('return', 'keep'));
COMMENT ON COLUMN merchants.late_charges IS
    'What becomes of a charge that is found after its payment was called failed.';


-- The resolver's work ---------------------------------------------------------------------------

ALTER TABLE unresolved_operations
    ADD COLUMN account bytea,                 -- whose lists tell; null until the resolver fills it
    ADD COLUMN not_sent boolean NOT NULL DEFAULT false,
    ADD COLUMN absent_from timestamptz,       -- when the first pass that counts and missed it began
    ADD COLUMN absent_to timestamptz,         -- ... and ended
    ADD COLUMN searched text[] NOT NULL DEFAULT '{}';   -- closed batches that were read without it

COMMENT ON COLUMN unresolved_operations.not_sent IS
    'It is proven not to have left: nothing is to be asked, and it ends when nobody repeats it.';

-- Serves the resolver: what is due of one account. New ones come before repeats.
CREATE INDEX unresolved_operations_account
    ON unresolved_operations (account, next_inquiry_at) WHERE NOT not_sent;

-- One process at a time reads an account's lists. A lease by the database's clock: a process that
-- dies gives it up by its end.
CREATE TABLE account_passes (
    account       bytea       PRIMARY KEY,
    leased_until  timestamptz NOT NULL,
    holder        uuid        NOT NULL
);

-- Operations that nobody waits for any more, and that are looked for all the same: those called
-- absent, for three days; charges that are being given back; old authorizations, which expire.
CREATE TABLE watched_operations (
    merchant_id   uuid        NOT NULL,
    operation_id  uuid        NOT NULL,
    payment_id    uuid        NOT NULL,
    account       bytea       NOT NULL,
    purpose       text        NOT NULL CONSTRAINT watch_purpose CHECK (purpose IN ('absent', 'return', 'expiry')),
    since         timestamptz NOT NULL,
    until         timestamptz NOT NULL,
    next_look_at  timestamptz NOT NULL,
    looks         integer     NOT NULL DEFAULT 0,
    last_finding  text,
    searched      text[]      NOT NULL DEFAULT '{}',
    PRIMARY KEY (merchant_id, operation_id)
);
-- Serves the resolver: what is due of one account.
CREATE INDEX watched_operations_due ON watched_operations (account, next_look_at);

-- Where the sweep for lost processes and for old authorizations goes on.
ALTER TABLE sweeps
    ADD COLUMN authorizations_below uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';


-- Late charges -----------------------------------------------------------------------------------

-- What the processor turned out to have done after we had said that it had not. One row an
-- operation, kept for ever: finance wants each explained.
CREATE TABLE late_charges (
    merchant_id     uuid        NOT NULL,
    operation_id    uuid        NOT NULL,
    payment_id      uuid        NOT NULL,
    mode            text        NOT NULL,
    kind            text        NOT NULL,
    transaction_id  text        NOT NULL,     -- the processor's
    amount_minor    bigint      NOT NULL,
    currency        text        NOT NULL,
    state           text        NOT NULL CONSTRAINT late_charge_state CHECK (state IN
        ('returning', 'returned', 'kept', 'corrected', 'needs_person', 'closed')),
    reason          text,                     -- why a person is needed, or what ended it
    evidence        text        NOT NULL,
    found_at        timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL,
    PRIMARY KEY (merchant_id, operation_id)
);
-- Serves the list of what needs a person.
CREATE INDEX late_charges_open ON late_charges (found_at) WHERE state IN ('returning', 'needs_person');

-- Of an operation that gives a late charge back: the operation whose charge it is.
ALTER TABLE operations ADD COLUMN gives_back uuid;


-- What people did by hand. Nothing here is ever changed.
CREATE TABLE audit_entries (
    id        uuid        PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT now(),
    actor     text        NOT NULL,
    action    text        NOT NULL,
    subject   text        NOT NULL,
    detail    jsonb       NOT NULL
);

CREATE FUNCTION refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'audit entries are never changed' USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();


CREATE TYPE payment_intent_2 AS (
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
    login_id              uuid
);
COMMENT ON TYPE payment_intent_2 IS 'One payment to begin: payments.statements.NewPayment, field by field.';
