"""What runs a worker: read batch.py first, it is the way of one batch."""
