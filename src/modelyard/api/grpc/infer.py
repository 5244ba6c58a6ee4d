"""`ModelInfer` to a call's arrays, and a call's outputs to its answer. No I/O, no waiting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelyard.api.grpc.contents import has_contents, read_contents, write_contents
from modelyard.api.grpc.messages import ModelInferRequest, ModelInferResponse
from modelyard.api.refusals import input_spec, output_spec, refuse_unsupported
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Internal, Invalid
from modelyard.core.ports import Served
from modelyard.core.signature import TensorSpec
from modelyard.core.tensors import check_shape, from_raw, to_raw


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one request wants for an answer: its own id, which outputs, and raw or typed."""

    id: str
    outputs: Sequence[TensorSpec]
    raw: bool


class InferCodec:
    """Reads requests and writes answers for one served version; made once for it."""

    def __init__(self, served: Served) -> None:
        self._model = served.model
        self._version = str(served.version)
        self._inputs = {spec.name: spec for spec in served.signature.inputs}
        self._outputs = {spec.name: spec for spec in served.signature.outputs}
        self._all = served.signature.outputs

    def read(self, request: ModelInferRequest) -> dict[str, Array]:
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
                raise Invalid("duplicate_input", f"input '{name}' is given twice", field=name)
            datatype = self._datatype(tensor)
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

    def _datatype(self, tensor: ModelInferRequest.InferInputTensor) -> Datatype:
        spec = input_spec(self._inputs, tensor.name, tensor.datatype)
        if tensor.parameters:
            refuse_unsupported(tensor.parameters, tensor.name)
        return spec.datatype

    def wanted(self, request: ModelInferRequest) -> Wanted:
        """How to answer a request; raises `Invalid` for an output that the model does not have."""
        outputs: Sequence[TensorSpec] = self._all
        if request.outputs:
            outputs = [self._output(tensor) for tensor in request.outputs]
        # Triton's clients read numbers only from raw contents, and send raw contents always;
        # only a request without inputs does not say which way its sender reads.
        raw = bool(request.raw_input_contents) or not request.inputs
        typed = not raw and all(has_contents(spec.datatype) for spec in outputs)
        return Wanted(request.id, outputs, raw=not typed)

    def _output(self, tensor: ModelInferRequest.InferRequestedOutputTensor) -> TensorSpec:
        spec = output_spec(self._outputs, tensor.name)
        if tensor.parameters:
            refuse_unsupported(tensor.parameters, tensor.name)
        return spec

    def write(self, wanted: Wanted, outputs: Mapping[str, Array]) -> ModelInferResponse:
        """The answer, with the outputs that are wanted."""
        response = ModelInferResponse(
            model_name=self._model, model_version=self._version, id=wanted.id
        )
        for spec in wanted.outputs:
            array = outputs.get(spec.name)
            if array is None:
                raise Internal(
                    "missing_output", f"the model gave no output '{spec.name}'", field=spec.name
                )
            tensor = response.outputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
            if wanted.raw:
                response.raw_output_contents.append(to_raw(array))
            else:
                write_contents(spec.datatype, array, tensor.contents)
        return response
