"""What is kept of a call, and what is gone before anything is written."""

import json
from typing import Any

import numpy as np
import pytest

from modelyard.core.datatypes import Datatype
from modelyard.core.policy import Capture
from modelyard.core.signature import Column, Signature, TensorSpec
from modelyard.gateway.capture.document import Content, Recipe, UnattributableError

_TABLE = Signature(
    inputs=(
        TensorSpec(
            "numbers",
            Datatype.FP32,
            (-1, 2),
            (Column("age", Datatype.FP32, nullable=True), Column("customer", Datatype.FP32)),
        ),
        TensorSpec(
            "texts",
            Datatype.BYTES,
            (-1, 2),
            (Column("email", Datatype.BYTES), Column("city", Datatype.BYTES)),
        ),
    ),
    outputs=(TensorSpec("label", Datatype.BYTES, (-1,)),),
)
_TENSORS = Signature(
    inputs=(TensorSpec("x", Datatype.FP16, (-1, 2)), TensorSpec("doc", Datatype.BYTES, (-1, 1))),
    outputs=(TensorSpec("y", Datatype.INT64, (-1,)),),
)


def _table() -> Content:
    return Content(
        _TABLE,
        {
            "numbers": np.array([[30, 7], [np.nan, 8], [50, 7]], np.float32),
            "texts": np.array(
                [["ann@example.org", "Bern"], ["bob@example.org", "Rome"], ["x@y", "Oslo"]], object
            ),
        },
        {"label": np.array(["stays", "leaves", "stays"], object)},
        3,
    )


def _tensors(*documents: object) -> Content:
    texts = [each if isinstance(each, str) else json.dumps(each) for each in documents]
    return Content(
        _TENSORS,
        {
            "x": np.ones((len(texts), 2), np.float16),
            "doc": np.array(texts, object).reshape(-1, 1),
        },
        {"y": np.arange(len(texts))},
        len(texts),
    )


def _parts(content: Content, **capture: Any) -> dict[str, Any]:
    recipe = Recipe(Capture(models="*", share=100.0, **capture))
    return {part.subject: json.loads(part.document) for part in recipe.parts(content)}


def test_a_document_has_tensors_by_name_and_columns_by_theirs() -> None:
    """Datatype, shape and values; a missing number is null."""
    document = _parts(_table())[""]
    assert document["inputs"]["numbers"] == {
        "datatype": "FP32",
        "shape": [3, 2],
        "columns": {"age": [30.0, None, 50.0], "customer": [7.0, 8.0, 7.0]},
    }
    assert document["outputs"]["label"]["data"] == ["stays", "leaves", "stays"]
    plain = _parts(_tensors("a"))[""]
    assert plain["inputs"]["x"] == {"datatype": "FP16", "shape": [1, 2], "data": [[1.0, 1.0]]}


def test_a_call_that_failed_is_kept_with_its_code() -> None:
    """There are no outputs; the error's words may quote what was sent, so only its code stays."""
    content = _table()
    failed = Content(content.signature, content.inputs, None, 3, "model_refused")
    document = _parts(failed)[""]
    assert "outputs" not in document
    assert document["error"] == "model_refused"


@pytest.mark.parametrize(
    "redact",
    [
        ("email",),
        ("texts",),
        ("$.inputs.texts",),
        ("$.inputs.texts.email",),
        ("$.inputs.texts[*].email",),
        ("$.inputs['texts']['email']", "city"),
    ],
)
def test_what_a_policy_names_is_gone(redact: tuple[str, ...]) -> None:
    """By a column's name, a tensor's name or a path; the rest is there, and it says what is not."""
    document = _parts(_table(), redact=redact)[""]
    assert "example.org" not in json.dumps(document)
    assert document["inputs"]["numbers"]["columns"]["customer"] == [7.0, 8.0, 7.0]
    assert document["redacted"] == list(redact)


def test_an_output_is_redacted_alike() -> None:
    """By its name or by a path."""
    for redact in ("label", "$.outputs.label"):
        assert _parts(_table(), redact=(redact,))[""]["outputs"] == {}


def test_a_path_goes_into_texts_that_are_json() -> None:
    """Members are taken away, through lists too, and what lies beside them stays."""
    content = _tensors(
        {"name": "ann", "people": [{"mail": "m1", "age": 3}, {"mail": "m2"}], "kept": 1},
        [{"name": "bob", "kept": 2}],
    )
    document = _parts(content, redact=("$.inputs.doc.name", "$.inputs.doc[*].people[*].mail"))[""]
    assert document["inputs"]["doc"]["data"] == [
        [{"people": [{"age": 3}, {}], "kept": 1}],
        [[{"kept": 2}]],
    ]


@pytest.mark.parametrize("text", ["no json, planted", '"planted"', '{"name": "planted"', "1"])
def test_a_text_that_cannot_be_read_cannot_be_redacted_and_goes_whole(text: str) -> None:
    """Rather too much is gone than too little."""
    document = _parts(_tensors(text, {"kept": 1}), redact=("$.inputs.doc.name",))[""]
    assert document["inputs"]["doc"]["data"] == [[None], [{"kept": 1}]]


def test_rows_are_told_apart_by_whom_they_are_about() -> None:
    """A call of many rows becomes one document for each subject, so that each can be erased."""
    parts = _parts(_table(), subject="customer", redact=("email",))
    assert list(parts) == ["7", "8"]
    assert parts["7"]["inputs"]["numbers"]["columns"]["age"] == [30.0, 50.0]
    assert parts["8"]["inputs"]["texts"]["columns"] == {"city": ["Rome"]}
    assert parts["8"]["outputs"]["label"] == {"datatype": "BYTES", "shape": [1], "data": ["leaves"]}


def test_a_subject_may_lie_in_a_json_text() -> None:
    """Found by its path; a number there is the same subject as the text of it."""
    content = _tensors({"who": {"id": 42}}, {"who": {"id": "42"}}, {"who": {"id": "x"}})
    assert list(_parts(content, subject="$.inputs.doc.who.id")) == ["42", "x"]


@pytest.mark.parametrize(
    ("content", "subject"),
    [
        (_table(), "age"),
        (_table(), "no_such_column"),
        (_table(), "label"),
        (_tensors({"who": "ann"}, {}), "$.inputs.doc.who"),
        (_tensors("no json"), "$.inputs.doc.who"),
        (_tensors({"who": ["ann"]}), "$.inputs.doc.who"),
        (_tensors({"who": "ann"}), "x"),
    ],
)
def test_what_is_about_nobody_known_is_not_kept(content: Content, subject: str) -> None:
    """Where a policy names a subject, a row without one could never be erased."""
    with pytest.raises(UnattributableError):
        _parts(content, subject=subject)


def test_a_call_that_cannot_be_taken_apart_may_be_about_one_only() -> None:
    """Rows of a model that is not batched influence each other."""
    signature = Signature(_TENSORS.inputs, _TENSORS.outputs, batched=False)
    one = _tensors({"who": "ann"})
    content = Content(signature, one.inputs, one.outputs, 1)
    assert list(_parts(content, subject="$.inputs.doc.who")) == ["ann"]
