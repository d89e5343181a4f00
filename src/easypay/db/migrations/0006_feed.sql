-- The order of events, and the search table that is filled in that order.
--
-- Everything here is added: a gateway that knows nothing of it goes on working beside one that does.
-- Making the index reads all events once and keeps writers of events waiting for that long, about a
-- second for five million.

-- Serves the feed: the events of transactions that were not read yet. Rows arrive nearly in the order
-- of their transactions, so a block range index finds them, and costs a write next to nothing. It has
-- no operator class for xid8, but for the number that it is.
CREATE INDEX events_written ON events USING brin ((written_by::text::bigint)) WITH (pages_per_range = 16);

-- What has been read of each month's events: every transaction below `read_below`, except those in
-- `still_open`, which were running at that moment.
CREATE TABLE feed_months (
    month       text     PRIMARY KEY,          -- the suffix of the month's table: 2026_11, default
    read_below  bigint   NOT NULL DEFAULT 0,
    still_open  bigint[] NOT NULL DEFAULT '{}',
    version     bigint   NOT NULL DEFAULT 1    -- fences a process that believes it still leads
) WITH (fillfactor = 50);

-- A merchant's events in one mode, by a short number: the feed and the search table have one in every
-- row and every index.
CREATE TABLE streams (
    stream       integer  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    merchant_id  uuid     NOT NULL,
    mode         text     NOT NULL,
    -- Serves whoever has a merchant's key.
    CONSTRAINT stream_once UNIQUE (merchant_id, mode)
);

-- Every event in an order that never changes, given after its transaction had committed.
CREATE TABLE feed (
    seq          bigint   PRIMARY KEY,     -- over all streams: what a reader of everything follows
    position     bigint   NOT NULL,        -- 1, 2, 3, … in its stream
    stream       integer  NOT NULL,
    event_id     uuid     NOT NULL,
    payment_id   uuid     NOT NULL,
    -- Serves the cursor of a stream, and the next position.
    CONSTRAINT feed_position UNIQUE (stream, position)
);

CREATE TABLE feed_head (
    only_row  boolean PRIMARY KEY DEFAULT true CONSTRAINT feed_head_is_one_row CHECK (only_row),
    last_seq  bigint  NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
INSERT INTO feed_head DEFAULT VALUES;

-- How far each reader of the feed has come. It moves in the transaction that writes what was read.
CREATE TABLE feed_readers (
    name      text    PRIMARY KEY,
    last_seq  bigint  NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
INSERT INTO feed_readers (name) VALUES ('search');


-- What lists can be filtered by. Filled from the feed, and made anew at will: no truth is kept here.
-- The hot tables need no index for this, and their updates stay heap-only.
CREATE TABLE payment_search (
    stream              integer  NOT NULL,
    version             integer  NOT NULL,      -- the payment's: an older one never overwrites
    payment_id          uuid     NOT NULL,
    amount_minor        bigint   NOT NULL,
    refunded            boolean  NOT NULL,
    status              text     COLLATE "C" NOT NULL,
    currency            text     COLLATE "C" NOT NULL,
    card_brand          text     COLLATE "C",
    card_last4          text     COLLATE "C",
    decline_code        text     COLLATE "C",
    transaction_id      text     COLLATE "C",
    order_reference     text     COLLATE "C",
    customer_reference  text     COLLATE "C",
    PRIMARY KEY (stream, payment_id)
);
-- Each serves the filter of its name, in the order of the list; the first serves status and currency,
-- alone and together.
CREATE INDEX payment_search_status ON payment_search (stream, currency, status, payment_id);
CREATE INDEX payment_search_amount ON payment_search (stream, amount_minor, payment_id);
CREATE INDEX payment_search_card ON payment_search (stream, card_last4, payment_id);
CREATE INDEX payment_search_transaction ON payment_search (stream, transaction_id)
    WHERE transaction_id IS NOT NULL;
CREATE INDEX payment_search_order ON payment_search (stream, order_reference, payment_id)
    WHERE order_reference IS NOT NULL;
CREATE INDEX payment_search_customer ON payment_search (stream, customer_reference, payment_id)
    WHERE customer_reference IS NOT NULL;
CREATE INDEX payment_search_decline ON payment_search (stream, decline_code, payment_id)
    WHERE decline_code IS NOT NULL;
CREATE INDEX payment_search_refunded ON payment_search (stream, payment_id) WHERE refunded;
