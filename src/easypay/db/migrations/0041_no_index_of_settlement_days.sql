-- no-transaction
-- It served only the sums of a batch, which the database keeps since 0040. Dropped beside what runs:
-- an ordinary DROP INDEX would wait for whoever uses the table, with all others behind it.
DROP INDEX CONCURRENTLY IF EXISTS settled_transactions_day;
