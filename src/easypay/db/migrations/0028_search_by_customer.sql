-- The filter of payments by customer; which payments an erasure has erased; the purge of old objects.
--
-- Everything here is added: a gateway that knows nothing of it goes on working beside it. The column
-- has no default, so no row is touched, and the index is empty at first: making it reads the search
-- table once, for about a second for a million payments. The search table waits; payments do not.

-- The customer whose stored payment method was used. Rows that are there already stay without it, and
-- so do payments that a gateway of the version before brings into the table.
ALTER TABLE payment_search ADD COLUMN customer_id uuid;
-- Serves the filter `customer`, in the order of the list. Most payments are in no such row.
CREATE INDEX payment_search_stored ON payment_search (stream, customer_id, payment_id)
    WHERE customer_id IS NOT NULL;

-- The payments of a customer that were erased. While an erasure goes on, webhooks' messages about them
-- may be under way; without the reference that was erased nothing else would tell whose they were. Rows
-- go when the erasure was looked through for the last time.
CREATE TABLE erased_payments (
    merchant_id  uuid  NOT NULL,
    mode         text  NOT NULL,
    customer_id  uuid  NOT NULL,
    payment_id   uuid  NOT NULL,
    -- Serves whether a message was about one of them, and their end.
    PRIMARY KEY (merchant_id, mode, customer_id, payment_id)
);

-- Serves the purge of old objects: an event's id begins with its time.
CREATE INDEX customer_events_age ON customer_events (event_id);
