"""From a fitted model in memory to a bundle: infer, keep natively, convert, prove, build."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelyard.bundle.builder import BundleBuilder
from modelyard.bundle.bundle import Bundle
from modelyard.bundle.manifest import (
    Card,
    Conversion,
    Evaluation,
    Format,
    Framework,
    Lineage,
    Serving,
)
from modelyard.core.datatypes import Array
from modelyard.core.errors import Invalid, MissingExtra, ModelyardError, UntrustedFormat
from modelyard.core.names import check_name
from modelyard.core.ports import Arrays, Runtime
from modelyard.core.signature import Signature
from modelyard.optimise.ladder import Converted, convert_proven
from modelyard.optimise.parity import compare, prove_equal
from modelyard.packaging import boosters, lightgbm, sklearn, xgboost
from modelyard.packaging.detect import Kind, detect
from modelyard.packaging.extras import Extras, add_samples, complete
from modelyard.packaging.native import Native, framework, packages
from modelyard.packaging.onnx import package_onnx
from modelyard.packaging.pickles import load_pickle
from modelyard.packaging.provenance import provenance
from modelyard.packaging.signature import answers, as_frame, infer_signature, to_tensors
from modelyard.runtimes.answers import shaped
from modelyard.runtimes.lightgbm import load_booster as load_lightgbm
from modelyard.runtimes.onnx import OnnxRuntime, open_session
from modelyard.runtimes.sklearn import EstimatorRuntime, load_skops
from modelyard.runtimes.steps import last_step
from modelyard.runtimes.xgboost import load_booster as load_xgboost

if TYPE_CHECKING:
    import pandas as pd

ONNX_PATH: Final = "model.onnx"


def package_estimator(
    model: object,
    *,
    name: str,
    sample: "pd.DataFrame | np.ndarray[Any, Any] | None",
    staging: Path,
    lineage: Lineage | None = None,
    evaluation: Evaluation | None = None,
    card: Card | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Bundle:
    """A bundle of a fitted scikit-learn, XGBoost or LightGBM model, built in `staging`.

    `sample` holds real rows as a caller would send them, missing values included: its columns and
    types become the signature, and a conversion to ONNX serves only if it gives the model's own
    answers on all of them. Only a bare booster does without. Raises `Invalid` for a model that
    fails on its sample, and `UntrustedFormat` for one that no safe format can hold.
    """
    check_name(name)
    extras = Extras(lineage, evaluation, card, files or {})
    if boosters.is_booster(model):
        return _package_booster(model, name, sample, staging, extras)
    if sample is None:
        raise Invalid(
            "missing_sample", "give a sample: some real rows of the model's table", field="sample"
        )
    if not hasattr(model, "predict"):
        raise Invalid(
            "unknown_model",
            f"a {type(model).__name__} has no 'predict'; Modelyard packages fitted estimators of "
            "scikit-learn, XGBoost and LightGBM, and ONNX files",
        )
    frame = as_frame(model, sample)
    extras = replace(extras, lineage=lineage or provenance(model, frame))
    outputs = answers(model, frame)
    signature = infer_signature(model, frame, outputs)
    inputs = to_tensors(signature, frame)
    reference = EstimatorRuntime(model, signature)
    _check_table(reference, signature, inputs, outputs)
    native = _native(model, signature, reference, inputs)
    converted = _convert(model, reference, inputs)
    return build(
        name, staging, extras, framework_of(model), native, converted, inputs, packages_of(model)
    )


def _package_booster(
    booster: Any, name: str, sample: object, staging: Path, extras: Extras
) -> Bundle:
    native, inputs, estimator = boosters.prepare(booster, sample)
    converted = _convert(estimator, native.runtime, inputs)
    return build(
        name,
        staging,
        extras,
        framework_of(estimator),
        native,
        converted,
        inputs if sample is not None else {},
        packages_of(estimator),
    )


def _check_table(
    reference: Runtime, signature: Signature, inputs: Arrays, outputs: Mapping[str, Array]
) -> None:
    """The table as tensors must give what the table itself gave."""
    expected = {
        spec.name: shaped(outputs[spec.name], spec.datatype, len(spec.shape))
        for spec in signature.outputs
    }
    try:
        parity = compare(expected, reference.run(inputs))
    except Exception as error:
        raise Invalid(
            "unfaithful_table",
            "the model fails once its table is turned into tensors: "
            f"{type(error).__name__}: {error!s:.200}",
            field="sample",
        ) from error
    if not parity.is_equal:
        raise Invalid(
            "unfaithful_table",
            "the model answers differently once its table is turned into tensors "
            f"({parity.complaint}); publish it with plain text and number columns",
            field="sample",
        )


def _native(
    model: Any, signature: Signature, reference: Runtime, inputs: Arrays
) -> Native | ModelyardError:
    """The model in its framework's own file, if that file gives the same answers when reopened."""
    try:
        native = None
        if xgboost.is_estimator(model):
            native = xgboost.from_estimator(model, signature)
        elif lightgbm.is_estimator(model):
            native = lightgbm.from_estimator(model, signature)
        native = native or sklearn.as_skops(model, signature)
        parity = prove_equal(reference, native.runtime, inputs)
    except (Invalid, UntrustedFormat) as error:
        return error
    if parity.is_equal:
        return native
    return Invalid(
        "no_safe_format",
        f"the model answers differently once written to {native.path}: {parity.complaint}",
    )


