"""The gRPC server: binds, turns bytes into requests, and errors into statuses."""

import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError, Message

from modelyard.api.grpc import messages
from modelyard.api.grpc.errors import STATUSES, details, trailers
from modelyard.api.grpc.service import InferenceService
from modelyard.core.errors import Internal, Invalid, ModelyardError, Unavailable
from modelyard.core.ports import Exchange

_log: Final = logging.getLogger(__name__)
_FAILED: Final = "the server failed to answer; its log has the reason under {}"
_Handler = Callable[[bytes, Any], Awaitable[bytes]]


class GrpcServer:
    """Serves one exchange on the running loop. The loop must be the exchange's own."""

    def __init__(self, exchange: Exchange, *, host: str, port: int, max_message_bytes: int) -> None:
        self._exchange = exchange
        self._host = host
        self._port = port
        self._max_message_bytes = max_message_bytes
        self._server: Any = None

    async def start(self) -> int:
        """Bind and serve; returns the bound port. Raises `Unavailable` where it cannot bind."""
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._max_message_bytes),
                # An answer is as large as the model makes it.
                ("grpc.max_send_message_length", -1),
                # Two servers on one port would share its calls in silence.
                ("grpc.so_reuseport", 0),
            ]
        )
        server.add_generic_rpc_handlers([_handlers(InferenceService(self._exchange))])
        _check_address(self._host, self._port)
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            port: int = server.add_insecure_port(f"{host}:{self._port}")
        except RuntimeError as error:
            raise _cannot_listen(self._host, self._port, str(error)) from None
        await server.start()
        self._server = server
        return port

    async def stop(self, grace_s: float) -> None:
        """Take no new call, wait for those that run, and cancel what is left after `grace_s`."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_s)


def _check_address(host: str, port: int) -> None:
    # gRPC would say no more than that it failed, and write a line of its own to the terminal.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        # What getaddrinfo raises is an OSError with a number below zero and words of its own.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise _cannot_listen(host, port, why) from None


def _cannot_listen(host: str, port: int, why: str) -> Unavailable:
    return Unavailable(
        "address_in_use",
        f"gRPC cannot listen on {host}:{port} ({why}); "
        "take another --grpc-port, or 0 for a free one",
        field="grpc_port",
    )


def _handlers(service: InferenceService) -> "grpc.GenericRpcHandler":
    methods: dict[str, tuple[type[Message], Callable[..., Awaitable[Message]]]] = {
        "ServerLive": (messages.ServerLiveRequest, service.server_live),
        "ServerReady": (messages.ServerReadyRequest, service.server_ready),
        "ServerMetadata": (messages.ServerMetadataRequest, service.server_metadata),
        "ModelReady": (messages.ModelReadyRequest, service.model_ready),
        "ModelMetadata": (messages.ModelMetadataRequest, service.model_metadata),
        "ModelInfer": (messages.ModelInferRequest, service.model_infer),
        "RepositoryIndex": (messages.RepositoryIndexRequest, service.repository_index),
        "RepositoryModelLoad": (messages.RepositoryModelLoadRequest, service.repository_model_load),
        "RepositoryModelUnload": (
            messages.RepositoryModelUnloadRequest,
            service.repository_model_unload,
        ),
    }
    return grpc.method_handlers_generic_handler(
        messages.SERVICE,
        {
            # Bytes in and bytes out: gRPC's own (de)serialisers answer a message that cannot be
            # read with INTERNAL, as if it were our fault.
            name: grpc.unary_unary_rpc_method_handler(_handler(request, answer))
            for name, (request, answer) in methods.items()
        },
    )


def _handler(request: type[Message], answer: Callable[..., Awaitable[Message]]) -> _Handler:
    async def handle(data: bytes, context: Any) -> bytes:
        try:
            return (await answer(_parse(request, data), context)).SerializeToString()
        except ModelyardError as error:
            refusal = error
        except Exception:  # noqa: BLE001 - whatever it is, the caller learns nothing but its number
            reference = os.urandom(8).hex()
            _log.exception("gRPC call %s failed", reference)
            refusal = Internal("internal", _FAILED.format(reference))
        # gRPC keeps what abort raises, with its frames, until the garbage collector comes by: the
        # request and its tensors must not hang on it.
        del data
        refusal.__traceback__ = refusal.__context__ = None
        await context.abort(STATUSES[refusal.kind], details(refusal), trailers(refusal))
        raise AssertionError("abort always raises")

    return handle


def _parse(request: type[Message], data: bytes) -> Message:
    try:
        return request.FromString(data)
    except DecodeError:
        raise Invalid(
            "bad_message", f"the message is not a {request.DESCRIPTOR.full_name}"
        ) from None
