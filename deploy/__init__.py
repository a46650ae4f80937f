"""Hold what runs the product: the embedded stack, policies, dashboards and compose files."""
