"""A classifier for any labels around one that wants 0, 1, 2 …, as XGBoost does."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted


def _estimator_has_proba(self: "LabelledClassifier") -> bool:
    return hasattr(getattr(self, "estimator_", self.estimator), "predict_proba")


class LabelledClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Encodes the labels as 0..k-1 in sorted order for `estimator`, and decodes its answers.

    A scikit-learn meta-estimator: `estimator_` is the fitted clone, `classes_` the labels.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, X: ArrayLike, y: ArrayLike, **fit_params: object) -> Self:  # noqa: N803
        """Fit a clone of the estimator on the encoded labels."""
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        self.estimator_ = clone(self.estimator).fit(X, codes, **fit_params)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:  # noqa: N803
        """The label of each row."""
        check_is_fitted(self)
        labels: NDArray[np.generic] = self.classes_[
            np.asarray(self.estimator_.predict(X), np.intp).reshape(-1)
        ]
        return labels

    @available_if(_estimator_has_proba)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating]:  # noqa: N803
        """One probability a class, in the order of `classes_`."""
        check_is_fitted(self)
        probabilities: NDArray[np.floating] = self.estimator_.predict_proba(X)
        return probabilities
