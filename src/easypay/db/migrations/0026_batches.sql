-- Batches: files of payments, captures, refunds and voids, run by workers (docs/decisions/0043).
--
-- Everything here is added. A gateway that knows nothing of it goes on working beside it.

CREATE TABLE batches (
    merchant_id       uuid        NOT NULL,
    id                uuid        NOT NULL,
    mode              text        NOT NULL CONSTRAINT batch_mode CHECK (mode IN ('test', 'live')),
    key               text        NOT NULL,     -- the Idempotency-Key of the upload
    name              text        NOT NULL,
    format            text        NOT NULL CONSTRAINT batch_format CHECK (format IN ('jsonl', 'csv')),
    on_error          text        NOT NULL CONSTRAINT batch_on_error CHECK (on_error IN ('refuse', 'skip')),
    state             text        NOT NULL DEFAULT 'checking'
        CONSTRAINT batch_state CHECK (state IN ('checking', 'invalid', 'ready', 'running', 'paused', 'done',
                                                'cancelled')),
    reason            text,                     -- why it is invalid, or was paused by a worker
    digest            bytea,                    -- SHA-256 of the file; NULL until its last byte was read
    bytes             bigint      NOT NULL DEFAULT 0,
    lines             integer     NOT NULL DEFAULT 0,     -- that can be run
    wrong             integer     NOT NULL DEFAULT 0,     -- that cannot
    last_line         integer     NOT NULL DEFAULT 0,     -- the number of the last line that can be run
    next_line         integer     NOT NULL DEFAULT 1,     -- where the next group begins; it only grows
    lines_per_second  real        CONSTRAINT batch_rate CHECK (lines_per_second > 0),
    at_once           integer     NOT NULL CONSTRAINT batch_at_once CHECK (at_once > 0),
    turn_at           timestamptz NOT NULL DEFAULT db_now(),    -- no group is claimed before
    upload_until      timestamptz NOT NULL,     -- an upload that is not whole by then was cut
    ran_s             double precision NOT NULL DEFAULT 0,      -- how long it ran before it was paused last
    running_since     timestamptz,
    created_at        timestamptz NOT NULL DEFAULT db_now(),
    started_at        timestamptz,
    ended_at          timestamptz,
    -- Serves the list of a merchant, newest first, and every look-up by id.
    PRIMARY KEY (merchant_id, id)
) WITH (fillfactor = 50);
-- Serves an upload: the batch of a key.
CREATE UNIQUE INDEX batches_key ON batches (merchant_id, mode, key);
-- Serves the end of an upload: the batch of the same file. One that was refused does not count.
CREATE UNIQUE INDEX batches_file ON batches (merchant_id, mode, digest) WHERE state <> 'invalid';
-- Serves claims: the few that run.
CREATE INDEX batches_running ON batches (merchant_id, id) WHERE state = 'running';
-- Serves uploads and the removal of cut ones.
CREATE INDEX batches_uploads ON batches (upload_until) WHERE state = 'checking';

-- A line that was read. Lines are found by their numbers only, so that nothing but the key is kept up to date.
CREATE TABLE batch_lines (
    merchant_id   uuid        NOT NULL,
    batch_id      uuid        NOT NULL,
    line          integer     NOT NULL,
    state         text        NOT NULL
        CONSTRAINT batch_line_state CHECK (state IN ('waiting', 'claimed', 'open', 'done', 'failed', 'skipped')),
    operation     text        NOT NULL,     -- payment, capture, refund or void
    reference     text,                     -- the merchant's
    request       text,                     -- canonical JSON; NULL if it is sealed or wrong
    sealed        bytea,                    -- the same with a token in it: encrypted, gone when the line ends
    payment_id    uuid,                     -- the one that it names, or that it made
    of_line       integer,                  -- it acts on the payment of this line
    after_line    integer,                  -- this line acts on the same payment and comes first
    tried         uuid[],                   -- the ids of all operations that may have been begun for it
    operation_id  uuid,                     -- the one that was
    outcome       text,
    detail        text,                     -- in words; of a wrong line its errors as JSON
    amount_minor  bigint,
    currency      text,
    -- Serves everything: a group of lines, and one line.
    PRIMARY KEY (merchant_id, batch_id, line)
) WITH (fillfactor = 60);

-- The lines that a worker has claimed: a work list (db/work_list.py). A row goes when all of its lines have ended.
CREATE TABLE batch_groups (
    merchant_id  uuid        NOT NULL,
    batch_id     uuid        NOT NULL,
    first_line   integer     NOT NULL,
    last_line    integer     NOT NULL,
    open         boolean     NOT NULL DEFAULT false,      -- all were sent; outcomes are unknown
    due_at       timestamptz NOT NULL DEFAULT db_now(),
    attempt      integer     NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT db_now(),
    reason       text,
    parked_at    timestamptz,
    -- Serves the end of a group, and which groups of a batch are under way.
    PRIMARY KEY (merchant_id, batch_id, first_line)
) WITH (fillfactor = 50);
-- Serves claims: whose lease has ended.
CREATE INDEX batch_groups_due ON batch_groups (due_at) WHERE parked_at IS NULL;

-- What has ended, added up with each group of ends: so nobody counts a million lines.
CREATE TABLE batch_totals (
    merchant_id   uuid    NOT NULL,
    batch_id      uuid    NOT NULL,
    operation     text    NOT NULL,
    state         text    NOT NULL,
    outcome       text    NOT NULL,
    currency      text    NOT NULL,     -- '' if no money is known of it
    lines         bigint  NOT NULL,
    amount_minor  bigint  NOT NULL,
    PRIMARY KEY (merchant_id, batch_id, operation, state, outcome, currency)
) WITH (fillfactor = 50);

COMMENT ON TABLE batch_groups IS 'The work list of batches: batches.claims.';
