"""Limits: rates, quotas and concurrencies, counted once for all workers of a node."""
