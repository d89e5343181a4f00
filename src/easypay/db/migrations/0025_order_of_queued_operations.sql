-- An index for the order of a payment's queued operations that serves nothing else.
--
-- The one before began with the merchant, as the primary key does. PostgreSQL took it for the look-up of a
-- single operation whenever it had last counted the rows while there were none, which is most of the time:
-- then each look-up read all of the merchant's rows. A gateway of the version before uses the new one.

-- Serves claims: whether an earlier operation of the same payment is still waiting.
CREATE INDEX queued_operations_order ON queued_operations (payment_id, place);
DROP INDEX queued_operations_of_payment;
