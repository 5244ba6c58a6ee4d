"""What is asked of the whole node: statistics, load and unload, and a model's configuration."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from modelyard.api.grpc.server import GrpcServer
from modelyard.core.errors import NotFound
from modelyard.core.identity import Actor
from modelyard.core.ports import ServedStatistics, Spent
from modelyard.gateway.open_access import OpenAccess
from tests.unit.api.grpc.conftest import MAX_MESSAGE_BYTES, Running


@dataclass
class Node:
    """Operations that remember what they were asked."""

    changes: list[tuple[str, str]] = field(default_factory=list)

    async def statistics(
        self, model: str | None = None, version: str | None = None
    ) -> Sequence[ServedStatistics]:
        if model not in (None, "sums"):
            raise NotFound("unknown_model", f"no model '{model}' is deployed here", field="model")
        return [
            ServedStatistics(
                model="sums",
                version=3,
                rows=70,
                last_ms=1_700_000_000_000,
                success=Spent(60, 6000),
                fail=Spent(1, 10),
                queue=Spent(61, 500),
                compute=Spent(9, 900),
                cache_hit=Spent(2, 20),
                batches={8: Spent(8, 800), 6: Spent(1, 100)},
            )
        ]

    async def load(self, model: str, actor: Actor) -> None:
        self.changes.append(("load", model))

    async def unload(self, model: str, actor: Actor) -> None:
        self.changes.append(("unload", model))


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def client(running: Running, node: Node) -> Iterator[triton.InferenceServerClient]:
    async def start() -> tuple[GrpcServer, int]:
        server = GrpcServer(
            running.exchange,
            access=OpenAccess(),
            host="127.0.0.1",
            port=0,
            max_message_bytes=MAX_MESSAGE_BYTES,
            operations=node,
        )
        return server, await server.start()

    server, port = running.run(start())
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        yield client
    running.run(server.stop(1))


def test_statistics_are_tritons(client: Any) -> None:
    """Counts and durations arrive where Triton's clients look for them."""
    (found,) = client.get_inference_statistics("sums").model_stats
    assert (found.name, found.version) == ("sums", "3")
    assert (found.inference_count, found.execution_count) == (70, 9)
    assert found.last_inference == 1_700_000_000_000
    stats = found.inference_stats
    assert (stats.success.count, stats.success.ns) == (60, 6000)
    assert (stats.fail.count, stats.queue.ns, stats.cache_hit.count) == (1, 500, 2)
    assert [(each.batch_size, each.compute_infer.count) for each in found.batch_stats] == [
        (6, 1),
        (8, 8),
    ]
    assert len(client.get_inference_statistics().model_stats) == 1
    with pytest.raises(InferenceServerException, match="no model 'other'"):
        client.get_inference_statistics("other")


def test_load_and_unload_change_the_routes(client: Any, node: Node) -> None:
    """Where callers may, they load and unload."""
    client.load_model("sums")
    client.unload_model("sums")
    assert node.changes == [("load", "sums"), ("unload", "sums")]


def test_a_load_brings_no_model_of_its_own(client: Any, node: Node) -> None:
    """A configuration or files in the request are refused by name."""
    with pytest.raises(InferenceServerException, match="'config' is not supported"):
        client.load_model("sums", config="{}")
    assert node.changes == []


def test_a_models_configuration(client: Any) -> None:
    """What Triton's clients ask before they call: names, datatypes, and whether it batches."""
    config = client.get_model_config("table", as_json=True)["config"]
    assert config == {
        "name": "table",
        "platform": "numpy",
        "max_batch_size": 2**31 - 1,
        "input": [
            {"name": "n", "data_type": "TYPE_FP32", "dims": ["1"]},
            {"name": "s", "data_type": "TYPE_STRING", "dims": ["1"]},
        ],
        "output": [{"name": "label", "data_type": "TYPE_STRING"}],
    }
    constant = client.get_model_config("constant").config
    assert (constant.max_batch_size, list(constant.output[0].dims)) == (0, [1])


def test_server_metadata_names_the_extensions(client: Any) -> None:
    """Only what is there."""
    assert list(client.get_server_metadata().extensions) == [
        "classification",
        "model_repository",
        "schedule_policy",
        "statistics",
    ]
