"""A shadow gets copies, and whatever it does, callers do not notice."""

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.call import Call, Outcome
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid
from modelyard.core.ports import Arrays
from modelyard.core.route import Route, Shadow, Target
from modelyard.core.signature import Signature, TensorSpec
from modelyard.gateway.open_gate import OpenGate
from modelyard.serving import shadow as shadow_module
from modelyard.serving.exchange import LocalExchange
from modelyard.serving.route_report import ShadowCounts
from modelyard.testing.serving import FunctionRuntime, endpoint_of

SIGNATURE = Signature(
    (TensorSpec("x", Datatype.FP32, (-1,)),),
    (TensorSpec("y", Datatype.FP32, (-1,)), TensorSpec("label", Datatype.INT64, (-1,))),
)
ROUTE = Route(model="m", generation=1, targets=(Target(1),))
Function = Callable[[Arrays], Mapping[str, Array]]


@pytest.fixture(autouse=True)
def idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is that tests run on: what it drops depends on that."""
    monkeypatch.setattr(shadow_module, "_BUSY", float("inf"))
    monkeypatch.setattr(shadow_module, "_LATE_NS", 10**12)


def stable(inputs: Arrays) -> Mapping[str, Array]:
    return {"y": inputs["x"] * 2, "label": (inputs["x"] > 10).astype(np.int64)}


def runtime(function: Function, signature: Signature = SIGNATURE) -> FunctionRuntime:
    return FunctionRuntime(signature, lambda inputs: dict(function(inputs)))


class Scene:
    """A stable version and its shadow, with a gate of its own each."""

    def __init__(
        self, function: Function, route: Route, signature: Signature = SIGNATURE, **shadow: Any
    ) -> None:
        self.exchange = LocalExchange()
        self.gate, self.shadow_gate = OpenGate(), OpenGate()
        self.answered: list[Call] = []
        self.shadow = runtime(function, signature)
        self.exchange.follow([route])
        self.exchange.install(endpoint_of(runtime(stable), model="m", gate=self.gate))
        self.exchange.install(
            endpoint_of(self.shadow, model="m", version=2, gate=self.shadow_gate, **shadow)
        )

    def ask(self, value: float, rows: int = 1) -> Call:
        served = self.exchange.find("m")
        call = Call(served, {"x": np.full(rows, value, np.float32)}, rows, self.answered.append)
        self.exchange.submit(call)
        return call

    @property
    def counts(self) -> ShadowCounts:
        mirror = self.exchange.mirror("m")
        assert mirror is not None
        return mirror.report()

    async def settled(self, copies: int) -> ShadowCounts:
        """Until so many copies were compared, failed or dropped."""
        while self.counts.compared + self.counts.failed + self.counts.dropped < copies:
            await asyncio.sleep(0.002)
        return self.counts


def play(script: Callable[[], Any]) -> None:
    async def go() -> None:
        await asyncio.wait_for(script(), 20)

    asyncio.run(go())


def test_answers_are_compared() -> None:
    """The same within rounding agrees; a differing number and a differing label do not, and the
    last disagreements are kept with both answers."""

    def other(inputs: Arrays) -> Mapping[str, Array]:
        x = inputs["x"]
        return {
            "y": np.where(x >= 5, x * 3, x * 2 * (1 + 1e-6)),
            "label": (x > 20).astype(np.int64),
        }

    async def script() -> None:
        scene = Scene(other, ROUTE.with_shadow(2, 100.0))
        for value in (1.0, 5.0, 15.0):
            scene.ask(value)
            await scene.settled(len(scene.answered))
        counts = await scene.settled(3)
        assert (counts.compared, counts.agreed, counts.labels_agreed, counts.differed) == (
            3,
            1,
            2,
            2,
        )
        first = counts.disagreements[0]
        assert (first.output, first.answered, first.shadow) == ("y[0]", "10.0", "15.0")

    play(script)


def test_nobody_is_metered_for_a_copy() -> None:
    """The shadow's gate sees no call, and its statistics count callers only."""

    async def script() -> None:
        scene = Scene(stable, ROUTE.with_shadow(2, 100.0))
        for _ in range(10):
            scene.ask(1.0)
        await scene.settled(10)
        assert scene.gate.admitted == 10
        assert scene.shadow_gate.admitted == 0
        endpoint = scene.exchange.endpoint("m", 2)
        assert endpoint is not None
        assert endpoint.statistics.report().ok == (0, 0)

    play(script)


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.floats(0, 9, width=32), min_size=1, max_size=30),
    does=st.sampled_from(["raises", "lies", "misses", "panics"]),
)
def test_a_shadow_never_changes_an_answer(values: list[float], does: str) -> None:
    """Whatever it raises or answers, every caller gets the stable version's answer."""

    def bad(inputs: Arrays) -> Mapping[str, Array]:
        if does == "raises":
            raise Invalid("bad", "no")
        if does == "panics":
            raise SystemExit
        if does == "misses":
            return {}
        return {name: array[:0] for name, array in stable(inputs).items()}

    async def script() -> None:
        scene = Scene(bad, ROUTE.with_shadow(2, 100.0))
        for value in values:
            scene.ask(value)
        counts = await scene.settled(len(values))
        assert counts.compared == 0
        assert [call.outcome for call in scene.answered] == [Outcome.OK] * len(values)
        for call in scene.answered:
            assert call.outputs is not None
            assert call.outputs["y"][0] == call.inputs["x"][0] * 2

    play(script)


