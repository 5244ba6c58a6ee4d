"""Priorities, windows, sizes, deadlines and objectives, through an endpoint as protocols use it."""

import asyncio
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.call import Call, Outcome
from modelyard.core.config import Config
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Exhausted, ModelyardError
from modelyard.core.ports import Arrays
from modelyard.core.route import Options
from modelyard.core.signature import Signature, TensorSpec
from modelyard.gateway.open_gate import OpenGate
from modelyard.serving.cost import BatchCost
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.scheduler import Limits, Scheduler
from modelyard.serving.statistics import Statistics
from modelyard.testing.serving import FunctionRuntime, endpoint_of

ROWS = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, 1)),), (TensorSpec("y", Datatype.FP32, (-1, 1)),)
)
WIDE = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, -1)),), (TensorSpec("y", Datatype.FP32, (-1, -1)),)
)
LANE = Limits(queue_rows=1000, max_batch_rows=1000, inline_us=300, lanes=1)
A_MINUTE_NS = 60 * 10**9


def double(inputs: Arrays) -> Arrays:
    return {"y": inputs["x"] * 2}


def one(value: float = 1.0) -> Array:
    return np.array([[value]], np.float32)


def a_call(
    endpoint: Endpoint,
    done: Callable[[Call], None],
    array: Array | None = None,
    *,
    priority: int = 0,
    deadline_ns: int | None = None,
) -> Call:
    array = one() if array is None else array
    return Call(endpoint, {"x": array}, len(array), done, deadline_ns, priority)


def ask(
    endpoint: Endpoint,
    array: Array | None = None,
    *,
    priority: int = 0,
    deadline_ns: int | None = None,
) -> "asyncio.Future[Call]":
    future: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
    endpoint.accept(
        a_call(endpoint, future.set_result, array, priority=priority, deadline_ns=deadline_ns)
    )
    return future


