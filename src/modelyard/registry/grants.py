"""What a role of PostgreSQL may do that serves and administers, but owns nothing.

Triggers refuse to change what happened, whoever asks; yet the owner of a table can take them away.
So on a shared server the tables belong to one role, which upgrades the registry, and servers
connect as another, which has these grants and can do neither.
"""

from typing import Final

from modelyard.registry.tables import metadata

APPEND_ONLY: Final = frozenset(
    {
        "identity",
        "models",
        "bundles",
        "versions",
        "route_changes",
        "rollout_moves",
        "audit",
        "audit_checkpoints",
        "audit_keys",
    }
)
"""The tables whose rows are never changed and never go."""
PASSING: Final = frozenset({"usage_batches"})
"""Those whose rows are never changed, and go after their time."""


def grants_for(role: str) -> list[str]:
    """The statements that give a role this much and no more, to be run by the owner."""
    quoted = '"' + role.replace('"', '""') + '"'
    history = ", ".join(sorted(APPEND_ONLY))
    passing = ", ".join(sorted(PASSING))
    others = ", ".join(sorted(set(metadata.tables) - APPEND_ONLY - PASSING))
    return [
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {quoted}",
        f"REVOKE CREATE ON SCHEMA public FROM {quoted}",
        f"GRANT USAGE ON SCHEMA public TO {quoted}",
        f"GRANT SELECT ON alembic_version TO {quoted}",
        f"GRANT SELECT, INSERT ON {history} TO {quoted}",
        f"GRANT SELECT, INSERT, DELETE ON {passing} TO {quoted}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {others} TO {quoted}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {quoted}",
    ]
