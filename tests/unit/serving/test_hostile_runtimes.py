"""Runtimes and callers that break their promises: every call still ends, and the server lives."""

import asyncio
import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.call import Call, Outcome
from modelyard.core.datatypes import Datatype
from modelyard.core.errors import Invalid, ModelyardError
from modelyard.core.ports import Arrays
from modelyard.core.signature import Signature, TensorSpec
from modelyard.gateway.open_gate import OpenGate
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.scheduler import Limits
from modelyard.testing.serving import FunctionRuntime, endpoint_of

ROWS = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, 1)),), (TensorSpec("y", Datatype.FP32, (-1, 1)),)
)
LANE = Limits(queue_rows=4, max_batch_rows=100, inline_us=300, lanes=1)


def double(inputs: Arrays) -> Arrays:
    return {"y": inputs["x"] * 2}


def one(value: float = 1.0) -> np.ndarray:
    return np.array([[value]], np.float32)


def a_call(
    endpoint: Endpoint,
    done: Callable[[Call], None],
    array: np.ndarray | None = None,
    deadline_ns: int | None = None,
) -> Call:
    array = one() if array is None else array
    return Call(endpoint, {"x": array}, len(array), done, deadline_ns)


class Panic(BaseException):
    """What native extensions raise when they panic: no Exception."""


@pytest.mark.parametrize("cost_us", [1.0, 1e6], ids=["in line", "in a lane"])
@pytest.mark.parametrize("error", [Panic("x"), SystemExit(3), KeyboardInterrupt(), MemoryError()])
def test_whatever_a_runtime_raises_fails_the_call_alone(
    error: BaseException, cost_us: float
) -> None:
    """Even what is no Exception ends as a failed call, and the next call is answered."""

    def fail_once(inputs: Arrays) -> Arrays:
        if inputs["x"][0, 0] == 13:
            raise error
        return double(inputs)

    async def go() -> list[Call]:
        endpoint = endpoint_of(FunctionRuntime(ROWS, fail_once), cost_us=cost_us, limits=LANE)
        ended = []
        for value in (13, 1):
            future: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
            endpoint.accept(a_call(endpoint, future.set_result, one(value)))
            ended.append(await asyncio.wait_for(future, 10))
        assert endpoint.open_calls == 0
        return ended

    assert [call.outcome for call in asyncio.run(go())] == [Outcome.FAILED, Outcome.OK]


def test_a_reply_that_raises_costs_the_others_nothing() -> None:
    """A protocol that fails to take an answer does not keep the rest of the batch from theirs."""
    gate = OpenGate()
    answered: list[Call] = []

    def refuse(_: Call) -> None:
        raise RuntimeError("the protocol is broken")

    async def go() -> None:
        endpoint = endpoint_of(FunctionRuntime(ROWS, double), gate=gate)
        for done in (refuse, answered.append, answered.append):
            endpoint.accept(a_call(endpoint, done))
        for _ in range(3):
            await asyncio.sleep(0)
        assert endpoint.open_calls == 0

    asyncio.run(go())
    assert [call.outcome for call in answered] == [Outcome.OK, Outcome.OK]
    assert gate.settled == {Outcome.OK: 3}


class Stubborn(FunctionRuntime):
    """A runtime that cannot be closed."""

    def close(self) -> None:
        raise RuntimeError("the device is busy")


def test_a_runtime_that_cannot_be_closed_is_let_go_all_the_same() -> None:
    """An endpoint whose runtime fails to close still says that it has closed."""
    closed = []

    async def go() -> None:
        endpoint = endpoint_of(Stubborn(ROWS, double))
        endpoint.retire(lambda: closed.append(True))

    asyncio.run(go())
    assert closed == [True]


def test_an_answered_call_is_forgotten_before_its_deadline() -> None:
    """A far deadline does not keep an answered call, and its tensors, in memory until then."""

    async def go() -> None:
        endpoint = endpoint_of(FunctionRuntime(ROWS, double))
        array = one()
        kept = weakref.ref(array)
        outcomes: list[Outcome | None] = []
        endpoint.accept(
            a_call(
                endpoint,
                lambda call: outcomes.append(call.outcome),
                array,
                time.monotonic_ns() + 10**12,
            )
        )
        del array
        for _ in range(3):
            await asyncio.sleep(0)
        assert outcomes == [Outcome.OK]
        gc.collect()
        assert kept() is None

    asyncio.run(go())


def test_calls_without_rows_count_in_the_queue() -> None:
    """A flood of empty tensors meets the same bound as any other."""
    go_on = threading.Event()

    def wait(inputs: Arrays) -> Arrays:
        assert go_on.wait(10)
        return double(inputs)

    async def go() -> int:
        endpoint = endpoint_of(FunctionRuntime(ROWS, wait), cost_us=1e6, limits=LANE)
        futures = []
        refused = 0
        empty = np.empty((0, 1), np.float32)
        for _ in range(20):
            future: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
            try:
                endpoint.accept(a_call(endpoint, future.set_result, empty))
                futures.append(future)
            except Exception:  # noqa: BLE001 - counted
                refused += 1
        go_on.set()
        ended = await asyncio.wait_for(asyncio.gather(*futures), 10)
        assert all(call.outcome is Outcome.OK for call in ended)
        return refused

    assert asyncio.run(go()) == 16


