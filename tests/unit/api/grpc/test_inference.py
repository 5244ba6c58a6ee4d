"""Many calls on one stream: order, failures, bounds, and how it ends."""

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from modelyard.api.grpc import messages
from modelyard.api.grpc.inference import MAX_OPEN_CALLS
from modelyard.api.grpc.messages import ModelInferRequest, ModelStreamInferResponse
from modelyard.api.grpc.server import GrpcServer
from modelyard.core.call import Call, Outcome
from modelyard.core.tensors import to_raw
from modelyard.gateway.open_access import OpenAccess
from tests.unit.api.grpc.conftest import MAX_MESSAGE_BYTES, NumpyExchange, Running

PATIENCE_S = 20


def _request(model: str, value: float, id: str = "") -> ModelInferRequest:
    array = np.array([value], np.float32)
    request = ModelInferRequest(model_name=model, id=id, raw_input_contents=[to_raw(array)])
    request.inputs.add(name="x", datatype="FP32", shape=array.shape)
    return request


def _value(response: ModelStreamInferResponse) -> float:
    return float(np.frombuffer(response.infer_response.raw_output_contents[0], np.float32)[0])


class Requests:
    """What a caller sends on a stream, one after another, until it is closed."""

    def __init__(self, *first: Any) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for each in first:
            self._queue.put(each)

    def __iter__(self) -> Iterator[Any]:
        while (each := self._queue.get(timeout=PATIENCE_S)) is not None:
            yield each

    def send(self, request: Any) -> None:
        self._queue.put(request)

    def close(self) -> None:
        self._queue.put(None)


def _stream(channel: grpc.Channel, requests: Any, **options: Any) -> Any:
    return channel.stream_stream(
        f"/{messages.SERVICE}/ModelStreamInfer",
        request_serializer=lambda each: (
            each if isinstance(each, bytes) else each.SerializeToString()
        ),
        response_deserializer=ModelStreamInferResponse.FromString,
    )(iter(requests), **options)


def _held(running: Running, count: int = 1) -> list[Call]:
    """The next calls that reach the model which never answers by itself, in their order."""
    for _ in range(count):
        assert running.exchange.arrived.acquire(timeout=PATIENCE_S)
    calls = running.exchange.held["held"]
    return [calls.pop(0) for _ in range(count)]


def _answer(running: Running, call: Call) -> None:
    running.loop.call_soon_threadsafe(call.answer, {"y": call.inputs["x"]})


def test_a_thousand_requests_are_answered_in_their_order(channel: grpc.Channel) -> None:
    """More than may be open at once; each answer is its request's own, and the end is OK."""
    stream = _stream(channel, [_request("echo_FP32_1", n, str(n)) for n in range(1000)])
    answers = list(stream)
    assert [_value(each) for each in answers] == list(range(1000))
    assert [each.infer_response.id for each in answers] == [str(n) for n in range(1000)]
    assert stream.code() is grpc.StatusCode.OK


def test_answers_keep_the_order_of_their_requests(channel: grpc.Channel, running: Running) -> None:
    """A call that ends before an earlier one waits for its turn."""
    requests = Requests(_request("held", 1), _request("held", 2), _request("echo_FP32_1", 3))
    stream = _stream(channel, requests)
    first, second = _held(running, 2)
    _answer(running, second)
    _answer(running, first)
    assert [_value(next(stream)) for _ in range(3)] == [1.0, 2.0, 3.0]
    requests.close()
    assert list(stream) == []


def test_an_error_does_not_end_the_stream(channel: grpc.Channel) -> None:
    """A request that fails is answered with its error and its id; the next is answered well."""
    wrong = _request("echo_FP32_1", 1, "wrong")
    wrong.inputs[0].shape[0] = 2
    sent = [_request("echo_FP32_1", 0), wrong, b"\xff\xff", _request("no", 1), _request("crash", 1)]
    answers = list(_stream(channel, [*sent, _request("echo_FP32_1", 5)]))
    said = [each.error_message for each in answers]
    assert said[0] == said[5] == ""
    assert "has 4 bytes" in said[1]
    assert answers[1].infer_response.id == "wrong"
    assert "not a inference.ModelInferRequest" in said[2]
    assert "no model 'no'" in said[3]
    assert "gave no output" in said[4]
    assert _value(answers[5]) == 5.0


def test_an_error_ends_the_stream_where_the_caller_wants_it(channel: grpc.Channel) -> None:
    """Triton's `triton_grpc_error` turns an error into the stream's status."""
    sent = [_request("echo_FP32_1", 0), _request("no", 1), _request("echo_FP32_1", 2)]
    stream = _stream(channel, sent, metadata=[("triton_grpc_error", "true")])
    with pytest.raises(grpc.RpcError):
        list(stream)
    assert stream.code() is grpc.StatusCode.NOT_FOUND


def test_cancelling_a_stream_cancels_its_calls(channel: grpc.Channel, running: Running) -> None:
    """Every open call of the stream ends at once."""
    stream = _stream(channel, Requests(_request("held", 1), _request("held", 2)))
    calls = _held(running, 2)
    settled = threading.Semaphore(0)
    for call in calls:
        call.settle = lambda _: settled.release()
    stream.cancel()
    for _ in calls:
        assert settled.acquire(timeout=PATIENCE_S)
    assert {call.outcome for call in calls} == {Outcome.CANCELLED}


