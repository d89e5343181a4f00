-- The erasure of a customer's personal data: how far it has come, and what it did.
--
-- Everything here is added. A gateway that knows nothing of it goes on working beside it.

-- One row for each customer that was erased or is being erased. It has no personal data; it stays.
CREATE TABLE customer_erasures (
    merchant_id      uuid        NOT NULL,
    mode             text        NOT NULL
        CONSTRAINT erasure_mode CHECK (mode IN ('test', 'live')),
    customer_id      uuid        NOT NULL,
    state            text        NOT NULL DEFAULT 'erasing'
        CONSTRAINT erasure_state CHECK (state IN ('erasing', 'erased')),
    with_references  boolean     NOT NULL,     -- whether references and descriptions go, too
    step             text        NOT NULL,     -- what is being done: customers.erasure.STEPS
    after_id         uuid        NOT NULL,     -- how far the step has come
    after_endpoint   uuid        NOT NULL,
    -- Payments with the customer's reference are this customer's between these ids: before and after,
    -- another customer may have had the reference.
    from_payment     uuid        NOT NULL,
    until_payment    uuid        NOT NULL,
    left_over        uuid[]      NOT NULL DEFAULT '{}',    -- payments that had something open
    rows             jsonb       NOT NULL DEFAULT '{}',    -- by table: how many rows were changed
    waiting_for      text,                                 -- why it is not done yet
    asked_at         timestamptz NOT NULL DEFAULT db_now(),
    begun_at         timestamptz NOT NULL DEFAULT db_now(),    -- when it was begun last
    erased_at        timestamptz,
    -- Serves every look-up.
    PRIMARY KEY (merchant_id, mode, customer_id)
) WITH (fillfactor = 50);

-- The erasures that are not done, or are looked through once more. A work list (db/work_list.py).
CREATE TABLE erasure_work (
    merchant_id  uuid        NOT NULL,
    mode         text        NOT NULL,
    customer_id  uuid        NOT NULL,
    due_at       timestamptz NOT NULL,
    attempt      integer     NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT db_now(),
    reason       text,
    parked_at    timestamptz,
    -- Serves the end of the work.
    PRIMARY KEY (merchant_id, mode, customer_id)
) WITH (fillfactor = 70);
-- Serves claims: what is due, oldest first.
CREATE INDEX erasure_work_due ON erasure_work (due_at) WHERE parked_at IS NULL;
