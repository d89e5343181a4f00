-- What is a merchant's in a batch, added up, so that nobody adds up a batch of 100,000 transactions to
-- show it (docs/decisions/0061).
--
-- A gateway of the version before goes on: whatever it writes, the database adds up.
--
-- The lock comes first. Whoever tells payments that they have settled locks rows here, then payments,
-- and then writes here: such a transaction ends before this begins, or waits with nothing locked.
LOCK TABLE settled_transactions IN EXCLUSIVE MODE;

CREATE TABLE settlement_sums (
    account       bytea   NOT NULL,
    batch_id      text    NOT NULL,
    merchant_id   uuid    NOT NULL,
    mode          text    NOT NULL,
    currency      text    NOT NULL,
    card_brand    text    NOT NULL,     -- '' if it is not known
    kind          text    NOT NULL,     -- charge or refund
    transactions  bigint  NOT NULL,     -- how many; 0 if all were taken away again
    amount_minor  bigint  NOT NULL,
    -- Serves a merchant's settlements.
    PRIMARY KEY (account, batch_id, merchant_id, mode, currency, card_brand, kind)
) WITH (fillfactor = 70);

-- Adds what a statement changed. One that leaves amounts alone, as when payments are told, writes
-- nothing.
CREATE FUNCTION add_up_settled() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    moved text := CASE TG_OP
        WHEN 'INSERT' THEN 'SELECT *, 1 AS sign FROM came'
        WHEN 'DELETE' THEN 'SELECT *, -1 AS sign FROM went'
        ELSE 'SELECT *, 1 AS sign FROM came UNION ALL SELECT *, -1 FROM went' END;
BEGIN
    EXECUTE 'INSERT INTO settlement_sums AS s
        SELECT account, batch_id, merchant_id, mode, currency, coalesce(card_brand, ''''), kind,
               sum(sign), sum(sign * amount_minor)
          FROM (' || moved || ') AS moved WHERE merchant_id IS NOT NULL
         GROUP BY 1, 2, 3, 4, 5, 6, 7 HAVING sum(sign) <> 0 OR sum(sign * amount_minor) <> 0
         ORDER BY 1, 2, 3, 4, 5, 6, 7
        ON CONFLICT (account, batch_id, merchant_id, mode, currency, card_brand, kind) DO UPDATE
           SET transactions = s.transactions + excluded.transactions,
               amount_minor = s.amount_minor + excluded.amount_minor';
    RETURN NULL;
END $$;

CREATE TRIGGER came AFTER INSERT ON settled_transactions REFERENCING NEW TABLE AS came
    FOR EACH STATEMENT EXECUTE FUNCTION add_up_settled();
CREATE TRIGGER changed AFTER UPDATE ON settled_transactions
    REFERENCING OLD TABLE AS went NEW TABLE AS came
    FOR EACH STATEMENT EXECUTE FUNCTION add_up_settled();
CREATE TRIGGER went AFTER DELETE ON settled_transactions REFERENCING OLD TABLE AS went
    FOR EACH STATEMENT EXECUTE FUNCTION add_up_settled();

-- Reconciliation waits for as long as it takes to read all that has settled; payments do not.
INSERT INTO settlement_sums
SELECT account, batch_id, merchant_id, mode, currency, coalesce(card_brand, ''), kind, count(*),
       sum(amount_minor)
  FROM settled_transactions WHERE merchant_id IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6, 7;
