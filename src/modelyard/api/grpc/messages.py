"""The messages of the Open Inference Protocol, of gRPC's health checks and of its reflection.

They live in a descriptor pool of their own: `tritonclient` registers the same names in protobuf's
default pool, and both must fit in one process (docs/decisions/0004). The generated stubs tell
type checkers of the classes, which are made here when this is imported.
"""

from typing import TYPE_CHECKING, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from modelyard.api.grpc.generated import health_pb2, open_inference_pb2, reflection_pb2

__all__ = [
    "HEALTH",
    "POOL",
    "REFLECTION",
    "SERVICE",
    "ErrorResponse",
    "ExtensionNumberResponse",
    "ExtensionRequest",
    "FileDescriptorResponse",
    "HealthCheckRequest",
    "HealthCheckResponse",
    "InferBatchStatistics",
    "InferStatistics",
    "InferTensorContents",
    "ListServiceResponse",
    "ModelConfig",
    "ModelConfigRequest",
    "ModelConfigResponse",
    "ModelInferRequest",
    "ModelInferResponse",
    "ModelInput",
    "ModelMetadataRequest",
    "ModelMetadataResponse",
    "ModelOutput",
    "ModelReadyRequest",
    "ModelReadyResponse",
    "ModelStatistics",
    "ModelStatisticsRequest",
    "ModelStatisticsResponse",
    "ModelStreamInferResponse",
    "RepositoryIndexRequest",
    "RepositoryIndexResponse",
    "RepositoryModelLoadRequest",
    "RepositoryModelLoadResponse",
    "RepositoryModelUnloadRequest",
    "RepositoryModelUnloadResponse",
    "ServerLiveRequest",
    "ServerLiveResponse",
    "ServerMetadataRequest",
    "ServerMetadataResponse",
    "ServerReadyRequest",
    "ServerReadyResponse",
    "ServerReflectionRequest",
    "ServerReflectionResponse",
    "ServiceResponse",
    "StatisticDuration",
]

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1.ServerReflection"
POOL: Final = DescriptorPool()
"""Every file that is served, for reflection."""

if TYPE_CHECKING:
    from modelyard.api.grpc.generated.health_pb2 import (
        HealthCheckRequest,
        HealthCheckResponse,
    )
    from modelyard.api.grpc.generated.open_inference_pb2 import (
        InferBatchStatistics,
        InferStatistics,
        InferTensorContents,
        ModelConfig,
        ModelConfigRequest,
        ModelConfigResponse,
        ModelInferRequest,
        ModelInferResponse,
        ModelInput,
        ModelMetadataRequest,
        ModelMetadataResponse,
        ModelOutput,
        ModelReadyRequest,
        ModelReadyResponse,
        ModelStatistics,
        ModelStatisticsRequest,
        ModelStatisticsResponse,
        ModelStreamInferResponse,
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
        StatisticDuration,
    )
    from modelyard.api.grpc.generated.reflection_pb2 import (
        ErrorResponse,
        ExtensionNumberResponse,
        ExtensionRequest,
        FileDescriptorResponse,
        ListServiceResponse,
        ServerReflectionRequest,
        ServerReflectionResponse,
        ServiceResponse,
    )
else:
    for _compiled in (open_inference_pb2, health_pb2, reflection_pb2):
        for _file in FileDescriptorSet.FromString(_compiled.DESCRIPTOR_SET).file:
            POOL.AddSerializedFile(_file.SerializeToString())
            globals().update(
                (
                    message.name,
                    GetMessageClass(POOL.FindMessageTypeByName(f"{_file.package}.{message.name}")),
                )
                for message in _file.message_type
            )
