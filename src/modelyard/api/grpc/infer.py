"""`ModelInfer` to a call's arrays, and a call's outputs to its answer. No I/O, no waiting."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from modelyard.api.classification import PARAMETER as CLASSIFICATION
from modelyard.api.classification import best_classes, class_count
from modelyard.api.grpc.contents import (
    has_contents,
    length_delimited,
    read_contents,
    write_contents,
)
from modelyard.api.grpc.messages import ModelInferRequest, ModelInferResponse
from modelyard.api.refusals import (
    column_datatype,
    input_spec,
    output_spec,
    refuse_unsupported,
)
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Internal, Invalid
from modelyard.core.ports import Served
from modelyard.core.signature import TensorSpec
from modelyard.core.table import TableReader
from modelyard.core.tensors import check_shape, from_raw, to_raw

_Shapes = tuple[tuple[int, ...], ...]
_MAX_HEADS: Final = 256
_FINAL: Final = "triton_final_response"
_FINAL_WANTED: Final = "triton_enable_empty_final_response"


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """What one request wants for an answer: its own id, which outputs, and raw or typed.

    `classes` says of which outputs the best classes are wanted instead, and how many. `is_final`
    says that Triton's `triton_final_response` is.
    """

    id: str
    outputs: Sequence[TensorSpec]
    raw: bool
    classes: Mapping[str, int] | None = None
    is_final: bool = False


class InferCodec:
    """Reads requests and writes answers for one served version; made once for it."""

    def __init__(self, served: Served) -> None:
        self._model = served.model
        self._version = str(served.version)
        self._inputs = {spec.name: spec for spec in served.signature.inputs}
        self._outputs = {spec.name: spec for spec in served.signature.outputs}
        self._all = served.signature.outputs
        self._batched = served.signature.batched
        self._table = TableReader(served.signature) if served.signature.is_table else None
        self._plain = Wanted("", self._all, raw=True)
        self._heads: dict[_Shapes, bytes] = {}

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
        table = self._table
        if table is not None and not table.is_by_column(
            (tensor.name, tensor.datatype, len(tensor.shape)) for tensor in tensors
        ):
            table = None
        arrays: dict[str, Array] = {}
        for index, tensor in enumerate(tensors):
            name = tensor.name
            if name in arrays:
                raise Invalid("duplicate_input", f"input '{name}' is given twice", field=name)
            datatype = self._datatype(tensor, by_column=table is not None)
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
        return arrays if table is None else table.arrays(arrays)

    def _datatype(self, tensor: ModelInferRequest.InferInputTensor, *, by_column: bool) -> Datatype:
        if tensor.parameters:
            refuse_unsupported(tensor.parameters, tensor.name)
        if by_column:
            return column_datatype(tensor.name, tensor.datatype)
        return input_spec(self._inputs, tensor.name, tensor.datatype).datatype

    def wanted(self, request: ModelInferRequest) -> Wanted:
        """How to answer a request; raises `Invalid` for an output that the model does not have."""
        outputs: Sequence[TensorSpec] = self._all
        classes: dict[str, int] = {}
        parameters = request.parameters
        # Triton's clients read numbers only from raw contents, and send raw contents always;
        # only a request without inputs does not say which way its sender reads.
        raw = bool(request.raw_input_contents) or not request.inputs
        if request.outputs:
            outputs = [self._output(tensor, classes) for tensor in request.outputs]
        elif raw and not parameters:
            return Wanted(request.id, outputs, raw=True) if request.id else self._plain
        typed = not raw and all(
            has_contents(spec.datatype) or spec.name in classes for spec in outputs
        )
        is_final = _FINAL_WANTED in parameters and parameters[_FINAL_WANTED].bool_param
        return Wanted(request.id, outputs, not typed, classes or None, is_final)

    def _output(
        self, tensor: ModelInferRequest.InferRequestedOutputTensor, classes: dict[str, int]
    ) -> TensorSpec:
        spec = output_spec(self._outputs, tensor.name)
        parameters = tensor.parameters
        if parameters:
            refuse_unsupported(parameters, tensor.name)
            if CLASSIFICATION in parameters:
                classes[spec.name] = class_count(spec, parameters[CLASSIFICATION].int64_param)
        return spec

    def write(self, wanted: Wanted, outputs: Mapping[str, Array]) -> bytes:
        """The answer, with the outputs that are wanted, as a serialised `ModelInferResponse`."""
        arrays = [_given(outputs, spec) for spec in wanted.outputs]
        if wanted.outputs is not self._all or not wanted.raw or wanted.is_final:
            return self._message(wanted, arrays).SerializeToString()
        # The plain case, a third of the time of building the message: fields one after another are
        # the message, and all but the id and the elements are known from the shapes.
        shapes = tuple([array.shape for array in arrays])
        head = self._heads.get(shapes)
        if head is None:
            head = self._head(arrays)
            if len(self._heads) < _MAX_HEADS:
                self._heads[shapes] = head
        parts = [head, length_delimited(_ID, wanted.id.encode())] if wanted.id else [head]
        parts += [length_delimited(_RAW, to_raw(array)) for array in arrays]
        return b"".join(parts)

    def _head(self, arrays: Sequence[Array]) -> bytes:
        response = ModelInferResponse(model_name=self._model, model_version=self._version)
        for spec, array in zip(self._all, arrays, strict=True):
            response.outputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
        return response.SerializeToString()

    def _message(self, wanted: Wanted, arrays: Sequence[Array]) -> ModelInferResponse:
        response = ModelInferResponse(
            model_name=self._model, model_version=self._version, id=wanted.id
        )
        if wanted.is_final:
            response.parameters[_FINAL].bool_param = True
        classes = wanted.classes or {}
        for spec, array in zip(wanted.outputs, arrays, strict=True):
            datatype = spec.datatype
            count = classes.get(spec.name)
            if count is not None:
                array = best_classes(spec, array, count, batched=self._batched)
                datatype = Datatype.BYTES
            tensor = response.outputs.add(name=spec.name, datatype=datatype, shape=array.shape)
            if wanted.raw:
                response.raw_output_contents.append(to_raw(array))
            else:
                write_contents(datatype, array, tensor.contents)
        return response


_ID: Final = ModelInferResponse.ID_FIELD_NUMBER
_RAW: Final = ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER


def _given(outputs: Mapping[str, Array], spec: TensorSpec) -> Array:
    array = outputs.get(spec.name)
    if array is None:
        raise Internal("missing_output", f"the model gave no output '{spec.name}'", field=spec.name)
    return array
