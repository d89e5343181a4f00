-- Who may do a thing that one process at a time must do, over more than one transaction.
--
-- Everything here is added: a gateway that knows nothing of it goes on working beside one that does.

CREATE TABLE leases (
    name          text        PRIMARY KEY,
    holder        uuid        NOT NULL,
    -- Grows with every change of holder, so that a process that lost its lease cannot write any more.
    -- Rows stay, for a token must never come back.
    token         bigint      NOT NULL CONSTRAINT lease_token CHECK (token > 0),
    leased_until  timestamptz NOT NULL
);

COMMENT ON TABLE leases IS 'One row for each thing that one process at a time does: db.lease.';
