"""Any ONNX graph becomes a bundle whose signature says the truth about it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelyard.bundle.bundle import Bundle
from modelyard.core.datatypes import Datatype
from modelyard.core.errors import Invalid, ModelyardError, UntrustedFormat
from modelyard.packaging.package import package_file
from modelyard.runtimes.open import open_runtime

OPSET = helper.make_opsetid("", 18)
Value = tuple[str, int, list[Any] | None]


def graph(
    nodes: list[Any], inputs: list[Value], outputs: list[Value], constants: list[Any] | None = None
) -> onnx.ModelProto:
    def values(each: list[Value]) -> list[Any]:
        return [helper.make_tensor_value_info(*value) for value in each]

    made = helper.make_graph(nodes, "g", values(inputs), values(outputs), constants or [])
    return helper.make_model(
        made, opset_imports=[OPSET, helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8
    )


@pytest.fixture
def package(tmp_path: Path) -> Any:
    def make(model: onnx.ModelProto | bytes, sample: Any = None, name: str = "m.onnx") -> Bundle:
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        staging = tmp_path / "staging"
        staging.mkdir()
        return package_file(path, name="m", sample=sample, staging=staging)

    return make


def node(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    return helper.make_node(op, inputs, outputs, **attributes)


@pytest.mark.parametrize("datatype", list(Datatype))
def test_every_datatype_travels(package: Any, datatype: Datatype) -> None:
    """Tensors of every protocol datatype go in and come out as they were."""
    kind = (
        TensorProto.STRING
        if datatype is Datatype.BYTES
        else helper.np_dtype_to_tensor_dtype(datatype.dtype)
    )
    bundle = package(
        graph([node("Identity", ["a"], ["b"])], [("a", kind, ["n", 2])], [("b", kind, ["n", 2])])
    )
    signature = bundle.manifest.signature
    assert signature.inputs[0].datatype is signature.outputs[0].datatype is datatype
    assert signature.batched
    assert signature.inputs[0].shape == signature.outputs[0].shape == (-1, 2)
    values = np.array([[0, 1], [1, 0]]).astype(str if datatype is Datatype.BYTES else "u1")
    array = values.astype(datatype.dtype)
    answer = open_runtime(bundle).run({"a": array})["b"]
    assert answer.dtype == datatype.dtype
    np.testing.assert_array_equal(answer, array)


def test_a_sum_over_rows_is_no_batch(package: Any) -> None:
    """A free leading axis whose rows influence each other is run one call at a time."""
    axes = numpy_helper.from_array(np.array([0]), "axes")
    bundle = package(
        graph(
            [node("ReduceSum", ["a", "axes"], ["s"]), node("Add", ["a", "s"], ["b"])],
            [("a", TensorProto.FLOAT, ["n", 2])],
            [("b", TensorProto.FLOAT, ["n", 2])],
            [axes],
        )
    )
    assert not bundle.manifest.signature.batched


def test_a_sort_over_rows_is_no_batch(package: Any) -> None:
    """Lengths that follow are not enough: the order of rows must not matter either."""
    bundle = package(
        graph(
            [
                node("Shape", ["a"], ["k"], end=1),
                node("TopK", ["a", "k"], ["b", "i"], axis=0),
            ],
            [("a", TensorProto.FLOAT, ["n"])],
            [("b", TensorProto.FLOAT, ["n"])],
        )
    )
    assert not bundle.manifest.signature.batched


def test_outputs_that_lie_about_their_length_are_no_batch(package: Any) -> None:
    """An output declared with a free leading axis that does not follow the input's."""
    constant = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    bundle = package(
        graph(
            [node("Gemm", ["a", "a"], ["g"], transA=1), node("Add", ["g", "w"], ["b"])],
            [("a", TensorProto.FLOAT, ["n", 2])],
            [("b", TensorProto.FLOAT, ["m", 2])],
            [constant],
        )
    )
    assert not bundle.manifest.signature.batched


def test_a_fixed_leading_axis_is_no_batch(package: Any) -> None:
    """A graph for exactly one image takes one image a call."""
    bundle = package(
        graph(
            [node("Relu", ["a"], ["b"])],
            [("a", TensorProto.FLOAT, [1, 3, 4, 4])],
            [("b", TensorProto.FLOAT, [1, 3, 4, 4])],
        )
    )
    assert not bundle.manifest.signature.batched
    assert bundle.manifest.signature.inputs[0].shape == (1, 3, 4, 4)


def test_several_inputs_and_outputs_keep_their_order(package: Any) -> None:
    """Two inputs of different ranks, two outputs, one shared batch."""
    bundle = package(
        graph(
            [node("Add", ["z", "a"], ["y"]), node("Cast", ["a"], ["x"], to=TensorProto.INT64)],
            [("z", TensorProto.FLOAT, ["n", 3]), ("a", TensorProto.FLOAT, ["n", 1])],
            [("y", TensorProto.FLOAT, ["n", 3]), ("x", TensorProto.INT64, ["n", 1])],
        )
    )
    signature = bundle.manifest.signature
    assert [spec.name for spec in signature.inputs] == ["z", "a"]
    assert [spec.name for spec in signature.outputs] == ["y", "x"]
    assert signature.batched


