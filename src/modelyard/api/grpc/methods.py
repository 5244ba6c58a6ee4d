"""Which path of the wire is which RPC."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from google.protobuf.message import Message

from modelyard.api.grpc import messages
from modelyard.api.grpc.connection import Open
from modelyard.api.grpc.health import Health, HealthWatch
from modelyard.api.grpc.inference import ModelInfer, ModelStreamInfer
from modelyard.api.grpc.reflection import ALPHA, Reflection
from modelyard.api.grpc.service import InferenceService
from modelyard.api.grpc.unary import Function
from modelyard.core.ports import Exchange, Operations


def make_methods(
    exchange: Exchange, operations: Operations | None, *, may_change: bool
) -> Mapping[bytes, Open]:
    """Every method that is served, by the path that it is called by."""
    service = InferenceService(exchange, operations, may_change=may_change)
    functions: dict[str, tuple[type[Message], Callable[[Any], Any]]] = {
        "ServerLive": (messages.ServerLiveRequest, service.server_live),
        "ServerReady": (messages.ServerReadyRequest, service.server_ready),
        "ServerMetadata": (messages.ServerMetadataRequest, service.server_metadata),
        "ModelReady": (messages.ModelReadyRequest, service.model_ready),
        "ModelMetadata": (messages.ModelMetadataRequest, service.model_metadata),
        "ModelConfig": (messages.ModelConfigRequest, service.model_config),
        "ModelStatistics": (messages.ModelStatisticsRequest, service.model_statistics),
        "RepositoryIndex": (messages.RepositoryIndexRequest, service.repository_index),
        "RepositoryModelLoad": (messages.RepositoryModelLoadRequest, service.repository_model_load),
        "RepositoryModelUnload": (
            messages.RepositoryModelUnloadRequest,
            service.repository_model_unload,
        ),
    }
    methods: dict[bytes, Open] = {
        _path(messages.SERVICE, name): partial(Function, request, answer)
        for name, (request, answer) in functions.items()
    }
    methods |= {
        _path(messages.SERVICE, "ModelInfer"): partial(ModelInfer, exchange),
        _path(messages.SERVICE, "ModelStreamInfer"): partial(ModelStreamInfer, exchange),
        _path(messages.HEALTH, "Check"): partial(
            Function, messages.HealthCheckRequest, Health(exchange).check
        ),
        _path(messages.HEALTH, "Watch"): partial(HealthWatch, exchange),
    }
    for reflection in (messages.REFLECTION, ALPHA):
        methods[_path(reflection, "ServerReflectionInfo")] = Reflection
    return methods


def _path(service: str, method: str) -> bytes:
    return f"/{service}/{method}".encode()
