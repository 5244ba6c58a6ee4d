"""The messages of the Open Inference Protocol.

They live in a descriptor pool of their own: `tritonclient` registers the same names in protobuf's
default pool, and both must fit in one process (docs/decisions/0004). The generated stub tells
type checkers of the classes, which are made here when this is imported.
"""

from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from modelyard.api.grpc.generated.open_inference_pb2 import DESCRIPTOR_SET

__all__ = [
    "SERVICE",
    "InferTensorContents",
    "ModelInferRequest",
    "ModelInferResponse",
    "ModelMetadataRequest",
    "ModelMetadataResponse",
    "ModelReadyRequest",
    "ModelReadyResponse",
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
]

SERVICE = "inference.GRPCInferenceService"

if TYPE_CHECKING:
    from modelyard.api.grpc.generated.open_inference_pb2 import (
        InferTensorContents,
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
else:
    _pool = DescriptorPool()
    for _file in FileDescriptorSet.FromString(DESCRIPTOR_SET).file:
        _pool.AddSerializedFile(_file.SerializeToString())
        globals().update(
            (
                message.name,
                GetMessageClass(_pool.FindMessageTypeByName(f"inference.{message.name}")),
            )
            for message in _file.message_type
        )
