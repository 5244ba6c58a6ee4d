"""The schema, as the code sees it. The migrations make it, and a test holds the two together."""

from modelyard.registry.tables.audit import audit
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

__all__ = [
    "HEAD",
    "aliases",
    "audit",
    "bundles",
    "identity",
    "metadata",
    "models",
    "rollout_figures",
    "rollout_moves",
    "rollouts",
    "route_changes",
    "routes",
    "versions",
]
