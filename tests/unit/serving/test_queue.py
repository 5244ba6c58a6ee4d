import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.call import Call
from modelyard.core.datatypes import Datatype
from modelyard.core.signature import Signature, TensorSpec
from modelyard.serving.queue import Batch, CallQueue, size_bytes

ROWS = Signature((TensorSpec("x", Datatype.FP32, (-1, 1)),), ())
RAGGED = Signature((TensorSpec("x", Datatype.FP32, (-1, -1)),), ())
TEXT = Signature((TensorSpec("x", Datatype.BYTES, (-1,)),), ())
ALONE = Signature((TensorSpec("x", Datatype.FP32, (2,)),), (), batched=False)

SIGNATURES = {"rows": ROWS, "ragged": RAGGED}


def a_call(
    rows: int = 1, priority: int = 0, *, width: int = 1, deadline_ns: int | None = None
) -> Call:
    inputs = {"x": np.zeros((rows, width), np.float32)}
    return Call(None, inputs, rows, lambda _: None, deadline_ns, priority)  # type: ignore[arg-type]


def filled(*calls: Call, signature: Signature = ROWS) -> CallQueue:
    queue = CallQueue(signature)
    for call in calls:
        queue.push(call)
    return queue


def class_of(call: Call) -> int:
    return (call.priority > 0) - (call.priority < 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("push"),
            st.sampled_from([0, 1, 1, 1, 3, 8]),
            st.sampled_from([0, 0, 0, 1, 5, -1, -9]),
            st.sampled_from([1, 1, 2]),
            st.sampled_from([None, None, None, -1, 10**15]),
        ),
        st.tuples(st.just("take"), st.integers(1, 10)),
        st.tuples(st.just("forget"), st.integers(0, 50)),
        st.tuples(st.just("look")),
    ),
    max_size=80,
)


@pytest.mark.parametrize("kind", SIGNATURES)
@given(STEPS)
def test_the_laws_of_a_queue_hold_in_any_order_of_events(
    kind: str, steps: Sequence[tuple[str, *tuple[int, ...]]]
) -> None:
    """Whatever comes, is taken and is cancelled: each call leaves once, in order, and fits."""
    queue = CallQueue(SIGNATURES[kind])
    waiting: list[Call] = []

    def leave(batch: Batch, max_rows: int) -> None:
        assert len(batch.calls) <= 1 or batch.rows <= max_rows
        assert batch.rows == sum(call.rows for call in batch.calls)
        assert batch.born_ns == sum(call.started_ns for call in batch.calls)
        assert len({call.inputs["x"].shape[1:] for call in batch.calls}) <= 1
        left = [*batch.calls, *batch.late]
        assert len(set(map(id, left))) == len(left)
        for each in (-1, 0, 1):
            of_class = [call for call in left if class_of(call) == each]
            first = [call for call in waiting if class_of(call) == each][: len(of_class)]
            assert sorted(map(id, of_class)) == sorted(map(id, first))
            taken = [call.number for call in batch.calls if class_of(call) == each]
            assert all(before < after for before, after in pairwise(taken))
        assert all(call.deadline_ns == 0 for call in batch.late)
        for call in left:
            waiting.remove(call)

    for step, *numbers in steps:
        if step == "push":
            rows, priority, width, deadline_ns = numbers
            width = width if kind == "ragged" else 1
            if deadline_ns is not None:
                deadline_ns = 0 if deadline_ns < 0 else time.monotonic_ns() + deadline_ns
            call = a_call(rows, priority, width=width, deadline_ns=deadline_ns)
            queue.push(call)
            waiting.append(call)
        elif step == "take":
            first = queue.first()
            batch = queue.take(numbers[0])
            if first is not None and first not in batch.late:
                assert batch.calls[0] is first
            leave(batch, numbers[0])
        elif step == "forget" and waiting:
            queue.forget(waiting.pop(numbers[0] % len(waiting)))
        elif step == "look":
            assert sorted(map(id, queue)) == sorted(map(id, waiting))
        assert queue.rows == sum(call.rows or 1 for call in waiting)
        for priority in (-1, 0, 1):
            before = [call for call in waiting if class_of(call) >= priority]
            assert queue.rows_before(priority) == sum(call.rows or 1 for call in before)
        assert queue.bytes == (sum(map(size_bytes, waiting)) if queue.weighs else 0)
    while waiting:
        leave(queue.take(4), 4)
    assert queue.first() is None
    assert (queue.rows, queue.bytes) == (0, 0)


def test_the_higher_class_goes_first() -> None:
    """High before normal before low, whatever came first."""
    low, normal, high = a_call(priority=-1), a_call(), a_call(priority=3)
    queue = filled(low, normal, high)
    assert [queue.take(1).calls[0] for _ in range(3)] == [high, normal, low]


@pytest.mark.parametrize("flood", [1, 0])
def test_nobody_starves(flood: int) -> None:
    """Of a flood of higher calls each fourth batch leaves room for the one that waited longest."""
    low = a_call(priority=-1)
    queue = filled(low)
    batches = 0
    while low.is_waiting and batches < 100:
        queue.push(a_call(priority=flood))
        queue.push(a_call(priority=flood))
        queue.take(1)
        batches += 1
    assert 1 < batches <= 4


def test_a_batch_takes_along_whoever_fits() -> None:
    """Room that the higher class leaves in a batch is the lower one's."""
    queue = filled(a_call(priority=-1), a_call(priority=1), a_call())
    assert len(queue.take(10).calls) == 3


def test_without_a_batch_axis_each_goes_alone() -> None:
    """Calls to a model that is not batched never share a batch, across classes neither."""
    queue = filled(a_call(), a_call(priority=1), a_call(), signature=ALONE)
    assert [len(queue.take(100).calls) for _ in range(3)] == [1, 1, 1]


def test_what_cannot_be_done_in_time_is_late() -> None:
    """A call with less time left than the quickest run takes is not run."""
    tight = a_call(deadline_ns=time.monotonic_ns() + 5_000_000)
    roomy = a_call(deadline_ns=time.monotonic_ns() + 10**12)
    batch = filled(tight, roomy).take(10, least_ns=60_000_000)
    assert (batch.late, batch.calls) == ((tight,), [roomy])


def test_rows_before_a_call_are_those_of_its_class_and_higher() -> None:
    """A high call waits for high ones only, a low one for all."""
    queue = filled(a_call(2, 1), a_call(3), a_call(5, -1))
    assert [queue.rows_before(priority) for priority in (1, 0, -1)] == [2, 5, 10]


def test_text_weighs_what_it_holds() -> None:
    """Rows of text are counted in bytes, since their number says nothing of their size."""
    queue = CallQueue(TEXT)
    text = np.array(["a" * 1000, "b"], object)
    call = Call(None, {"x": text}, 2, lambda _: None)  # type: ignore[arg-type]
    queue.push(call)
    assert queue.bytes >= 1001
    queue.forget(call)
    assert queue.bytes == 0


def test_numbers_of_a_fixed_shape_are_bounded_by_their_rows() -> None:
    """What a row holds is known beforehand, and nothing is weighed per call."""
    signature = Signature(
        (TensorSpec("x", Datatype.FP32, (-1, 8)), TensorSpec("y", Datatype.INT64, (-1, 2, 2))), ()
    )
    queue = CallQueue(signature)
    assert (queue.row_bytes, queue.weighs) == (8 * 4 + 4 * 8, False)
