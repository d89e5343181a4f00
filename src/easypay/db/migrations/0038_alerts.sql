-- Alerts that a worker judges by itself, where no Prometheus does (docs/decisions/0058).
--
-- Everything here is added. At most a few dozen rows: a rule for each value of its label.
CREATE TABLE alert_states (
    rule       text             NOT NULL,     -- easypay.alerts.table
    series     text             NOT NULL,     -- the value of the rule's label, such as a work list
    since      timestamptz      NOT NULL,     -- the condition holds since then
    seen_at    timestamptz      NOT NULL,     -- it held then, when it was last written
    value      double precision NOT NULL,
    firing_at  timestamptz,                   -- it has held for as long as the rule asks
    over_at    timestamptz,
    told       text[]           NOT NULL DEFAULT '{}',   -- who was told that it fires
    told_over  text[]           NOT NULL DEFAULT '{}',   -- and that it is over
    PRIMARY KEY (rule, series)
);
