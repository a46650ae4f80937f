"""How much credit is available, since when, and why not more? Owns the availability ledger, holds and promises."""