class Gated:
    """A model that waits inside `run` until it is let go, and notes the values it was given."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.go = threading.Event()
        self.values: list[list[float]] = []

    def __call__(self, inputs: Arrays) -> Arrays:
        self.values.append(inputs["x"][:, 0].tolist())
        self.entered.release()
        assert self.go.wait(10)
        return double(inputs)

    async def is_busy(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=10)


@contextlib.contextmanager
def held(**limits: object) -> Iterator[tuple[Gated, Callable[[], Endpoint]]]:
    """A model that holds its only lane, and how to make its endpoint."""
    gated = Gated()
    bounds = dataclasses.replace(LANE, **limits)  # type: ignore[arg-type]
    try:
        yield (
            gated,
            lambda: endpoint_of(FunctionRuntime(WIDE, gated), cost_us=1e6, limits=bounds),
        )
    finally:
        gated.go.set()


async def all_answered(*futures: "asyncio.Future[Call]") -> None:
    for call in await asyncio.wait_for(asyncio.gather(*futures), 10):
        assert call.outcome is Outcome.OK


# Priorities


def test_a_high_call_overtakes_those_that_wait() -> None:
    """What is high runs next, within each class in the order of arrival."""

    async def go() -> list[list[float]]:
        with held(max_batch_rows=1) as (gated, make):
            endpoint = make()
            calls = [ask(endpoint, one(0))]
            await gated.is_busy()
            calls += [ask(endpoint, one(n), priority=p) for n, p in enumerate((-1, 0, 2, 0, 1), 1)]
            gated.go.set()
            await all_answered(*calls)
            return gated.values

    # The fourth choice is the oldest call's: nobody starves.
    assert asyncio.run(go()) == [[0], [3], [5], [2], [1], [4]]


def test_low_calls_leave_room_for_others_and_high_ones_find_some_more() -> None:
    """Low calls fill half of the queue, normal ones all of it, high ones a quarter beyond."""

    async def go() -> list[int]:
        with held(queue_rows=8) as (gated, make):
            endpoint = make()
            calls = [ask(endpoint)]
            await gated.is_busy()
            taken = []
            for priority in (-1, 0, 1):
                count = 0
                with contextlib.suppress(Exhausted):
                    while count < 100:
                        calls.append(ask(endpoint, priority=priority))
                        count += 1
                taken.append(count)
            gated.go.set()
            await all_answered(*calls)
            return taken

    assert asyncio.run(go()) == [4, 4, 2]


# Room


def test_a_refusal_says_when_to_come_again() -> None:
    """A second for each waiting row of a model that takes a second."""

    async def go() -> float | None:
        with held(queue_rows=3) as (gated, make):
            endpoint = make()
            calls = [ask(endpoint)]
            await gated.is_busy()
            calls += [ask(endpoint) for _ in range(3)]
            with pytest.raises(Exhausted) as caught:
                ask(endpoint)
            assert endpoint.describe().report.refusals == {"queue_full": 1}
            gated.go.set()
            await all_answered(*calls)
            return caught.value.retry_after_s

    assert asyncio.run(go()) == pytest.approx(3.0)


@pytest.mark.parametrize("signature", [ROWS, WIDE], ids=["fixed", "free"])
def test_the_queue_is_bounded_in_bytes(signature: Signature) -> None:
    """However few the rows: what waits holds no more bytes than it may."""
    gated = Gated()

    async def go() -> int:
        limits = dataclasses.replace(LANE, queue_bytes=40)
        endpoint = endpoint_of(FunctionRuntime(signature, gated), cost_us=1e6, limits=limits)
        calls = [ask(endpoint)]
        await gated.is_busy()
        with contextlib.suppress(Exhausted):
            while len(calls) < 100:
                calls.append(ask(endpoint))
        waiting = endpoint.describe().load.queued_rows
        gated.go.set()
        await all_answered(*calls)
        return waiting

    assert asyncio.run(go()) == 10


# Windows and sizes


def window_endpoint(runtime: FunctionRuntime, **limits: object) -> Endpoint:
    return endpoint_of(runtime, cost_us=1.0, limits=dataclasses.replace(LANE, **limits))  # type: ignore[arg-type]


def test_a_window_gathers_calls_of_several_turns() -> None:
    """Calls that come one by one within the window run as one batch, when it is over."""
    runtime = FunctionRuntime(ROWS, double)

    async def go() -> float:
        endpoint = window_endpoint(runtime, window_us=50_000)
        started = time.monotonic()
        calls = []
        for _ in range(5):
            calls.append(ask(endpoint))
            await asyncio.sleep(0)
        await all_answered(*calls)
        return time.monotonic() - started

    assert asyncio.run(go()) >= 0.05
    assert runtime.batches == [5]


def test_a_preferred_size_ends_the_window() -> None:
    """Once enough wait, the batch runs at once; what is over waits for its own window."""
    runtime = FunctionRuntime(ROWS, double)

    async def go() -> None:
        endpoint = window_endpoint(runtime, window_us=60_000_000, preferred_rows=(4, 8))
        calls = [ask(endpoint) for _ in range(5)]
        await all_answered(*calls[:4])
        assert not calls[4].done()
        await all_answered(calls[4], *[ask(endpoint) for _ in range(3)])
        await all_answered(*[ask(endpoint) for _ in range(9)][:8])
        endpoint.retire()

    asyncio.run(go())
    assert runtime.batches == [4, 4, 8]


def test_a_full_batch_ends_the_window() -> None:
    """No batch waits that cannot grow any more."""
    runtime = FunctionRuntime(ROWS, double)

    async def go() -> None:
        endpoint = window_endpoint(runtime, window_us=60_000_000, max_batch_rows=3)
        await all_answered(*[ask(endpoint) for _ in range(3)])

    asyncio.run(go())
    assert runtime.batches == [3]


def test_a_window_ends_in_time_for_a_deadline() -> None:
    """Who has less time than the window is not kept waiting until it is too late."""

    async def go() -> Outcome | None:
        endpoint = window_endpoint(FunctionRuntime(ROWS, double), window_us=60_000_000)
        calls = [ask(endpoint)]
        await asyncio.sleep(0)
        calls.append(ask(endpoint, deadline_ns=time.monotonic_ns() + 100_000_000))
        hurried = await calls[1]
        if hurried.outcome is Outcome.OK:
            await all_answered(calls[0])
        return hurried.outcome

    # A machine that stalls for milliseconds just then makes it late: not every time.
    assert Outcome.OK in [asyncio.run(go()) for _ in range(4)]


def test_without_a_window_preferred_sizes_shape_what_waits() -> None:
    """Of fourteen that wait eight run, then four, then the rest."""

    async def go() -> list[int]:
        with held(preferred_rows=(4, 8)) as (gated, make):
            endpoint = make()
            calls = [ask(endpoint)]
            await gated.is_busy()
            calls += [ask(endpoint) for _ in range(14)]
            gated.go.set()
            await all_answered(*calls)
            return [len(values) for values in gated.values]

    assert asyncio.run(go()) == [1, 8, 4, 2]


class Timed:
    """A model that takes a known time for a batch, asleep."""

    def __init__(self, cost_s: Callable[[int], float]) -> None:
        self.cost_s = cost_s

    def __call__(self, inputs: Arrays) -> Arrays:
        time.sleep(self.cost_s(len(inputs["x"])))
        return double(inputs)


async def closed_loop(
    endpoint: Endpoint, callers: int, seconds: float, **kind: int
) -> tuple[list[float], int]:
    """Each caller asks again when it is answered: latencies in ms, and how many were refused."""
    latencies: list[float] = []
    refused = 0
    until = time.monotonic() + seconds

    async def caller() -> None:
        nonlocal refused
        while time.monotonic() < until:
            try:
                call = await ask(endpoint, **kind)
            except Exhausted:
                refused += 1
                await asyncio.sleep(0.01)
                continue
            assert call.outcome is Outcome.OK
            latencies.append((call.ended_ns - call.started_ns) / 1e6)

    await asyncio.wait_for(asyncio.gather(*(caller() for _ in range(callers))), 30)
    return latencies, refused


def test_a_model_that_gains_nothing_from_batches_gets_small_ones() -> None:
    """Of forty-eight callers a lane could take half at once; it takes a few: nobody waits long."""
    runtime = FunctionRuntime(ROWS, Timed(lambda rows: 0.005 * rows))
    limits = Limits(queue_rows=1000, max_batch_rows=0, inline_us=300, lanes=2)

    async def go() -> None:
        endpoint = endpoint_of(runtime, cost_us=5_000.0, limits=limits)
        await closed_loop(endpoint, 48, 1.0)

    asyncio.run(go())
    assert float(np.mean(runtime.batches)) < 8


def test_a_model_with_a_large_fixed_cost_finds_its_large_batches() -> None:
    """Five milliseconds a batch and hardly any a row: the queue leaves in a few batches."""
    runtime = FunctionRuntime(ROWS, Timed(lambda rows: 0.005 + 0.00001 * rows))
    limits = Limits(queue_rows=1000, max_batch_rows=0, inline_us=300, lanes=1)

    async def go() -> None:
        endpoint = endpoint_of(runtime, cost_us=5_000.0, limits=limits)
        await closed_loop(endpoint, 64, 0.8)

    asyncio.run(go())
    assert max(runtime.batches) >= 32
    assert float(np.mean(runtime.batches)) > 8


# Deadlines


def test_a_call_that_brings_no_deadline_gets_the_default() -> None:
    """The endpoint's limit ends a call that waits too long; one that brings its own keeps it."""
    gated = Gated()

    async def go() -> Outcome | None:
        endpoint = endpoint_of(
            FunctionRuntime(ROWS, gated), cost_us=1e6, limits=LANE, timeout_ms=20.0
        )
        first = ask(endpoint, deadline_ns=time.monotonic_ns() + A_MINUTE_NS)
        await gated.is_busy()
        outcome = (await asyncio.wait_for(ask(endpoint), 10)).outcome
        gated.go.set()
        await all_answered(first)
        return outcome

    assert asyncio.run(go()) is Outcome.TIMEOUT


