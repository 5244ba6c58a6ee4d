"""What is done for a whole batch at once equals what is done for each call alone."""

import json
from unittest import mock

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelyard.api.http import floats
from modelyard.api.http.floats import FloatReader
from modelyard.api.http.oip import OipCodec
from modelyard.core.call import Call
from modelyard.core.datatypes import Datatype
from modelyard.core.errors import Invalid
from modelyard.core.outputs import BatchOutputs, Part
from modelyard.core.signature import Column, Signature, TensorSpec
from modelyard.testing.serving import FunctionRuntime, endpoint_of


@given(st.data())
def test_an_answer_written_with_its_batch_is_the_one_written_alone(data: st.DataObject) -> None:
    """Byte for byte, for every datatype, one or two axes, whatever the numbers."""
    rows = data.draw(st.integers(1, 6), label="rows")
    outputs, specs = {}, []
    for name in data.draw(st.lists(st.sampled_from("abc"), min_size=1, unique=True)):
        datatype = data.draw(st.sampled_from(list(Datatype)))
        width = data.draw(st.sampled_from([None, 1, 3]))
        shape = (rows,) if width is None else (rows, width)
        if datatype is Datatype.BYTES:
            array = data.draw(arrays.arrays(object, shape, elements=st.text("ab\n],[", max_size=4)))
        else:
            array = data.draw(arrays.arrays(datatype.dtype, shape))
        outputs[name] = array
        specs.append(TensorSpec(name, datatype, (-1, *shape[1:])))
    signature = Signature((TensorSpec("x", Datatype.FP32, (-1, 1)),), tuple(specs))
    served = endpoint_of(FunctionRuntime(signature, lambda inputs: inputs))
    codec = OipCodec(served)
    question = codec.read({}, orjson.dumps({"inputs": [_tensor([1, 1], [0.0])]}))
    batch = BatchOutputs(outputs, is_row_each=True)
    for row in range(rows):
        together = Call(served, {}, 1, lambda call: None)
        together.answer(Part(batch, row, row + 1))
        alone = Call(served, {}, 1, lambda call: None)
        alone.answer({name: array[row : row + 1] for name, array in outputs.items()})
        assert question.write(together) == question.write(alone)


def test_a_part_is_its_rows_by_name() -> None:
    """A call's part of a batch holds views of its rows."""
    array = np.arange(6, dtype=np.float32)
    part = Part(BatchOutputs({"y": array}, is_row_each=False), 2, 5)
    assert dict(part) == {"y": pytest.approx(array[2:5])}
    assert len(part) == 1
    assert np.shares_memory(part["y"], array)


def _tensor(shape: object, data: object, datatype: str = "FP32") -> dict[str, object]:
    return {"name": "x", "datatype": datatype, "shape": shape, "data": data}


FLOATS = [Datatype.FP16, Datatype.FP32, Datatype.FP64]


@pytest.mark.parametrize("long_from", [0, 2048])
@given(st.sampled_from(FLOATS), st.sampled_from([-1, 2]), st.booleans(), st.data())
def test_a_float_tensor_is_read_as_the_long_way_reads_it(
    long_from: int, datatype: Datatype, width: int, nullable: bool, data: st.DataObject
) -> None:
    """Same array or same refusal, whatever shape and numbers come."""
    columns = ()
    if width > 0:
        columns = tuple(Column(f"c{n}", datatype, nullable=nullable) for n in range(width))
    signature = Signature((TensorSpec("x", datatype, (-1, width), columns),), ())
    shape = data.draw(st.sampled_from([[1, 2], [2, 2], [1, 3], [2], [0, 2], [1, -2], [1, 2.0]]))
    number = st.floats(allow_nan=False, allow_infinity=False)
    other = st.sampled_from([None, True, "1", 10**400, [1.0]])
    values = data.draw(st.lists(number, max_size=5) | st.lists(number | other, max_size=3))
    body = json.dumps({"inputs": [_tensor(shape, values, datatype)]}).encode()
    long = OipCodec(endpoint_of(FunctionRuntime(signature, lambda inputs: inputs)))
    long._floats = None
    with mock.patch.object(floats, "_LONG", long_from):
        short = _outcome(lambda: FloatReader(signature).read(body), long, body)
    assert short == _outcome(lambda: None, long, body)


def _outcome(read: object, long: OipCodec, body: bytes) -> object:
    try:
        short = read()  # type: ignore[operator]
        if short is None:
            question = long.read({}, body)
            short = question.inputs, question.rows
    except Invalid as refusal:
        # Where two things are wrong, either may be said.
        return "refused", refusal.field
    (array,) = short[0].values()
    return array.dtype, array.shape, array.tobytes(), short[1]
