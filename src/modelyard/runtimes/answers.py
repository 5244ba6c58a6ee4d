"""What native models answer, as the tensors that a signature names."""

import numpy as np

from modelyard.core.datatypes import Array, Datatype
from modelyard.core.signature import Signature
from modelyard.core.table import LABEL, PREDICTION, PROBABILITIES


def empty_outputs(signature: Signature) -> dict[str, Array]:
    """The outputs for no rows at all."""
    return {
        spec.name: np.empty([max(length, 0) for length in spec.shape], spec.datatype.dtype)
        for spec in signature.outputs
    }


def shaped(values: object, datatype: Datatype, rank: int) -> Array:
    """An estimator's answer as a tensor: strings as `str` objects, one column where rank is 2."""
    array = np.asarray(values)
    if rank == 2 and array.ndim == 1:
        array = array.reshape(-1, 1)
    if rank == 1 and array.ndim == 2:
        array = array.reshape(-1)
    if datatype is Datatype.BYTES:
        return array.astype(str).astype(object)
    return array.astype(datatype.dtype, copy=False)


def from_scores(signature: Signature, scores: Array) -> dict[str, Array]:
    """A booster's scores as outputs: one probability a class, or one value a row.

    `scores` is `[rows]` for a regression or the second of two classes, else `[rows, k]`.
    """
    probabilities = signature.output(PROBABILITIES)
    if probabilities is None:
        spec = signature.outputs[0]
        return {PREDICTION: shaped(scores, spec.datatype, len(spec.shape))}
    if scores.ndim == 1:
        winners = (scores > 0.5).astype(np.intp)
        scores = np.column_stack((1 - scores, scores))
    else:
        winners = scores.argmax(axis=1)
    return {
        LABEL: class_values(signature)[winners],
        PROBABILITIES: shaped(scores, probabilities.datatype, 2),
    }


def class_values(signature: Signature) -> Array:
    """The labels of a classifier, by the index of their class."""
    label, probabilities = signature.output(LABEL), signature.output(PROBABILITIES)
    assert label is not None  # noqa: S101 - a signature with probabilities names labels
    assert probabilities is not None  # noqa: S101
    names = [column.name for column in probabilities.columns]
    if label.datatype is Datatype.BYTES:
        return np.array(names, object)
    return np.array([int(name) for name in names], label.datatype.dtype)
