"""Triton's extensions over HTTP, by its own client, against a real server."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tritonclient.utils import InferenceServerException

from tests.e2e.serving.conftest import Place

NAME = "extended"
TABLE, TARGET = load_iris(return_X_y=True)
CLASSES = np.array(["setosa", "versicolor", "virginica"])


@pytest.fixture(scope="module")
def client(place: Place) -> Iterator[Any]:
    estimator = LogisticRegression(max_iter=1000).fit(TABLE, CLASSES[TARGET])
    place.publish(estimator, name=NAME, sample=TABLE)
    with triton.InferenceServerClient(place.server.url.removeprefix("http://")) as opened:
        yield opened


def rows(count: int) -> list[Any]:
    given = triton.InferInput("input", [count, 4], "FP32")
    given.set_data_from_numpy(TABLE[:count].astype(np.float32))
    return [given]


@pytest.mark.parametrize("sent", [None, "gzip", "deflate"])
@pytest.mark.parametrize("received", [None, "gzip", "deflate"])
def test_packed_either_way_the_answer_is_the_same(
    client: Any, sent: str | None, received: str | None
) -> None:
    """Whatever the client packs and asks to have packed, it reads the same probabilities."""
    plain = client.infer(NAME, rows(150)).as_numpy("probabilities")
    packed = client.infer(
        NAME,
        rows(150),
        request_compression_algorithm=sent,
        response_compression_algorithm=received,
    )
    assert plain.shape == (150, 3)
    np.testing.assert_array_equal(packed.as_numpy("probabilities"), plain)


def test_the_best_classes_are_named(client: Any) -> None:
    """The client's `class_count` gives value, index and label, the best first."""
    wanted = triton.InferRequestedOutput("probabilities", class_count=2)
    answer = client.infer(NAME, rows(150), outputs=[wanted]).as_numpy("probabilities")
    assert answer.shape == (150, 2)
    plain = client.infer(NAME, rows(150)).as_numpy("probabilities")
    for said, values in zip(answer, plain, strict=True):
        value, index, label = said[0].decode().split(":")
        assert (int(index), label) == (values.argmax(), CLASSES[values.argmax()])
        assert float(value) == pytest.approx(values.max())


def test_ids_priorities_and_timeouts_are_taken(client: Any) -> None:
    """They change nothing of an answer that comes in time; what is reserved is refused."""
    options = {"priority": 1, "timeout": 30_000_000, "parameters": {"flavour": "sweet"}}
    answer = client.infer(NAME, rows(3), request_id="r-7", **options)
    assert answer.get_response()["id"] == "r-7"
    with pytest.raises(InferenceServerException, match="keeps state"):
        client.infer(NAME, rows(3), sequence_id=7, sequence_start=True)


def test_what_was_done_is_counted(client: Any) -> None:
    """Calls, rows and batches of a version, over all workers of the server."""
    before = stats(client)
    for _ in range(20):
        client.infer(NAME, rows(3))
    with pytest.raises(InferenceServerException):
        client.infer(NAME, [triton.InferInput("input", [1, 3], "FP32")])
    after = stats(client)
    assert after["inference_count"] - before["inference_count"] == 60
    success = after["inference_stats"]["success"]
    assert success["count"] - before["inference_stats"]["success"]["count"] == 20
    assert success["ns"] > 0
    assert 0 < after["execution_count"] - before["execution_count"] <= 20
    assert after["last_inference"] >= before["last_inference"]
    assert (
        sum(b["compute_infer"]["count"] for b in after["batch_stats"]) == after["execution_count"]
    )


def stats(client: Any) -> dict[str, Any]:
    [found] = client.get_inference_statistics(NAME)["model_stats"]
    assert (found["name"], found["version"]) == (NAME, "1")
    return found  # type: ignore[no-any-return]


def test_a_model_is_unloaded_and_loaded_again(place: Place, client: Any) -> None:
    """When the request is answered it is done, in every worker."""
    client.unload_model(NAME)
    for _ in range(8):
        assert not client.is_model_ready(NAME)
    client.load_model(NAME)
    for _ in range(8):
        assert client.is_model_ready(NAME)
    assert client.infer(NAME, rows(1)).as_numpy("label").tolist() == [b"setosa"]
    with pytest.raises(InferenceServerException, match="nowhere"):
        client.load_model("nowhere")


def test_the_configuration_tells_the_tensors(client: Any) -> None:
    """What Triton's tools look up before they call."""
    config = client.get_model_config(NAME)
    [given] = config["input"]
    assert (given["name"], given["data_type"], given["dims"]) == ("input", "TYPE_FP32", [-1, 4])
