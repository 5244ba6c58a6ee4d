import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.call import Call, Outcome
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Denied
from modelyard.core.ports import Arrays
from modelyard.core.signature import Signature, TensorSpec
from modelyard.gateway.open_gate import OpenGate
from modelyard.serving.cache import ResponseCache
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.scheduler import Limits
from modelyard.testing.permits import PlainPermit
from modelyard.testing.serving import FunctionRuntime, endpoint_of

ROWS = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, -1)),), (TensorSpec("y", Datatype.FP32, (-1, -1)),)
)
TEXTS = Signature(
    (TensorSpec("s", Datatype.BYTES, (-1,)), TensorSpec("t", Datatype.BYTES, (-1,))), ()
)
ROOM = 100_000


def double(inputs: Arrays) -> Arrays:
    return {"y": inputs["x"] * 2}


def a_call(inputs: Arrays, parameters: Mapping[str, Any] | None = None, tenant: str = "") -> Call:
    call = Call(None, inputs, 1, lambda _: None, parameters=parameters)  # type: ignore[arg-type]
    call.permit = PlainPermit(tenant)
    return call


def row(*values: float) -> Array:
    return np.array([values], np.float32)


def texts(*values: str) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


async def ask(endpoint: Endpoint, array: Array, *, tenant: str = "") -> Call:
    future: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
    call = Call(endpoint, {"x": array}, len(array), future.set_result)
    call.permit = PlainPermit(tenant)
    endpoint.accept(call)
    assert not future.done()
    return await asyncio.wait_for(future, 10)


def answer(call: Call) -> list[list[float]]:
    assert call.outputs is not None
    return call.outputs["y"].tolist()


QUESTIONS = st.tuples(
    st.lists(st.text(max_size=3), min_size=1, max_size=3),
    st.lists(st.text(max_size=3), min_size=1, max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(0, 2), max_size=2),
    st.sampled_from(["", "a", "b"]),
)


@given(QUESTIONS, QUESTIONS)
def test_two_questions_have_one_key_only_if_they_are_the_same(
    left: tuple[Any, ...], right: tuple[Any, ...]
) -> None:
    """Texts, parameters and tenant all count, and no two ways to split text are confused."""
    cache = ResponseCache("sha256:a", TEXTS, ROOM)
    keys = [
        cache.key_of(a_call({"s": texts(*s), "t": texts(*t)}, parameters, tenant))
        for s, t, parameters, tenant in (left, right)
    ]
    assert (keys[0] == keys[1]) == (left == right)


@pytest.mark.parametrize(
    "other",
    [row(1, 3), row(1, 2).reshape(2, 1), row(1, 2, 0), np.array([[1, 2], [1, 2]], np.float32)],
    ids=["value", "shape", "longer", "rows"],
)
def test_other_arrays_have_other_keys(other: Array) -> None:
    """Values and shapes count, even where the bytes are the same."""
    cache = ResponseCache("sha256:a", ROWS, ROOM)
    assert cache.key_of(a_call({"x": row(1, 2)})) == cache.key_of(a_call({"x": row(1, 2)}))
    assert cache.key_of(a_call({"x": row(1, 2)})) != cache.key_of(a_call({"x": other}))


def test_another_bundle_has_other_keys() -> None:
    """The same question to another version is another question."""
    call = a_call({"x": row(1)})
    keys = {ResponseCache(digest, ROWS, ROOM).key_of(call) for digest in ("sha256:a", "sha256:b")}
    assert len(keys) == 2


def test_the_order_of_parameters_does_not_count() -> None:
    """Parameters are a mapping: the same ones in another order are the same question."""
    cache = ResponseCache("sha256:a", ROWS, ROOM)
    one, other = ({"a": 1, "b": [2]}, {"b": [2], "a": 1})
    assert cache.key_of(a_call({"x": row(1)}, one)) == cache.key_of(a_call({"x": row(1)}, other))


