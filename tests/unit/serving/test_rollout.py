"""Roll-outs move by themselves over a real registry, with several workers that follow it."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from modelyard.core.call import Call, Outcome
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Unavailable
from modelyard.core.ports import Arrays
from modelyard.core.rollout import Plan, Rollout, parse_guards
from modelyard.core.route import Options
from modelyard.core.signature import Signature, TensorSpec
from modelyard.registry.registry import Registry
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.exchange import LocalExchange
from modelyard.serving.node import Node
from modelyard.testing.bundles import make_bundle
from modelyard.testing.memory import MemoryBlobStore
from modelyard.testing.serving import FunctionRuntime, endpoint_of

SIGNATURE = Signature(
    (TensorSpec("x", Datatype.FP32, (-1,)),), (TensorSpec("y", Datatype.FP32, (-1,)),)
)
Function = Callable[[Arrays], Mapping[str, Array]]


def good(inputs: Arrays) -> Mapping[str, Array]:
    return {"y": inputs["x"] * 2}


def erring(inputs: Arrays) -> Mapping[str, Array]:
    raise ValueError("this version is broken")


def slow(inputs: Arrays) -> Mapping[str, Array]:
    time.sleep(0.02)
    return good(inputs)


def different(inputs: Arrays) -> Mapping[str, Array]:
    return {"y": inputs["x"] * 3}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """Two versions of a model, of which the first is deployed."""
    blobs = MemoryBlobStore()
    with Registry.open(f"sqlite:///{tmp_path / 'registry.db'}", blobs) as registry:
        for number in (1, 2):
            registry.publish(
                make_bundle(tmp_path / f"{number}", name="m", model=b"%d" % number), actor="ann"
            )
        registry.deploy("m", 1, actor="ann")
        yield registry
    blobs.close()


def run(
    registry: Registry,
    candidate: Function | None,
    plan: Plan,
    *,
    workers: int = 1,
    until: Callable[[Rollout], bool] = lambda rollout: rollout.state != "running",
    calls: bool = True,
) -> tuple[Rollout, list[Call]]:
    """Roll version 2 out under calls to every worker, until it has ended."""

    def open_endpoint(model: str, version: int, options: Options) -> Endpoint:
        function = good if version == 1 else candidate
        if function is None:
            raise Unavailable("damaged", "it is damaged")
        runtime = FunctionRuntime(SIGNATURE, lambda inputs: dict(function(inputs)))
        return endpoint_of(
            runtime, model=model, version=version, cost_us=1e6 if function is slow else 10.0
        )

    async def go() -> tuple[Rollout, list[Call]]:
        exchanges = [LocalExchange() for _ in range(workers)]
        nodes = [
            Node(registry, open_endpoint, exchange, poll_s=0.02, rollouts=registry.rollouts)
            for exchange in exchanges
        ]
        for node in nodes:
            await node.start()
        answered: list[Call] = []
        registry.roll_out("m", 2, plan=plan, actor="ann")
        while True:
            for exchange in exchanges if calls else ():
                served = exchange.find("m")
                inputs = {"x": np.ones(1, np.float32)}
                exchange.submit(Call(served, inputs, 1, answered.append))
            await asyncio.sleep(0.002)
            [rollout] = await asyncio.to_thread(registry.rollouts.of, "m")
            if until(rollout):
                break
        await asyncio.gather(*(node.stop() for node in nodes))
        return rollout, answered

    return asyncio.run(asyncio.wait_for(go(), 60))


def test_a_good_version_gets_all_calls(registry: Registry) -> None:
    """Two workers add up what they see, each step is made once, and nobody notices."""
    plan = Plan(
        steps=(30.0, 100.0),
        every_s=0.5,
        guards=parse_guards("error_rate<=0.1%, error_rate<=2x, p99<=20x, agreement>=99%"),
        least_calls=20,
    )
    rollout, answered = run(registry, good, plan, workers=2)
    assert rollout.state == "done"
    assert [move.verdict for move in rollout.moves] == ["begun", "done"]
    readings = {reading.guard: reading for reading in rollout.moves[-1].readings}
    assert {reading.verdict for reading in readings.values()} == {"held"}
    assert readings["agreement>=99%"].value == 1.0
    by_candidate = sum(call.served.version == 2 for call in answered)
    assert 20 <= readings["error_rate<=0.1%"].calls <= by_candidate
    assert all(call.outcome is Outcome.OK for call in answered)
    [route] = registry.routes()
    assert (route.number, route.canary, route.shadow) == (2, None, None)
    assert registry.rollback("m", actor="ann").number == 1


@pytest.mark.parametrize(
    ("candidate", "guard"),
    [
        (erring, "error_rate<=1%"),
        (slow, "p99<=2x"),
        (slow, "p50<=5ms"),
        (different, "agreement>=99%"),
    ],
)
def test_a_bad_version_is_rolled_back_at_once(
    registry: Registry, candidate: Function, guard: str
) -> None:
    """Long before the step's time is over, with the numbers, and as a change of its own actor."""
    plan = Plan(steps=(50.0, 100.0), every_s=60.0, guards=parse_guards(guard), least_calls=20)
    rollout, _ = run(registry, candidate, plan)
    assert rollout.state == "rolled_back"
    assert guard in rollout.reason
    [reading] = rollout.moves[-1].readings
    assert (reading.guard, reading.verdict) == (guard, "broken")
    assert reading.calls >= 20
    [route] = registry.routes()
    assert (route.number, route.targets[0].percent, route.shadow) == (1, 100.0, None)
    newest = registry.audit(model="m")[0]
    assert (newest.actor, newest.action) == ("rollout", "rollback")
    change = registry.route_history("m")[-1]
    assert (change.actor, change.reason) == ("rollout", rollout.reason)


def test_a_step_waits_for_calls(registry: Registry) -> None:
    """Without calls nothing is known, so nothing moves, and it says so."""
    plan = Plan(steps=(50.0, 100.0), every_s=0.1, least_calls=50)
    rollout, _ = run(registry, good, plan, until=lambda rollout: bool(rollout.reason), calls=False)
    assert (rollout.state, rollout.step) == ("running", 0)
    assert rollout.reason == "waits for calls: the candidate has had 0 of 50"


def test_a_candidate_that_cannot_be_loaded_is_waited_for(registry: Registry) -> None:
    """It gets no calls, so nothing moves; the roll-out says why."""
    plan = Plan(steps=(50.0, 100.0), every_s=0.1, least_calls=50)
    rollout, answered = run(registry, None, plan, until=lambda rollout: bool(rollout.reason))
    assert rollout.state == "running"
    assert rollout.reason == "the candidate cannot be served: it is damaged"
    assert {call.served.version for call in answered} == {1}


def test_a_registry_that_is_down_pauses_a_roll_out(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails once is tried again; the roll-out goes on where it was."""
    report, failures = registry.rollouts.report, 0

    def fail_at_first(*arguments: object) -> None:
        nonlocal failures
        failures += 1
        if failures < 4:
            raise ConnectionError("down")
        report(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(
        "modelyard.registry.rollouts.RolloutBook.report",
        lambda self, *arguments: fail_at_first(*arguments),
    )
    plan = Plan(steps=(50.0, 100.0), every_s=0.2, least_calls=10)
    rollout, _ = run(registry, good, plan)
    assert rollout.state == "done"
    assert failures >= 4
