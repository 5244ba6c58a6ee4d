"""Streams, health and reflection of a real server, spoken to with the clients that people have."""

import asyncio
import os
import queue
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from modelyard import Yard
from modelyard.core.names import Reference
from tests.e2e.conftest import Server
from tests.e2e.serving.conftest import Place

PATIENCE_S = 60
TABLE, TARGET = load_iris(return_X_y=True)
ESTIMATOR = LogisticRegression(max_iter=1000).fit(TABLE, TARGET)
LABELS = ESTIMATOR.predict(TABLE)


@pytest.fixture(scope="module")
def address(place: Place) -> str:
    place.publish(ESTIMATOR, name="streamed", sample=TABLE)
    return place.server.grpc_address


def _row(number: int) -> list[triton.InferInput]:
    given = triton.InferInput("input", [1, 4], "FP32")
    given.set_data_from_numpy(TABLE[number : number + 1].astype(np.float32))
    return [given]


def test_the_blocking_client_streams(address: str) -> None:
    """Every row of a table on one stream, each with its own answer, in order."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with triton.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number in range(len(TABLE)):
            client.async_stream_infer("streamed", _row(number), request_id=str(number))
        for number in range(len(TABLE)):
            result, error = answers.get(timeout=PATIENCE_S)
            assert error is None
            assert result.get_response().id == str(number)
            assert result.as_numpy("label")[0] == LABELS[number]
        client.stop_stream()


def test_the_awaited_client_streams(address: str) -> None:
    """Three streams of one client side by side, with unary calls between."""

    async def requests() -> Any:
        for number in range(len(TABLE)):
            yield {"model_name": "streamed", "inputs": _row(number), "request_id": str(number)}

    async def one(client: Any) -> list[int]:
        found = []
        async for result, error in client.stream_infer(requests()):
            assert error is None
            found.append(int(result.as_numpy("label")[0]))
        return found

    async def go() -> None:
        async with triton_aio.InferenceServerClient(address) as client:
            streams = [asyncio.create_task(one(client)) for _ in range(3)]
            for number in range(20):
                answer = await client.infer("streamed", _row(number))
                assert answer.as_numpy("label")[0] == LABELS[number]
            for stream in streams:
                assert await stream == LABELS.tolist()

    asyncio.run(go())


def test_best_classes_are_named(address: str) -> None:
    """Classification through Triton's client, as `value:index:label`."""
    with triton.InferenceServerClient(address) as client:
        outputs = [triton.InferRequestedOutput("probabilities", class_count=2)]
        answer = client.infer("streamed", _row(0), outputs=outputs)
        best = answer.as_numpy("probabilities")[0].tolist()
        assert [text.split(b":")[1] for text in best] == [b"0", b"1"]


def test_statistics_and_configuration(address: str) -> None:
    """What the server has counted, and what it says of a model, as Triton's client asks."""
    with triton.InferenceServerClient(address) as client:
        client.infer("streamed", _row(0))
        (found,) = client.get_inference_statistics("streamed").model_stats
        assert found.inference_stats.success.count >= 1
        assert found.inference_count >= 1
        config = client.get_model_config("streamed").config
        assert [(each.name, list(each.dims)) for each in config.input] == [("input", [4])]


def test_a_tool_learns_the_protocol_by_reflection(address: str) -> None:
    """Services and messages, from a server that it knows nothing of."""
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "inference.GRPCInferenceService" in database.get_services()
        file = database.FindFileContainingSymbol("inference.GRPCInferenceService")
        assert "ModelInferRequest" in {message.name for message in file.message_type}


def test_a_server_that_is_told_to_stop_says_so(
    tmp_path: Path, start_server: Callable[..., Server]
) -> None:
    """On SIGTERM a watcher hears NOT_SERVING, and no answer of an open stream is lost."""
    home = tmp_path / "home"
    with Yard.open(home) as yard:
        version = yard.publish(ESTIMATOR, name="streamed", sample=TABLE)
        yard.deploy(Reference(version.model, version=version.number))
    server = start_server(home)

    async def go() -> None:
        async with (
            triton_aio.InferenceServerClient(server.grpc_address) as client,
            grpc.aio.insecure_channel(server.grpc_address) as channel,
        ):
            request = health_pb2.HealthCheckRequest(service="streamed")
            watch = health_pb2_grpc.HealthStub(channel).Watch(request)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            sent = 0

            async def requests() -> Any:
                nonlocal sent
                for number in range(len(TABLE)):
                    yield {"model_name": "streamed", "inputs": _row(number)}
                    sent += 1
                # The stream stays open: it is the server that ends it.
                await asyncio.Event().wait()

            stream = client.stream_infer(requests())
            found = []
            async for result, error in stream:
                assert error is None
                found.append(int(result.as_numpy("label")[0]))
                if len(found) == len(TABLE):
                    break
            os.kill(server.pid, signal.SIGTERM)
            last = (await watch.read()).status
            assert last == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await watch.code() is grpc.StatusCode.UNAVAILABLE
            assert found == LABELS.tolist()
            stream.cancel()

    asyncio.run(go())