def _convert(model: Any, reference: Runtime, inputs: Arrays) -> Converted:
    try:
        return convert_proven(model, reference, inputs)
    except MissingExtra as error:
        return Converted(Conversion(Format.ONNX, "unsupported", error.message))


def build(
    name: str,
    staging: Path,
    extras: Extras,
    made_with: Framework,
    native: Native | ModelyardError,
    converted: Converted,
    inputs: Arrays,
    versions: Mapping[str, str],
) -> Bundle:
    """The bundle: ONNX serves where it was proven, the native file otherwise."""
    builder = BundleBuilder(staging)
    for path, data in extras.files.items():
        builder.add(path, data)
    if isinstance(native, Native):
        builder.add(native.path, native.data)
    if converted.graph is not None and converted.signature is not None:
        builder.add(ONNX_PATH, converted.graph)
        serving = Serving(Format.ONNX, ONNX_PATH)
        runtime: Runtime = OnnxRuntime(open_session(converted.graph), converted.signature)
    elif isinstance(native, Native):
        serving, runtime = Serving(native.format, native.path), native.runtime
    else:
        raise type(native)(
            native.code,
            f"{native.message}; and it does not convert to ONNX: {converted.verdict.reason}",
            field=native.field,
        )
    samples = add_samples(builder, runtime, inputs)
    return builder.build(
        name=name,
        framework=made_with,
        serving=serving,
        conversion=converted.verdict,
        signature=runtime.signature,
        lineage=complete(extras.lineage, versions),
        evaluation=extras.evaluation,
        samples=samples,
        card=extras.card,
    )


def framework_of(model: object) -> Framework:
    """What decides in the model: the framework of a pipeline's last step."""
    last = last_step(model)
    if xgboost.is_estimator(last):
        return framework("xgboost", ("xgboost", "xgboost-cpu"))
    if lightgbm.is_estimator(last):
        return framework("lightgbm")
    return framework("sklearn", ("scikit-learn",))


def packages_of(model: object) -> dict[str, str]:
    """The versions of the packages that matter for this model."""
    names = set(sklearn.PACKAGES)
    last = last_step(model)
    if xgboost.is_estimator(last):
        names |= set(xgboost.PACKAGES)
    if lightgbm.is_estimator(last):
        names |= set(lightgbm.PACKAGES)
    return packages(sorted(names))


def package_file(
    path: Path,
    *,
    name: str,
    sample: Any = None,
    staging: Path,
    trust_pickle: bool = False,
    lineage: Lineage | None = None,
    evaluation: Evaluation | None = None,
    card: Card | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Bundle:
    """A bundle of a model file: ONNX, skops, XGBoost, LightGBM, or a pickle where that is trusted.

    `sample` is a table, or arrays by input name for ONNX; ONNX and bare boosters do without one.
    Raises `Invalid` for a file that is not what it says, `UntrustedFormat` for one that runs code.
    """
    check_name(name)
    kind = detect(path)
    if kind is Kind.ONNX:
        extras = Extras(lineage, evaluation, card, files or {})
        return package_onnx(path, name=name, sample=sample, staging=staging, extras=extras)
    return package_estimator(
        _load(path, kind, trust_pickle),
        name=name,
        sample=sample,
        staging=staging,
        lineage=lineage,
        evaluation=evaluation,
        card=card,
        files=files,
    )


def _load(path: Path, kind: Kind, trust_pickle: bool) -> object:
    if kind is Kind.PICKLE:
        return load_pickle(path, trust=trust_pickle)
    data = path.read_bytes()
    if kind is Kind.SKOPS:
        return load_skops(data)
    if kind is Kind.XGBOOST:
        return load_xgboost(data)
    return load_lightgbm(data)
