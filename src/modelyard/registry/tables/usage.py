"""Usage: batches of events, and their sums by hour and day."""
