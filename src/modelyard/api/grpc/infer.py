"""`ModelInfer` to a call's arrays, and a call's outputs to its answer. No I/O, no waiting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from modelyard.api.grpc.contents import has_contents, read_contents, write_contents
from modelyard.api.grpc.messages import ModelInferRequest, ModelInferResponse
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Internal, Invalid
from modelyard.core.ports import Served
from modelyard.core.signature import Signature
from modelyard.core.tensors import check_shape, from_raw, to_raw

_DATATYPES: Final[Mapping[str, Datatype]] = {str(datatype): datatype for datatype in Datatype}
_UNSUPPORTED: Final = {
    "shared_memory_region": "tensors travel in the message here, not in shared memory",
    "classification": "ask for the output itself, not for its classification",
}


def read_inputs(request: ModelInferRequest) -> dict[str, Array]:
    """The request's tensors by name, raw or typed; raises `Invalid` naming the tensor."""
    tensors, raw = request.inputs, request.raw_input_contents
    if raw and len(raw) != len(tensors):
        raise Invalid(
            "wrong_raw_contents",
            f"raw_input_contents has {len(raw)} entries for {len(tensors)} inputs; "
            "send one for each input, in their order",
            field="raw_input_contents",
        )
    arrays: dict[str, Array] = {}
    for index, tensor in enumerate(tensors):
        name = tensor.name
        if name in arrays:
            raise Invalid("repeated_input", f"input '{name}' is there twice", field=name)
        if tensor.parameters:
            _refuse_unsupported(tensor.parameters, name)
        datatype = _DATATYPES.get(tensor.datatype)
        if datatype is None:
            raise Invalid(
                "unknown_datatype",
                f"input '{name}' is '{tensor.datatype}', which is none of {', '.join(_DATATYPES)}",
                field=name,
            )
        shape = check_shape(tuple(tensor.shape), name)
        if not raw:
            arrays[name] = read_contents(datatype, shape, tensor.contents, name)
        elif tensor.HasField("contents"):
            raise Invalid(
                "mixed_contents",
                f"'{name}' has typed contents beside raw_input_contents; send one or the other",
                field=name,
            )
        else:
            arrays[name] = from_raw(datatype, shape, raw[index], name)
    return arrays


def _refuse_unsupported(parameters: Mapping[str, object], field: str) -> None:
    for name, instead in _UNSUPPORTED.items():
        if name in parameters:
            raise Invalid("unsupported", f"'{name}' is not supported: {instead}", field=field)


@dataclass(frozen=True, slots=True)
class Answer:
    """How one request wants its answer: which outputs, in which order, raw or typed."""

    served: Served
    id: str
    names: Sequence[str]
    raw: bool

    @staticmethod
    def wanted(request: ModelInferRequest, served: Served) -> "Answer":
        """Read it off the request; raises `Invalid` for an output that the model does not have."""
        signature = served.signature
        if request.outputs:
            names = [_requested(tensor, signature) for tensor in request.outputs]
        else:
            names = [spec.name for spec in signature.outputs]
        # Triton's clients read numbers only from raw contents, and send raw contents always;
        # only a request without inputs does not say which way its sender reads.
        raw = bool(request.raw_input_contents) or not request.inputs
        return Answer(served, request.id, names, raw or not _all_typed(signature, names))

    def encode(self, outputs: Mapping[str, Array]) -> ModelInferResponse:
        """The message with the outputs that were asked for."""
        response = ModelInferResponse(
            model_name=self.served.model, model_version=str(self.served.version), id=self.id
        )
        for name in self.names:
            array = outputs.get(name)
            if array is None:
                raise Internal("missing_output", f"the model gave no output '{name}'", field=name)
            datatype = Datatype.of(array.dtype)
            tensor = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
            if self.raw:
                response.raw_output_contents.append(to_raw(array))
            else:
                write_contents(datatype, array, tensor.contents)
        return response


def _requested(tensor: ModelInferRequest.InferRequestedOutputTensor, signature: Signature) -> str:
    name = tensor.name
    if signature.output(name) is None:
        raise Invalid(
            "unknown_output",
            f"the model has no output '{name}'; it gives "
            + ", ".join(f"'{spec.name}'" for spec in signature.outputs),
            field=name,
        )
    if tensor.parameters:
        _refuse_unsupported(tensor.parameters, name)
    return name


def _all_typed(signature: Signature, names: Sequence[str]) -> bool:
    specs = (signature.output(name) for name in names)
    return all(spec is not None and has_contents(spec.datatype) for spec in specs)
