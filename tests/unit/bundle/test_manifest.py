import msgspec
import pytest

from modelyard.bundle.manifest import (
    Conversion,
    FileEntry,
    Format,
    Framework,
    Lineage,
    Manifest,
    Serving,
)
from modelyard.core.datatypes import Datatype
from modelyard.core.errors import Invalid
from modelyard.core.signature import Column, Signature, TensorSpec


def manifest(**changes: object) -> Manifest:
    columns = (Column("a", Datatype.FP32, nullable=True), Column("b", Datatype.FP32))
    return Manifest(
        name="churn",
        created="2026-01-01T00:00:00.000+00:00",
        framework=Framework("sklearn", "1.9"),
        serving=Serving(Format.ONNX, "model.onnx"),
        conversion=Conversion(Format.ONNX, "equal", "proven", 10, 0, 1e-7, 1e-5),
        signature=Signature(
            (TensorSpec("input", Datatype.FP32, (-1, 2), columns),),
            (TensorSpec("label", Datatype.INT64, (-1,)),),
            task="classification",
        ),
        files=(FileEntry("model.onnx", "0" * 64, 3, "application/onnx"),),
        **changes,  # type: ignore[arg-type]
    )


def test_a_manifest_reads_as_it_was_written() -> None:
    """Every field comes back, and with it the digest."""
    written = manifest(lineage=Lineage(parameters={"depth": 3, "name": "x"}, seed=1))
    read = Manifest.decode(written.encode())
    assert read == written
    assert read.digest == written.digest


def test_one_value_has_one_spelling() -> None:
    """A default that was computed elsewhere is the same default, and is not written."""
    computed = Conversion(Format.ONNX, "native", "", int("0"), 0, float("0"), float("0"))
    default = Conversion(Format.ONNX, "native")
    one = msgspec.structs.replace(manifest(), conversion=computed)
    other = msgspec.structs.replace(manifest(), conversion=default)
    assert one.encode() == other.encode()
    assert b"tolerance" not in one.encode()
    assert b'"schema":"modelyard.bundle/1"' in one.encode()


@pytest.mark.parametrize(
    "change",
    [
        (b'"name":"churn"', b'"name": "churn"'),
        (b'"name":"churn"', b'"name":"churn","extra":1'),
        (b'"schema":"modelyard.bundle/1"', b'"schema":"modelyard.bundle/2"'),
        (b'"path":"model.onnx"', b'"path":"../model.onnx"'),
        (b'"path":"model.onnx"}', b'"path":"other.onnx"}'),
        (b'"name":"churn"', b'"name":"churn","kind":"predictive"'),
    ],
)
def test_any_other_spelling_is_refused(change: tuple[bytes, bytes]) -> None:
    """White space, unknown fields, another schema, bad paths, written defaults: all refused."""
    data = manifest().encode()
    assert change[0] in data
    with pytest.raises(Invalid):
        Manifest.decode(data.replace(*change))