def test_scalars_and_no_inputs_are_served(package: Any) -> None:
    """A graph that takes nothing and answers a scalar runs."""
    value = numpy_helper.from_array(np.array(7, np.int64), "v")
    bundle = package(
        graph([node("Identity", ["v"], ["b"])], [], [("b", TensorProto.INT64, [])], [value])
    )
    signature = bundle.manifest.signature
    assert signature.inputs == ()
    assert not signature.batched
    assert signature.outputs[0].shape == ()
    assert open_runtime(bundle).run({})["b"] == 7


def test_initialisers_are_not_inputs(package: Any) -> None:
    """Old graphs list their weights among the inputs; nobody has to send them."""
    weights = numpy_helper.from_array(np.ones((2,), np.float32), "w")
    bundle = package(
        graph(
            [node("Add", ["a", "w"], ["b"])],
            [("a", TensorProto.FLOAT, ["n", 2]), ("w", TensorProto.FLOAT, [2])],
            [("b", TensorProto.FLOAT, ["n", 2])],
            [weights],
        )
    )
    assert [spec.name for spec in bundle.manifest.signature.inputs] == ["a"]


def test_undeclared_output_shapes_are_learnt(package: Any) -> None:
    """An output without a declared shape gets the one that it is seen to have."""
    bundle = package(
        graph(
            [node("Relu", ["a"], ["b"])],
            [("a", TensorProto.FLOAT, ["n", 3])],
            [("b", TensorProto.FLOAT, None)],
        )
    )
    assert bundle.manifest.signature.outputs[0].shape == (-1, 3)
    assert bundle.manifest.signature.batched


def test_a_zipmap_is_cut(package: Any) -> None:
    """A map of class probabilities is replaced by the tensor behind it."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    features, target = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(features, target)
    converted = to_onnx(model, features[:1].astype(np.float32), target_opset=18)
    sample = features[::10].astype(np.float32)
    bundle = package(converted, sample)
    label, shares = bundle.manifest.signature.outputs
    assert (label.datatype, shares.datatype) == (Datatype.INT64, Datatype.FP32)
    answer = open_runtime(bundle).run({bundle.manifest.signature.inputs[0].name: sample})
    np.testing.assert_allclose(
        answer[shares.name], model.predict_proba(sample), rtol=1e-4, atol=1e-6
    )
    assert bundle.manifest.signature.batched
    assert "map of classes" in bundle.manifest.conversion.reason
    assert bundle.manifest.samples is not None


def test_sequences_are_left_out_with_a_reason(package: Any) -> None:
    """What no tensor can hold is not an output of the bundle."""
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    model = graph(
        [node("SplitToSequence", ["a"], ["s"]), node("Relu", ["a"], ["b"])],
        [("a", TensorProto.FLOAT, ["n", 3])],
        [("b", TensorProto.FLOAT, ["n", 3])],
    )
    model.graph.output.append(sequence)
    bundle = package(model)
    assert [spec.name for spec in bundle.manifest.signature.outputs] == ["b"]
    assert "'s'" in bundle.manifest.conversion.reason


def external(folder: Path, location: str) -> None:
    weights = numpy_helper.from_array(np.ones((256, 4), np.float32), "w")
    model = graph(
        [node("Gather", ["w", "a"], ["b"])],
        [("a", TensorProto.INT64, ["n"])],
        [("b", TensorProto.FLOAT, ["n", 4])],
        [weights],
    )
    onnx.save_model(
        model,
        folder / "m.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    data = onnx.load_model(folder / "m.onnx", load_external_data=False)
    for entry in data.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    (folder / "m.onnx").write_bytes(data.SerializeToString())


def test_external_data_travels_in_the_bundle(tmp_path: Path) -> None:
    """Weights beside the model are files of the bundle, verified and served from there."""
    source, staging = tmp_path / "source", tmp_path / "staging"
    source.mkdir()
    staging.mkdir()
    external(source, "weights.bin")
    bundle = package_file(source / "m.onnx", name="m", sample=None, staging=staging)
    assert {entry.path for entry in bundle.manifest.files} >= {"m.onnx", "weights.bin"}
    runtime = open_runtime(bundle)
    assert runtime.run({"a": np.array([1, 2])})["b"].shape == (2, 4)
    runtime.close()
    (staging / "weights.bin").write_bytes(bytes(256 * 16))
    with pytest.raises(ModelyardError, match=r"weights\.bin"):
        open_runtime(bundle)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "missing.bin"])
def test_external_data_elsewhere_is_refused(tmp_path: Path, location: str) -> None:
    """A model cannot make us read files outside its own folder."""
    source, staging = tmp_path / "source", tmp_path / "staging"
    source.mkdir()
    staging.mkdir()
    external(source, location)
    (tmp_path / "weights.bin").write_bytes(bytes(256 * 16))
    with pytest.raises(Invalid) as caught:
        package_file(source / "m.onnx", name="m", sample=None, staging=staging)
    assert caught.value.code == "bad_external_data"


def test_custom_operators_are_refused(package: Any) -> None:
    """An operator domain that needs somebody's library is not run."""
    model = graph(
        [node("Magic", ["a"], ["b"], domain="evil")],
        [("a", TensorProto.FLOAT, ["n"])],
        [("b", TensorProto.FLOAT, ["n"])],
    )
    model.opset_import.append(helper.make_opsetid("evil", 1))
    with pytest.raises(UntrustedFormat):
        package(model)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated_models_are_invalid(package: Any, share: float) -> None:
    """A file cut short is refused, whatever part is missing."""
    weights = numpy_helper.from_array(np.ones((64, 4), np.float32), "w")
    whole = graph(
        [node("MatMul", ["a", "w"], ["b"])],
        [("a", TensorProto.FLOAT, ["n", 64])],
        [("b", TensorProto.FLOAT, ["n", 4])],
        [weights],
    ).SerializeToString()
    with pytest.raises(Invalid):
        package(whole[: int(len(whole) * share)])


