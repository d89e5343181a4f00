-- Merchants are told of authorizations that expire soon, once.
ALTER TABLE sweeps ADD COLUMN expiring_told_below uuid NOT NULL
    DEFAULT '00000000-0000-0000-0000-000000000000';