def test_cancelled_calls_make_room_in_the_queue() -> None:
    """While a model hangs, callers who gave up neither fill its queue nor stay in memory."""
    entered, go_on = threading.Event(), threading.Event()

    def wait(inputs: Arrays) -> Arrays:
        entered.set()
        assert go_on.wait(10)
        return double(inputs)

    async def go() -> None:
        endpoint = endpoint_of(FunctionRuntime(ROWS, wait), cost_us=1e6, limits=LANE)
        first: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        endpoint.accept(a_call(endpoint, first.set_result))
        assert await asyncio.to_thread(entered.wait, 10)
        kept = []
        for _ in range(1000):
            array = one()
            call = a_call(endpoint, lambda _: None, array)
            endpoint.accept(call)
            call.cancel()
            kept.append(weakref.ref(array))
            del array, call
        gc.collect()
        assert sum(each() is not None for each in kept) <= 10
        last: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        endpoint.accept(a_call(endpoint, last.set_result))
        go_on.set()
        for call in await asyncio.wait_for(asyncio.gather(first, last), 10):
            assert call.outcome is Outcome.OK

    asyncio.run(go())


@pytest.mark.parametrize(
    "outputs",
    [
        None,
        {},
        {"y": [1.0]},
        {"y": np.float32(1)},
        {"y": np.ones((2, 1), np.float32)},
        {"y": np.ones((1, 1), np.int64)},
        {"y": np.array([["text"]], object)},
        {"z": np.ones((1, 1), np.float32)},
    ],
    ids=["nothing", "empty", "a list", "a scalar", "rows", "integers", "text", "another name"],
)
def test_outputs_that_are_not_the_signatures_are_a_failure(outputs: object) -> None:
    """What a model gives is held against its signature before anybody gets it."""

    async def go() -> Call:
        runtime = FunctionRuntime(ROWS, double)
        runtime.run = lambda inputs: outputs  # type: ignore[method-assign,assignment,return-value]
        endpoint = endpoint_of(runtime)
        future: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        endpoint.accept(a_call(endpoint, future.set_result))
        return await asyncio.wait_for(future, 10)

    call = asyncio.run(go())
    assert (call.outcome, call.error and call.error.code) == (Outcome.FAILED, "model_failed")


def test_a_wider_float_is_answered_in_the_signatures_type() -> None:
    """Doubles where the signature says floats are made floats: their bytes must fit the name."""

    async def go() -> Call:
        endpoint = endpoint_of(
            FunctionRuntime(ROWS, lambda inputs: {"y": inputs["x"].astype(np.float64)})
        )
        future: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        endpoint.accept(a_call(endpoint, future.set_result))
        return await asyncio.wait_for(future, 10)

    outputs = asyncio.run(go()).outputs
    assert outputs is not None
    assert outputs["y"].dtype == np.float32


def test_a_refusal_leaves_no_cycle() -> None:
    """A call that a runtime refuses is freed at once, without waiting for the collector."""

    def refuse(inputs: Arrays) -> Arrays:
        raise Invalid("never", "this model takes nothing")

    async def go() -> int:
        endpoint = endpoint_of(FunctionRuntime(ROWS, refuse))
        gc.collect()
        gc.disable()
        try:
            for _ in range(100):
                endpoint.accept(a_call(endpoint, lambda _: None))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            return gc.collect()
        finally:
            gc.enable()

    assert asyncio.run(go()) < 20


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from([0, 1, 2, 5, 13])),
        st.tuples(st.just("late"), st.sampled_from([-1, 0, 10**12])),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("turn"), st.just(0)),
        st.tuples(st.just("retire"), st.just(0)),
    ),
    max_size=40,
)


@pytest.mark.parametrize("cost_us", [1.0, 1e6], ids=["in line", "in a lane"])
@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_every_admitted_call_is_settled_and_told_once(
    cost_us: float, steps: list[tuple[str, int]]
) -> None:
    """In whatever order calls come, fail, are cancelled, run late or meet a closing endpoint."""

    def fail_on_thirteen(inputs: Arrays) -> Arrays:
        if len(inputs["x"]) % 13 == 0 and len(inputs["x"]):
            raise Panic
        return double(inputs)

    async def go() -> None:
        gate, told, accepted = OpenGate(), list[Call](), list[Call]()
        closed: list[bool] = []
        runtime = FunctionRuntime(ROWS, fail_on_thirteen)
        endpoint = endpoint_of(runtime, cost_us=cost_us, gate=gate, limits=LANE)
        for step, number in steps:
            if step in ("ask", "late"):
                rows = number if step == "ask" else 1
                deadline_ns = time.monotonic_ns() + number if step == "late" else None
                call = a_call(endpoint, told.append, np.zeros((rows, 1), np.float32), deadline_ns)
                with contextlib.suppress(ModelyardError):
                    endpoint.accept(call)
                    accepted.append(call)
            elif step == "cancel" and accepted:
                accepted[number % len(accepted)].cancel()
            elif step == "turn":
                await asyncio.sleep(0)
            elif step == "retire" and not closed:
                closed.append(False)
                endpoint.retire(lambda: closed.append(True))
        async with asyncio.timeout(20):
            while endpoint.open_calls or (closed and not closed[-1]):
                await asyncio.sleep(0)
        assert gate.admitted == len(accepted) == gate.settled.total()
        assert sorted(map(id, told)) == sorted(map(id, accepted))
        assert runtime.is_closed == bool(closed)
        # Whatever was cancelled or late has given its place back.
        assert endpoint._backend._queue.rows == 0

    asyncio.run(go())
