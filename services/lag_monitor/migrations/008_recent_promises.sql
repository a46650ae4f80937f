-- migrate:up
-- What became of the promises of the last hours is asked every minute (cli/relief.py); deadlines grow with the table, so
-- an index of its blocks is enough, and costs what is written next to nothing.
CREATE INDEX sla_promise_recent ON sla_promise USING brin (deadline_at) WITH (pages_per_range = 32);
