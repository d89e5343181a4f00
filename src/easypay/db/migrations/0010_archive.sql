-- Months whose payments, operations and events were exported to files and taken out of the database.
--
-- Everything here is added: a gateway that knows nothing of it goes on working beside one that does.

-- One row for each archived month. Only a payment that was not found is looked up here.
CREATE TABLE archived_months (
    month        text        PRIMARY KEY,     -- as the tables were named: 2026_01
    low          uuid        NOT NULL,        -- its ids: low <= id < high
    high         uuid        NOT NULL,
    label        text        NOT NULL         -- what merchants are told about where it is
        CONSTRAINT archive_label_length CHECK (length(label) BETWEEN 1 AND 200),
    manifest     jsonb       NOT NULL,        -- the manifest.json of the archive
    archived_at  timestamptz NOT NULL DEFAULT now()
);

-- While a month is exported, triggers on its own tables write here when a row of it changes. So the
-- export does not hold a snapshot, and nothing that changed meanwhile is taken out unseen.
CREATE TABLE archive_changes (
    month  text         NOT NULL,
    at     timestamptz  NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION note_archive_change() RETURNS trigger
LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO archive_changes (month) VALUES (TG_ARGV[0]);
    RETURN NULL;
END $$;

COMMENT ON FUNCTION note_archive_change IS
    'On the tables of a month that is being archived: notes that a row of it changed.';
