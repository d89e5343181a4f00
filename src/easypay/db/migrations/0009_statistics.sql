-- Statistics: counters that are folded from the feed, in the same statement as the search table.
--
-- Everything here is added: a gateway that knows nothing of it goes on working beside one that does.
-- No default needs a table to be rewritten.

ALTER TABLE merchants ADD COLUMN time_zone text NOT NULL DEFAULT 'UTC'
    CONSTRAINT merchant_time_zone_length CHECK (length(time_zone) BETWEEN 1 AND 64);
COMMENT ON COLUMN merchants.time_zone IS 'Whose days, weeks and months the statistics have.';

-- Whoever changes what readers rely on raises the version, in its own transaction. A reader's
-- statement that began before that writes nothing.
ALTER TABLE feed_readers ADD COLUMN version bigint NOT NULL DEFAULT 1;
-- Reads the feed for the search table and for the statistics. 'search' is the reader of the gateway
-- before this one, which knows no statistics; the new one reads from the start.
INSERT INTO feed_readers (name) VALUES ('payments');

-- Whether the feed has everything that was there before it, so that only the newest can be missing.
ALTER TABLE feed_head ADD COLUMN caught_up boolean NOT NULL DEFAULT false;

-- As what the payment is counted now, so that a change is counted as a difference. The brand is the
-- one of the first count: it stays if the processor tells the brand only later. Empty: no brand.
ALTER TABLE payment_search
    ADD COLUMN counted_status text,
    ADD COLUMN counted_brand text;


-- Local days. A day begins when its midnight comes first; if the clock skips midnight, when it jumps.
CREATE FUNCTION local_start(day date, zone text) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN (day::timestamp AT TIME ZONE zone - interval '1 hour') AT TIME ZONE zone = day::timestamp
            THEN day::timestamp AT TIME ZONE zone - interval '1 hour'
            ELSE day::timestamp AT TIME ZONE zone END;

COMMENT ON FUNCTION local_start IS 'The first instant of a day in that time zone.';

CREATE FUNCTION local_day(moment timestamptz, zone text) RETURNS date
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (moment AT TIME ZONE zone)::date
       + (moment >= local_start((moment AT TIME ZONE zone)::date + 1, zone))::int;

COMMENT ON FUNCTION local_day IS 'The day of that time zone in which the moment lies: local_start of it is not later.';


-- One row for each merchant, mode, stretch of time, currency and brand in which something happened.
-- Null is zero. Each counter has its amount, in minor units, beside it.
--
-- The first counters are what happened in that time. Those that begin with `now_` are what the
-- payments that were created in that time are now.
CREATE TABLE payment_counts (
    merchant_id  uuid         NOT NULL,
    mode         text         NOT NULL,
    -- q: a quarter of an hour. d: a day, and m: a month, of the merchant's time zone; these are
    -- added up when the day or month is over (statistics_seals). D and M: the same over all brands.
    grain        text         NOT NULL CONSTRAINT count_grain CHECK (grain IN ('q', 'd', 'm', 'D', 'M')),
    start        timestamptz  NOT NULL,
    currency     text         NOT NULL,
    brand        text         NOT NULL,      -- empty if the payment shows none

    sold        bigint, sold_minor        bigint,     -- captured at once
    authorized  bigint, authorized_minor  bigint,
    captured    bigint, captured_minor    bigint,     -- an authorization was captured
    refunded    bigint, refunded_minor    bigint,
    undone      bigint, undone_minor      bigint,     -- captured money given back by a void
    voided      bigint, voided_minor      bigint,     -- a hold let go
    expired     bigint, expired_minor     bigint,
    declined    bigint, declined_minor    bigint,
    failed      bigint, failed_minor      bigint,
    in_review   bigint, in_review_minor   bigint,

    now_in_review   bigint, now_in_review_minor   bigint,
    now_authorized  bigint, now_authorized_minor  bigint,
    now_captured    bigint, now_captured_minor    bigint,
    now_declined    bigint, now_declined_minor    bigint,
    now_failed      bigint, now_failed_minor      bigint,
    now_voided      bigint, now_voided_minor      bigint,
    now_expired     bigint, now_expired_minor     bigint,

    -- Serves every question, and every change of a row.
    PRIMARY KEY (merchant_id, mode, grain, start, currency, brand)
) WITH (fillfactor = 70);

-- The same for declines by their code.
CREATE TABLE decline_counts (
    merchant_id  uuid         NOT NULL,
    mode         text         NOT NULL,
    grain        text         NOT NULL CONSTRAINT decline_count_grain CHECK (grain IN ('q', 'd', 'm', 'D', 'M')),
    start        timestamptz  NOT NULL,
    currency     text         NOT NULL,
    brand        text         NOT NULL,
    code         text         NOT NULL,      -- empty if the processor told none
    declines     bigint       NOT NULL,
    PRIMARY KEY (merchant_id, mode, grain, start, currency, brand, code)
) WITH (fillfactor = 70);

-- Up to when a merchant's days and months are added up. What changes before that is added to their
-- rows, too. No row: nothing is added up yet.
CREATE TABLE statistics_seals (
    merchant_id   uuid         PRIMARY KEY,
    time_zone     text         NOT NULL,      -- in which they were added up
    days_until    timestamptz  NOT NULL,
    months_until  timestamptz  NOT NULL,
    next_at       timestamptz  NOT NULL       -- when the present day is over
);
