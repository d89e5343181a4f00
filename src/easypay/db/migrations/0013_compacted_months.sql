-- Months whose operations were written anew: full pages, without stored replies.
--
-- Everything here is added: a gateway that knows nothing of it goes on working beside one that does.

-- One row for each compacted month, written in the transaction that swaps the tables.
CREATE TABLE compacted_months (
    month         text         PRIMARY KEY,    -- as the tables are named: 2026_01
    operations    bigint       NOT NULL,
    bytes_before  bigint       NOT NULL,       -- of the month's operations, with indexes
    bytes_after   bigint       NOT NULL,
    compacted_at  timestamptz  NOT NULL
);

COMMENT ON FUNCTION note_archive_change IS
    'On the tables of a month that is being archived or compacted: notes that a row of it changed.';
