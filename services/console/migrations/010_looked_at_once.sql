-- migrate:up
-- A limit is looked at in one case at a time, whoever asked for it and how: the open one is found by its account.
CREATE INDEX case_file_of_a_limit ON case_file (account_id)
  WHERE kind = 'limit_referred' AND state NOT IN ('resolved', 'closed');
