-- A queued operation remembers the trace of its request, so that the trace of its sending leads
-- there. Both are null, and take no room in the row, while traces are off.
ALTER TABLE queued_operations ADD COLUMN trace_id uuid, ADD COLUMN span_id bigint;
COMMENT ON COLUMN queued_operations.trace_id IS 'The 128 bits of the trace of the request (W3C trace context).';
COMMENT ON COLUMN queued_operations.span_id IS 'The 64 bits of its span there, as a signed number.';

CREATE TYPE trace_link AS (trace_id uuid, span_id bigint);
COMMENT ON TYPE trace_link IS 'The trace of a payment that is queued; null: it has none.';
