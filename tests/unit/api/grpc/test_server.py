"""The gRPC server on a real socket, spoken to in the protocol's own messages."""

import asyncio
import gc
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelyard.api.grpc import messages
from modelyard.api.grpc.contents import write_contents
from modelyard.api.grpc.messages import ModelInferRequest, ModelInferResponse
from modelyard.api.grpc.server import GrpcServer
from modelyard.core.call import Call, Outcome
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Exhausted, Unavailable
from modelyard.core.tensors import from_raw, to_raw
from modelyard.gateway.open_access import OpenAccess
from tests.unit.api.grpc.conftest import MAX_MESSAGE_BYTES, NumpyExchange, Running

Infer = Callable[..., Any]
INFER = f"/{messages.SERVICE}/ModelInfer"
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def _method(channel: Any, name: str) -> Any:
    answer = getattr(messages, f"{name}Response")
    return channel.unary_unary(
        f"/{messages.SERVICE}/{name}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=answer.FromString,
    )


@pytest.fixture(scope="module")
def infer(channel: grpc.Channel) -> Infer:
    return _method(channel, "ModelInfer")  # type: ignore[no-any-return]


def _raw(model: str, version: str = "", **inputs: Array) -> ModelInferRequest:
    request = ModelInferRequest(model_name=model, model_version=version)
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=Datatype.of(array.dtype), shape=array.shape)
        request.raw_input_contents.append(to_raw(array))
    return request


def _typed(model: str, **inputs: Array) -> ModelInferRequest:
    request = ModelInferRequest(model_name=model)
    for name, array in inputs.items():
        datatype = Datatype.of(array.dtype)
        tensor = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        write_contents(datatype, array, tensor.contents)
    return request


def _read_raw(response: ModelInferResponse, index: int = 0) -> Array:
    tensor = response.outputs[index]
    raw = response.raw_output_contents[index]
    return from_raw(Datatype(tensor.datatype), tuple(tensor.shape), raw, tensor.name)


def _tensors(datatype: Datatype) -> st.SearchStrategy[Array]:
    if datatype is Datatype.BYTES:
        return arrays.arrays(object, SHAPES, elements=st.text(st.characters(codec="utf-8")))
    return arrays.arrays(datatype.dtype, SHAPES)


PROPERTY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("datatype", Datatype)
def test_raw_tensors_come_back_bit_by_bit(infer: Infer, datatype: Datatype) -> None:
    """Any tensor of any datatype comes back from an echo with the same bytes and shape."""

    @PROPERTY
    @given(_tensors(datatype))
    def there_and_back(array: Array) -> None:
        response = infer(_raw(f"echo_{datatype}_{array.ndim}", x=array), timeout=10)
        assert not response.outputs[0].HasField("contents")
        back = _read_raw(response)
        assert back.shape == array.shape
        assert to_raw(back) == to_raw(array)

    there_and_back()


@pytest.mark.parametrize("datatype", [each for each in Datatype if each is not Datatype.FP16])
def test_typed_tensors_come_back_bit_by_bit(infer: Infer, datatype: Datatype) -> None:
    """Typed contents are answered with typed contents, and hold the same elements."""

    @PROPERTY
    @given(_tensors(datatype))
    def there_and_back(array: Array) -> None:
        request = _typed(f"echo_{datatype}_{array.ndim}", x=array)
        response = infer(request, timeout=10)
        assert not response.raw_output_contents
        assert tuple(response.outputs[0].shape) == array.shape
        sent, back = request.inputs[0].contents, response.outputs[0].contents
        assert back.SerializeToString() == sent.SerializeToString()

    there_and_back()


def test_an_answer_carries_model_version_and_id(infer: Infer) -> None:
    """The answer names the version that the route gave, and gives the request's id back."""
    request = _raw("sums", a=np.ones((1, 2), np.float32), b=np.ones((1, 2), np.float32))
    request.id = "my-17"
    response = infer(request)
    assert (response.model_name, response.model_version, response.id) == ("sums", "3", "my-17")


def test_all_outputs_come_in_the_order_of_the_signature(infer: Infer) -> None:
    """Without requested outputs the answer holds every one."""
    rows = np.array([[1, 2], [3, 4]], np.float32)
    response = infer(_raw("sums", b=rows, a=rows))
    assert [tensor.name for tensor in response.outputs] == ["total", "first"]
    assert _read_raw(response, 0).tolist() == [6.0, 14.0]
    assert _read_raw(response, 1).tolist() == [1.0, 3.0]


