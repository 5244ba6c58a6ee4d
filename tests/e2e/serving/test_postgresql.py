"""The whole road with the registry in a real PostgreSQL: one setting, nothing else changes."""

import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from modelyard import Client, Yard
from modelyard.core.config import load_config
from tests.e2e.conftest import Command, serving
from tests.e2e.serving.conftest import Place


def test_publish_deploy_serve_and_roll_back(tmp_path: Path, postgres_url: str) -> None:
    """Versions and routes live in PostgreSQL, and a running server follows them there."""
    home = tmp_path / "home"
    setting = {"MODELYARD_DATABASE_URL": postgres_url}
    table, target = load_iris(return_X_y=True)
    config = load_config({"home": home, "database_url": postgres_url})
    with Yard(config) as yard, serving(home, **setting) as server, Client(server.url) as client:
        place = Place(yard, server, client)
        models = [LogisticRegression(C=c, max_iter=2000).fit(table, target) for c in (0.01, 10)]
        for number, model in enumerate(models, start=1):
            version = place.publish(model, name="iris", sample=table)
            assert version.number == number
            np.testing.assert_array_equal(client.predict("iris", table), model.predict(table))
        yard.rollback("iris")
        place.wait_for("iris", 1)
        np.testing.assert_array_equal(client.predict("iris", table), models[0].predict(table))
    assert not (home / "registry.db").exists()
    listed = Command(home)("models", "--json", **setting).stdout
    assert json.loads(listed)[0]["routed"] == 1
