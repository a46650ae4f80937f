"""The workers and what runs them."""
