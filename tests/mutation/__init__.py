"""Changes the domains on purpose, one place at a time, and asks whether a named test fails (`make mutate`)."""
