"""Calls that share a batch, or a payload: one leaves or fails, and each other gets its own."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from onnx import TensorProto, helper

from modelyard.core.datatypes import Datatype
from tests.e2e.conftest import PATIENCE_S
from tests.e2e.promises.stage import (
    ASKED,
    INFER,
    Made,
    Stage,
    grpc_request,
    http_body,
    leaver,
    loaded,
    offset,
    staged,
)
from tests.graphs import ROWS, TURNS_A_SECOND, constant, model_of, slow, value

POISON = 99.0
POISONED = 30
OTHERS = 12
FOR_EVER = 1000.0 * TURNS_A_SECOND
CACHE = {"cache_bytes": 2**20}


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_one_of_a_batch_is_cancelled(tmp_path: Path, isolation: str) -> None:
    """Who leaves the queue is never run, who leaves a running batch spoils it for nobody."""
    settings = {"isolation": isolation, "lanes": 1, "max_batch_rows": 64}
    with (
        # Workers have queues of their own, a process has one for all.
        staged(
            tmp_path,
            models={"slow": (slow(),)},
            settings=settings,
            workers=2 if isolation == "process" else 1,
        ) as stage,
        ThreadPoolExecutor(OTHERS + 1) as callers,
        grpc.insecure_channel(stage.server.grpc_address) as channel,
        leaver(stage.server, "slow", FOR_EVER) as from_queue,
        leaver(stage.server, "slow", TURNS_A_SECOND / 4) as from_batch,
    ):
        url = f"{stage.server.url}/v2/models/slow/infer"

        def ask(number: float) -> float:
            answer = httpx.post(url, content=http_body(number), timeout=PATIENCE_S)
            answered: float = answer.json()["outputs"][0]["data"][0]
            return answered

        first = callers.submit(ask, float(TURNS_A_SECOND))
        wait_for_calls(stage, 1)
        numbers = [TURNS_A_SECOND / 4 + number for number in range(OTHERS)]
        others = [callers.submit(ask, number) for number in numbers]
        from_queue.begin()
        from_batch.begin()
        over_grpc = channel.unary_unary(INFER).future(grpc_request("slow", FOR_EVER))
        wait_for_calls(stage, OTHERS + 4)
        from_queue.leave()
        over_grpc.cancel()
        # Those two would take for ever: that anything is answered shows that they have gone.
        wait_for_calls(stage, OTHERS + 2)
        assert first.result() == TURNS_A_SECOND
        from_batch.leave()
        assert [other.result() for other in others] == numbers
        counts = statistics(stage, "slow")
        assert counts["execution_count"] <= 3
        assert counts["inference_count"] >= OTHERS + 1


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_a_poison_row_fails_alone(tmp_path: Path, isolation: str) -> None:
    """Its batch is split until only it fails; each neighbour in the batch gets its own answer."""
    settings = {"isolation": isolation, "lanes": 1, "max_batch_rows": 64}
    with (
        staged(tmp_path, models={"picky": (picky(),)}, settings=settings) as stage,
        loaded(stage.server, "picky", {1: 0.0}, per_second=0) as load,
        httpx.Client(base_url=stage.server.url, timeout=PATIENCE_S) as poisoner,
    ):
        for _ in range(POISONED):
            answer = poisoner.post("/v2/models/picky/infer", content=http_body(POISON))
            assert (answer.status_code, answer.json()["code"]) == (400, "model_refused")
        load.more(20)
        for tally in load.stop():
            assert (tally.bad, tally.unconnected) == (0, 0), tally
        counts = statistics(stage, "picky")
        assert counts["inference_stats"]["fail"]["count"] == POISONED
        # Even with all the splitting, more rows were answered than batches run.
        assert counts["execution_count"] < counts["inference_count"]


def test_a_cache_answers_for_one_version_of_one_model(tmp_path: Path) -> None:
    """Equal payloads get each model's own answers, and after a swap those of the new version."""
    models = {
        "one": (offset(1000.0), offset(2000.0)),
        "two": (offset(3000.0), offset(4000.0)),
    }
    with (
        staged(tmp_path, models=models, options=CACHE) as stage,
        loaded(stage.server, "one", {1: 1000.0, 2: 2000.0}) as one,
        loaded(stage.server, "two", {1: 3000.0, 2: 4000.0}) as two,
    ):
        for number in (2, 1, 2):
            stage.deploy("one", number)
            stage.deploy("two", number)
            assert {version_of(stage, "one", asked) for asked in ASKED} == {str(number)}
            assert {version_of(stage, "two", asked) for asked in ASKED} == {str(number)}
            one.more(50)
            two.more(50)
        for tally in (*one.stop(), *two.stop()):
            assert (tally.bad, tally.unconnected) == (0, 0), tally
            assert min(tally.answered.values()) > 0, tally
        for model in models:
            assert statistics(stage, model)["inference_stats"]["cache_hit"]["count"] > 100


def version_of(stage: Stage, model: str, asked: float) -> str:
    url = f"{stage.server.url}/v2/models/{model}/infer"
    return str(httpx.post(url, content=http_body(asked)).json()["model_version"])


def statistics(stage: Stage, model: str) -> dict[str, Any]:
    """What was counted of a model's present version, over all workers."""
    told = httpx.get(f"{stage.server.url}/v2/models/{model}/stats").json()
    (counts,) = told["model_stats"]
    return dict(counts)


def wait_for_calls(stage: Stage, count: int) -> None:
    """Until so many calls are under way."""
    stage.wait_until(lambda told: sum(line["open_calls"] for line in told["endpoints"]) == count)


def picky() -> Made:
    """Gives the numbers below 16 back, after some milliseconds, and fails on all others."""
    made, _ = slow()
    loop = next(node for node in made.graph.node if node.op_type == "Loop")
    model = model_of(
        [
            helper.make_node("Cast", ["x"], ["place"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "place"], ["found"]),
            loop,
            helper.make_node("Add", ["found", "nothing"], ["y"]),
        ],
        [value("x", Datatype.FP32, ["n", 1])],
        [value("y", Datatype.FP32, ["n", 1])],
        [
            constant("table", np.arange(len(ASKED), dtype=np.float32)),
            constant("turns", np.array(TURNS_A_SECOND // 500)),
            constant("true", np.array(True)),
            constant("zero", np.array(0, np.float32)),
        ],
    )
    return model, ROWS
