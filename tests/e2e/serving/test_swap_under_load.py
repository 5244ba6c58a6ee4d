"""Deploy, swap and roll back while calls keep coming: none may fail, none may be wrong."""

import asyncio
import threading
from collections import Counter

import numpy as np
import tritonclient.grpc.aio as triton_grpc
from sklearn.linear_model import LinearRegression

from modelyard import AsyncClient
from modelyard.core.datatypes import Datatype
from modelyard.core.names import Reference
from tests.e2e.serving.conftest import Place

CALLS = 10_000
VERSIONS = 4


def offset(by: float) -> LinearRegression:
    """A model whose every answer says which version gave it."""
    table = np.arange(20, dtype=float).reshape(10, 2)
    return LinearRegression().fit(table, table.sum(axis=1) + by)


def test_ten_thousand_calls_survive_swaps_and_rollbacks(place: Place) -> None:
    """Of at least 10,000 calls over HTTP and gRPC during a stream of swaps, 0 fail."""
    sample = np.arange(20, dtype=float).reshape(10, 2)
    for number in range(1, VERSIONS + 1):
        version = place.yard.publish(offset(1000 * number), name="swap", sample=sample)
        assert version.number == number
    place.deploy(place.yard.registry.resolve(Reference("swap", version=1)))
    datatype = place.client.metadata("swap")["inputs"][0]["datatype"]
    done = threading.Event()
    swaps = 0

    def keep_swapping() -> None:
        nonlocal swaps
        while not done.is_set():
            for number in (2, 3, 4):
                place.yard.deploy(Reference("swap", version=number))
                place.wait_for("swap", number)
            for number in (3, 2, 1):
                assert place.yard.rollback("swap").number == number
                place.wait_for("swap", number)
            swaps += 6

    swapper = threading.Thread(target=keep_swapping)
    answered: Counter[int] = Counter()

    def count(values: np.ndarray, row: np.ndarray) -> None:
        number, rest = divmod(float(values[0]) - float(row.sum()), 1000)
        # The sum is exact for small whole numbers; anything else is a wrong answer.
        assert rest < 0.1 or rest > 999.9, values
        answered[round(number + rest / 1000)] += 1

    async def over_http(calls: int) -> None:
        async with AsyncClient(place.server.url) as client:
            for n in range(calls):
                row = np.array([[n % 50, 1.0]])
                answer = await client.infer("swap", {"input": row})
                count(answer["prediction"][:, 0], row)

    async def over_grpc(calls: int) -> None:
        async with triton_grpc.InferenceServerClient(place.server.grpc_address) as client:
            for n in range(calls):
                row = np.array([[n % 50, 1.0]])
                given = triton_grpc.InferInput("input", [1, 2], datatype)
                given.set_data_from_numpy(row.astype(Datatype(datatype).dtype))
                answer = await client.infer("swap", [given])
                count(answer.as_numpy("prediction")[:, 0], row)

    async def load() -> None:
        share = CALLS // 8
        await asyncio.gather(
            *(over_http(share) for _ in range(4)), *(over_grpc(share) for _ in range(4))
        )

    swapper.start()
    try:
        asyncio.run(load())
    finally:
        done.set()
        swapper.join()
    assert answered.total() == CALLS
    assert answered.keys() <= {1, 2, 3, 4}
    assert len(answered) > 1
    assert swaps >= 6
