import asyncio
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from modelyard.core.call import Call, Outcome
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Exhausted, Invalid, Unavailable
from modelyard.core.ports import Arrays
from modelyard.core.signature import Signature, TensorSpec
from modelyard.gateway.open_gate import OpenGate
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.scheduler import Limits
from modelyard.testing.serving import FunctionRuntime, endpoint_of

ROWS = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, 1)),), (TensorSpec("y", Datatype.FP32, (-1, 1)),)
)
RAGGED = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, -1)),), (TensorSpec("y", Datatype.FP32, (-1, -1)),)
)
ALONE = Signature(
    (TensorSpec("x", Datatype.FP32, (2,)),), (TensorSpec("y", Datatype.FP32, (2,)),), batched=False
)


def double(inputs: Arrays) -> Arrays:
    return {"y": inputs["x"] * 2}


def ask(
    endpoint: Endpoint, array: Array, *, rows: int | None = None, deadline_ns: int | None = None
) -> "asyncio.Future[Call]":
    future: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
    call = Call(
        endpoint,
        {"x": array},
        len(array) if rows is None else rows,
        future.set_result,
        deadline_ns,
    )
    endpoint.accept(call)
    future.call = call  # type: ignore[attr-defined]
    return future


def one(value: float) -> Array:
    return np.array([[value]], np.float32)


def test_one_turn_is_one_batch() -> None:
    """Calls that arrive in one turn of the loop run together, and each gets its own answer."""
    runtime = FunctionRuntime(ROWS, double)

    async def go() -> list[Call]:
        endpoint = endpoint_of(runtime, cost_us=1.0)
        return list(await asyncio.gather(*(ask(endpoint, one(n)) for n in range(50))))

    calls = asyncio.run(go())
    assert runtime.batches == [50]
    assert [float(call.outputs["y"][0, 0]) for call in calls if call.outputs] == [
        2.0 * n for n in range(50)
    ]


def test_a_cheap_batch_runs_on_the_loop_and_a_dear_one_in_a_lane() -> None:
    """What costs less than the budget never leaves the loop's thread; what costs more does."""
    where: list[str] = []

    def note(inputs: Arrays) -> Arrays:
        where.append(threading.current_thread().name)
        return double(inputs)

    async def go(cost_us: float) -> None:
        await ask(endpoint_of(FunctionRuntime(ROWS, note), cost_us=cost_us), one(1))

    asyncio.run(go(10))
    asyncio.run(go(10_000))
    assert where[0] == threading.current_thread().name
    assert "lane" in where[1]


def test_an_unknown_cost_starts_in_a_lane_and_moves_in_line() -> None:
    """A model of which nothing is known cannot block the loop; once it is known cheap, it may."""
    where: list[str] = []

    def note(inputs: Arrays) -> Arrays:
        where.append(threading.current_thread().name)
        return double(inputs)

    async def go() -> None:
        endpoint = endpoint_of(
            FunctionRuntime(ROWS, note),
            cost_us=None,
            limits=Limits(queue_rows=99, max_batch_rows=99, inline_us=100_000, lanes=1),
        )
        await ask(endpoint, one(1))
        await ask(endpoint, one(1))

    asyncio.run(go())
    assert "lane" in where[0]
    assert where[1] == threading.current_thread().name


