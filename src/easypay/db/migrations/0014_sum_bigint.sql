-- Adds up bigints as bigints. The sum(bigint) of PostgreSQL adds them up as numeric, which takes twice
-- as long, and for some thousand groups more memory than a statement may use. A sum above 9.2e18 is an
-- error, as it was before: it has to fit into bigint.
CREATE AGGREGATE sum_bigint(bigint) (
    SFUNC = int8pl, STYPE = bigint, COMBINEFUNC = int8pl, PARALLEL = SAFE
);

COMMENT ON AGGREGATE sum_bigint(bigint) IS 'The sum as a bigint; null of nothing.';