def test_a_sample_of_wrong_values_is_refused(package: Any) -> None:
    """Fractions are no sample for an integer input."""
    model = graph(
        [node("Identity", ["a"], ["b"])],
        [("a", TensorProto.INT64, ["n", 2])],
        [("b", TensorProto.INT64, ["n", 2])],
    )
    with pytest.raises(Invalid) as caught:
        package(model, {"a": np.array([[0.5, 1.0]])})
    assert caught.value.field == "a"


def test_serving_onnx_imports_no_training_library(package: Any) -> None:
    """The server opens an ONNX bundle without scikit-learn, pandas, scipy or onnx."""
    bundle = package(
        graph(
            [node("Relu", ["a"], ["b"])],
            [("a", TensorProto.FLOAT, ["n", 3])],
            [("b", TensorProto.FLOAT, ["n", 3])],
        )
    )
    staged = bundle.files["model.onnx"].parent
    manifest = staged / "manifest"
    manifest.write_bytes(bundle.manifest.encode())
    program = f"""
import sys
from pathlib import Path
import numpy as np
from modelyard.bundle.bundle import Bundle
from modelyard.bundle.manifest import Manifest
from modelyard.runtimes.open import open_runtime, platform_of
manifest = Manifest.decode(Path({str(manifest)!r}).read_bytes())
bundle = Bundle(manifest, {{e.path: Path({str(staged)!r}) / e.path for e in manifest.files}})
open_runtime(bundle).run({{"a": np.ones((1, 3), np.float32)}})
print(*sorted({{"sklearn", "pandas", "scipy", "onnx", "skops", "xgboost"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""


def test_one_input_a_column_is_a_table(package: Any) -> None:
    """A graph with one input a column, as scikit-learn exports them, takes rows as objects."""
    bundle = package(
        graph(
            [
                node("Cast", ["word"], ["n"], to=TensorProto.FLOAT),
                node("Add", ["n", "size"], ["b"]),
            ],
            [("word", TensorProto.STRING, ["n", 1]), ("size", TensorProto.FLOAT, ["n", 1])],
            [("b", TensorProto.FLOAT, ["n", 1])],
        )
    )
    signature = bundle.manifest.signature
    assert signature.is_table
    assert [column.name for column in signature.columns] == ["word", "size"]


def test_a_sample_names_the_columns(package: Any) -> None:
    """The columns of a sample table are those of the one input that it fills."""
    import pandas as pd

    bundle = package(
        graph(
            [node("Relu", ["a"], ["b"])],
            [("a", TensorProto.FLOAT, ["n", 2])],
            [("b", TensorProto.FLOAT, ["n", 2])],
        ),
        pd.DataFrame({"length": [1.0, 2.0, 3.0], "width": [4.0, 5.0, 6.0]}),
    )
    assert [column.name for column in bundle.manifest.signature.columns] == ["length", "width"]


def test_a_kernel_that_crashes_takes_nobody_with_it(package: Any) -> None:
    """A frame of length 0 divides by zero inside onnxruntime; the model is packaged anyway."""
    step = numpy_helper.from_array(np.array(1, np.int64), "step")
    bundle = package(
        graph(
            [
                node("Sub", ["length", "length"], ["nothing"]),
                node("STFT", ["a", "step", "", "nothing"], ["b"]),
            ],
            [("a", TensorProto.FLOAT, [1, 16, 1]), ("length", TensorProto.INT64, [])],
            [("b", TensorProto.FLOAT, [1, None, None, 2])],
            [step],
        )
    )
    assert not bundle.manifest.signature.batched
    assert "trial run" in bundle.manifest.conversion.reason
