"""What would billing send? Demo, load and tests only."""
