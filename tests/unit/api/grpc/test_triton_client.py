"""NVIDIA's `tritonclient`, unchanged, against our server: sync and asyncio."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from modelyard.core.datatypes import Array, Datatype
from tests.unit.api.grpc.conftest import Running

ARRAYS = {
    Datatype.BOOL: np.array([True, False]),
    Datatype.FP16: np.array([1.5, -2.0], np.float16),
    Datatype.BYTES: np.array(["größe", ""], object),
} | {
    datatype: np.array([0, 1], datatype.dtype)
    for datatype in Datatype
    if datatype not in (Datatype.BOOL, Datatype.FP16, Datatype.BYTES)
}


class Sync:
    """The sync client behind the same calls as the other."""

    def __init__(self, running: Running) -> None:
        self._client = triton.InferenceServerClient(running.address)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class Aio:
    """The asyncio client, each call awaited on the server's own loop."""

    def __init__(self, running: Running) -> None:
        self._running = running

        async def make() -> Any:
            return triton_aio.InferenceServerClient(running.address)

        self._client = running.run(make())

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *args, **options: self._running.run(method(*args, **options))


@pytest.fixture(scope="module", params=[Sync, Aio])
def client(request: pytest.FixtureRequest, running: Running) -> Iterator[Any]:
    client = request.param(running)
    yield client
    client.close()


def _input(name: str, array: Array) -> triton.InferInput:
    tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


def test_health(client: Any) -> None:
    """Live, ready, and ready by model and version."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sums")
    assert client.is_model_ready("sums", "3")
    assert not client.is_model_ready("sums", "4")
    assert not client.is_model_ready("absent")


def test_server_metadata(client: Any) -> None:
    """The server says who it is."""
    found = client.get_server_metadata()
    assert found.name == "modelyard"
    assert found.version


def test_model_metadata(client: Any) -> None:
    """Inputs and outputs with names, datatypes and shapes, as JSON too."""
    found = client.get_model_metadata("sums", as_json=True)
    assert found == {
        "name": "sums",
        "versions": ["3"],
        "platform": "numpy",
        "inputs": [
            {"name": "a", "datatype": "FP32", "shape": ["-1", "2"]},
            {"name": "b", "datatype": "FP32", "shape": ["-1", "2"]},
        ],
        "outputs": [
            {"name": "total", "datatype": "FP32", "shape": ["-1"]},
            {"name": "first", "datatype": "FP32", "shape": ["-1"]},
        ],
    }


def test_repository_index(client: Any) -> None:
    """The client's list of models is ours."""
    states = {line.name: line.state for line in client.get_model_repository_index().models}
    assert states["sums"] == "READY"
    assert states["absent"] == "UNAVAILABLE"


@pytest.mark.parametrize("datatype", Datatype)
def test_every_datatype_comes_back(client: Any, datatype: Datatype) -> None:
    """What goes in comes out, as the client reads it into numpy."""
    array = ARRAYS[datatype]
    result = client.infer(f"echo_{datatype}_1", [_input("x", array)])
    back = result.as_numpy("y")
    if datatype is Datatype.BYTES:
        back = np.array([each.decode() for each in back], object)
    np.testing.assert_array_equal(back, array)


def test_an_empty_tensor_comes_back(client: Any) -> None:
    """No rows in, no rows out."""
    result = client.infer("echo_FP32_2", [_input("x", np.empty((0, 3), np.float32))])
    assert result.as_numpy("y").shape == (0, 3)


def test_requested_outputs_id_and_version(client: Any) -> None:
    """The client's options arrive: outputs, version, request id, compression."""
    rows = np.array([[1, 2]], np.float32)
    result = client.infer(
        "sums",
        [_input("a", rows), _input("b", rows)],
        model_version="3",
        outputs=[triton.InferRequestedOutput("first")],
        request_id="r1",
        client_timeout=10,
        compression_algorithm="gzip",
        priority=1,
        timeout=5_000_000,
    )
    assert result.as_numpy("first").tolist() == [1.0]
    assert result.as_numpy("total") is None
    assert result.get_response().id == "r1"


def test_an_error_is_the_clients_own(client: Any) -> None:
    """The client raises its exception with our status and message."""
    rows = np.ones((1, 2), np.float32)
    with pytest.raises(InferenceServerException) as refused:
        client.infer("sums", [_input("a", rows)])
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert refused.value.message() == "input 'b' is missing; the model takes 'a', 'b'"


def test_classification_names_the_best_rows(client: Any) -> None:
    """Triton's classification extension: the largest values of an output, as text."""
    rows = np.array([[1, 2]], np.float32)
    outputs = [triton.InferRequestedOutput("total", class_count=1)]
    result = client.infer("sums", [_input("a", rows), _input("b", rows)], outputs=outputs)
    assert result.as_numpy("total").tolist() == [[b"6.0:0"]]
