"""Quotas: what is leased to nodes and what is spent."""
