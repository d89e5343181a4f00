-- Payments whose outcome is unknown are in the search table, too.
--
-- Everything here is added: a gateway of the version before goes on working beside it. It finds such
-- payments as it did, and its outcomes are noted here as well.

-- Payments that the search table may lack: they have no event, which would bring them there. The
-- leader of the feed empties this at each look. No index: it is empty nearly always.
CREATE TABLE payments_to_search (
    merchant_id  uuid  NOT NULL,
    payment_id   uuid  NOT NULL
);

CREATE FUNCTION note_payment_to_search() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO payments_to_search (merchant_id, payment_id)
    VALUES (NEW.merchant_id, NEW.payment_id);
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION note_payment_to_search IS
    'Notes the payment of an operation without an outcome, in the transaction that lists it.';

-- Whoever lists an operation: a gateway of this version or the one before, the sweep, a seed. The
-- statement that records outcomes stays as it is, and one with an outcome pays nothing.
CREATE TRIGGER unresolved_operations_to_search AFTER INSERT ON unresolved_operations
    FOR EACH ROW EXECUTE FUNCTION note_payment_to_search();
INSERT INTO payments_to_search SELECT DISTINCT merchant_id, payment_id FROM unresolved_operations;

-- Serves the fold: nothing that is newer than this belongs to a day that is added up.
CREATE INDEX statistics_seals_newest ON statistics_seals (days_until);

-- The reader of a gateway that knew no statistics. None is left: whoever reads the feed now is
-- 'payments', which had moved this mark along.
DELETE FROM feed_readers WHERE name = 'search';
