"""Tenants, keys, identity mappings, limits, tariffs and the policy: what the gate goes by."""
