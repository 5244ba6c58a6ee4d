import io
import json
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
import tritonclient.grpc
import tritonclient.http

from modelyard.client.tables import to_tensors
from modelyard.core.datatypes import Datatype
from modelyard.core.names import Reference
from modelyard.core.signature import Signature
from tests.e2e.conftest import Command
from tests.e2e.serving.conftest import Place
from tests.zoo import ZOO, Case, load

TOLERANCE = 1e-5
Answers = dict[str, np.ndarray]
_THROUGH_THE_SERVER_TOO = {"mixed_strings", "mixed_regression", "iris_named"}


def expected(estimator: object, table: object) -> dict[str, np.ndarray]:
    """What the estimator itself says of the rows."""
    said = np.asarray(estimator.predict(table))  # type: ignore[attr-defined]
    if not hasattr(estimator, "classes_"):
        return {"prediction": said.reshape(-1, 1)}
    answers = {"label": said}
    if hasattr(estimator, "predict_proba"):
        answers["probabilities"] = np.asarray(estimator.predict_proba(table))
    return answers


def assert_equal(wanted: dict[str, np.ndarray], got: dict[str, np.ndarray]) -> None:
    """Labels identical; numbers within the stated tolerance, relative to the larger of 1."""
    assert wanted.keys() == got.keys()
    for name, values in wanted.items():
        if name == "label":
            assert [str(value) for value in got[name]] == [_as_sent(value) for value in values]
        else:
            difference = np.abs(got[name].astype(np.float64) - values)
            assert (difference <= TOLERANCE * np.maximum(1, np.abs(values))).all()


def _as_sent(label: object) -> str:
    # Booleans travel as 0 and 1, like every label that is a number.
    return str(int(label)) if isinstance(label, bool | np.bool_) else str(label)


def over_json(
    place: Place, name: str, signature: Signature, table: object
) -> dict[str, np.ndarray]:
    """tritonclient with JSON tensors both ways."""
    inputs = []
    for tensor, array in to_tensors(signature, table).items():
        sent = tritonclient.http.InferInput(
            tensor, list(array.shape), Datatype.of(array.dtype).value
        )
        sent.set_data_from_numpy(array, binary_data=False)
        inputs.append(sent)
    outputs = [
        tritonclient.http.InferRequestedOutput(spec.name, binary_data=False)
        for spec in signature.outputs
    ]
    with tritonclient.http.InferenceServerClient(_address(place)) as client:
        answer = client.infer(name, inputs, outputs=outputs)
        return {spec.name: answer.as_numpy(spec.name) for spec in signature.outputs}


def over_grpc(
    place: Place, name: str, signature: Signature, table: object
) -> dict[str, np.ndarray]:
    """tritonclient over gRPC, which sends raw tensors."""
    inputs = []
    for tensor, array in to_tensors(signature, table).items():
        sent = tritonclient.grpc.InferInput(
            tensor, list(array.shape), Datatype.of(array.dtype).value
        )
        sent.set_data_from_numpy(array)
        inputs.append(sent)
    with tritonclient.grpc.InferenceServerClient(place.server.grpc_address) as client:
        answer = client.infer(name, inputs)
        return {
            spec.name: _text(answer.as_numpy(spec.name), spec.datatype)
            for spec in signature.outputs
        }


def over_rows(place: Place, name: str, table: pd.DataFrame, wanted: Answers) -> Answers:
    """Rows as JSON objects, null for what is missing."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    response = httpx.post(f"{place.server.url}/predict/{name}", json=rows)
    assert response.status_code == 200, response.text
    said = response.json()
    if "prediction" in wanted:
        return {"prediction": np.array(said["predictions"]).reshape(-1, 1)}
    answers = {"label": np.array(said["predictions"])}
    if "probabilities" in wanted:
        answers["probabilities"] = np.array([list(row.values()) for row in said["probabilities"]])
    return answers


def _text(array: np.ndarray, datatype: Datatype) -> np.ndarray:
    if datatype is not Datatype.BYTES:
        return array
    return np.array([value.decode() for value in array], object)


def _address(place: Place) -> str:
    return place.server.url.removeprefix("http://")


@pytest.mark.parametrize("case", ZOO, ids=str)
def test_every_road_gives_the_estimators_own_answer(
    place: Place, case: Case, tmp_path: Path
) -> None:
    """HTTP with JSON, binary and rows, gRPC, the command line and `load` equal the estimator."""
    estimator, data = case.fit(), load(case.dataset)
    table = data.test
    name = str(case).replace("_", "-")
    place.publish(estimator, name=name, sample=data.train)
    conversion = place.yard.bundle(Reference(name)).manifest.conversion
    assert conversion.verdict == ("equal" if case.onnx else "unequal"), conversion.reason
    wanted = expected(estimator, table)
    with place.yard.load(Reference(name)) as local:
        signature = local.signature
        assert_equal(wanted, local.infer(to_tensors(signature, table)))
    assert_equal(wanted, place.client.infer(name, to_tensors(signature, table)))
    assert_equal(wanted, over_json(place, name, signature, table))
    assert_equal(wanted, over_grpc(place, name, signature, table))
    if isinstance(table, pd.DataFrame):
        assert_equal(wanted, over_rows(place, name, table, wanted))
    names = [column.name for column in signature.columns]
    rows = pd.DataFrame(table, columns=None if isinstance(table, pd.DataFrame) else names)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    roads = [["--server", place.server.url]] if case.dataset in _THROUGH_THE_SERVER_TOO else []
    for options in ([], *roads):
        done = Command(place.yard.config.home)(
            "predict", name, "--input", tmp_path / "rows.csv", *options
        )
        assert_equal(wanted, _read_answers(done.stdout, wanted))


def _read_answers(printed: bytes, wanted: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    lines = [json.loads(line) for line in io.BytesIO(printed)]
    said = np.array([line["prediction"] for line in lines])
    if "prediction" in wanted:
        return {"prediction": said.reshape(-1, 1)}
    answers = {"label": said}
    if "probabilities" in wanted:
        answers["probabilities"] = np.array(
            [list(line["probabilities"].values()) for line in lines]
        )
    return answers
