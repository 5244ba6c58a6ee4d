"""Fitted scikit-learn estimators, and XGBoost's and LightGBM's in scikit-learn's clothes."""

from typing import Any

from modelyard.bundle.bundle import Bundle
from modelyard.bundle.trust import check_skops
from modelyard.core.datatypes import Array
from modelyard.core.errors import Invalid, MissingExtra, ModelyardError
from modelyard.core.ports import Arrays
from modelyard.core.signature import Signature
from modelyard.core.table import PROBABILITIES
from modelyard.runtimes.answers import empty_outputs, shaped
from modelyard.runtimes.features import features_for
from modelyard.runtimes.sklearn_state import check_state
from modelyard.runtimes.steps import walk


class EstimatorRuntime:
    """A fitted estimator behind the runtime port. Never changes the estimator."""

    def __init__(self, model: Any, signature: Signature) -> None:
        self._model = model
        self._signature = signature
        self._features = features_for(model, signature)

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self._signature

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """One call of `predict`, and one of `predict_proba` where the signature has it."""
        rows = len(next(iter(inputs.values())))
        if rows == 0:
            # scikit-learn refuses empty tables; the protocol does not.
            return empty_outputs(self._signature)
        features = self._features(inputs)
        outputs: dict[str, Array] = {}
        for spec in self._signature.outputs:
            if spec.name == PROBABILITIES:
                values = self._model.predict_proba(features)
            else:
                values = self._model.predict(features)
            outputs[spec.name] = shaped(values, spec.datatype, len(spec.shape))
        return outputs

    def close(self) -> None:
        """Nothing is held beyond memory."""


def open_skops(bundle: Bundle, threads: int) -> EstimatorRuntime:
    """The runtime of a bundle whose serving file is skops."""
    model = load_skops(bundle.read(bundle.manifest.serving.path))
    for part in walk(model):
        if getattr(part, "n_jobs", 1) != threads and hasattr(part, "n_jobs"):
            part.n_jobs = threads
    return EstimatorRuntime(model, bundle.manifest.signature)


def load_skops(data: bytes) -> Any:
    """The estimator in a skops file, all of whose types are trusted."""
    trusted = check_skops(data)
    import skops.io

    try:
        model = skops.io.loads(data, trusted=trusted)
        check_state(model)
        return model
    except ModelyardError:
        raise
    except ImportError as error:
        missing = (error.name or "sklearn").partition(".")[0]
        raise MissingExtra(
            missing if missing in ("xgboost", "lightgbm") else "sklearn", "this model"
        ) from None
    except Exception as error:  # noqa: BLE001 - any failure to read hostile bytes is a refusal
        raise Invalid(
            "bad_skops",
            f"the skops file cannot be opened: {type(error).__name__}: {error!s:.200}",
        ) from None
