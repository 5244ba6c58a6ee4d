"""Any ONNX model as a bundle: what onnxruntime says of its tensors, and what runs show."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import onnxruntime

from modelyard.bundle.builder import BundleBuilder
from modelyard.bundle.bundle import Bundle
from modelyard.bundle.manifest import Conversion, Format, Framework, Serving
from modelyard.bundle.trust import EXTERNAL_DATA, check_domains
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid, MissingExtra
from modelyard.core.signature import FREE, Column, Signature, TensorSpec
from modelyard.packaging.apart import probe_apart
from modelyard.packaging.extras import Extras, add_samples, complete
from modelyard.packaging.native import packages
from modelyard.packaging.probe import Findings
from modelyard.packaging.session import as_sampled, datatype_of, free_shape, input_specs
from modelyard.runtimes.onnx import OnnxRuntime, open_session

PATH: Final = "model.onnx"


@dataclass(frozen=True, slots=True)
class _Source:
    """The model's bytes, its external data, and where both lie together on disk."""

    data: bytes
    external: tuple[str, ...]
    folder: Path


def package_onnx(path: Path, *, name: str, sample: Any, staging: Path, extras: Extras) -> Bundle:
    """A bundle of an ONNX file, its external data with it.

    Raises `Invalid` for a file that onnxruntime cannot open or whose inputs no protocol tensor can
    hold, and `UntrustedFormat` for operators that need custom code.
    """
    source = _read(path)
    notes: list[str] = []
    session = _session(path, source)
    if any(datatype_of(each.type) is None for each in session.get_outputs()):
        source, dropped = _plain_outputs(source, session)
        notes += dropped
        session = _session(path, source)
    inputs, _ = input_specs(session)
    given = None if sample is None else _sample(inputs, sample)
    inputs = inputs if given is None else as_sampled(inputs, given)
    outputs = [each for each in session.get_outputs() if datatype_of(each.type) is not None]
    findings, trouble = probe_apart(path if source.external else source.data, given, staging)
    notes += trouble
    if findings.batched:
        inputs = _with_columns(inputs, sample)
    signature = _signature(inputs, outputs, findings)
    builder = BundleBuilder(staging)
    for extra, data in extras.files.items():
        builder.add(extra, data)
    model_path = path.name if source.external else PATH
    builder.add(model_path, source.data, "application/onnx")
    for location in source.external:
        builder.add(location, source.folder / location, EXTERNAL_DATA)
    runtime = OnnxRuntime(session, signature)
    samples = add_samples(builder, runtime, given if findings.ran else None)
    reason = "; ".join(["the model came as ONNX", *notes])
    return builder.build(
        name=name,
        framework=_framework(session),
        serving=Serving(Format.ONNX, model_path),
        conversion=Conversion(Format.ONNX, "native", reason),
        signature=signature,
        lineage=complete(extras.lineage, packages(("onnx",))),
        evaluation=extras.evaluation,
        samples=samples,
        card=extras.card,
    )