class Gated:
    """A runtime that waits inside `run` until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self, inputs: Arrays) -> Arrays:
        self.entered.release()
        assert self.go.wait(10)
        return double(inputs)


def slow_endpoint(function: Callable[[Arrays], Arrays], **limits: int) -> Endpoint:
    bounds = {"queue_rows": 1000, "max_batch_rows": 1000, "inline_us": 300, "lanes": 1} | limits
    return endpoint_of(FunctionRuntime(ROWS, function), cost_us=1e6, limits=Limits(**bounds))


async def entered(gated: Gated) -> None:
    assert await asyncio.to_thread(gated.entered.acquire, timeout=10)


def test_the_queue_fills_while_a_batch_runs_and_is_the_next_batch() -> None:
    """Late pull: what arrives while all lanes are busy runs as one batch when a lane is free."""
    gated = Gated()
    runtime = FunctionRuntime(ROWS, gated)

    async def go() -> None:
        endpoint = endpoint_of(
            runtime,
            cost_us=1e6,
            limits=Limits(queue_rows=1000, max_batch_rows=1000, inline_us=300, lanes=1),
        )
        first = ask(endpoint, one(0))
        await entered(gated)
        rest = [ask(endpoint, one(n)) for n in range(7)]
        gated.go.set()
        await asyncio.gather(first, *rest)

    asyncio.run(go())
    assert runtime.batches == [1, 7]


def test_the_loop_answers_while_a_model_computes() -> None:
    """A model that takes its time in a lane does not hold the loop."""
    gated = Gated()

    async def go() -> None:
        endpoint = slow_endpoint(gated)
        call = ask(endpoint, one(1))
        await entered(gated)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not call.done()
        gated.go.set()
        await call

    asyncio.run(go())


def test_two_idle_lanes_share_the_queue() -> None:
    """With two lanes idle each takes half of what waits."""
    runtime = FunctionRuntime(ROWS, double)

    async def go() -> None:
        endpoint = endpoint_of(
            runtime,
            cost_us=1e6,
            limits=Limits(queue_rows=1000, max_batch_rows=1000, inline_us=300, lanes=2),
        )
        await asyncio.gather(*(ask(endpoint, one(n)) for n in range(10)))

    asyncio.run(go())
    assert runtime.batches == [5, 5]


def test_a_full_queue_refuses_at_once() -> None:
    """Past the bound a call is refused without being counted, and the others are answered."""
    gated, gate = Gated(), OpenGate()

    async def go() -> None:
        endpoint = endpoint_of(
            FunctionRuntime(ROWS, gated),
            cost_us=1e6,
            gate=gate,
            limits=Limits(queue_rows=2, max_batch_rows=10, inline_us=300, lanes=1),
        )
        first = ask(endpoint, one(0))
        await entered(gated)
        waiting = [ask(endpoint, one(1)), ask(endpoint, one(2))]
        with pytest.raises(Exhausted, match="try again"):
            ask(endpoint, one(3))
        gated.go.set()
        await asyncio.gather(first, *waiting)

    asyncio.run(go())
    assert gate.admitted == 3
    assert gate.settled == {Outcome.OK: 3}


def test_only_the_guilty_call_of_a_batch_fails() -> None:
    """A batch that fails is halved until the poison row stands alone; the others are answered."""

    def poisoned(inputs: Arrays) -> Arrays:
        if (inputs["x"] == 13).any():
            raise ValueError("thirteen")
        return double(inputs)

    async def go() -> list[Call]:
        endpoint = endpoint_of(FunctionRuntime(ROWS, poisoned))
        return list(await asyncio.gather(*(ask(endpoint, one(n)) for n in range(20))))

    calls = asyncio.run(go())
    failed = [n for n, call in enumerate(calls) if call.error]
    assert failed == [13]
    assert calls[13].error is not None
    assert calls[13].error.code == "model_failed"
    assert "thirteen" not in calls[13].error.message


def test_an_error_of_ours_from_a_runtime_reaches_the_caller() -> None:
    """A runtime that says `Invalid` is believed."""

    def refuse(inputs: Arrays) -> Arrays:
        raise Invalid("bad_pair", "the two tensors do not fit", field="x")

    async def go() -> Call:
        return await ask(endpoint_of(FunctionRuntime(ROWS, refuse)), one(1))

    error = asyncio.run(go()).error
    assert error is not None
    assert (error.code, error.field) == ("bad_pair", "x")


def test_a_model_that_gives_too_few_rows_fails_and_mixes_nobody_up() -> None:
    """Answers are only handed out when there is one row for each row that was asked."""

    async def go() -> list[Call]:
        endpoint = endpoint_of(FunctionRuntime(ROWS, lambda inputs: {"y": inputs["x"][:1]}))
        return list(await asyncio.gather(*(ask(endpoint, one(n)) for n in range(4))))

    answered = [call.outputs["y"].tolist() for call in asyncio.run(go()) if call.outputs]
    # Alone, each of them gets its own single row.
    assert answered == [[[0.0]], [[1.0]], [[2.0]], [[3.0]]]


def test_ragged_calls_are_joined_by_shape() -> None:
    """Calls whose rows differ in shape never share a batch."""
    runtime = FunctionRuntime(RAGGED, double)

    async def go() -> list[Call]:
        endpoint = endpoint_of(runtime)
        shapes = [(1, 2), (1, 2), (1, 3), (2, 2)]
        return list(await asyncio.gather(*(ask(endpoint, np.ones(s, np.float32)) for s in shapes)))

    calls = asyncio.run(go())
    assert [call.outputs["y"].shape for call in calls if call.outputs] == [
        (1, 2),
        (1, 2),
        (1, 3),
        (2, 2),
    ]
    assert runtime.batches == [2, 1, 2]


def test_a_model_without_a_batch_axis_runs_one_call_at_a_time() -> None:
    """Calls to a model that is not batched are never joined."""
    runtime = FunctionRuntime(ALONE, double)

    async def go() -> None:
        endpoint = endpoint_of(runtime)
        await asyncio.gather(*(ask(endpoint, np.ones(2, np.float32), rows=1) for _ in range(3)))

    asyncio.run(go())
    assert len(runtime.batches) == 3


def test_a_cancelled_call_leaves_the_queue_and_the_others_answer() -> None:
    """Cancelling one of many removes it alone, and it is settled as cancelled."""
    gated, gate = Gated(), OpenGate()
    runtime = FunctionRuntime(ROWS, gated)

    async def go() -> None:
        endpoint = endpoint_of(
            runtime,
            cost_us=1e6,
            gate=gate,
            limits=Limits(queue_rows=1000, max_batch_rows=1000, inline_us=300, lanes=1),
        )
        first = ask(endpoint, one(0))
        await entered(gated)
        rest = [ask(endpoint, one(n)) for n in range(5)]
        rest[2].call.cancel()  # type: ignore[attr-defined]
        gated.go.set()
        await asyncio.gather(first, *rest)

    asyncio.run(go())
    assert runtime.batches == [1, 4]
    assert gate.settled == {Outcome.OK: 5, Outcome.CANCELLED: 1}


def test_a_deadline_ends_a_waiting_call() -> None:
    """A call whose deadline passes while it waits is answered then, not when a lane is free."""
    gated = Gated()

    async def go() -> Call:
        endpoint = slow_endpoint(gated)
        first = ask(endpoint, one(0))
        await entered(gated)
        late = ask(endpoint, one(1), deadline_ns=time.monotonic_ns() + 10_000_000)
        call = await late
        assert not first.done()
        gated.go.set()
        await first
        return call

    call = asyncio.run(go())
    assert call.outcome is Outcome.TIMEOUT


def test_a_retired_endpoint_finishes_its_calls_before_it_closes() -> None:
    """The runtime is closed when the last accepted call has ended, not before, and only once."""
    gated = Gated()
    runtime = FunctionRuntime(ROWS, gated)

    async def go() -> None:
        closed = asyncio.Event()
        endpoint = endpoint_of(
            runtime,
            cost_us=1e6,
            limits=Limits(queue_rows=1000, max_batch_rows=1, inline_us=300, lanes=1),
        )
        calls = [ask(endpoint, one(n)) for n in range(3)]
        await entered(gated)
        endpoint.retire(closed.set)
        assert not runtime.is_closed
        with pytest.raises(Unavailable):
            ask(endpoint, one(9))
        gated.go.set()
        answers = await asyncio.gather(*calls)
        assert all(call.outcome is Outcome.OK for call in answers)
        await asyncio.wait_for(closed.wait(), 10)

    asyncio.run(go())
    assert runtime.is_closed


def test_a_runtime_is_not_closed_under_a_running_batch() -> None:
    """Even when every call was cancelled, a batch in a lane ends before its runtime closes."""
    gated = Gated()
    runtime = FunctionRuntime(ROWS, gated)

    async def go() -> None:
        closed = asyncio.Event()
        endpoint = endpoint_of(runtime, cost_us=1e6)
        call = ask(endpoint, one(0))
        await entered(gated)
        call.call.cancel()  # type: ignore[attr-defined]
        endpoint.retire(closed.set)
        assert endpoint.open_calls == 0
        assert not runtime.is_closed
        gated.go.set()
        await asyncio.wait_for(closed.wait(), 10)

    asyncio.run(go())


def test_a_call_is_settled_once_however_often_it_ends() -> None:
    """The first to end a call wins; a later answer or cancellation does nothing."""
    gate, replies = OpenGate(), []

    async def go() -> None:
        endpoint = endpoint_of(FunctionRuntime(ROWS, double), gate=gate)
        call = Call(endpoint, {"x": one(1)}, 1, replies.append)
        endpoint.accept(call)
        call.cancel()
        call.answer({})
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(go())
    assert len(replies) == 1
    assert gate.settled == {Outcome.CANCELLED: 1}
