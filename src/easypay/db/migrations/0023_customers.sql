-- Customers and their stored payment methods. The processor's vault has the cards and bank accounts;
-- these tables mirror it. They never hold a card number, an account number or a card code.
--
-- Everything here is added, and nothing is written while no shop makes a customer. A gateway of the
-- version before goes on working beside it.

CREATE TABLE customers (
    merchant_id          uuid        NOT NULL,
    mode                 text        NOT NULL
        CONSTRAINT customer_mode CHECK (mode IN ('test', 'live')),
    id                   uuid        NOT NULL,
    reference            text,                     -- the shop's own
    email                text,
    name                 text,
    description          text,
    metadata             jsonb,
    default_method       uuid,                     -- one of its payment methods
    version              integer     NOT NULL DEFAULT 1,
    created_at           timestamptz NOT NULL DEFAULT db_now(),
    updated_at           timestamptz NOT NULL DEFAULT db_now(),
    deleted_at           timestamptz,
    erased_at            timestamptz,              -- when its personal data were removed
    -- Of the request that made it: a repeat finds it.
    idempotency_key      text,
    request_fingerprint  bytea,
    -- Serves every look-up by id, and the list, newest first.
    PRIMARY KEY (merchant_id, mode, id),
    CONSTRAINT customer_request CHECK (
        (idempotency_key IS NULL) = (request_fingerprint IS NULL))
) WITH (fillfactor = 80);
-- Serves look-ups by the shop's reference. The reference of a deleted customer can be used again.
CREATE UNIQUE INDEX customers_reference ON customers (merchant_id, mode, reference)
    WHERE reference IS NOT NULL AND deleted_at IS NULL;
