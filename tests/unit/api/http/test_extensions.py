"""Triton's extensions beside inference, and what is reserved or not served."""

from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http
from tritonclient.utils import InferenceServerException

from modelyard.core.errors import NotFound
from modelyard.core.identity import Actor
from modelyard.core.ports import ServedStatistics, Spent
from modelyard.core.route import Route, Target
from modelyard.testing.serving import FunctionRuntime, Serving, serving
from tests.unit.api.http.conftest import TABLE, VECTOR, tell_age


class Recorded:
    """The operations port's twin: remembers what it was asked, and knows one model."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []

    async def statistics(
        self, model: str | None = None, version: str | None = None
    ) -> Sequence[ServedStatistics]:
        self._check(model)
        return [
            ServedStatistics(
                model="people",
                version=1,
                rows=66,
                last_ms=1_700_000_000_000,
                success=Spent(3, 300),
                fail=Spent(1, 10),
                queue=Spent(3, 30),
                compute=Spent(2, 200),
                cache_hit=Spent(4, 4),
                batches={64: Spent(1, 150), 2: Spent(1, 50)},
            )
        ]

    async def load(self, model: str, actor: Actor) -> None:
        self._check(model)
        self.changes.append(("load", model))

    async def unload(self, model: str, actor: Actor) -> None:
        self._check(model)
        self.changes.append(("unload", model))

    def _check(self, model: str | None) -> None:
        if model not in (None, "people"):
            raise NotFound("unknown_model", f"no model '{model}'", field="model")


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return Recorded()


def route_a_broken_canary(server: Serving) -> None:
    """Ask for a version of `people` that cannot be loaded, beside the one that answers."""
    people = Route(model="people", generation=1, targets=(Target(1, 90.0), Target(2, 10.0)))
    vector = Route(model="vector", generation=1, targets=(Target(1),))
    server.on_loop(lambda: server.exchange.follow([people, vector]))
    server.on_loop(lambda: server.exchange.report_failure("people", 2, "broken"))


RUNTIMES = {"people": FunctionRuntime(TABLE, tell_age), "vector": FunctionRuntime(VECTOR, dict)}


@pytest.fixture(scope="module")
def server(recorded: Recorded) -> Iterator[Serving]:
    with serving(RUNTIMES, operations=recorded) as running:  # type: ignore[arg-type]
        yield running


@pytest.fixture
def triton(server: Serving) -> Iterator[Any]:
    with tritonclient.http.InferenceServerClient(server.url.removeprefix("http://")) as client:
        yield client


def test_statistics_have_tritons_form(triton: Any) -> None:
    """Counts and nanoseconds of calls, and of batches by their rows."""
    for found in (
        triton.get_inference_statistics(),
        triton.get_inference_statistics("people"),
        triton.get_inference_statistics("people", "1"),
    ):
        [stats] = found["model_stats"]
        nothing = {"count": 2, "ns": 0}
        assert stats == {
            "name": "people",
            "version": "1",
            "last_inference": 1_700_000_000_000,
            "inference_count": 66,
            "execution_count": 2,
            "inference_stats": {
                "success": {"count": 3, "ns": 300},
                "fail": {"count": 1, "ns": 10},
                "queue": {"count": 3, "ns": 30},
                "compute_input": nothing,
                "compute_infer": {"count": 2, "ns": 200},
                "compute_output": nothing,
                "cache_hit": {"count": 4, "ns": 4},
            },
            "batch_stats": [
                {
                    "batch_size": rows,
                    "compute_input": {"count": 1, "ns": 0},
                    "compute_infer": {"count": 1, "ns": ns},
                    "compute_output": {"count": 1, "ns": 0},
                }
                for rows, ns in ((2, 50), (64, 150))
            ],
        }
    with pytest.raises(InferenceServerException, match="no model 'other'"):
        triton.get_inference_statistics("other")


def test_models_are_loaded_and_unloaded(triton: Any, recorded: Recorded) -> None:
    """Through the operations of the node, whatever else the client sends along."""
    triton.load_model("people")
    triton.unload_model("people")
    triton.unload_model("people", unload_dependents=True)
    assert recorded.changes == [("load", "people"), ("unload", "people"), ("unload", "people")]
    with pytest.raises(InferenceServerException, match="no model 'other'"):
        triton.load_model("other")


@pytest.mark.parametrize(
    "options", [{"config": "{}"}, {"config": "{}", "files": {"file:1/m": b"x"}}]
)
def test_a_load_brings_no_model_of_its_own(
    triton: Any, recorded: Recorded, options: dict[str, Any]
) -> None:
    """Configuration and files come with the published version, never with the request."""
    before = list(recorded.changes)
    with pytest.raises(InferenceServerException, match="not supported"):
        triton.load_model("people", **options)
    assert recorded.changes == before


@pytest.mark.parametrize("content", [b"{", b"[]"])
def test_a_load_that_is_no_object_is_refused(server: Serving, content: bytes) -> None:
    """Nothing is done on the word of a body that cannot be read."""
    path = f"{server.url}/v2/repository/models/people/load"
    assert httpx.post(path, content=content).status_code == 400


def test_a_server_without_a_registry_says_so() -> None:
    """It neither loads nor counts."""
    with serving(RUNTIMES) as server:
        assert httpx.post(f"{server.url}/v2/repository/models/people/load").status_code == 503
        assert httpx.get(f"{server.url}/v2/models/stats").status_code == 503


def test_the_configuration_agrees_with_the_metadata(triton: Any) -> None:
    """Names and shapes are the signature's, types are Triton's."""
    config, metadata = triton.get_model_config("people"), triton.get_model_metadata("people")
    assert config == triton.get_model_config("people", "1")
    assert (config["max_batch_size"], config["backend"]) == (0, "test")
    assert [(each["name"], each["data_type"], each["dims"]) for each in config["input"]] == [
        ("input", "TYPE_FP32", [-1, 2]),
        ("city", "TYPE_STRING", [-1, 1]),
    ]
    assert [each["name"] for each in config["output"]] == [
        each["name"] for each in metadata["outputs"]
    ]


def test_the_index_can_be_of_ready_models_only(server: Serving) -> None:
    """`ready` of the request leaves out what does not answer."""
    path = f"{server.url}/v2/repository/index"
    route_a_broken_canary(server)
    assert len(httpx.post(path, json={"ready": True}).json()) == 2
    lines = httpx.post(path, json={}).json()
    assert [(line["name"], line["state"]) for line in lines] == [
        ("people", "READY"),
        ("people", "UNAVAILABLE"),
        ("vector", "READY"),
    ]


def test_the_v1_status_is_tensorflows_and_kserves(server: Serving) -> None:
    """One body serves both: the state of each version, and whether the model is ready."""
    route_a_broken_canary(server)
    status = httpx.get(f"{server.url}/v1/models/people").json()
    assert (status["name"], status["ready"]) == ("people", True)
    assert status["model_version_status"] == [
        {
            "version": "1",
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        },
        {
            "version": "2",
            "state": "END",
            "status": {"error_code": "UNAVAILABLE", "error_message": "broken"},
        },
    ]
    one = httpx.get(f"{server.url}/v1/models/people/versions/1").json()
    assert [line["version"] for line in one["model_version_status"]] == ["1"]
    assert httpx.get(f"{server.url}/v1/models/people/versions/7").status_code == 404


@pytest.mark.parametrize("verb", ["generate", "generate_stream"])
@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_generation_is_reserved_for_models_that_generate(
    server: Serving, verb: str, version: str
) -> None:
    """A model that predicts says so; one that is not here is not found."""
    path = f"{server.url}/v2/models/{{}}{version}/{verb}"
    answer = httpx.post(path.format("people"), json={"text_input": "hello"})
    assert (answer.status_code, answer.json()["code"]) == (400, "not_generative")
    assert httpx.post(path.format("other"), json={}).status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("people:explain", 501, "not_implemented"),
        ("people/versions/1:explain", 501, "not_implemented"),
        ("people:classify", 501, "not_implemented"),
        ("people:regress", 501, "not_implemented"),
        ("people:other", 404, "unknown_path"),
        ("people", 404, "unknown_path"),
    ],
)
def test_verbs_that_are_not_served_say_so(
    server: Serving, path: str, status: int, code: str
) -> None:
    """What v1 knows and is not here yet is told from what it does not know."""
    answer = httpx.post(f"{server.url}/v1/models/{path}", json={})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_the_extensions_named_are_those_served(triton: Any) -> None:
    """The list in the server's metadata is what clients go by."""
    assert set(triton.get_server_metadata()["extensions"]) == {
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "model_repository",
        "parameters",
        "schedule_policy",
        "statistics",
    }


def test_classes_are_named_by_tritons_client(triton: Any) -> None:
    """`class_count` gives the best classes with their labels, in binary and in JSON."""
    rows = tritonclient.http.InferInput("input", [2, 2], "FP32")
    city = tritonclient.http.InferInput("city", [2, 1], "BYTES")
    rows.set_data_from_numpy(np.array([[60, 1], [20, 1]], np.float32))
    city.set_data_from_numpy(np.array([["Rome"], ["Oslo"]], object))
    for binary in (True, False):
        wanted = tritonclient.http.InferRequestedOutput("probabilities", binary, class_count=2)
        answer = triton.infer("people", [rows, city], outputs=[wanted])
        assert [[_text(each) for each in row] for row in answer.as_numpy("probabilities")] == [
            ["0.75:0:old", "0.25:1:young"],
            ["0.75:1:young", "0.25:0:old"],
        ]
    label = tritonclient.http.InferRequestedOutput("label", class_count=2)
    with pytest.raises(InferenceServerException, match="holds text"):
        triton.infer("people", [rows, city], outputs=[label])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
