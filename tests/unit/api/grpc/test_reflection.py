"""Server reflection, asked with gRPC's own client and by hand."""

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from modelyard.api.grpc import messages


@pytest.fixture
def database(channel: grpc.Channel) -> ProtoReflectionDescriptorDatabase:
    return ProtoReflectionDescriptorDatabase(channel)


def test_every_service_is_listed(database: Any) -> None:
    """What a tool like grpcurl shows first."""
    assert set(database.get_services()) == {
        messages.SERVICE,
        messages.HEALTH,
        messages.REFLECTION,
    }


def test_services_and_messages_are_described(database: Any) -> None:
    """A tool that knows nothing can make the messages of a call from what it is told."""
    pool = DescriptorPool(database)
    service = pool.FindServiceByName(messages.SERVICE)
    infer = service.methods_by_name["ModelStreamInfer"]
    assert infer.client_streaming
    assert infer.server_streaming
    assert infer.input_type.full_name == "inference.ModelInferRequest"
    assert pool.FindServiceByName(messages.HEALTH).methods_by_name["Watch"].server_streaming
    assert pool.FindFileByName("health.proto").package == "grpc.health.v1"


def test_what_is_unknown_is_said_and_the_stream_goes_on(channel: grpc.Channel) -> None:
    """An unknown symbol, file or extension is an answer of its own, not the stream's end."""
    ask = reflection_pb2.ServerReflectionRequest
    extension = reflection_pb2.ExtensionRequest(containing_type="a.B", extension_number=1)
    asked = [
        ask(host="h", file_containing_symbol="a.B"),
        ask(file_by_filename="a.proto"),
        ask(file_containing_extension=extension),
        ask(),
        ask(file_containing_symbol=messages.SERVICE),
    ]
    answers = list(
        reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter(asked))
    )
    assert [each.error_response.error_code for each in answers] == [5, 5, 5, 5, 0]
    assert answers[0].original_request == asked[0]
    assert answers[0].valid_host == "h"
    assert answers[4].file_descriptor_response.file_descriptor_proto
