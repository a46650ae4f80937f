"""The wire kept: golden bytes, published schemas and what a bad record does."""