def test_a_call_whose_time_is_too_short_is_not_run() -> None:
    """When its turn comes with less time left than any run takes, the model is spared."""
    runtime = FunctionRuntime(ROWS, Timed(lambda rows: 0.05))

    async def go() -> Call:
        endpoint = endpoint_of(runtime, cost_us=50_000.0, limits=LANE)
        await all_answered(ask(endpoint))
        call = await ask(endpoint, deadline_ns=time.monotonic_ns() + 20_000_000)
        assert call.ended_ns - call.started_ns < 10_000_000
        await all_answered(ask(endpoint))
        return call

    assert asyncio.run(go()).outcome is Outcome.TIMEOUT
    assert runtime.batches == [1, 1]


def test_a_model_that_was_slow_once_is_not_given_up() -> None:
    """Calls with deadlines are run again soon after one run took too long for all of them."""
    takes_s = [0.3]
    runtime = FunctionRuntime(ROWS, Timed(lambda _: takes_s.pop() if takes_s else 0.0))

    async def go() -> int:
        endpoint = endpoint_of(runtime, cost_us=1_000.0, limits=LANE)
        await all_answered(ask(endpoint))
        for lost in range(50):
            call = await ask(endpoint, deadline_ns=time.monotonic_ns() + 100_000_000)
            if call.outcome is Outcome.OK:
                return lost
        return 50

    assert asyncio.run(go()) < 15


