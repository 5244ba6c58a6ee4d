"""Tree converters that keep every threshold exact.

The stock converters round thresholds to float32. LightGBM and histogram boosting compare in
float64, so a value between the threshold and its rounding would take the other branch. ONNX-ML 3
can hold them in float64; the wrapper below puts them there on their way into the graph.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from modelyard.core.errors import MissingExtra
from modelyard.optimise.exact import convert_imputer, convert_modified_huber
from modelyard.optimise.forests import convert_forest, is_forest
from modelyard.runtimes.steps import walk

Converter = Callable[[Any, Any, Any], None]

_FLOATS: Final = (
    "nodes_values", "nodes_hitrates", "class_weights", "target_weights", "base_values",
)  # fmt: skip
_VERSION: Final = 3
_DOUBLE: Final = 11


def tree_converters(model: Any) -> dict[type, Converter]:
    """Converters for the parts of a model that need one of ours, by type."""
    found: dict[type, Converter] = {}
    for part in walk(model):
        kind = type(part)
        if kind.__module__.startswith(("xgboost.", "lightgbm.")):
            _register(kind)
        elif _ours(part) is not None:
            found[kind] = _choose
    return found


def _choose(scope: Any, operator: Any, container: Any) -> None:
    """Ours where it fits this very part, the stock converter for others of its type."""
    part = operator.raw_operator
    converter = _ours(part) or _stock(type(part))
    converter(scope, operator, container)


def _ours(part: Any) -> Converter | None:
    name = type(part).__name__
    if is_forest(part):
        return convert_forest
    if name == "SimpleImputer" and _is_plain_imputer(part):
        return convert_imputer
    if name == "SGDClassifier" and part.loss == "modified_huber":
        return convert_modified_huber
    if name.startswith("HistGradientBoosting"):
        return _exact(_stock(type(part)), _thresholds(part))
    return None


def _is_plain_imputer(part: Any) -> bool:
    return (
        part.statistics_.dtype.kind == "f"
        and not np.isnan(part.statistics_).any()
        and isinstance(part.missing_values, float)
        and bool(np.isnan(part.missing_values))
    )


def _stock(kind: type) -> Converter:
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common._registration import get_converter

    converter: Converter = get_converter(sklearn_operator_name_map[kind])
    return converter


def _register(kind: type) -> None:
    """Teach skl2onnx a framework that it does not know; its registry is global, so only once."""
    from skl2onnx import update_registered_converter
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    if kind in sklearn_operator_name_map:
        return
    is_classifier = hasattr(kind, "predict_proba")
    update_registered_converter(
        kind,
        f"Modelyard{kind.__name__}",
        calculate_linear_classifier_output_shapes
        if is_classifier
        else calculate_linear_regressor_output_shapes,
        _foreign(kind.__module__.partition(".")[0]),
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]}
        if is_classifier
        else None,
    )


def _foreign(framework: str) -> Converter:
    try:
        if framework == "xgboost":
            from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

            return convert_xgboost  # type: ignore[no-any-return]
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    except ImportError:
        raise MissingExtra(framework, "converting this model") from None
    return _exact(convert_lightgbm)


def _thresholds(boosting: Any) -> "np.ndarray[Any, Any]":
    """Every threshold of a histogram boosting, in the order in which skl2onnx writes its nodes."""
    nodes = [tree.nodes for rounds in boosting._predictors for tree in rounds]
    return np.concatenate([np.where(each["is_leaf"], 0.0, each["num_threshold"]) for each in nodes])


def _exact(converter: Converter, thresholds: "np.ndarray[Any, Any] | None" = None) -> Converter:
    def convert(scope: Any, operator: Any, container: Any) -> None:
        if type(operator.inputs[0].type).__name__ == "DoubleTensorType":
            container = _ExactContainer(container, thresholds)
        converter(scope, operator, container)

    return convert


class _ExactContainer:
    """A converter's container whose tree nodes keep their numbers in float64."""

    def __init__(self, container: Any, thresholds: "np.ndarray[Any, Any] | None") -> None:
        self._container = container
        self._thresholds = thresholds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, op_type: str, inputs: Any, outputs: Any, **attributes: Any) -> None:
        if not op_type.startswith("TreeEnsemble"):
            self._container.add_node(op_type, inputs, outputs, **attributes)
            return
        if self._thresholds is not None:
            attributes["nodes_values"] = self._thresholds
        attributes = _as_tensors(attributes) | {"op_version": _VERSION}
        names = [outputs] if isinstance(outputs, str) else list(outputs)
        declared, names[-1] = names[-1], f"{names[-1]}_single"
        self._container.add_node(op_type, inputs, names, **attributes)
        # The operator answers float32 whatever it is fed; what follows was promised float64.
        self._container.add_node(
            "Cast", [names[-1]], [declared], name=f"{declared}_widened", to=_DOUBLE
        )


def _as_tensors(attributes: dict[str, Any]) -> dict[str, Any]:
    from onnx import numpy_helper

    kept = {name: value for name, value in attributes.items() if name not in _FLOATS}
    for name in _FLOATS:
        values = attributes.get(name)
        if values is not None and len(values):
            numbers = np.asarray(values, np.float64).reshape(-1)
            kept[f"{name}_as_tensor"] = numpy_helper.from_array(numbers)
    return kept
