"""What does a person need to see or do? Owns the cases."""