def _read(path: Path) -> _Source:
    data = path.read_bytes()
    if b"location" not in data:
        return _Source(data, (), path.parent)
    # Only the `onnx` package can tell external data from a string that happens to say so.
    try:
        import onnx
        from onnx.external_data_helper import _get_all_tensors, uses_external_data
    except ImportError:
        raise MissingExtra("sklearn", "reading an ONNX model with external data") from None
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # noqa: BLE001 - protobuf's errors differ between its implementations
        raise Invalid("bad_onnx", f"'{path.name}' is no ONNX model", field=path.name) from None
    check_domains({each.domain for each in model.opset_import})
    locations = {
        entry.value
        for tensor in _get_all_tensors(model)
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return _Source(
        data, tuple(_inside(path.parent, each) for each in sorted(locations)), path.parent
    )


def _inside(folder: Path, location: str) -> str:
    """The location, if it is a real file below the model's folder."""
    relative = PurePosixPath(location)
    file = folder / relative
    if (
        relative.is_absolute()
        or ".." in relative.parts
        or "\\" in location
        or not file.is_file()
        or file.is_symlink()
        or not file.resolve().is_relative_to(folder.resolve())
    ):
        raise Invalid(
            "bad_external_data",
            f"the model keeps weights in '{location:.200}', which is no file in its own folder",
            field=location[:200],
        )
    return str(relative)


def _session(path: Path, source: _Source) -> onnxruntime.InferenceSession:
    if not source.external:
        return open_session(source.data)
    return open_session(path)


def _sample(inputs: tuple[TensorSpec, ...], sample: Any) -> dict[str, Array]:
    """The caller's rows as the model's inputs: arrays by name, or one table for one input."""
    if not isinstance(sample, Mapping):
        if len(inputs) == 1 and len(inputs[0].shape) >= 1:
            sample = {inputs[0].name: np.asarray(sample)}
        elif hasattr(sample, "columns"):
            sample = {
                str(column): sample[column].to_numpy().reshape(-1, 1) for column in sample.columns
            }
        else:
            raise Invalid(
                "bad_sample", "give the sample as arrays, one for each input", field="sample"
            )
    arrays = {}
    for spec in inputs:
        if spec.name not in sample:
            raise Invalid(
                "missing_input", f"the sample has no input '{spec.name}'", field=spec.name
            )
        arrays[spec.name] = _fitted(spec, np.asarray(sample[spec.name]))
    return arrays


def _fitted(spec: TensorSpec, array: Array) -> Array:
    wanted = spec.datatype.dtype
    if spec.datatype is Datatype.BYTES:
        return array.astype(str).astype(object)
    try:
        with np.errstate(invalid="raise", over="raise"):
            fitted = array.astype(wanted)
    except (ValueError, TypeError, FloatingPointError, OverflowError):
        fitted = None
    if fitted is None or (not spec.datatype.is_float and not np.array_equal(fitted, array)):
        raise Invalid(
            "bad_sample",
            f"the sample's values of input '{spec.name}' are not {spec.datatype}",
            field=spec.name,
        )
    return fitted


def _with_columns(inputs: tuple[TensorSpec, ...], sample: Any) -> tuple[TensorSpec, ...]:
    """Columns where they are plain to see, so that rows can be sent as objects.

    One input a column is what scikit-learn's exports of tables have; one input for all takes the
    names of the sample's columns.
    """
    if len(inputs) > 1 and all(spec.shape == (FREE, 1) for spec in inputs):
        return tuple(_named(spec, [spec.name]) for spec in inputs)
    names = [str(name) for name in getattr(sample, "columns", ())]
    if len(inputs) == 1 and names and inputs[0].shape == (FREE, len(names)):
        return (_named(inputs[0], names),)
    return inputs


def _named(spec: TensorSpec, names: list[str]) -> TensorSpec:
    # Nobody can tell what the graph does with NaN, so it is not refused.
    columns = tuple(Column(name, spec.datatype, nullable=spec.datatype.is_float) for name in names)
    return TensorSpec(spec.name, spec.datatype, spec.shape, columns)


def _signature(inputs: tuple[TensorSpec, ...], outputs: list[Any], findings: Findings) -> Signature:
    specs = []
    for each in outputs:
        datatype = datatype_of(each.type)
        assert datatype is not None  # noqa: S101 - filtered by the caller
        seen = [shapes[each.name] for shapes in findings.shapes]
        shape = _output_shape(free_shape(each.shape), seen)
        if findings.batched:
            shape = (FREE, *shape[1:])
        specs.append(TensorSpec(each.name, datatype, shape))
    return Signature(inputs, tuple(specs), findings.batched)


def _output_shape(declared: tuple[int, ...], seen: list[tuple[int, ...]]) -> tuple[int, ...]:
    """What is declared, as far as it is true: some graphs declare nothing, or lie."""
    if not seen:
        return declared
    if any(len(shape) != len(declared) for shape in seen):
        return (FREE,) * len(seen[0])
    return tuple(
        size if all(shape[axis] == size for shape in seen) else FREE
        for axis, size in enumerate(declared)
    )


def _plain_outputs(
    source: _Source, session: onnxruntime.InferenceSession
) -> tuple[_Source, list[str]]:
    """The graph with the tensor behind a ZipMap as its output; what else is no tensor goes."""
    try:
        import onnx
    except ImportError:
        raise MissingExtra("sklearn", "an ONNX model with map or sequence outputs") from None
    model = onnx.load_model_from_string(source.data)
    made_by = {name: node for node in model.graph.node for name in node.output}
    strange = {each.name for each in session.get_outputs() if datatype_of(each.type) is None}
    kept, notes = [], []
    for value in model.graph.output:
        if value.name not in strange:
            kept.append(value)
            continue
        node = made_by.get(value.name)
        if node is None or node.op_type != "ZipMap":
            notes.append(f"output '{value.name}' is no tensor and was left out")
            continue
        model.graph.node.remove(node)
        shares = onnx.helper.make_node("Identity", [node.input[0]], [value.name])
        model.graph.node.append(shares)
        kept.append(
            onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, [None, None])
        )
        notes.append(f"output '{value.name}' is the tensor behind its map of classes")
    if not kept:
        raise Invalid("unsupported_output", "no output of this model is a tensor")
    del model.graph.output[:]
    model.graph.output.extend(kept)
    return _Source(model.SerializeToString(), source.external, source.folder), notes


def _framework(session: onnxruntime.InferenceSession) -> Framework:
    made_by = session.get_modelmeta().producer_name or "onnx"
    return Framework("onnx", made_by)
