"""How ONNX files are opened."""

import gc
import tempfile
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import helper
from onnx.external_data_helper import set_external_data

from modelyard.core.datatypes import Datatype
from modelyard.core.errors import DamagedBundle, Invalid
from modelyard.core.signature import Signature, TensorSpec
from modelyard.runtimes.open import open_runtime
from tests.graphs import bundle_of, constant, double, model_of, value

WIDE = 2000


def weighing(location: str) -> onnx.ModelProto:
    """A graph that adds one weight, which lies in another file."""
    weight = constant("w", np.array([[42.0]], np.float32))
    set_external_data(weight, location)
    weight.ClearField("raw_data")
    return model_of(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [value("x", Datatype.FP32, ["n", 1])],
        [value("y", Datatype.FP32, ["n", 1])],
        [weight],
    )


@pytest.mark.parametrize("location", ["secret.bin", "../secret.bin", "/proc/self/environ", "3"])
def test_a_graph_reads_no_file_that_is_not_in_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    """Weights that the bundle does not hold are not looked for anywhere else on the machine."""
    here = tmp_path / "here"
    here.mkdir()
    for folder in (here, tmp_path):
        (folder / "secret.bin").write_bytes(np.array([[42.0]], np.float32).tobytes())
    monkeypatch.chdir(here)
    _, signature = double()
    with pytest.raises(Invalid, match="cannot open"):
        open_runtime(bundle_of(tmp_path / "b", weighing(location), signature))


def test_a_file_that_was_changed_is_not_opened(tmp_path: Path) -> None:
    """The bytes that are opened are those that were verified."""
    bundle = bundle_of(tmp_path / "b", *double())
    path = bundle.files["model.onnx"]
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(DamagedBundle):
        open_runtime(bundle)


def test_opening_and_closing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file, folder or descriptor stays of a model that was opened, however that went."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    bundle = bundle_of(tmp_path / "b", *double())
    fds = psutil.Process().num_fds()
    for _ in range(3):
        open_runtime(bundle).close()
    assert psutil.Process().num_fds() == fds
    assert [each.name for each in tmp_path.iterdir()] == ["b"]


def test_a_large_model_is_in_memory_about_once(tmp_path: Path) -> None:
    """An open session takes its weights' size, not twice that."""
    weight = np.random.default_rng(0).standard_normal((WIDE, 8 * WIDE)).astype(np.float32)
    model = model_of(
        [
            helper.make_node("MatMul", ["x", "w"], ["wide"]),
            helper.make_node("ReduceSum", ["wide", "axes"], ["y"], keepdims=1),
        ],
        [value("x", Datatype.FP32, ["n", WIDE])],
        [value("y", Datatype.FP32, ["n", 1])],
        [constant("w", weight), constant("axes", np.array([1]))],
    )
    signature = Signature(
        (TensorSpec("x", Datatype.FP32, (-1, WIDE)),), (TensorSpec("y", Datatype.FP32, (-1, 1)),)
    )
    bundle = bundle_of(tmp_path / "b", model, signature)
    size = weight.nbytes
    del model, weight
    gc.collect()
    before = psutil.Process().memory_full_info().pss
    runtime = open_runtime(bundle)
    runtime.run({"x": np.ones((1, WIDE), np.float32)})
    assert psutil.Process().memory_full_info().pss - before < 1.5 * size
    runtime.close()
