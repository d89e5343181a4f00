-- Errors of all processes, grouped: one row for each kind (observability.error_kinds).
--
-- Everything here is added. A gateway that knows nothing of it goes on working beside it.

-- A kind is a place in our code and a text without what varies: no number, no id, no value. At most
-- 500 rows; those that were not seen for longest go.
CREATE TABLE error_kinds (
    -- A hash of the four texts.
    fingerprint  bytea        NOT NULL PRIMARY KEY,
    level        text         NOT NULL,
    exception    text         NOT NULL,
    place        text         NOT NULL,
    message      text         NOT NULL,
    count        bigint       NOT NULL,
    first_seen   timestamptz  NOT NULL,
    last_seen    timestamptz  NOT NULL
);
