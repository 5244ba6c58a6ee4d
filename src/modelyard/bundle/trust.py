"""What may be opened here: by the home's policy, and by what each format can do.

Loading goes: verify digests, `check_policy`, then the check of the format, and then construct.

ONNX, XGBoost and LightGBM files are data: their readers build no Python objects. A skops file
names Python types, so every name must be on the list here; the list is never read from the file.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from modelyard.bundle.manifest import Manifest
from modelyard.core.errors import Denied, Invalid, MissingExtra, UntrustedFormat
from modelyard.core.policy import Policy

EXTERNAL_DATA: Final = "application/vnd.onnx.external-data"
"""Media type of a file that holds weights of the ONNX model beside it."""

KNOWN_DOMAINS: Final = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training", "com.microsoft"}
)
"""Operator domains that a stock onnxruntime implements itself."""

_SMALL_BYTES: Final = 64 * 1024 * 1024
_MOST_GROWTH: Final = 100
"""How many times its size a compressed file may become; real models stay far below."""

_DISTANCES: Final = (
    "BrayCurtis", "Canberra", "Chebyshev", "Dice", "Euclidean", "Hamming", "Haversine", "Jaccard",
    "Mahalanobis", "Manhattan", "Minkowski", "RogersTanimoto", "RussellRao", "SEuclidean",
    "SokalMichener", "SokalSneath", "Yule",
)  # fmt: skip
TRUSTED_TYPES: Final = frozenset(
    {
        "builtins.bytearray",
        "collections.OrderedDict",
        "collections.defaultdict",
        "functools.partial",
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRanker",
        "lightgbm.sklearn.LGBMRegressor",
        "modelyard.packaging.labels.LabelledClassifier",
        "numpy.dtype",
        "scipy.interpolate._bsplines.BSpline",
        "scipy.sparse._csc.csc_matrix",
        "scipy.sparse._csr.csr_matrix",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.cluster._bisect_k_means._BisectingTree",
        "sklearn.cluster._kmeans._kmeans_single_lloyd",
        "sklearn.compose._column_transformer._RemainderColsList",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.Matern",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
        "sklearn.utils.validation.check_array",
        "xgboost.core.Booster",
        "xgboost.sklearn.XGBClassifier",
        "xgboost.sklearn.XGBRFClassifier",
        "xgboost.sklearn.XGBRFRegressor",
        "xgboost.sklearn.XGBRanker",
        "xgboost.sklearn.XGBRegressor",
    }
    | {
        f"sklearn.metrics._dist_metrics.{name}Distance{bits}"
        for name in _DISTANCES
        for bits in ("", "32", "64")
    }
)
"""What a skops file may name beyond skops' own defaults: fitted parts that only compute."""


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What of a home's policy decides whether a bundle may be loaded. Travels between processes."""

    require_signature: bool = False
    trusted_keys: tuple[str, ...] = ()
    frameworks: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()

    @staticmethod
    def of(policy: Policy) -> "Trust":
        """That part of a policy."""
        return Trust(
            require_signature=policy.require_signature,
            trusted_keys=policy.trusted_keys,
            frameworks=policy.frameworks,
            formats=policy.formats,
        )


ANYTHING: Final = Trust()


def check_kind(manifest: Manifest, trust: Trust) -> None:
    """Refuse a framework or a format that the policy does not name, where it names some.

    The framework is what the manifest says of itself: only a signature makes that more than a word.
    """
    framework, format = manifest.framework.name, str(manifest.serving.format)
    if trust.frameworks and framework not in trust.frameworks:
        raise Denied(
            "framework_not_allowed",
            f"the model was made with '{framework:.80}', and this home's policy allows only "
            f"{', '.join(trust.frameworks)}",
            field="framework",
        )
    if trust.formats and format not in trust.formats:
        raise Denied(
            "format_not_allowed",
            f"the model is served from a file of the format '{format}', and this home's policy "
            f"allows only {', '.join(trust.formats)}",
            field="format",
        )


