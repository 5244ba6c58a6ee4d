"""Models behind a real HTTP server, and both clients behind one blocking face."""

import asyncio
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from modelyard.client import AsyncClient, Client
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.signature import Column, Signature, TensorSpec
from modelyard.testing.serving import FunctionRuntime, Serving, serving

FP32, TEXT = Datatype.FP32, Datatype.BYTES


def columns(*names: str, datatype: Datatype = FP32, **options: Any) -> tuple[Column, ...]:
    return tuple(Column(name, datatype, **options) for name in names)


def table(*names: str) -> Signature:
    """A classifier of rows of numbers, with classes `low` and `high`."""
    label = TensorSpec("label", TEXT, (-1,))
    probabilities = TensorSpec("probabilities", FP32, (-1, 2), columns("low", "high"))
    inputs = TensorSpec("input", FP32, (-1, len(names)), columns(*names))
    return Signature((inputs,), (label, probabilities), task="classification")


def by_first_column(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """`high` where the first column is over one half, with that as the probability."""
    first = inputs["input"][:, 0]
    label = np.array(["high" if value > 0.5 else "low" for value in first], object)
    return {"label": label, "probabilities": np.stack([1 - first, first], axis=1)}  # type: ignore[operator]


MIXED = Signature(
    (
        TensorSpec("numbers", FP32, (-1, 2), (*columns("age", nullable=True), *columns("income"))),
        TensorSpec(
            "texts", TEXT, (-1, 1), columns("city", datatype=TEXT, categories=("Oslo", "Rom"))
        ),
        TensorSpec("counts", Datatype.INT64, (-1, 1), columns("children", datatype=Datatype.INT64)),
    ),
    (TensorSpec("prediction", Datatype.FP64, (-1, 1)),),
    task="regression",
)


def _mixed(inputs: Mapping[str, Array]) -> dict[str, Array]:
    numbers = np.nan_to_num(inputs["numbers"].astype(np.float64), nan=-1.0)
    in_rome = (inputs["texts"][:, 0] == "Rom").astype(np.float64)
    total = numbers[:, 0] + 10 * numbers[:, 1] + 1000 * in_rome + 10_000 * inputs["counts"][:, 0]  # type: ignore[operator]
    return {"prediction": total.reshape(-1, 1)}


NET = Signature(
    (TensorSpec("x", FP32, (-1, 2)),),
    (TensorSpec("y", FP32, (-1, 2)), TensorSpec("total", FP32, (-1,))),
)


def _net(inputs: Mapping[str, Array]) -> dict[str, Array]:
    x = inputs["x"]
    return {"y": x * 2, "total": x.sum(axis=1)}  # type: ignore[attr-defined, operator]


def _echo(datatype: Datatype) -> FunctionRuntime:
    def spec(name: str) -> TensorSpec:
        return TensorSpec(name, datatype, (-1, -1))

    return FunctionRuntime(Signature((spec("x"),), (spec("y"),)), lambda inputs: {"y": inputs["x"]})


@pytest.fixture(scope="session")
def server() -> Iterator[Serving]:
    runtimes = {
        "grade": FunctionRuntime(table("score", "age", "size"), by_first_column),
        "mixed": FunctionRuntime(MIXED, _mixed),
        "net": FunctionRuntime(NET, _net),
        **{f"echo_{datatype}": _echo(datatype) for datatype in Datatype},
    }
    with serving(runtimes) as running:
        yield running


class Blocking:
    """The async client, each call run to its end on one loop, so that one suite fits both."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(*args, **options)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        @functools.wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            return self._runner.run(method(*args, **options))

        return call

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


@pytest.fixture(params=[Client, Blocking], ids=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Makes clients of one kind, and closes them after the test."""
    opened = []

    def open_client(url: str, **options: Any) -> Any:
        opened.append(request.param(url, **options))
        return opened[-1]

    yield open_client
    for client in opened:
        client.close()


@pytest.fixture
def client(connect: Any, server: Serving) -> Any:
    return connect(server.url)