# Latency objective


def test_an_objective_refuses_early_what_would_wait_too_long() -> None:
    """At several times its capacity a model answers quickly, at full use, and refuses the rest."""

    async def go(p99_ms: float | None) -> tuple[list[float], int]:
        limits = dataclasses.replace(LANE, max_batch_rows=0, p99_ms=p99_ms)
        runtime = FunctionRuntime(ROWS, Timed(lambda rows: 0.005 * rows))
        endpoint = endpoint_of(runtime, cost_us=5_000.0, limits=limits)
        return await closed_loop(endpoint, 40, 1.0)

    all_ms, none_refused = asyncio.run(go(None))
    latencies_ms, refused = asyncio.run(go(60.0))
    assert none_refused == 0
    assert refused > 100
    assert float(np.median(latencies_ms)) < 0.5 * float(np.median(all_ms))
    assert len(latencies_ms) > 0.4 * len(all_ms)


def test_an_objective_holds_batches_short() -> None:
    """A batch is no longer than half of the objective, however many rows wait."""
    runtime = FunctionRuntime(ROWS, Timed(lambda rows: 0.001 * rows))
    limits = Limits(queue_rows=1000, max_batch_rows=500, inline_us=300, lanes=1, p99_ms=40.0)

    async def go() -> None:
        endpoint = endpoint_of(runtime, cost_us=1_000.0, limits=limits)
        calls = [ask(endpoint)]
        with contextlib.suppress(Exhausted):
            while True:
                calls.append(ask(endpoint))
        await all_answered(*calls)

    asyncio.run(go())
    assert 4 < max(runtime.batches) <= 20


def test_a_stall_under_an_objective_is_no_storm() -> None:
    """After a batch that hung, calls that come together are soon all let in again."""
    stall_s = [0.5]
    limits = dataclasses.replace(LANE, max_batch_rows=0, p99_ms=40.0)

    async def go() -> int:
        runtime = FunctionRuntime(
            ROWS, Timed(lambda rows: 0.001 * rows + (stall_s.pop() if stall_s else 0.0))
        )
        endpoint = endpoint_of(runtime, cost_us=1_000.0, limits=limits)
        await all_answered(ask(endpoint))
        for rounds in range(100):
            calls, refused = [], 0
            for _ in range(4):
                try:
                    calls.append(ask(endpoint))
                except Exhausted:
                    refused += 1
            await all_answered(*calls)
            if not refused:
                return rounds
        return 100

    assert asyncio.run(go()) < 60