@pytest.mark.parametrize(
    "call",
    [
        a_call({"x": np.zeros((1, 100_000), np.float32)}),
        a_call({"x": row(1)}, {"a": object()}),
        a_call({"x": row(1)}, tenant="\ud800"),
    ],
    ids=["large", "strange parameters", "no Unicode"],
)
def test_what_cannot_be_looked_up_quickly_or_surely_is_not(call: Call) -> None:
    """It has no key, and is run each time."""
    assert ResponseCache("sha256:a", ROWS, ROOM).key_of(call) is None


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 300)), max_size=60),
    st.integers(1, 5_000),
)
def test_the_cache_never_holds_more_than_its_bytes(
    kept: list[tuple[int, int]], max_bytes: int
) -> None:
    """Whatever is kept, in whatever order, the bound holds, and what is found is what was kept."""
    cache = ResponseCache("sha256:a", ROWS, max_bytes)
    truth: dict[bytes, int] = {}
    for key, size in kept:
        if cache.find(bytes([key])) is None:
            truth[bytes([key])] = size
        cache.keep(bytes([key]), {"y": np.full((1, size), size, np.float32)})
        assert cache.bytes <= max_bytes
    for key, wanted in truth.items():
        found = cache.find(key)
        assert found is None or found["y"].tolist() == [[wanted] * wanted]


def test_the_least_lately_used_answer_goes_first() -> None:
    """What is asked for again and again stays."""
    cache = ResponseCache("sha256:a", ROWS, 2_000)
    for key in (b"1", b"2", b"3"):
        cache.keep(key, {"y": row(1)})
    assert len(cache) == 3
    assert cache.find(b"1") is not None
    cache.keep(b"4", {"y": row(1)})
    assert [key for key in (b"1", b"2", b"3", b"4") if cache.find(key)] == [b"1", b"3", b"4"]


def test_an_answer_that_is_kept_cannot_be_changed() -> None:
    """Neither by whoever gave it nor by whoever gets it."""
    cache, outputs = ResponseCache("sha256:a", ROWS, ROOM), {"y": row(1)}
    cache.keep(b"1", outputs)
    outputs["y"][0, 0] = 9
    found = cache.find(b"1")
    assert found is not None
    assert found["y"].tolist() == [[1]]
    with pytest.raises(ValueError, match="read-only"):
        found["y"][0, 0] = 9


def test_an_equal_call_is_answered_without_the_model() -> None:
    """It is admitted, settled and counted like any other, and as a cache hit."""
    runtime, gate = FunctionRuntime(ROWS, double), OpenGate()

    async def go() -> Endpoint:
        endpoint = endpoint_of(runtime, gate=gate, cache_bytes=ROOM)
        assert [answer(await ask(endpoint, row(3))) for _ in range(3)] == [[[6]]] * 3
        assert answer(await ask(endpoint, row(4))) == [[8]]
        return endpoint

    endpoint = asyncio.run(go())
    report = endpoint.describe().report
    assert runtime.batches == [1, 1]
    assert gate.admitted == 4
    assert gate.settled == {Outcome.OK: 4}
    assert (report.ok[0], report.cache_hit[0], report.compute[0]) == (4, 2, 2)


def test_two_models_with_equal_payloads_have_their_own_answers() -> None:
    """A cache belongs to its endpoint."""

    async def go() -> list[list[list[float]]]:
        functions = (double, lambda inputs: {"y": inputs["x"] * 3})
        endpoints = [
            endpoint_of(FunctionRuntime(ROWS, function), model=f"m{place}", cache_bytes=ROOM)
            for place, function in enumerate(functions)
        ]
        return [answer(await ask(endpoint, row(1))) for endpoint in [*endpoints, *endpoints]]

    assert asyncio.run(go()) == [[[2]], [[3]], [[2]], [[3]]]


def test_tenants_do_not_share_answers() -> None:
    """What one has asked tells another nothing, not even by how long it takes."""
    runtime = FunctionRuntime(ROWS, double)

    async def go() -> None:
        endpoint = endpoint_of(runtime, cache_bytes=ROOM)
        for tenant in ("a", "b", "a"):
            await ask(endpoint, row(1), tenant=tenant)

    asyncio.run(go())
    assert runtime.batches == [1, 1]


