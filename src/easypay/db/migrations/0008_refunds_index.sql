-- The list of all refunds of a merchant: an index that only refunds cost anything.
--
-- `kind` is fixed when an operation is written, and the other columns, too. So no row enters or
-- leaves the index later, and recording an outcome stays a heap-only update.
--
-- Where months exist, this makes the index of the parent alone. `easypay migrate` then builds it
-- month by month without stopping writers (db/month_indexes.py). New months get it by themselves.

DO $$
BEGIN
    -- Serves GET /refunds.
    EXECUTE format(
        'CREATE INDEX operations_refunds ON %s operations (merchant_id, mode, id) WHERE kind = %L',
        CASE WHEN EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'operations'::regclass)
             THEN 'ONLY' ELSE '' END,
        'refund');
END $$;
