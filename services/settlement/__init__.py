"""Is the money final, and what did it pay? Owns the debt ledger."""
