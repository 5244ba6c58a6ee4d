"""Calls over gRPC: one to an RPC, or many on a stream."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from modelyard.api.grpc import messages
from modelyard.api.grpc.contents import length_delimited
from modelyard.api.grpc.errors import details
from modelyard.api.grpc.infer import InferCodec, Wanted
from modelyard.api.grpc.messages import (
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from modelyard.api.grpc.rpc import Rpc, Stream, as_ours
from modelyard.api.grpc.unary import Unary, parse
from modelyard.api.parameters import read_schedule
from modelyard.core.call import Call
from modelyard.core.errors import ModelyardError, TimedOut, Unauthenticated, Unavailable
from modelyard.core.ports import Exchange, Served

MAX_OPEN_CALLS: Final = 64
"""How many calls of one stream are open at once; its next message waits for the oldest answer."""
MAX_UNSENT_BYTES: Final = 1_048_576
"""A stream whose answers are not read takes no more requests past this."""
_WAY_NS: Final = 50_000_000
_PICKY_ERRORS: Final = b"triton_grpc_error"
_RESPONSE: Final = ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER


class ModelInfer(Unary):
    """One call: tensors in, tensors out."""

    __slots__ = ("_call", "_codec", "_exchange", "_wanted")

    def __init__(
        self,
        exchange: Exchange,
        stream: Stream,
        stream_id: int,
        metadata: Mapping[bytes, bytes],
    ) -> None:
        super().__init__(stream, stream_id, metadata)
        self._exchange = exchange
        self._call: Call | None = None

    def answer(self, message: bytes) -> None:
        """Make the call and bring it to the exchange."""
        caller = self.identify()
        request = parse(ModelInferRequest, message)
        permit = caller.permit(request.model_name)
        served = self._exchange.find(
            request.model_name, request.model_version or None, self.metadata
        )
        self._codec = codec_of(served)
        self._wanted = self._codec.wanted(request)
        self._call = make_call(served, self._codec, request, self.deadline_ns, self._reply)
        self._call.permit = permit
        self._exchange.submit(self._call)

    def _reply(self, call: Call) -> None:
        self._call = None
        if self.is_over:
            return
        if call.error is not None:
            self.fail(call.error)
            return
        try:
            answer = self._codec.write(self._wanted, call.outputs or {})
        except Exception as error:  # noqa: BLE001 - the caller must hear of every failure
            self.fail(as_ours(error))
        else:
            self.reply(answer)

    def abandon(self, *, is_lost: bool) -> None:
        """Nobody waits for the answer any more: end the call, waiting or not."""
        if self._call is not None:
            give_up(self._call, is_lost=is_lost)


class _Turn:
    """A request's place in the answers of its stream."""

    __slots__ = ("answer", "call")

    def __init__(self) -> None:
        self.call: Call | None = None
        self.answer: bytes | None = None


