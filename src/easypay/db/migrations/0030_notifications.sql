-- What the processor tells us by itself (docs/decisions/0052).
--
-- Everything here is added. A gateway that knows nothing of it goes on working beside it.

-- One row for each notification: one that is told again changes nothing. Ids only, and only for so
-- long as the processor may tell it again.
CREATE TABLE notifications (
    account          bytea       NOT NULL,     -- as in processor_logins
    notification_id  text        NOT NULL CONSTRAINT notification_id_length
        CHECK (length(notification_id) BETWEEN 1 AND 64),
    event_type       text        NOT NULL,     -- the processor's word
    transaction_id   text,
    reference        text,                     -- of the charge, if it may be ours; else of the call
    told_at          timestamptz,              -- when it happened, as the processor says
    received_at      timestamptz NOT NULL DEFAULT db_now(),
    PRIMARY KEY (account, notification_id)
);
-- Serves the search for approved charges of which nothing was told.
CREATE INDEX notifications_reference ON notifications (account, reference)
    WHERE reference IS NOT NULL;
-- Serves the purge.
CREATE INDEX notifications_age ON notifications USING brin (received_at)
    WITH (autosummarize = on);

-- Notifications that are to be followed. A work list (db/work_list.py).
CREATE TABLE notification_work (
    account           bytea       NOT NULL,
    notification_id   text        NOT NULL,
    happened          text        NOT NULL,    -- processors.notifications.Happened
    reference         text,                    -- of the call, if it may be one of ours
    charge_reference  text,                    -- of the charge that it is about
    due_at            timestamptz NOT NULL,
    attempt           integer     NOT NULL DEFAULT 0,
    created_at        timestamptz NOT NULL DEFAULT db_now(),
    reason            text,
    parked_at         timestamptz,
    -- Serves the end of the work.
    PRIMARY KEY (account, notification_id)
) WITH (fillfactor = 70);
-- Serves claims: what is due, oldest first.
CREATE INDEX notification_work_due ON notification_work (due_at) WHERE parked_at IS NULL;

-- Accounts whose notifications were ordered at the processor.
CREATE TABLE account_webhooks (
    account        bytea       NOT NULL,
    webhook_id     text        NOT NULL,       -- the processor's
    url            text        NOT NULL,
    state          text        NOT NULL        -- as the processor said last
        CONSTRAINT webhook_state CHECK (state IN ('active', 'inactive', 'missing')),
    registered_at  timestamptz NOT NULL DEFAULT db_now(),
    checked_at     timestamptz,                -- when the processor was asked last
    check_due_at   timestamptz NOT NULL DEFAULT db_now(),
    looked_below   uuid        NOT NULL,       -- operations below it were looked at
    looked_at      bigint      NOT NULL DEFAULT 0,     -- how many approved charges were looked at
    missed         bigint      NOT NULL DEFAULT 0,     -- of how many of them nothing was told
    PRIMARY KEY (account)
) WITH (fillfactor = 50);
