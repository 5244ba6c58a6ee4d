"""The compiled protocol."""

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from tritonclient.grpc import model_config_pb2, service_pb2

from modelyard.api.grpc import messages
from modelyard.api.grpc.generate import generate

OURS: FileDescriptor = messages.ModelInferRequest.DESCRIPTOR.file
THEIRS: FileDescriptor = service_pb2.DESCRIPTOR
CONFIG: FileDescriptor = model_config_pb2.DESCRIPTOR


def _facts(field: FieldDescriptor) -> tuple[object, ...]:
    message = field.message_type.full_name if field.message_type else None
    oneof = field.containing_oneof.name if field.containing_oneof else None
    return field.name, field.number, field.type, field.is_repeated, message, oneof


def test_the_generated_files_are_up_to_date() -> None:
    """Compiling the `.proto` files again gives exactly what is committed."""
    for path, text in generate().items():
        assert path.read_text("utf-8") == text, f"{path.name} is stale: run `make proto`"


# The few fields of these that are true here: what has no answer is left out.
PARTIAL = {
    "ModelConfig",
    "ModelInput",
    "ModelOutput",
    "ModelStatistics",
    "InferStatistics",
    "InferBatchStatistics",
}


def _published(name: str) -> Descriptor:
    return THEIRS.message_types_by_name.get(name) or CONFIG.message_types_by_name[name]


def test_every_message_has_the_published_fields() -> None:
    """Names, numbers, types and oneofs are those that Triton's client was generated from."""
    for name, ours in OURS.message_types_by_name.items():
        stack = [(ours, _published(name))]
        while stack:
            mine, published = stack.pop()
            facts = [_facts(field) for field in published.fields]
            if mine.name in PARTIAL:
                assert all(_facts(field) in facts for field in mine.fields), mine.full_name
                continue
            assert [_facts(field) for field in mine.fields] == facts, mine.full_name
            assert [nested.name for nested in mine.nested_types] == [
                nested.name for nested in published.nested_types
            ]
            stack += zip(mine.nested_types, published.nested_types, strict=True)


def test_every_data_type_has_the_published_number() -> None:
    """What a model's configuration calls its datatypes is what Triton's clients know."""
    theirs = CONFIG.enum_types_by_name["DataType"].values_by_name
    for value in OURS.enum_types_by_name["DataType"].values:
        assert theirs[value.name].number == value.number


def test_every_rpc_has_the_published_messages() -> None:
    """Each RPC takes and gives what the published service of the same name does."""
    ours = OURS.services_by_name["GRPCInferenceService"]
    theirs = THEIRS.services_by_name["GRPCInferenceService"]
    assert ours.full_name == theirs.full_name == messages.SERVICE
    for method in ours.methods:
        published = theirs.methods_by_name[method.name]
        assert method.input_type.full_name == published.input_type.full_name
        assert method.output_type.full_name == published.output_type.full_name


def test_the_pool_is_our_own() -> None:
    """Both this package and tritonclient define `inference.ModelInferRequest` in one process."""
    ours, theirs = messages.ModelInferRequest, service_pb2.ModelInferRequest
    assert OURS.pool is not THEIRS.pool
    assert ours is not theirs
    sent = theirs(model_name="churn", id="7").SerializeToString()
    assert ours.FromString(sent) == ours(model_name="churn", id="7")
