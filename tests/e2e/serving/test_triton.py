"""Triton's own clients, unchanged, over both protocols, blocking and awaited."""

import asyncio

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tritonclient.utils import InferenceServerException

from tests.e2e.serving.conftest import Place


@pytest.fixture(scope="module")
def wanted(place: Place) -> tuple[np.ndarray, np.ndarray]:
    table, target = load_iris(return_X_y=True)
    estimator = LogisticRegression(max_iter=1000).fit(table, target)
    place.publish(estimator, name="triton", sample=table)
    return table.astype(np.float32), estimator.predict(table)


def address(place: Place, kind: str) -> str:
    grpc = place.server.grpc_address
    return grpc if kind == "grpc" else place.server.url.removeprefix("http://")


@pytest.mark.parametrize(("kind", "module"), [("http", triton_http), ("grpc", triton_grpc)])
def test_the_blocking_client_works_unchanged(
    place: Place, wanted: tuple[np.ndarray, np.ndarray], kind: str, module: object
) -> None:
    """Health, metadata, index and inference through tritonclient."""
    table, labels = wanted
    with module.InferenceServerClient(address(place, kind)) as client:  # type: ignore[attr-defined]
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("triton")
        assert client.is_model_ready("triton", "1")
        assert not client.is_model_ready("nothing")
        options = {"as_json": True} if kind == "grpc" else {}
        assert client.get_server_metadata(**options)["name"] == "modelyard"
        assert client.get_model_metadata("triton", **options)["platform"] == "onnxruntime_onnx"
        index = client.get_model_repository_index(**options)
        lines = index["models"] if kind == "grpc" else index
        assert any(line["name"] == "triton" for line in lines)
        given = module.InferInput("input", list(table.shape), "FP32")  # type: ignore[attr-defined]
        given.set_data_from_numpy(table)
        answer = client.infer("triton", [given], request_id="a7")
        np.testing.assert_array_equal(answer.as_numpy("label"), labels)
        only = [module.InferRequestedOutput("probabilities")]  # type: ignore[attr-defined]
        answer = client.infer("triton", [given], outputs=only, model_version="1")
        assert answer.as_numpy("label") is None
        assert answer.as_numpy("probabilities").shape == (len(table), 3)
        with pytest.raises(InferenceServerException, match="no model 'nothing'"):
            client.infer("nothing", [given])
        given = module.InferInput("input", [1, 3], "FP32")  # type: ignore[attr-defined]
        given.set_data_from_numpy(np.zeros((1, 3), np.float32))
        with pytest.raises(InferenceServerException, match="axis 1"):
            client.infer("triton", [given])


@pytest.mark.parametrize(("kind", "module"), [("http", triton_http_aio), ("grpc", triton_grpc_aio)])
def test_the_awaited_client_works_unchanged(
    place: Place, wanted: tuple[np.ndarray, np.ndarray], kind: str, module: object
) -> None:
    """Fifty calls at once through tritonclient's asyncio clients, each with its own answer."""
    table, labels = wanted

    async def go() -> None:
        async with module.InferenceServerClient(address(place, kind)) as client:  # type: ignore[attr-defined]
            assert await client.is_server_ready()

            async def ask(row: int) -> None:
                given = module.InferInput("input", [1, 4], "FP32")  # type: ignore[attr-defined]
                given.set_data_from_numpy(table[row : row + 1])
                answer = await client.infer("triton", [given])
                assert answer.as_numpy("label")[0] == labels[row]

            await asyncio.gather(*(ask(row) for row in range(50)))

    asyncio.run(go())


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_understood(
    place: Place, wanted: tuple[np.ndarray, np.ndarray], algorithm: str
) -> None:
    """tritonclient's request compression over HTTP works unchanged."""
    table, labels = wanted
    with triton_http.InferenceServerClient(address(place, "http")) as client:
        given = triton_http.InferInput("input", list(table.shape), "FP32")
        given.set_data_from_numpy(table)
        answer = client.infer("triton", [given], request_compression_algorithm=algorithm)
        np.testing.assert_array_equal(answer.as_numpy("label"), labels)
