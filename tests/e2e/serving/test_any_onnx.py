"""Any ONNX graph, imported and served: every datatype, odd shapes, several tensors, no batch."""

from pathlib import Path

import httpx
import numpy as np
import onnx
import onnx.helper as make
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from modelyard.core.datatypes import Datatype
from modelyard.core.names import Reference
from tests.e2e.serving.conftest import Place

_ONNX_TYPES = {
    Datatype.BYTES: onnx.TensorProto.STRING,
    **{
        datatype: make.np_dtype_to_tensor_dtype(datatype.dtype)
        for datatype in Datatype
        if datatype is not Datatype.BYTES
    },
}
_Shape = list[int | str | None]


def tensor(name: str, datatype: Datatype, shape: _Shape) -> onnx.ValueInfoProto:
    return make.make_tensor_value_info(name, _ONNX_TYPES[datatype], shape)


def serve(
    place: Place,
    folder: Path,
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> bool:
    """Import a graph, deploy it, and say whether it was recognised as batched."""
    model = make.make_model(
        make.make_graph(nodes, name, inputs, outputs),
        opset_imports=[make.make_opsetid("", 17)],
        ir_version=8,
    )
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    place.deploy(place.yard.import_file(path, name=name))
    return place.yard.bundle(Reference(name)).manifest.signature.batched


def ask(
    place: Place, kind: str, model: str, *, binary: bool = True, **arrays: np.ndarray
) -> dict[str, np.ndarray]:
    module = triton_http if kind == "http" else triton_grpc
    address = (
        place.server.grpc_address if kind == "grpc" else place.server.url.removeprefix("http://")
    )
    inputs = []
    for name, array in arrays.items():
        given = module.InferInput(name, list(array.shape), Datatype.of(array.dtype).value)
        options = {"binary_data": binary} if kind == "http" else {}
        given.set_data_from_numpy(array, **options)
        inputs.append(given)
    names = [spec["name"] for spec in place.client.metadata(model)["outputs"]]
    options = {"binary_data": binary} if kind == "http" else {}
    wanted = [module.InferRequestedOutput(name, **options) for name in names]
    with module.InferenceServerClient(address) as client:
        answer = client.infer(model, inputs, outputs=wanted)
        return {name: answer.as_numpy(name) for name in names}


def sample_of(datatype: Datatype) -> np.ndarray:
    if datatype is Datatype.BYTES:
        return np.array([["a", "Łódź"], ["", "日本"]], object)
    return np.array([[0, 1], [1, 0]]).astype(datatype.dtype)


def plain(array: np.ndarray) -> list[object]:
    def decoded(value: object) -> object:
        return value.decode() if isinstance(value, bytes) else value

    return [decoded(value) for value in array.reshape(-1).tolist()]


@pytest.mark.parametrize("datatype", list(Datatype))
def test_every_datatype_is_served(place: Place, tmp_path: Path, datatype: Datatype) -> None:
    """A graph of each datatype gives back what it was given, over JSON, binary and gRPC."""
    name = f"identity-{datatype.lower()}"
    serve(
        place,
        tmp_path,
        name,
        [make.make_node("Identity", ["x"], ["y"])],
        [tensor("x", datatype, ["n", 2])],
        [tensor("y", datatype, ["n", 2])],
    )
    array = sample_of(datatype)
    roads = [("http", True), ("grpc", True)]
    # Triton's client has no JSON for half floats.
    roads += [("http", False)] if datatype is not Datatype.FP16 else []
    for kind, binary in roads:
        got = ask(place, kind, name, binary=binary, x=array)["y"]
        assert got.shape == array.shape
        assert plain(got) == plain(array)
    response = httpx.post(
        f"{place.server.url}/v2/models/{name}/infer",
        json={
            "inputs": [{"name": "x", "datatype": datatype, "shape": [2, 2], "data": array.tolist()}]
        },
    )
    [output] = response.json()["outputs"]
    assert (output["datatype"], output["data"]) == (datatype, plain(array))


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_several_inputs_and_outputs_of_mixed_axes(place: Place, tmp_path: Path, kind: str) -> None:
    """Two inputs and two outputs, fixed and free axes mixed, each in its own datatype."""
    name = f"several-{kind}"
    assert serve(
        place,
        tmp_path,
        name,
        [
            make.make_node("MatMul", ["a", "b"], ["product"]),
            make.make_node("Identity", ["b"], ["kept"]),
        ],
        [tensor("a", Datatype.FP32, ["n", 2, "k"]), tensor("b", Datatype.FP32, ["n", "k", 3])],
        [tensor("product", Datatype.FP32, ["n", 2, 3]), tensor("kept", Datatype.FP32, None)],
    )
    a = np.arange(12, dtype=np.float32).reshape(1, 2, 6)
    b = np.arange(18, dtype=np.float32).reshape(1, 6, 3)
    got = ask(place, kind, name, a=a, b=b)
    np.testing.assert_array_equal(got["product"], a @ b)
    np.testing.assert_array_equal(got["kept"], b)


def test_a_fixed_leading_axis_runs_one_call_at_a_time(place: Place, tmp_path: Path) -> None:
    """A graph whose leading axis is fixed is recognised and served all the same."""
    batched = serve(
        place,
        tmp_path,
        "fixed",
        [make.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
        [tensor("x", Datatype.INT64, [4])],
        [tensor("y", Datatype.INT64, [])],
    )
    assert not batched
    for kind in ("http", "grpc"):
        got = ask(place, kind, "fixed", x=np.array([1, 2, 3, 4]))
        assert got["y"].shape in ((), (1,))
        assert plain(got["y"]) == [10]


def test_a_free_axis_that_is_no_batch_is_recognised(place: Place, tmp_path: Path) -> None:
    """A sum over the leading axis looks like a batch and is none: calls are not joined."""
    batched = serve(
        place,
        tmp_path,
        "total",
        [make.make_node("CumSum", ["x", "axis"], ["y"]), _constant("axis", 0)],
        [tensor("x", Datatype.FP32, ["n", 1])],
        [tensor("y", Datatype.FP32, ["n", 1])],
    )
    assert not batched
    got = ask(place, "http", "total", x=np.ones((3, 1), np.float32))
    assert plain(got["y"]) == [1, 2, 3]


def _constant(name: str, value: int) -> onnx.NodeProto:
    return make.make_node(
        "Constant", [], [name], value=make.make_tensor(name, onnx.TensorProto.INT64, [], [value])
    )


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_tensors_that_do_not_fit_each_other_are_the_callers_fault(
    place: Place, tmp_path: Path, kind: str
) -> None:
    """Free axes that a graph needs equal, and are not, are refused: never a 500."""
    name = f"added-{kind}"
    serve(
        place,
        tmp_path,
        name,
        [make.make_node("Add", ["a", "b"], ["y"])],
        [tensor("a", Datatype.FP32, ["n", "k"]), tensor("b", Datatype.FP32, ["n", "k"])],
        [tensor("y", Datatype.FP32, ["n", "k"])],
    )
    with pytest.raises(InferenceServerException) as caught:
        ask(place, kind, name, a=np.ones((1, 2), np.float32), b=np.ones((1, 3), np.float32))
    assert caught.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
    np.testing.assert_array_equal(
        ask(place, kind, name, a=np.ones((1, 2), np.float32), b=np.ones((1, 2), np.float32))["y"],
        np.full((1, 2), 2, np.float32),
    )
