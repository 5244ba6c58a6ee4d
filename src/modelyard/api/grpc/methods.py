"""Which path of the wire is which RPC."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from google.protobuf.message import Message

from modelyard.api.asks import PUBLIC, Asks
from modelyard.api.grpc import messages
from modelyard.api.grpc.connection import Method
from modelyard.api.grpc.health import HealthWatch, check_health
from modelyard.api.grpc.inference import ModelInfer, ModelStreamInfer
from modelyard.api.grpc.reflection import ALPHA, Reflection
from modelyard.api.grpc.service import InferenceService
from modelyard.api.grpc.unary import Function
from modelyard.core.identity import Verb
from modelyard.core.ports import Exchange, Operations

_CALL: Final = Verb.CALL


def make_methods(exchange: Exchange, operations: Operations | None) -> Mapping[bytes, Method]:
    """Every method that is served, by the path that it is called by."""
    service = InferenceService(exchange, operations)
    functions: dict[str, tuple[Asks, str, type[Message], Callable[..., Any]]] = {
        "ServerLive": (PUBLIC, "", messages.ServerLiveRequest, service.server_live),
        "ServerReady": (PUBLIC, "", messages.ServerReadyRequest, service.server_ready),
        "ServerMetadata": (_CALL, "", messages.ServerMetadataRequest, service.server_metadata),
        "ModelReady": (_CALL, "name", messages.ModelReadyRequest, service.model_ready),
        "ModelMetadata": (_CALL, "name", messages.ModelMetadataRequest, service.model_metadata),
        "ModelConfig": (_CALL, "name", messages.ModelConfigRequest, service.model_config),
        "ModelStatistics": (
            _CALL,
            "name",
            messages.ModelStatisticsRequest,
            service.model_statistics,
        ),
        "RepositoryIndex": (_CALL, "", messages.RepositoryIndexRequest, service.repository_index),
        "RepositoryModelLoad": (
            Verb.DEPLOY,
            "model_name",
            messages.RepositoryModelLoadRequest,
            service.repository_model_load,
        ),
        "RepositoryModelUnload": (
            Verb.DEPLOY,
            "model_name",
            messages.RepositoryModelUnloadRequest,
            service.repository_model_unload,
        ),
    }
    methods = {
        _path(messages.SERVICE, name): Method(row[0], partial(Function, *row))
        for name, row in functions.items()
    }
    methods |= {
        _path(messages.SERVICE, "ModelInfer"): Method(_CALL, partial(ModelInfer, exchange)),
        _path(messages.SERVICE, "ModelStreamInfer"): Method(
            _CALL, partial(ModelStreamInfer, exchange)
        ),
        _path(messages.HEALTH, "Check"): Method(
            PUBLIC,
            partial(
                Function, PUBLIC, "", messages.HealthCheckRequest, partial(check_health, exchange)
            ),
        ),
        _path(messages.HEALTH, "Watch"): Method(PUBLIC, partial(HealthWatch, exchange)),
    }
    for reflection in (messages.REFLECTION, ALPHA):
        methods[_path(reflection, "ServerReflectionInfo")] = Method(_CALL, Reflection)
    return methods


def _path(service: str, method: str) -> bytes:
    return f"/{service}/{method}".encode()