def test_requested_outputs_come_in_the_order_requested(infer: Infer) -> None:
    """Only what was asked for is sent, as it was asked for."""
    rows = np.ones((1, 2), np.float32)
    request = _raw("sums", a=rows, b=rows)
    request.outputs.add(name="first")
    assert [tensor.name for tensor in infer(request).outputs] == ["first"]
    request.outputs.add(name="total")
    assert [tensor.name for tensor in infer(request).outputs] == ["first", "total"]


def test_an_answer_without_typed_contents_comes_raw(infer: Infer) -> None:
    """FP16 has no typed contents, so that output comes raw even to a typed request."""
    response = infer(_typed("half", x=np.array([1.5], np.float32)))
    assert response.outputs[0].datatype == "FP16"
    assert _read_raw(response).tolist() == [1.5]


def test_a_model_without_inputs_answers(infer: Infer) -> None:
    """A request without tensors is no error where the model takes none."""
    assert _read_raw(infer(_raw("constant"))).tolist() == [1.0]


ONE = np.ones((1, 2), np.float32)
ERRORS: dict[str, tuple[ModelInferRequest, grpc.StatusCode, str, str | None]] = {
    "unknown model": (_raw("no", x=ONE), grpc.StatusCode.NOT_FOUND, "unknown_model", "model"),
    "unknown version": (
        _raw("sums", "9", a=ONE, b=ONE),
        grpc.StatusCode.NOT_FOUND,
        "unknown_model",
        "model",
    ),
    "missing input": (_raw("sums", a=ONE), grpc.StatusCode.INVALID_ARGUMENT, "missing_input", "b"),
    "unknown input": (
        _raw("sums", a=ONE, b=ONE, c=ONE),
        grpc.StatusCode.INVALID_ARGUMENT,
        "unknown_input",
        "c",
    ),
    "wrong datatype": (
        _raw("sums", a=ONE, b=ONE.astype(np.float64)),
        grpc.StatusCode.INVALID_ARGUMENT,
        "wrong_datatype",
        "b",
    ),
    "wrong rank": (
        _raw("sums", a=ONE, b=ONE[0]),
        grpc.StatusCode.INVALID_ARGUMENT,
        "wrong_rank",
        "b",
    ),
    "wrong shape": (
        _raw("sums", a=ONE, b=np.ones((1, 3), np.float32)),
        grpc.StatusCode.INVALID_ARGUMENT,
        "wrong_shape",
        "b",
    ),
    "unequal rows": (
        _raw("sums", a=ONE, b=np.ones((2, 2), np.float32)),
        grpc.StatusCode.INVALID_ARGUMENT,
        "unequal_rows",
        "b",
    ),
    "a field that is not ASCII": (
        _raw("table", n=np.full((1, 1), np.nan, np.float32), s=np.array([["red"]], object)),
        grpc.StatusCode.INVALID_ARGUMENT,
        "not_finite",
        "gr%C3%B6%C3%9Fe",
    ),
    "an unseen category": (
        _raw("table", n=ONE[:, :1], s=np.array([["pink"]], object)),
        grpc.StatusCode.INVALID_ARGUMENT,
        "unseen_category",
        "colour",
    ),
    "an endless name": (
        _raw("sums", a=ONE, b=ONE, **{"ü" * 100_000: ONE}),
        grpc.StatusCode.INVALID_ARGUMENT,
        "unknown_input",
        "%C3%BC" * 128,
    ),
}
UNKNOWN_OUTPUT = _raw("sums", a=ONE, b=ONE)
UNKNOWN_OUTPUT.outputs.add(name="median")
ERRORS["unknown output"] = (
    UNKNOWN_OUTPUT,
    grpc.StatusCode.INVALID_ARGUMENT,
    "unknown_output",
    "median",
)


