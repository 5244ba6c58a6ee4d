"""scikit-learn estimators and pipelines at rest: skops."""

from typing import Any

from modelyard.bundle.manifest import Format
from modelyard.core.errors import Invalid, MissingExtra
from modelyard.core.signature import Signature
from modelyard.packaging.native import Native
from modelyard.runtimes.sklearn import EstimatorRuntime, load_skops

PATH = "model.skops"
PACKAGES = ("scikit-learn", "scipy", "pandas", "skops", "skl2onnx", "onnx")


def as_skops(model: Any, signature: Signature) -> Native:
    """The estimator as a skops file that only names trusted types.

    Raises `UntrustedFormat` for types of other libraries, `Invalid` where skops cannot write it.
    """
    try:
        import skops.io
    except ImportError:
        raise MissingExtra("sklearn", "packaging an estimator") from None
    try:
        data: bytes = skops.io.dumps(model)
    except Exception as error:  # noqa: BLE001 - skops raises what its parts raise
        raise Invalid(
            "no_safe_format",
            f"skops cannot write this estimator: {type(error).__name__}: {error!s:.200}",
        ) from None
    return Native(Format.SKOPS, PATH, data, EstimatorRuntime(load_skops(data), signature))