-- Serves repeats of a request.
CREATE UNIQUE INDEX customers_request ON customers (merchant_id, mode, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
-- Serves the list of one email address.
CREATE INDEX customers_email ON customers (merchant_id, mode, lower(email), id)
    WHERE email IS NOT NULL AND deleted_at IS NULL;

-- A customer's profiles at the processor. Shops never see them: the eleventh method makes another one,
-- and so does a method that arrives while another one is being stored.
CREATE TABLE customer_profiles (
    merchant_id          uuid        NOT NULL,
    mode                 text        NOT NULL
        CONSTRAINT profile_mode CHECK (mode IN ('test', 'live')),
    id                   uuid        NOT NULL,
    customer_id          uuid        NOT NULL,
    login_id             uuid        NOT NULL,     -- the processor account it belongs to
    processor            text        NOT NULL,
    reference            text        NOT NULL      -- ours at the processor: the first 100 bits of id
        CONSTRAINT profile_reference_length CHECK (length(reference) BETWEEN 1 AND 20),
    customer_profile_id  text,                     -- the processor's; null until it is known
    state                text        NOT NULL DEFAULT 'making'
        CONSTRAINT profile_state CHECK (state IN ('making', 'active', 'failed', 'deleting',
            'deleted')),
    methods              integer     NOT NULL DEFAULT 0    -- places that are taken in it
        CONSTRAINT profile_methods CHECK (methods >= 0),
    -- The method that is being stored in it. One at a time: if the answer is lost, the method that
    -- appeared in the profile is this one.
    adding               uuid,
    made_at              timestamptz,              -- when its id was learned
    created_at           timestamptz NOT NULL DEFAULT db_now(),
    -- Serves look-ups by id.
    PRIMARY KEY (merchant_id, mode, id),
    CONSTRAINT profile_reference_once UNIQUE (merchant_id, mode, reference)
) WITH (fillfactor = 80);
-- Serves the choice of a profile with room, and the deletion of a customer.
CREATE INDEX customer_profiles_customer ON customer_profiles (merchant_id, mode, customer_id);

CREATE TABLE payment_methods (
    merchant_id             uuid        NOT NULL,
    mode                    text        NOT NULL
        CONSTRAINT method_mode CHECK (mode IN ('test', 'live')),
    id                      uuid        NOT NULL,
    customer_id             uuid        NOT NULL,
    profile_id              uuid        NOT NULL,  -- of customer_profiles
    login_id                uuid        NOT NULL,  -- the processor account, as payments keep it
    processor               text        NOT NULL,
    customer_profile_id     text,                  -- the processor's ids; null until they are known
    payment_profile_id      text,
    state                   text        NOT NULL DEFAULT 'making'
        CONSTRAINT method_state CHECK (state IN ('making', 'active', 'failed', 'deleting',
            'deleted')),
    type                    text        NOT NULL
        CONSTRAINT method_type CHECK (type IN ('card', 'bank_account')),
    source                  text        NOT NULL   -- what it was made from
        CONSTRAINT method_source CHECK (source IN ('accept_token', 'card', 'bank_account',
            'payment')),
    payment_id              uuid,                  -- the payment that it was made from
    brand                   text,
    last4                   text
        CONSTRAINT method_last4 CHECK (length(last4) <= 4),
    exp_month               smallint,
    exp_year                smallint,
    card_fingerprint        bytea,                 -- keyed hash of the card number, if it was known
    billing_address         jsonb,
    network_transaction_id  text,
    failure                 jsonb,                 -- why it is `failed`
    -- The method that the processor already had for the same card. A repeat of the request gets it.
    same_as                 uuid,
    wanted                  jsonb,                 -- a change that the processor was not yet told of
    version                 integer     NOT NULL DEFAULT 1,
    idempotency_key         text        NOT NULL,
    request_fingerprint     bytea       NOT NULL,
    stored_at               timestamptz,           -- when it became active
    expiring_told_at        timestamptz,           -- when `payment_method.expiring` was told
    created_at              timestamptz NOT NULL DEFAULT db_now(),
    updated_at              timestamptz NOT NULL DEFAULT db_now(),
    -- Serves every look-up by id: paying reads it.
    PRIMARY KEY (merchant_id, mode, id),
    CONSTRAINT active_has_ids CHECK (state <> 'active'
        OR (customer_profile_id IS NOT NULL AND payment_profile_id IS NOT NULL))
) WITH (fillfactor = 80);
-- Serves the list of a customer's methods, and the deletion of a customer.
CREATE INDEX payment_methods_customer ON payment_methods (merchant_id, mode, customer_id, id);
-- Serves repeats of a request.
CREATE UNIQUE INDEX payment_methods_request ON payment_methods (merchant_id, mode, idempotency_key);
-- Serves whether a method of the vault is known here. One row at a time has it.
CREATE UNIQUE INDEX payment_methods_vaulted ON payment_methods
    (merchant_id, mode, login_id, customer_profile_id, payment_profile_id)
    WHERE state IN ('active', 'deleting');
-- Serves the daily pass over cards that expire soon.
CREATE INDEX payment_methods_expiring ON payment_methods (exp_year, exp_month)
    WHERE state = 'active' AND expiring_told_at IS NULL AND exp_year IS NOT NULL;

-- What is left to do at the vault: a method whose answer was lost, a change or a deletion that was not
-- answered. A work list (db/work_list.py). What a row asks for is said by the row that it names.
CREATE TABLE vault_work (
    merchant_id  uuid        NOT NULL,
    mode         text        NOT NULL,
    kind         text        NOT NULL
        CONSTRAINT vault_work_kind CHECK (kind IN ('method', 'profile')),
    id           uuid        NOT NULL,     -- of payment_methods or customer_profiles
    due_at       timestamptz NOT NULL,
    attempt      integer     NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT db_now(),
    reason       text,
    parked_at    timestamptz,
    -- Serves the end of the work.
    PRIMARY KEY (merchant_id, mode, kind, id)
) WITH (fillfactor = 70);
-- Serves claims: what is due, oldest first.
CREATE INDEX vault_work_due ON vault_work (due_at) WHERE parked_at IS NULL;

-- The object of an event about a customer or a method, as it was then. The event itself is in
-- `events`, where it has the customer's id in place of a payment's.
CREATE TABLE customer_events (
    merchant_id  uuid        NOT NULL,
    mode         text        NOT NULL,
    customer_id  uuid        NOT NULL,
    event_id     uuid        NOT NULL,
    data         jsonb,                    -- null once the customer was erased
    -- Serves look-ups of events of the feed, and the erasure of a customer.
    PRIMARY KEY (merchant_id, customer_id, event_id)
);