def test_a_shadow_that_hangs_delays_nobody_and_holds_little() -> None:
    """Callers are answered while it hangs; copies beyond the bound are dropped and counted."""
    go_on = threading.Event()

    def hang(inputs: Arrays) -> Mapping[str, Array]:
        assert go_on.wait(20)
        return stable(inputs)

    async def script() -> None:
        scene = Scene(hang, ROUTE.with_shadow(2, 100.0), cost_us=None)
        for n in range(500):
            scene.ask(1.0)
            if n % 10 == 0:
                await asyncio.sleep(0.001)
        while len(scene.answered) < 500:
            await asyncio.sleep(0)
        assert all(call.outcome is Outcome.OK for call in scene.answered)
        endpoint = scene.exchange.endpoint("m", 2)
        assert endpoint is not None
        assert endpoint.open_calls <= 16
        assert scene.counts.dropped >= 500 - 64 - 16
        go_on.set()
        counts = await scene.settled(500)
        assert counts.agreed == counts.compared > 0

    play(script)


def test_a_busy_loop_makes_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the loop was at work nearly all the time, what waits is dropped, and for a while
    nothing more is copied; when it is idle again, copies are made again."""
    monkeypatch.setattr(shadow_module, "_BUSY", -1.0)

    async def script() -> None:
        scene = Scene(stable, ROUTE.with_shadow(2, 50.0))
        for _ in range(20):
            scene.ask(1.0)
        while not scene.counts.dropped:
            await asyncio.sleep(0.001)
        before = scene.counts.dropped
        assert 9 <= before <= 11
        for _ in range(100):
            scene.ask(1.0)
        assert scene.counts.dropped == before + 50
        assert scene.shadow.batches == []
        monkeypatch.setattr(shadow_module, "_BUSY", float("inf"))
        while not scene.counts.compared:
            scene.ask(1.0)
            await asyncio.sleep(0.001)

    play(script)


def test_rows_that_wait_are_bounded() -> None:
    """Copies of large calls are dropped before they hold much memory."""

    async def script() -> None:
        scene = Scene(stable, ROUTE.with_shadow(2, 100.0))
        for _ in range(5):
            scene.ask(1.0, rows=1000)
        counts = await scene.settled(5)
        assert (counts.compared, counts.dropped) == (4, 1)

    play(script)


def test_a_share_is_copied_and_failed_calls_are_not() -> None:
    """Half of the calls at 50%; a call without an answer has nothing to compare."""

    async def script() -> None:
        scene = Scene(stable, ROUTE.with_shadow(2, 50.0))
        for _ in range(40):
            scene.ask(1.0)
            await asyncio.sleep(0)
        cancelled = scene.ask(1.0)
        cancelled.cancel()
        while len(scene.answered) < 41:
            await asyncio.sleep(0)
        counts = await scene.settled(18)
        assert 18 <= counts.compared + counts.dropped <= 22
        assert sum(scene.shadow.batches) <= 22

    play(script)


def test_a_shadow_with_other_inputs_fails_for_itself() -> None:
    """What it cannot take is counted as failed; another number type is cast."""
    wide = Signature((TensorSpec("x", Datatype.FP64, (-1,)),), SIGNATURE.outputs)
    other = Signature((TensorSpec("z", Datatype.FP32, (-1,)),), SIGNATURE.outputs)

    async def script() -> None:
        route = ROUTE.with_shadow(2, 100.0)
        scene = Scene(stable, route, wide)
        scene.ask(1.0)
        assert (await scene.settled(1)).agreed == 1
        scene = Scene(stable, route, other)
        scene.ask(1.0)
        counts = await scene.settled(1)
        assert (counts.failed, len(scene.answered)) == (1, 1)

    play(script)


def test_the_stable_version_can_be_the_canarys_shadow() -> None:
    """Only calls that the canary answered are copied, to the stable version."""

    async def script() -> None:
        canary = ROUTE.with_canary(2, 50.0)
        route = dataclasses.replace(canary, shadow=Shadow(1))
        scene = Scene(lambda inputs: {**stable(inputs), "y": inputs["x"]}, route)
        for _ in range(20):
            scene.ask(1.0)
            await asyncio.sleep(0)
        while len(scene.answered) < 20:
            await asyncio.sleep(0)
        by_canary = [call for call in scene.answered if call.served.version == 2]
        counts = await scene.settled(len(by_canary))
        assert counts.compared + counts.dropped == len(by_canary)
        assert counts.agreed == 0
        assert counts.labels_agreed == counts.compared > 0

    play(script)