def _error(infer: Infer, request: Any, **options: Any) -> tuple[grpc.RpcError, dict[str, str]]:
    with pytest.raises(grpc.RpcError) as refused:
        infer(request, **options)
    return refused.value, dict(refused.value.trailing_metadata() or ())


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_has_status_code_and_field(infer: Infer, case: str) -> None:
    """Status, stable code, kind and field tell what is wrong; the server answers the next call."""
    request, status, code, field = ERRORS[case]
    error, trailers = _error(infer, request, timeout=10)
    assert error.code() is status
    assert error.details()
    assert trailers["modelyard-code"] == code
    assert trailers["modelyard-kind"] in ("invalid", "not_found")
    assert trailers.get("modelyard-field") == field
    assert infer(_raw("sums", a=ONE, b=ONE)).model_name == "sums"


def test_bytes_that_are_no_message_are_the_callers_fault(channel: grpc.Channel) -> None:
    """What protobuf cannot read is INVALID_ARGUMENT, not INTERNAL."""
    error, trailers = _error(channel.unary_unary(INFER), b"\xff\xff\xff")
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert trailers["modelyard-code"] == "bad_message"


def test_a_message_too_large_is_refused(infer: Infer) -> None:
    """A message past the bound is RESOURCE_EXHAUSTED, before anything reads it."""
    large = np.zeros(MAX_MESSAGE_BYTES, np.int8)
    error, _ = _error(infer, _raw("echo_INT8_1", x=large))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_compressed_message_is_bounded_by_its_real_size(infer: Infer) -> None:
    """A small message that unpacks into a large one is refused alike."""
    large = np.zeros(16 * MAX_MESSAGE_BYTES, np.int8)
    request = _raw("echo_INT8_1", x=large)
    error, _ = _error(infer, request, compression=grpc.Compression.Gzip)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_failure_of_ours_tells_nothing(
    infer: Infer, caplog: pytest.LogCaptureFixture, running: Running, monkeypatch: Any
) -> None:
    """An exception nobody expected is INTERNAL with a reference; the log has the trace under it."""

    def fail(_: str, __: object = None) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(running.exchange, "find", fail)
    with caplog.at_level(logging.ERROR, "modelyard.api.grpc"):
        error, trailers = _error(infer, _raw("sums"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert trailers["modelyard-code"] == "internal"
    assert "secret" not in str(error.details())
    reference = str(error.details()).rsplit(" ", 1)[-1]
    (record,) = caplog.records
    assert reference in record.getMessage()
    assert record.exc_info is not None


def test_a_missing_output_is_our_fault(infer: Infer) -> None:
    """A model that breaks its own signature is INTERNAL, not the caller's doing."""
    error, trailers = _error(infer, _raw("crash", x=np.ones(1, np.float32)))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert trailers["modelyard-code"] == "missing_output"


def test_how_a_call_ended_is_its_status(infer: Infer, running: Running, monkeypatch: Any) -> None:
    """An error that the exchange ends the call with comes out as its own status."""
    monkeypatch.setattr(
        running.exchange, "submit", lambda call: call.fail(Exhausted("queue_full", "come later"))
    )
    error, trailers = _error(infer, _raw("sums", a=ONE, b=ONE))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "come later"
    assert trailers["modelyard-code"] == "queue_full"


def _held(running: Running) -> Call:
    """The next call that reaches the model which never answers by itself."""
    assert running.exchange.arrived.acquire(timeout=10)
    return running.exchange.held["held"].pop()


def _watch(running: Running, call: Call) -> threading.Event:
    """An event that is set when the call has been settled."""
    settled = threading.Event()
    call.settle = lambda _: settled.set()
    return settled


def test_a_cancelled_rpc_cancels_its_call(infer: Infer, running: Running) -> None:
    """When the caller cancels, the call ends at once and is settled as cancelled."""
    rpc = infer.future(_raw("held", x=np.ones(1, np.float32)))
    call = _held(running)
    settled = _watch(running, call)
    rpc.cancel()
    assert settled.wait(10)
    assert call.outcome is Outcome.CANCELLED


def test_a_caller_that_goes_away_cancels_its_call(running: Running) -> None:
    """A connection that closes under a call ends it, so that nothing runs for nobody."""
    channel = grpc.insecure_channel(running.address)
    rpc = _method(channel, "ModelInfer").future(_raw("held", x=np.ones(1, np.float32)))
    call = _held(running)
    settled = _watch(running, call)
    channel.close()
    assert settled.wait(10)
    assert call.outcome is Outcome.CANCELLED
    assert rpc.code() is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("timeout_s", [0.4, 1.0, 1.234])
def test_a_deadline_reaches_the_call(infer: Infer, running: Running, timeout_s: float) -> None:
    """The RPC's deadline is the call's, and a call that misses it is settled as timed out."""
    before = time.monotonic_ns()
    rpc = infer.future(_raw("held", x=np.ones(1, np.float32)), timeout=timeout_s)
    call = _held(running)
    settled = _watch(running, call)
    assert call.deadline_ns is not None
    assert 0 < call.deadline_ns - before < 2e9
    assert rpc.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert settled.wait(10)
    assert call.outcome is Outcome.TIMEOUT


def test_without_a_deadline_the_call_has_none(infer: Infer, running: Running) -> None:
    """A caller that waits for ever may."""
    rpc = infer.future(_raw("held", x=np.ones(1, np.float32)))
    call = _held(running)
    assert call.deadline_ns is None
    running.loop.call_soon_threadsafe(call.answer, {"y": np.ones(1, np.float32)})
    assert _read_raw(rpc.result(10)).tolist() == [1.0]


def test_the_timeout_parameter_is_a_deadline(infer: Infer, running: Running) -> None:
    """Triton's `timeout`, in microseconds, is a deadline of its own; the earlier one counts."""
    request = _raw("held", x=np.ones(1, np.float32))
    request.parameters["timeout"].int64_param = 200_000
    before = time.monotonic_ns()
    rpc = infer.future(request, timeout=60)
    call = _held(running)
    assert call.deadline_ns is not None
    assert call.deadline_ns - before < 30e9
    rpc.cancel()


def test_concurrent_calls_each_get_their_own_answer(running: Running) -> None:
    """A thousand calls at once, answered in another order than they came, are not mixed up."""

    async def one(infer: Any, number: int) -> None:
        rows = np.full((1 + number % 3, 2), number, np.float32)
        request = _raw("sums", a=rows, b=rows) if number % 2 else _typed("sums", a=rows, b=rows)
        request.id = str(number)
        response = await infer(request)
        assert response.id == str(number)
        if number % 2:
            total = _read_raw(response).tolist()
        else:
            total = list(response.outputs[0].contents.fp32_contents)
        assert total == [4.0 * number] * (1 + number % 3)

    async def all_at_once() -> None:
        async with grpc.aio.insecure_channel(running.address) as channel:
            infer = _method(channel, "ModelInfer")
            await asyncio.gather(*(one(infer, number) for number in range(1000)))

    running.run(all_at_once())


def test_a_port_that_is_taken_is_refused(
    running: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    """A second server on the same port is refused, instead of taking half of its calls."""
    port = int(running.address.rpartition(":")[2])
    second = GrpcServer(
        running.exchange,
        access=OpenAccess(),
        host="127.0.0.1",
        port=port,
        max_message_bytes=MAX_MESSAGE_BYTES,
    )
    with pytest.raises(Unavailable, match=r"Address already in use.*--grpc-port"):
        running.run(second.start())
    assert capfd.readouterr().err == ""


def test_an_address_of_another_machine_is_refused(running: Running) -> None:
    """A host that is not this machine's, or no host at all, is the same clear error."""
    for host in ("192.0.2.1", "no.such.host.invalid"):
        server = GrpcServer(
            running.exchange, access=OpenAccess(), host=host, port=0, max_message_bytes=1024
        )
        with pytest.raises(Unavailable, match="cannot listen") as refused:
            running.run(server.start())
        assert refused.value.field == "grpc_port"


def test_stop_waits_for_calls_that_run(running: Running) -> None:
    """A stopping server answers what runs and what was on its way, then takes no connection."""
    exchange = NumpyExchange(dict(running.exchange.models), {"held": []})

    async def scene() -> tuple[list[float], list[float], grpc.StatusCode]:
        server = GrpcServer(
            exchange,
            access=OpenAccess(),
            host="127.0.0.1",
            port=0,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        address = f"127.0.0.1:{await server.start()}"
        async with grpc.aio.insecure_channel(address) as channel:
            infer = _method(channel, "ModelInfer")
            rpc = infer(_raw("held", x=np.array([7], np.float32)))
            await asyncio.to_thread(exchange.arrived.acquire)
            on_its_way = infer(_raw("constant"))
            stopping = asyncio.create_task(server.stop(10))
            racing = _read_raw(await on_its_way).tolist()
            assert not stopping.done()
            call = exchange.held["held"].pop()
            call.answer({"y": call.inputs["x"]})
            answer = _read_raw(await rpc).tolist()
            await stopping
            await server.stop(0)
        late = grpc.StatusCode.OK
        try:
            async with grpc.aio.insecure_channel(address) as second:
                await _method(second, "ModelInfer")(_raw("constant"), timeout=5)
        except grpc.aio.AioRpcError as error:
            late = error.code()
        return answer, racing, late

    answer, racing, late = running.run(scene())
    assert answer == [7.0]
    assert racing == [1.0]
    assert late is grpc.StatusCode.UNAVAILABLE


def test_stop_cuts_off_what_does_not_end(running: Running) -> None:
    """Past its grace a call that never ends is cancelled, and its caller told."""
    exchange = NumpyExchange(dict(running.exchange.models), {"held": []})

    async def scene() -> tuple[Outcome | None, grpc.StatusCode]:
        server = GrpcServer(
            exchange,
            access=OpenAccess(),
            host="127.0.0.1",
            port=0,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        address = f"127.0.0.1:{await server.start()}"
        async with grpc.aio.insecure_channel(address) as channel:
            rpc = _method(channel, "ModelInfer")(_raw("held", x=np.array([7], np.float32)))
            await asyncio.to_thread(exchange.arrived.acquire)
            await server.stop(0.1)
            return exchange.held["held"].pop().outcome, await rpc.code()

    outcome, code = running.run(scene())
    assert outcome is Outcome.CANCELLED
    assert code is grpc.StatusCode.UNAVAILABLE


def test_the_repository_lists_every_version(channel: grpc.Channel) -> None:
    """The index names what answers and what does not, with the reason; `ready` filters."""
    index = _method(channel, "RepositoryIndex")
    lines = {line.name: line for line in index(messages.RepositoryIndexRequest()).models}
    assert (lines["sums"].version, lines["sums"].state) == ("3", "READY")
    assert (lines["absent"].state, lines["absent"].reason) == ("UNAVAILABLE", "no such file")
    ready = index(messages.RepositoryIndexRequest(ready=True)).models
    assert {line.name for line in ready} == set(lines) - {"absent"}


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_nothing_is_loaded_without_a_registry(channel: grpc.Channel, method: str) -> None:
    """A server that follows none says so."""
    request = getattr(messages, f"{method}Request")(model_name="sums")
    error, trailers = _error(_method(channel, method), request)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert trailers["modelyard-code"] == "no_operations"


def test_rpcs_that_we_lack_are_unimplemented(channel: grpc.Channel) -> None:
    """An RPC of the published service that is not here says so."""
    error, _ = _error(channel.unary_unary(f"/{messages.SERVICE}/TraceSetting"), b"")
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_refused_request_is_not_kept(infer: Infer) -> None:
    """gRPC keeps a refusal until the garbage collector comes by, but not the request with it."""
    request = _raw("nothing", x=np.zeros((1, 2), np.float32))

    def refuse() -> None:
        with pytest.raises(grpc.RpcError):
            infer(request, timeout=10)

    def kept() -> int:
        return sum(isinstance(each, ModelInferRequest) for each in gc.get_objects())

    refuse()
    gc.collect()
    before = kept()
    gc.disable()
    try:
        for _ in range(20):
            refuse()
        assert kept() <= before + 2
    finally:
        gc.enable()


def test_a_connection_that_another_accepted_is_served(running: Running) -> None:
    """A server takes connections from whoever has them."""

    async def scene() -> list[float]:
        server = GrpcServer(
            running.exchange,
            access=OpenAccess(),
            host="127.0.0.1",
            port=None,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        await server.start()
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            rpc = _method(channel, "ModelInfer")(_raw("constant"))
            accepted, _ = await asyncio.to_thread(listener.accept)
            server.adopt(accepted)
            answer = _read_raw(await rpc).tolist()
        listener.close()
        await server.stop(1)
        return answer

    assert running.run(scene()) == [1.0]