# Shadows, and what an endpoint says of itself


def test_a_shadow_is_run_but_neither_metered_nor_counted_as_answered() -> None:
    """No gate admits or settles a copy that nobody waits for, and no guard takes it for traffic."""
    gate = OpenGate()

    async def go() -> Endpoint:
        endpoint = endpoint_of(runtime, gate=gate)
        future: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        shadow = a_call(endpoint, future.set_result)
        shadow.is_shadow = True
        endpoint.accept(shadow)
        await all_answered(future, ask(endpoint))
        return endpoint

    runtime = FunctionRuntime(ROWS, double)
    endpoint = asyncio.run(go())
    assert runtime.batches == [2]
    assert endpoint.describe().report.ok[0] == 1
    assert gate.admitted == 1
    assert gate.settled == {Outcome.OK: 1}


def test_an_endpoint_says_what_it_does_now() -> None:
    """Where it runs, what is open, what waits, and what a batch is expected to cost."""

    async def go() -> None:
        with held() as (gated, make):
            endpoint = make()
            calls = [ask(endpoint)]
            await gated.is_busy()
            calls += [ask(endpoint, np.ones((3, 1), np.float32)), ask(endpoint)]
            state = endpoint.describe()
            assert (state.model, state.version, state.trouble) == ("model", 1, None)
            assert (state.open_calls, state.load.place, state.load.queued_rows) == (3, "worker", 4)
            assert (state.load.fixed_us, state.load.row_us) == (0.0, 1e6)
            gated.go.set()
            await all_answered(*calls)
            state = endpoint.describe()
            assert (state.open_calls, state.load.queued_rows) == (0, 0)
            assert state.report.queue[0] == 3
            assert state.report.rows == 5

    asyncio.run(go())


def test_a_routes_options_come_before_the_nodes_settings() -> None:
    """What a route says nothing about is the node's, and the cores are the lanes."""
    config = Config(queue_rows=7, queue_bytes=9, inline_us=11)
    assert Limits.of(config, Options(inline_us=0, window_us=5, p99_ms=20.0), 3) == Limits(
        queue_rows=7,
        queue_bytes=9,
        max_batch_rows=0,
        inline_us=0,
        lanes=3,
        window_us=5,
        p99_ms=20.0,
    )


# Everything at once

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("ask"), st.sampled_from([0, 1, 1, 2, 13]), st.sampled_from([0, 0, 1, -1])
        ),
        st.tuples(st.just("late"), st.sampled_from([-1, 0, 10**6, 10**12]), st.just(0)),
        st.tuples(st.just("cancel"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("turn"), st.just(0), st.just(0)),
        st.tuples(st.just("retire"), st.just(0), st.just(0)),
    ),
    max_size=40,
)
KNOBS = st.fixed_dictionaries(
    {
        "max_batch_rows": st.sampled_from([0, 1, 3, 100]),
        "lanes": st.sampled_from([1, 2]),
        "queue_rows": st.sampled_from([4, 1000]),
        "queue_bytes": st.sampled_from([64, 10**9]),
        "window_us": st.sampled_from([0, 200, 2_000]),
        "preferred_rows": st.sampled_from([(), (2, 4)]),
        "p99_ms": st.sampled_from([None, 5.0]),
    }
)


