-- What happens to a batch is an event of the feed (events.batch_events), and results are kept for a time.
--
-- Everything here is added. A gateway that knows nothing of it goes on working beside it.

-- The batch of an event, as it was then. The event itself is in `events`, where it has the batch's id
-- in place of a payment's.
CREATE TABLE batch_events (
    merchant_id  uuid   NOT NULL,
    batch_id     uuid   NOT NULL,
    event_id     uuid   NOT NULL,
    data         json   NOT NULL,
    -- Serves look-ups of events of the feed, and the purge of a batch.
    PRIMARY KEY (merchant_id, batch_id, event_id)
);

-- How many tenths of its lines were told of.
ALTER TABLE batches ADD COLUMN tenth smallint NOT NULL DEFAULT 0;

-- Serves the purge: those that are over, oldest first.
CREATE INDEX batches_over ON batches (ended_at) WHERE ended_at IS NOT NULL;

CREATE TYPE ended_line AS (
    merchant_id   uuid,
    batch_id      uuid,
    line          integer,
    state         text,
    payment_id    uuid,
    operation_id  uuid,
    outcome       text,
    detail        text,
    amount_minor  bigint,
    currency      text
);
COMMENT ON TYPE ended_line IS 'How one line of a batch ended: batches.claims.LineEnd, field by field.';