def check_policy(manifest: Manifest, signatures: Sequence[bytes], trust: Trust) -> None:
    """Refuse a bundle that the policy does not let in; raises `Denied`.

    With `require_signature`: one without a good signature by a trusted key. That the files are
    those of the manifest is for whoever opens them to verify. Costs 0.2 ms a signature.
    """
    check_kind(manifest, trust)
    if not trust.require_signature:
        return
    from modelyard.bundle.signing import PublicKey, signers

    keys = [PublicKey.parse(each) for each in trust.trusted_keys]
    if not signers(manifest, signatures, keys):
        what = "is not signed" if not signatures else "has no good signature by a trusted key"
        raise Denied(
            "unsigned_bundle",
            f"the bundle {manifest.digest} {what}, and this home's policy asks for one: sign it "
            "with 'bundle sign --key', or trust its signer's key with 'policy set --trusted-key'",
            field="signature",
        )


def check_skops(data: bytes) -> list[str]:
    """The types that a skops file names and we trust, to be handed to its loader.

    Raises `UntrustedFormat` with the names of the others, before any of them is imported, and
    `Invalid` for bytes that are no skops file.
    """
    try:
        from skops.io import get_untrusted_types
    except ImportError:
        raise MissingExtra("sklearn", "opening a skops file") from None
    _check_zip(data)
    try:
        named = set(get_untrusted_types(data=data))
    except Exception as error:  # noqa: BLE001 - any failure to read hostile bytes is a refusal
        raise _bad_skops(f"{type(error).__name__}: {error}") from None
    strangers = sorted(named - TRUSTED_TYPES)
    if strangers:
        raise UntrustedFormat(
            "untrusted_types",
            f"the skops file names types that Modelyard does not trust: {', '.join(strangers)}; "
            "build the model of scikit-learn, XGBoost or LightGBM parts, or import it as ONNX",
            field=strangers[0],
        )
    return sorted(named)


def _check_zip(data: bytes, depth: int = 0) -> None:
    """Refuse a zip that would grow beyond reason, and one that says the same name twice.

    The sizes of its directory are what is read at most, whatever its members say themselves.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            if size > max(_SMALL_BYTES, _MOST_GROWTH * len(data)):
                raise _bad_skops(f"its {len(data)} bytes would become {size}")
            if len({member.filename for member in members}) != len(members):
                raise _bad_skops("it has two members of one name")
            # scipy's matrices are zips of their own.
            inner = [each for each in members if each.filename.endswith(".npz")]
            if inner and depth:
                raise _bad_skops("it has zips in zips in zips")
            for member in inner:
                _check_zip(archive.read(member), depth + 1)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise _bad_skops(str(error)) from None
    except (zlib.error, ValueError, struct.error, OverflowError) as error:
        raise _bad_skops(str(error)) from None


def _bad_skops(reason: str) -> Invalid:
    return Invalid("bad_skops", f"this is no readable skops file: {reason:.200}")


def check_domains(domains: set[str]) -> None:
    """Refuse an ONNX model with operators of a domain that nobody here implements."""
    strangers = sorted(domains - KNOWN_DOMAINS)
    if strangers:
        raise UntrustedFormat(
            "unknown_operator",
            f"the ONNX model uses operators of the domain {', '.join(strangers)}, which needs "
            "custom code; Modelyard runs only onnxruntime's own operators",
            field=strangers[0],
        )


def refuse_pickle(what: str, trusted: bool) -> None:
    """Refuse a format that runs code when opened, unless the operator's policy allows it."""
    if not trusted:
        raise UntrustedFormat(
            "untrusted_format",
            f"{what} is a pickle, which can run any code when it is opened; if it is your own, "
            "allow it with --trust-pickle or the setting 'trust_pickle': it is converted to a "
            "safe format",
        )
