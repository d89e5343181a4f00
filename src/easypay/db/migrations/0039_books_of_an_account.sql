-- What people say of an account's books: nobody reads them any more, or other programs charge there, too.
-- And how often in a row the processor refused to show them.
--
-- Everything here is added. A gateway that knows nothing of it goes on reading.
ALTER TABLE account_books
    ADD COLUMN retired_at timestamptz,                  -- not read since then, by decision
    ADD COLUMN shared_at  timestamptz,                  -- other programs use the account: known since then
    ADD COLUMN refusals   integer NOT NULL DEFAULT 0;   -- tries in a row that a person has to mend