def test_a_failure_is_not_kept() -> None:
    """The next equal call gets another chance."""
    answers = [RuntimeError("once"), {"y": row(1)}]

    def fail_once(_: Arrays) -> Arrays:
        each = answers.pop(0)
        if isinstance(each, Exception):
            raise each
        return each

    async def go() -> list[Outcome | None]:
        endpoint = endpoint_of(FunctionRuntime(ROWS, fail_once), cache_bytes=ROOM)
        return [(await ask(endpoint, row(1))).outcome for _ in range(3)]

    assert asyncio.run(go()) == [Outcome.FAILED, Outcome.OK, Outcome.OK]


def test_whom_the_gate_refuses_gets_no_answer_from_the_cache() -> None:
    """A hit is admitted first."""

    class Shut(OpenGate):
        is_shut = False

        def admit(self, call: Call, again: Callable[[Call], None]) -> bool:
            if self.is_shut:
                raise Denied("denied", "no")
            return super().admit(call, again)

    gate = Shut()

    async def go() -> None:
        endpoint = endpoint_of(FunctionRuntime(ROWS, double), gate=gate, cache_bytes=ROOM)
        await ask(endpoint, row(1))
        gate.is_shut = True
        with pytest.raises(Denied):
            await ask(endpoint, row(1))
        assert endpoint.open_calls == 0
        assert endpoint.describe().report.refusals == {"denied": 1}

    asyncio.run(go())


def test_a_full_queue_does_not_keep_known_answers_back() -> None:
    """A known answer is given while the model is busy; an unknown one is refused and settled."""
    entered, go_on, gate = threading.Event(), threading.Event(), OpenGate()

    def wait(inputs: Arrays) -> Arrays:
        if inputs["x"][0, 0] > 1:
            entered.set()
            assert go_on.wait(10)
        return double(inputs)

    async def go() -> None:
        limits = Limits(queue_rows=1, max_batch_rows=1, inline_us=300, lanes=1)
        endpoint = endpoint_of(
            FunctionRuntime(ROWS, wait), cost_us=1e6, limits=limits, gate=gate, cache_bytes=ROOM
        )
        await ask(endpoint, row(1))
        waiting = [asyncio.ensure_future(ask(endpoint, row(2)))]
        await asyncio.sleep(0)
        assert await asyncio.to_thread(entered.wait, 10)
        waiting.append(asyncio.ensure_future(ask(endpoint, row(3))))
        await asyncio.sleep(0)
        assert answer(await ask(endpoint, row(1))) == [[2]]
        refused: list[Call] = []
        endpoint.accept(Call(endpoint, {"x": row(4)}, 1, refused.append))
        assert refused[0].error is not None
        assert refused[0].error.code == "queue_full"
        go_on.set()
        await asyncio.gather(*waiting)
        assert endpoint.open_calls == 0

    asyncio.run(go())
    assert gate.settled == {Outcome.OK: 4, Outcome.REFUSED: 1}


def test_a_known_answer_may_be_cancelled_and_its_endpoint_still_closes() -> None:
    """Between admission and the next turn the caller may leave, and the version too."""
    gate, closed = OpenGate(), list[bool]()

    async def go() -> None:
        endpoint = endpoint_of(FunctionRuntime(ROWS, double), gate=gate, cache_bytes=ROOM)
        await ask(endpoint, row(1))
        calls = [Call(endpoint, {"x": row(1)}, 1, lambda _: None) for _ in range(2)]
        for call in calls:
            endpoint.accept(call)
        calls[0].cancel()
        endpoint.retire(lambda: closed.append(True))
        assert not closed
        await asyncio.sleep(0)
        assert [call.outcome for call in calls] == [Outcome.CANCELLED, Outcome.OK]
        assert endpoint.describe().report.cache_hit[0] == 1

    asyncio.run(go())
    assert closed == [True]
    assert gate.settled == {Outcome.OK: 2, Outcome.CANCELLED: 1}
