-- How old the answers to a merchant's reads may be if the request does not say.
--
-- A gateway of the version before does not read this column, so its answers are as new as can be.

ALTER TABLE merchants
    ADD COLUMN read_staleness_ms integer NOT NULL DEFAULT 0
        CONSTRAINT merchant_read_staleness CHECK (read_staleness_ms BETWEEN 0 AND 60000);
COMMENT ON COLUMN merchants.read_staleness_ms IS
    'How old an answer to a read may be unless the request says, in milliseconds.';
