"""The protocol's RPCs, each a function from its request to its answer, over one exchange."""

import asyncio
import importlib.metadata
import time
from typing import Final

import grpc

from modelyard.api.grpc import messages
from modelyard.api.grpc.infer import InferCodec
from modelyard.api.grpc.messages import (
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    RepositoryModelLoadRequest,
    RepositoryModelLoadResponse,
    RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse,
    ServerLiveRequest,
    ServerLiveResponse,
    ServerMetadataRequest,
    ServerMetadataResponse,
    ServerReadyRequest,
    ServerReadyResponse,
)
from modelyard.core.call import Call
from modelyard.core.errors import Denied, NotFound, TimedOut, Unavailable
from modelyard.core.ports import Exchange, Served
from modelyard.core.signature import TensorSpec

_WAY_NS: Final = 50_000_000
_EXTENSIONS: Final = ("model_repository",)


class InferenceService:
    """Answers each RPC, or raises an error of ours; every method runs on the exchange's loop."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def model_infer(
        self, request: ModelInferRequest, context: "grpc.aio.ServicerContext[bytes, bytes]"
    ) -> ModelInferResponse:
        """Make the call, bring it to the exchange, and wait until it has ended."""
        served = self._exchange.find(request.model_name, request.model_version or None)
        codec = _codec(served)
        wanted = codec.wanted(request)
        arrays = codec.read(request)
        rows = served.signature.check(arrays)
        deadline_ns = _deadline_ns(request, context)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def reply(_: Call) -> None:
            if not ended.done():
                ended.set_result(None)

        call = Call(served, arrays, rows, reply, deadline_ns)
        self._exchange.submit(call)
        try:
            await ended
        except asyncio.CancelledError:
            # gRPC cancels the handler alike when the caller goes away and when its time is up.
            if _is_out_of_time(call):
                call.fail(TimedOut("deadline", "the call's deadline passed before its answer"))
            else:
                call.cancel()
            raise
        if call.error is not None:
            raise call.error
        return codec.write(wanted, call.outputs or {})

    async def model_ready(self, request: ModelReadyRequest, _: object) -> ModelReadyResponse:
        """Whether a model answers; one that is not here does not."""
        try:
            self._exchange.find(request.name, request.version or None)
        except (NotFound, Unavailable):
            return ModelReadyResponse(ready=False)
        return ModelReadyResponse(ready=True)

    async def model_metadata(
        self, request: ModelMetadataRequest, _: object
    ) -> ModelMetadataResponse:
        """What a model takes and gives."""
        served = self._exchange.find(request.name, request.version or None)
        versions = {
            listing.version
            for listing in self._exchange.listings()
            if listing.model == served.model and listing.ready
        }
        return ModelMetadataResponse(
            name=served.model,
            versions=[str(version) for version in sorted(versions | {served.version})],
            platform=served.platform,
            inputs=[_metadata(spec) for spec in served.signature.inputs],
            outputs=[_metadata(spec) for spec in served.signature.outputs],
        )

    async def server_live(self, _: ServerLiveRequest, __: object) -> ServerLiveResponse:
        """Whether the process answers: it just did."""
        return ServerLiveResponse(live=True)

    async def server_ready(self, _: ServerReadyRequest, __: object) -> ServerReadyResponse:
        """Whether this node serves what the registry asks of it."""
        return ServerReadyResponse(ready=self._exchange.is_ready())

    async def server_metadata(self, _: ServerMetadataRequest, __: object) -> ServerMetadataResponse:
        """Name and version of the server."""
        return ServerMetadataResponse(
            name="modelyard",
            version=importlib.metadata.version("modelyard"),
            extensions=_EXTENSIONS,
        )

    async def repository_index(
        self, request: RepositoryIndexRequest, _: object
    ) -> RepositoryIndexResponse:
        """Every version that is routed here."""
        return RepositoryIndexResponse(
            models=[
                RepositoryIndexResponse.ModelIndex(
                    name=listing.model,
                    version=str(listing.version),
                    state="READY" if listing.ready else "UNAVAILABLE",
                    reason=listing.reason,
                )
                for listing in self._exchange.listings()
                if listing.ready or not request.ready
            ]
        )

    async def repository_model_load(
        self, request: RepositoryModelLoadRequest, _: object
    ) -> RepositoryModelLoadResponse:
        """Refused: a route is changed in the registry."""
        raise _routes_are_deployed(request.model_name)

    async def repository_model_unload(
        self, request: RepositoryModelUnloadRequest, _: object
    ) -> RepositoryModelUnloadResponse:
        """Refused: a route is changed in the registry."""
        raise _routes_are_deployed(request.model_name)


def _codec(served: Served) -> InferCodec:
    codec: InferCodec | None = served.cache.get(messages.SERVICE)
    if codec is None:
        codec = served.cache[messages.SERVICE] = InferCodec(served)
    return codec


def _metadata(spec: TensorSpec) -> ModelMetadataResponse.TensorMetadata:
    return ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype, shape=spec.shape
    )


def _deadline_ns(
    request: ModelInferRequest, context: "grpc.aio.ServicerContext[bytes, bytes]"
) -> int | None:
    """The earlier of gRPC's deadline and Triton's `timeout` parameter, in microseconds."""
    left_s: float | None = context.time_remaining()
    if "timeout" in request.parameters:
        timeout_us = request.parameters["timeout"].int64_param
        if timeout_us > 0:
            left_s = min(timeout_us / 1e6, float("inf") if left_s is None else left_s)
    return None if left_s is None else time.monotonic_ns() + int(left_s * 1e9)


def _is_out_of_time(call: Call) -> bool:
    # The caller resets the stream at its own deadline, which lies before ours: by the request's
    # way here, and by up to a hundredth because gRPC rounds timeouts up on the wire.
    if call.deadline_ns is None:
        return False
    allowed_ns = call.deadline_ns - call.started_ns
    return time.monotonic_ns() >= call.deadline_ns - allowed_ns // 50 - _WAY_NS


def _routes_are_deployed(model: str) -> Denied:
    return Denied(
        "routes_are_deployed",
        f"what is served is changed in the registry: run 'modelyard deploy {model or 'MODEL'}'",
        field="model_name",
    )
