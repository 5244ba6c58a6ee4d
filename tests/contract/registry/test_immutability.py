"""The database itself refuses to rewrite what happened, whoever asks it."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

from modelyard.core.rollout import Plan
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.registry import Registry
from modelyard.testing.bundles import make_bundle

_COMMON = [
    "UPDATE versions SET state = 'accepted'",
    "UPDATE versions SET digest = digest WHERE number = 1",
    "DELETE FROM versions",
    "UPDATE bundles SET files = '[]'",
    "DELETE FROM bundles",
    "DELETE FROM models",
    "UPDATE models SET name = 'iris'",
    "UPDATE audit SET actor = 'nobody'",
    "DELETE FROM audit WHERE id = 1",
    "UPDATE route_changes SET targets = NULL",
    "DELETE FROM route_changes",
    "UPDATE rollout_moves SET reason = 'it was fine'",
    "DELETE FROM rollout_moves",
]
_SQLITE = [
    "REPLACE INTO rollout_moves SELECT rollout, number, at, 'done', percent, readings, reason "
    "FROM rollout_moves",
    "INSERT OR REPLACE INTO versions SELECT model, number, digest, 'accepted', created, actor "
    "FROM versions",
    "REPLACE INTO audit SELECT * FROM audit",
]
_POSTGRESQL = ["TRUNCATE audit", "TRUNCATE versions CASCADE", "TRUNCATE rollout_moves"]


def test_what_happened_cannot_be_rewritten(database_url: str, tmp_path: Path) -> None:
    """No statement changes or removes models, bundles, versions, routes' history or audit."""
    with Registry.open(database_url, LocalBlobStore(tmp_path / "home")) as registry:
        registry.publish(make_bundle(tmp_path / "b", passed=False), actor="ann")
        registry.deploy("churn", 1, actor="ann", force=True)
        registry.publish(make_bundle(tmp_path / "c", model=b"another"), actor="ann")
        registry.roll_out("churn", 2, plan=Plan(steps=(1.0, 100.0)), actor="ann")
        before = _history(registry)

        engine = create_engine(database_url)
        own = _SQLITE if engine.dialect.name == "sqlite" else _POSTGRESQL
        for statement in [*_COMMON, *own]:
            with (
                pytest.raises(IntegrityError, match="are never changed"),
                engine.begin() as connection,
            ):
                connection.execute(text(statement))
        engine.dispose()

        assert _history(registry) == before


def _history(registry: Registry) -> list[object]:
    return [
        registry.versions("churn"),
        registry.route_history("churn"),
        registry.audit(),
        registry.rollouts.of("churn"),
    ]