class ModelStreamInfer(Rpc):
    """Many calls on one stream, each by itself; answers leave in the order of their requests.

    Triton's servers keep that order for models that answer once, and its users rely on it. A call
    that fails is told in its turn, and the stream goes on, unless the caller asked by Triton's
    `triton_grpc_error` that it end.
    """

    __slots__ = ("_ends", "_exchange", "_is_closing", "_turns")

    def __init__(
        self,
        exchange: Exchange,
        stream: Stream,
        stream_id: int,
        metadata: Mapping[bytes, bytes],
    ) -> None:
        super().__init__(stream, stream_id, metadata)
        self._exchange = exchange
        self._turns: deque[_Turn] = deque()
        self._ends = False
        self._is_closing = False

    def receive(self, message: bytes) -> None:
        """Make the call of one request, and answer it in its turn."""
        turn = _Turn()
        self._turns.append(turn)
        request_id = ""
        try:
            # Anew for each: a stream may outlive the key that it was opened with.
            caller = self.identify()
            request = parse(ModelInferRequest, message)
            request_id = request.id
            permit = caller.permit(request.model_name)
            served = self._exchange.find(
                request.model_name, request.model_version or None, self.metadata
            )
            codec = codec_of(served)
            reply = partial(self._reply, turn, codec, codec.wanted(request))
            turn.call = make_call(served, codec, request, self.deadline_ns, reply)
            turn.call.permit = permit
            self._exchange.submit(turn.call)
        except Unauthenticated as error:
            self._break_off(error)
        except Exception as error:  # noqa: BLE001 - one request's failure is no other's
            self._refuse(turn, request_id, as_ours(error))
        if not self.is_over and not self._has_room():
            self.pause()

    def finish_reading(self) -> None:
        """End when the last answer has left."""
        self._ends = True
        self._send_ready()

    def _reply(self, turn: _Turn, codec: InferCodec, wanted: Wanted, call: Call) -> None:
        turn.call = None
        if self.is_over:
            return
        if call.error is not None:
            self._refuse(turn, wanted.id, call.error)
            return
        try:
            response = codec.write(wanted, call.outputs or {})
        except Exception as error:  # noqa: BLE001 - one request's failure is no other's
            self._refuse(turn, wanted.id, as_ours(error))
        else:
            self._settle(turn, length_delimited(_RESPONSE, response))

    def _refuse(self, turn: _Turn, request_id: str, error: ModelyardError) -> None:
        if self.metadata.get(_PICKY_ERRORS) == b"true":
            self._break_off(error)
            return
        answer = ModelStreamInferResponse(
            error_message=details(error), infer_response=ModelInferResponse(id=request_id)
        )
        self._settle(turn, answer.SerializeToString())

    def _break_off(self, error: ModelyardError) -> None:
        """End the stream, and every call that is open on it."""
        self.fail(error)
        self.abandon(is_lost=False)

    def _settle(self, turn: _Turn, answer: bytes) -> None:
        turn.answer = answer
        if self._turns and self._turns[0] is turn:
            self._send_ready()

    def _send_ready(self) -> None:
        turns = self._turns
        while turns and (answer := turns[0].answer) is not None:
            turns.popleft()
            self.send(answer)
        if not turns and (self._ends or self._is_closing):
            self._finish()
        elif self.is_paused:
            self.look_again()

    def _finish(self) -> None:
        if self._ends:
            self.finish()
        else:
            self.fail(Unavailable("stopping", "the server is stopping; open the stream anew"))

    def look_again(self) -> None:
        """Take more requests when answers have been read."""
        if self.is_paused and self._has_room():
            self.resume()

    def _has_room(self) -> bool:
        return (
            len(self._turns) < MAX_OPEN_CALLS and self.stream.unsent_bytes(self) < MAX_UNSENT_BYTES
        )

    def drain(self) -> None:
        """Answer what was taken, then end."""
        self._is_closing = True
        self._send_ready()

    def abandon(self, *, is_lost: bool) -> None:
        """Nobody waits for the answers any more: end every open call."""
        turns, self._turns = self._turns, deque()
        for turn in turns:
            if turn.call is not None:
                give_up(turn.call, is_lost=is_lost)


def codec_of(served: Served) -> InferCodec:
    """The codec of a served version, made once."""
    codec: InferCodec | None = served.cache.get(messages.SERVICE)
    if codec is None:
        codec = served.cache[messages.SERVICE] = InferCodec(served)
    return codec


def make_call(
    served: Served,
    codec: InferCodec,
    request: ModelInferRequest,
    deadline_ns: int | None,
    reply: Callable[[Call], None],
) -> Call:
    """The call that a request asks for; raises `Invalid`.

    Its deadline is the earlier of gRPC's and Triton's `timeout` parameter.
    """
    arrays = codec.read(request)
    rows = served.signature.check(arrays)
    if not request.parameters:
        return Call(served, arrays, rows, reply, deadline_ns)
    wishes = read_schedule(
        {name: _value(parameter) for name, parameter in request.parameters.items()}
    )
    if wishes is None:
        return Call(served, arrays, rows, reply, deadline_ns)
    if wishes.deadline_ns is not None:
        deadline_ns = min(wishes.deadline_ns, deadline_ns or wishes.deadline_ns)
    return Call(served, arrays, rows, reply, deadline_ns, wishes.priority, wishes.parameters)


def _value(parameter: Any) -> bool | int | float | str | None:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)


def give_up(call: Call, *, is_lost: bool) -> None:
    """End a call that nobody waits for: its caller is lost, or was out of time, or cancelled."""
    if is_lost:
        call.abandon()
    elif _is_out_of_time(call):
        call.fail(TimedOut("deadline", "the call's deadline passed before its answer"))
    else:
        call.cancel()


def _is_out_of_time(call: Call) -> bool:
    # The caller resets the stream at its own deadline, which lies before ours: by the request's
    # way here, and by up to a hundredth because gRPC rounds timeouts up on the wire.
    if call.deadline_ns is None:
        return False
    allowed_ns = call.deadline_ns - call.started_ns
    return time.monotonic_ns() >= call.deadline_ns - allowed_ns // 50 - _WAY_NS