@settings(max_examples=150, deadline=None)
@given(
    knobs=KNOBS,
    steps=STEPS,
    cost_us=st.sampled_from([1.0, 1e6]),
    timeout_ms=st.sampled_from([None, 1.0]),
    cache_bytes=st.sampled_from([0, 1000]),
)
def test_every_admitted_call_ends_once_and_no_batch_is_too_large(
    knobs: dict[str, object],
    steps: list[tuple[str, int, int]],
    cost_us: float,
    timeout_ms: float | None,
    cache_bytes: int,
) -> None:
    """Whatever mix of priorities, deadlines, cancels, failures, windows, bounds and caches."""

    def fail_on_thirteen(inputs: Arrays) -> Arrays:
        if len(inputs["x"]) == 13:
            raise RuntimeError("thirteen")
        return double(inputs)

    async def go() -> None:
        gate, told, made = OpenGate(), list[Call](), list[Call]()
        closed: list[bool] = []
        runtime = FunctionRuntime(ROWS, fail_on_thirteen)
        endpoint = endpoint_of(
            runtime,
            cost_us=cost_us,
            gate=gate,
            limits=Limits(inline_us=300, **knobs),  # type: ignore[arg-type]
            timeout_ms=timeout_ms,
            cache_bytes=cache_bytes,
        )
        for step, number, priority in steps:
            if step in ("ask", "late"):
                rows = number if step == "ask" else 1
                deadline_ns = time.monotonic_ns() + number if step == "late" else None
                call = a_call(
                    endpoint,
                    told.append,
                    np.zeros((rows, 1), np.float32),
                    priority=priority,
                    deadline_ns=deadline_ns,
                )
                with contextlib.suppress(ModelyardError):
                    endpoint.accept(call)
                    made.append(call)
            elif step == "cancel" and made:
                made[number % len(made)].cancel()
            elif step == "turn":
                await asyncio.sleep(0)
            elif step == "retire" and not closed:
                closed.append(False)
                endpoint.retire(lambda: closed.append(True))
        async with asyncio.timeout(20):
            while endpoint.open_calls or (closed and not closed[-1]):
                await asyncio.sleep(0)
        assert gate.admitted == len(made) == gate.settled.total()
        assert sorted(map(id, told)) == sorted(map(id, made))
        assert runtime.is_closed == bool(closed)
        state = endpoint.describe()
        assert state.load.queued_rows == 0
        assert state.report.ok[0] + sum(
            count for count, _ in state.report.otherwise.values()
        ) == len(made)
        most = knobs["max_batch_rows"] or 1024
        assert all(rows <= max(most, 13) for rows in runtime.batches)  # type: ignore[call-overload]
        if most == 1:
            assert all(rows in (0, 1, 2, 13) for rows in runtime.batches)

    asyncio.run(go())


def test_a_call_that_is_alone_has_all_cores() -> None:
    """The wide runtime takes a lone call; calls that come together, or meanwhile, have one each."""

    async def go() -> None:
        narrow, wide = FunctionRuntime(ROWS, double), FunctionRuntime(ROWS, double)
        cost = BatchCost()
        cost.observe(1, 1e6)
        limits = Limits(queue_rows=100, max_batch_rows=1, inline_us=300, lanes=2)
        scheduler = Scheduler("m:1", narrow, cost, limits, Statistics(), wide=wide)
        served = endpoint_of(narrow)

        async def ask(count: int) -> None:
            loop = asyncio.get_running_loop()
            replies = [loop.create_future() for _ in range(count)]
            for reply in replies:
                inputs = {"x": np.zeros((1, 1), np.float32)}
                scheduler.enqueue(Call(served, inputs, 1, reply.set_result))
            await asyncio.gather(*replies)

        await ask(1)
        assert (len(narrow.batches), len(wide.batches)) == (0, 1)
        await ask(4)
        assert len(narrow.batches) + len(wide.batches) == 5
        assert len(narrow.batches) >= 3
        closed = asyncio.Event()
        scheduler.close(closed.set)
        await closed.wait()
        assert narrow.is_closed
        assert wide.is_closed

    asyncio.run(go())
