"""The Python client against a whole server: published, deployed, called, deployed anew."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelyard import AsyncClient, Client, publish
from modelyard.core.errors import Invalid, NotFound
from tests.e2e.conftest import Server

COLUMNS = ["age", "income", "city"]
Start = Callable[..., Server]


def _table(seed: int) -> tuple[pd.DataFrame, Any]:
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": random.integers(18, 90, 300).astype(float),
            "income": random.lognormal(3, 1, 300),
            "city": random.choice(["Oslo", "Rom", "Bern"], 300),
        }
    )
    stays = (table["age"] + 20 * (table["city"] == "Rom") > 60).map({True: "stay", False: "go"})
    return table, stays


def _fit(columns: list[str], seed: int) -> Any:
    table, target = _table(seed)
    numbers = [name for name in columns if name != "city"]
    model = make_pipeline(
        make_column_transformer((StandardScaler(), numbers), (OneHotEncoder(), ["city"])),
        RandomForestClassifier(10, random_state=seed),
    )
    return model.fit(table[columns], target)


def _check(client: Client, model: Any, columns: list[str], table: pd.DataFrame) -> None:
    np.testing.assert_array_equal(client.predict("stays", table), model.predict(table[columns]))
    probabilities = client.predict_proba("stays", table)
    np.testing.assert_allclose(probabilities, model.predict_proba(table[columns]), atol=1e-5)


def test_a_client_follows_a_deployment(tmp_path: Path, start_server: Start) -> None:
    """Frames get the estimator's own answers, before and after its columns change their order."""
    home, (table, _) = tmp_path / "home", _table(9)
    first, second = _fit(COLUMNS, 1), _fit(COLUMNS[::-1], 2)
    publish(first, name="stays", sample=_table(1)[0][COLUMNS], home=home, deploy=True)
    server = start_server(home, MODELYARD_POLL_S="0.02")
    with Client(server.url) as client:
        assert client.is_live()
        assert client.is_ready("stays")
        _check(client, first, COLUMNS, table)
        publish(second, name="stays", sample=_table(1)[0][COLUMNS[::-1]], home=home, deploy=True)
        while client.models()[0]["version"] != "2":
            pass
        _check(client, second, COLUMNS[::-1], table)

        with pytest.raises(Invalid) as unseen:
            client.predict("stays", table.assign(city="Wien"))
        assert (unseen.value.code, unseen.value.field) == ("unseen_category", "city")
        with pytest.raises(NotFound):
            client.predict("leaves", table)


def test_calls_side_by_side_are_not_mixed_up(tmp_path: Path, start_server: Start) -> None:
    """Hundreds of async calls at once, of different lengths, each get their own rows' answers."""
    home, (table, _) = tmp_path / "home", _table(9)
    model = _fit(COLUMNS, 1)
    publish(model, name="stays", sample=table[COLUMNS], home=home, deploy=True)
    server = start_server(home)

    async def all_at_once() -> list[Any]:
        async with AsyncClient(server.url) as client:
            return await asyncio.gather(
                *(client.predict("stays", table[at : at + 1 + at % 5]) for at in range(250))
            )

    expected = model.predict(table[COLUMNS])
    for at, answer in enumerate(asyncio.run(all_at_once())):
        np.testing.assert_array_equal(answer, expected[at : at + 1 + at % 5])