def test_a_streams_deadline_is_its_calls(channel: grpc.Channel, running: Running) -> None:
    """Calls of a stream that is out of time are settled as late."""
    stream = _stream(channel, Requests(_request("held", 1)), timeout=0.5)
    (call,) = _held(running)
    settled = threading.Event()
    call.settle = lambda _: settled.set()
    assert call.deadline_ns is not None
    assert call.deadline_ns - time.monotonic_ns() < 1e9
    assert settled.wait(PATIENCE_S)
    assert call.outcome is Outcome.TIMEOUT
    assert stream.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_stream_has_a_bounded_number_of_open_calls(
    channel: grpc.Channel, running: Running
) -> None:
    """What is past the bound waits until the oldest call has been answered, and none is lost."""
    total = MAX_OPEN_CALLS + 8
    requests = Requests(*(_request("held", n) for n in range(total)))
    stream = _stream(channel, requests)
    calls = _held(running, MAX_OPEN_CALLS)
    # Another RPC of the same connection, sent later, is answered: so the rest has been looked at.
    assert list(_stream(channel, [_request("echo_FP32_1", 7)]))
    assert not running.exchange.arrived.acquire(blocking=False)
    requests.close()
    for call in calls:
        _answer(running, call)
    for call in _held(running, total - MAX_OPEN_CALLS):
        _answer(running, call)
    assert [_value(each) for each in stream] == list(range(total))


def test_a_reader_that_sleeps_stops_the_stream(channel: grpc.Channel, running: Running) -> None:
    """Answers that nobody reads are bounded: the server stops asking for more requests."""
    array = np.zeros(200_000, np.float32)
    request = ModelInferRequest(model_name="echo_FP32_1", raw_input_contents=[to_raw(array)])
    request.inputs.add(name="x", datatype="FP32", shape=array.shape)
    data, sent, total = request.SerializeToString(), [], 200

    def requests() -> Iterator[bytes]:
        for number in range(total):
            sent.append(number)
            yield data

    stream = _stream(channel, requests())
    next(stream)
    before = -1
    while before != len(sent):
        before = len(sent)
        # Whoever may still send does so while others are served.
        for _ in range(20):
            assert list(_stream(channel, [_request("echo_FP32_1", 7)]))
    assert before < total
    assert len(list(stream)) == total - 1


def test_the_last_answer_is_marked_where_it_is_asked_for(channel: grpc.Channel) -> None:
    """Each request has one answer here, so that each is the final one."""
    request = _request("echo_FP32_1", 1)
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    (answer,) = _stream(channel, [request])
    assert answer.infer_response.parameters["triton_final_response"].bool_param
    (plain,) = _stream(channel, [_request("echo_FP32_1", 1)])
    assert not plain.infer_response.parameters


def test_a_large_message_goes_through_a_stream(channel: grpc.Channel) -> None:
    """A tensor many times the flow-control window, both ways."""
    array = np.arange(1_000_000, dtype=np.float32)
    request = ModelInferRequest(model_name="echo_FP32_1", raw_input_contents=[to_raw(array)])
    request.inputs.add(name="x", datatype="FP32", shape=array.shape)
    (answer,) = _stream(channel, [request])
    assert answer.infer_response.raw_output_contents[0] == to_raw(array)


def test_stop_ends_a_stream_after_its_answers(running: Running) -> None:
    """A stopping server answers what it has taken from a stream, then says that it stops."""
    exchange = NumpyExchange(dict(running.exchange.models), {"held": []})

    async def start() -> tuple[GrpcServer, int]:
        server = GrpcServer(
            exchange,
            access=OpenAccess(),
            host="127.0.0.1",
            port=0,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        return server, await server.start()

    server, port = running.run(start())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = _stream(channel, Requests(_request("held", 1), _request("held", 2)))
        for _ in range(2):
            assert exchange.arrived.acquire(timeout=PATIENCE_S)
        stopping = running.begin(server.stop(PATIENCE_S))
        for call in exchange.held["held"]:
            _answer(running, call)
        assert [_value(next(stream)) for _ in range(2)] == [1.0, 2.0]
        with pytest.raises(grpc.RpcError):
            next(stream)
        assert stream.code() is grpc.StatusCode.UNAVAILABLE
        stopping.result(PATIENCE_S)


def test_tritons_blocking_stream(running: Running) -> None:
    """`start_stream` and `async_stream_infer` unchanged, with an error in between."""
    found: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with triton.InferenceServerClient(running.address) as client:
        client.start_stream(lambda result, error: found.put((result, error)))
        for number in range(10):
            client.async_stream_infer(
                "no" if number == 5 else "echo_FP32_1", [_tensor(number)], request_id=str(number)
            )
        answers = [found.get(timeout=PATIENCE_S) for _ in range(10)]
        client.stop_stream()
    for number, (result, error) in enumerate(answers):
        if number == 5:
            assert isinstance(error, InferenceServerException)
            assert "no model 'no'" in error.message()
        else:
            assert result.as_numpy("y").tolist() == [number]
            assert result.get_response().id == str(number)


def test_tritons_awaited_stream(running: Running) -> None:
    """The asyncio client's `stream_infer` unchanged."""

    async def requests() -> Any:
        for number in range(10):
            yield {
                "model_name": "no" if number == 5 else "echo_FP32_1",
                "inputs": [_tensor(number)],
                "request_id": str(number),
                "enable_empty_final_response": True,
            }

    async def scene() -> list[Any]:
        async with triton_aio.InferenceServerClient(running.address) as client:
            return [each async for each in client.stream_infer(requests())]

    for number, (result, error) in enumerate(running.run(scene())):
        if number == 5:
            assert isinstance(error, InferenceServerException)
        else:
            assert result.as_numpy("y").tolist() == [number]


def _tensor(value: float) -> triton.InferInput:
    tensor = triton.InferInput("x", [1], "FP32")
    tensor.set_data_from_numpy(np.array([value], np.float32))
    return tensor
