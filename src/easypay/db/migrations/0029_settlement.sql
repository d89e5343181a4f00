-- What the processor's books say: settled batches and their transactions, what became of them later,
-- and every difference from our own operations (docs/decisions/0051).
--
-- Everything here is added. A gateway that knows nothing of it goes on working beside it.

-- One row for each account whose books are read. An account may be shared by several merchants.
CREATE TABLE account_books (
    account          bytea       NOT NULL,     -- as in processor_logins
    read_until       timestamptz NOT NULL,     -- every batch that settled before was read
    currency         text,                     -- the account's own; NULL if it has several or none is known
    last_started_at  timestamptz,
    last_ended_at    timestamptz,              -- when the books were read to their end last
    last_failure     text,                     -- why the last try did not end
    -- Something may be new: read once more from then on, that is while last_started_at is earlier.
    wanted_at        timestamptz,
    -- The fenced lease of whoever reads: by the database's clock.
    reader           uuid,
    leased_until     timestamptz,
    PRIMARY KEY (account)
) WITH (fillfactor = 50);

-- A batch that the processor has settled. A batch whose statistics change (a return, a chargeback) is
-- read again, however old it is.
CREATE TABLE settled_batches (
    account       bytea       NOT NULL,
    batch_id      text        NOT NULL,
    settled_at    timestamptz NOT NULL,
    state         text        NOT NULL,        -- the processor's word
    method        text,                        -- card or bank_account
    statistics    jsonb       NOT NULL DEFAULT '[]',   -- as it tells them, by brand
    transactions  integer     NOT NULL DEFAULT 0,      -- how many we have of it
    read_at       timestamptz,                 -- NULL: to be read (again)
    -- Serves the walk over the batches of an account.
    PRIMARY KEY (account, batch_id)
) WITH (fillfactor = 70);
-- Serves lists of settlements, newest first.
CREATE INDEX settled_batches_time ON settled_batches (account, settled_at, batch_id);

-- Money that moved, as the processor has it in its books: charges and refunds. Voids, declines and
-- errors move none.
CREATE TABLE settled_transactions (
    account          bytea       NOT NULL,
    batch_id         text        NOT NULL,
    transaction_id   text        NOT NULL,
    kind             text        NOT NULL
        CONSTRAINT settled_kind CHECK (kind IN ('charge', 'refund')),
    status           text        NOT NULL,     -- the processor's word
    settlement_state text        NOT NULL DEFAULT 'settled'   -- what became of it
        CONSTRAINT settled_state CHECK (settlement_state IN
            ('settled', 'returned', 'charged_back', 'chargeback_reversed')),
    reference        text,                     -- its invoice number
    amount_minor     bigint      NOT NULL,
    currency         text        NOT NULL,     -- '' if it cannot be known
    card_brand       text,
    last4            text,
    submitted_at     timestamptz,
    settled_at       timestamptz NOT NULL,     -- the batch's
    -- Our side; NULL if no operation of ours has the reference.
    merchant_id      uuid,
    mode             text,
    payment_id       uuid,
    operation_id     uuid,
    order_reference  text,
    -- What the processor tells of a return or chargeback, if it does.
    change_code      text,                     -- a bank's return code: R01
    change_message   text,
    changed_at       timestamptz,
    told             text                      -- the settlement_state that its payment was told of
        CONSTRAINT settled_told CHECK (told IN
            ('settled', 'returned', 'charged_back', 'chargeback_reversed')),
    -- Serves the comparison of a batch, and statements by batch.
    PRIMARY KEY (account, batch_id, transaction_id)
);
-- Serves the settlement: what a payment was not told of yet.
CREATE INDEX settled_transactions_untold ON settled_transactions (account, batch_id, transaction_id)
    WHERE payment_id IS NOT NULL AND told IS DISTINCT FROM settlement_state;
-- Serves statements: a merchant's days.
CREATE INDEX settled_transactions_day ON settled_transactions (merchant_id, mode, settled_at)
    WHERE merchant_id IS NOT NULL;
-- Serves what is asked about one payment.
CREATE INDEX settled_transactions_payment ON settled_transactions (merchant_id, payment_id)
    WHERE payment_id IS NOT NULL;

-- What became of settled money: returned items, chargebacks and their reversals, each once.
CREATE TABLE settlement_changes (
    account         bytea       NOT NULL,
    batch_id        text        NOT NULL,      -- the batch that the transaction settled in
    transaction_id  text        NOT NULL,
    number          integer     NOT NULL,      -- 1, 2, … of this transaction
    became          text        NOT NULL
        CONSTRAINT change_became CHECK (became IN
            ('settled', 'returned', 'charged_back', 'chargeback_reversed')),   -- settled: again
    code            text,                      -- the processor's: a bank's return code
    message         text,
    amount_minor    bigint      NOT NULL,
    currency        text        NOT NULL,
    merchant_id     uuid,
    mode            text,
    payment_id      uuid,
    operation_id    uuid,
    happened_at     timestamptz,               -- as the processor tells, if it does
    found_at        timestamptz NOT NULL DEFAULT db_now(),
    -- Serves the number of a change, and what became of a batch.
    PRIMARY KEY (account, batch_id, transaction_id, number)
);

-- A difference between the processor's books and ours, with both sides. Found once, however often the
-- books are compared.
CREATE TABLE reconciliation_breaks (
    id              uuid        NOT NULL,
    account         bytea       NOT NULL,
    kind            text        NOT NULL,      -- reconciliation.model.BreakKind
    subject         text        NOT NULL,      -- whose: a transaction id, or our reference if they have none
    state           text        NOT NULL DEFAULT 'open'
        CONSTRAINT break_state CHECK (state IN ('open', 'matched', 'cleared')),
    owner           text,                      -- who sees to it
    merchant_id     uuid,
    mode            text,
    payment_id      uuid,
    operation_id    uuid,
    batch_id        text,
    transaction_id  text,
    reference       text,
    our_state       text,
    our_minor       bigint,
    our_currency    text,
    their_state     text,
    their_minor     bigint,
    their_currency  text,
    last4           text,
    happened_at     timestamptz,               -- when the money moved, as far as either side knows
    found_at        timestamptz NOT NULL DEFAULT db_now(),
    closed_at       timestamptz,
    closed_by       text,
    reason          text,                      -- why it was matched, or how it cleared itself
    PRIMARY KEY (id),
    -- Serves the comparison: a difference is found once.
    CONSTRAINT break_once UNIQUE (account, kind, subject)
) WITH (fillfactor = 70);
-- Serves the list of what is open, oldest first, and its age in the metrics.
CREATE INDEX reconciliation_breaks_open ON reconciliation_breaks (found_at) WHERE state = 'open';
-- Serves a merchant's list.
CREATE INDEX reconciliation_breaks_merchant ON reconciliation_breaks (merchant_id, mode, id);

-- NULL until a captured payment has settled; `settled_at` has always been there.
ALTER TABLE payments ADD COLUMN settlement_state text
    CONSTRAINT payment_settlement_state CHECK (settlement_state IN
        ('settled', 'returned', 'charged_back', 'chargeback_reversed'));
