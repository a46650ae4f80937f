"""What learns and what is tried out, beside the workers: a market with a planted truth; no worker imports it."""
