"""gRPC's server reflection, over the descriptor pool of our own that the messages live in."""

from typing import Final

from modelyard.api.grpc.errors import Status
from modelyard.api.grpc.messages import (
    HEALTH,
    POOL,
    REFLECTION,
    SERVICE,
    ErrorResponse,
    FileDescriptorResponse,
    ListServiceResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
    ServiceResponse,
)
from modelyard.api.grpc.rpc import Rpc
from modelyard.api.grpc.unary import parse
from modelyard.core.errors import Unavailable

ALPHA: Final = "grpc.reflection.v1alpha.ServerReflection"
"""What older tools call it; its messages are the same, number by number."""
_SERVICES: Final = (SERVICE, HEALTH, REFLECTION)


class Reflection(Rpc):
    """Answers each question of a stream: which services there are, and the files they are of."""

    __slots__ = ()

    def receive(self, message: bytes) -> None:
        """Answer one question."""
        self.send(reflect(parse(ServerReflectionRequest, message)).SerializeToString())

    def finish_reading(self) -> None:
        """End with the caller."""
        self.finish()

    def drain(self) -> None:
        """End: every question was answered when it came."""
        self.fail(Unavailable("stopping", "the server is stopping; ask another"))


def reflect(request: ServerReflectionRequest) -> ServerReflectionResponse:
    """The answer to one question; what is not known is said in the answer."""
    response = ServerReflectionResponse(valid_host=request.host, original_request=request)
    kind = request.WhichOneof("message_request")
    if kind == "list_services":
        services = [ServiceResponse(name=name) for name in _SERVICES]
        response.list_services_response.CopyFrom(ListServiceResponse(service=services))
        return response
    asked = getattr(request, kind) if kind else ""
    try:
        if kind == "file_by_filename":
            found = POOL.FindFileByName(asked)
        elif kind == "file_containing_symbol":
            found = POOL.FindFileContainingSymbol(asked)
        else:
            # Extensions are of proto2, and no file here is.
            raise KeyError(asked)
    except KeyError:
        response.error_response.CopyFrom(
            ErrorResponse(error_code=Status.NOT_FOUND, error_message=f"nothing here is '{asked}'")
        )
        return response
    # No file here imports another.
    response.file_descriptor_response.CopyFrom(
        FileDescriptorResponse(file_descriptor_proto=[found.serialized_pb])
    )
    return response
