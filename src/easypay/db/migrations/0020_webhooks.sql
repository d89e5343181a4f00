-- Webhooks: where a merchant wants to be told of events, what is still to be told, and what was tried.
--
-- Everything here is added, and nothing is written while no merchant has an endpoint. A gateway of the
-- version before goes on working beside it.

CREATE TABLE webhook_endpoints (
    merchant_id      uuid        NOT NULL,
    mode             text        NOT NULL CONSTRAINT webhook_mode CHECK (mode IN ('test', 'live')),
    id               uuid        NOT NULL,
    url              text        NOT NULL,
    description      text        NOT NULL DEFAULT '',
    types            text[]      NOT NULL DEFAULT '{}',    -- empty: events of every type
    state            text        NOT NULL DEFAULT 'enabled'
        CONSTRAINT webhook_state CHECK (state IN ('enabled', 'paused', 'disabled')),
    reason           text,                                 -- why it was disabled
    secret           bytea       NOT NULL,                 -- sealed, as credentials are
    old_secret       bytea,
    old_secret_until timestamptz,
    after_seq        bigint      NOT NULL,                 -- it gets events with greater numbers
    failing_since    timestamptz,                          -- the first failure since the last success
    created_at       timestamptz NOT NULL DEFAULT db_now(),
    updated_at       timestamptz NOT NULL DEFAULT db_now(),
    -- Serves the list of a merchant, and every look-up by id.
    PRIMARY KEY (merchant_id, id)
) WITH (fillfactor = 70);

-- What is left to be delivered: a row for each endpoint and event. A work list (db/work_list.py).
-- A row of an earlier event of a payment holds back its later ones, until it is gone or parked.
CREATE TABLE webhook_deliveries (
    merchant_id  uuid        NOT NULL,
    endpoint_id  uuid        NOT NULL,
    event_id     uuid        NOT NULL,
    mode         text        NOT NULL,
    payment_id   uuid        NOT NULL,
    seq          bigint      NOT NULL,     -- the event's number in the feed; 0 if it is not in it
    type         text        NOT NULL,
    data         text,                     -- its object as JSON; NULL: it is made from the event
    due_at       timestamptz NOT NULL,
    attempt      integer     NOT NULL DEFAULT 0,
    failures     integer     NOT NULL DEFAULT 0,    -- attempts that failed; they decide when the next is
    created_at   timestamptz NOT NULL DEFAULT db_now(),
    reason       text,                     -- of the last failure
    parked_at    timestamptz,
    -- Serves finishing, postponing and parking.
    PRIMARY KEY (merchant_id, endpoint_id, event_id)
) WITH (fillfactor = 70);
-- Serves a claim: which endpoints have something due, and the oldest of each.
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, due_at)
    WHERE parked_at IS NULL;
-- Serves a claim, too: whether an earlier event of the payment is still to be delivered.
CREATE INDEX webhook_deliveries_order ON webhook_deliveries (endpoint_id, payment_id, seq)
    WHERE parked_at IS NULL;

-- Every attempt with its answer. Old ones are purged. The body that was sent is made from the event.
CREATE TABLE webhook_attempts (
    id           uuid        NOT NULL,
    merchant_id  uuid        NOT NULL,
    endpoint_id  uuid        NOT NULL,
    event_id     uuid        NOT NULL,
    type         text        NOT NULL,
    attempt      integer     NOT NULL,
    outcome      text        NOT NULL
        CONSTRAINT webhook_outcome CHECK (outcome IN ('delivered', 'failed', 'parked')),
    url          text        NOT NULL,
    sent_at      timestamptz NOT NULL,
    took_ms      integer     NOT NULL,
    status       integer,                  -- of the answer; NULL: none came
    reason       text,                     -- why it failed
    answer       text        NOT NULL,     -- the beginning of its body, at most 1 KiB
    -- Serves the list of an endpoint's attempts, newest first.
    PRIMARY KEY (merchant_id, endpoint_id, id)
);
-- Serves the purge.
CREATE INDEX webhook_attempts_age ON webhook_attempts USING brin (sent_at) WITH (pages_per_range = 16);
