"""The schema, as the code sees it. The migrations make it, and a test holds the two together."""

from modelyard.registry.tables.access import (
    access_sequence,
    keys,
    limits,
    mappings,
    policy,
    tariffs,
    tenants,
)
from modelyard.registry.tables.audit import approvals, audit, audit_checkpoints, audit_keys
from modelyard.registry.tables.base import HEAD, metadata
from modelyard.registry.tables.models import (
    aliases,
    bundles,
    identity,
    models,
    rollout_figures,
    rollout_moves,
    rollouts,
    route_changes,
    routes,
    versions,
)
from modelyard.registry.tables.payloads import payload_erasures, payload_keys, payloads
from modelyard.registry.tables.quotas import nodes, quota_leases, quota_wants
from modelyard.registry.tables.repeats import repeats
from modelyard.registry.tables.signatures import signatures
from modelyard.registry.tables.usage import (
    usage_batches,
    usage_days,
    usage_hours,
    usage_spools,
    usage_unrecorded,
)

__all__ = [
    "HEAD",
    "access_sequence",
    "aliases",
    "approvals",
    "audit",
    "audit_checkpoints",
    "audit_keys",
    "bundles",
    "identity",
    "keys",
    "limits",
    "mappings",
    "metadata",
    "models",
    "nodes",
    "payload_erasures",
    "payload_keys",
    "payloads",
    "policy",
    "quota_leases",
    "quota_wants",
    "repeats",
    "rollout_figures",
    "rollout_moves",
    "rollouts",
    "route_changes",
    "routes",
    "signatures",
    "tariffs",
    "tenants",
    "usage_batches",
    "usage_days",
    "usage_hours",
    "usage_spools",
    "usage_unrecorded",
    "versions",
]
