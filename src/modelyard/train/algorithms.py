"""Algorithms by their textbook names: per task an estimator, and the parameters it takes.

Names and types only; nothing here imports a framework until `build` is called.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from modelyard.core.errors import Invalid
from modelyard.train.choices import choices
from modelyard.train.hints import did_you_mean, quoted, require

Task = Literal["classification", "regression"]
TASKS: tuple[Task, ...] = ("classification", "regression")

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Share = Annotated[float, Meta(gt=0, le=1)]
Weights = Literal["balanced"]
MaxFeatures = Literal["sqrt", "log2"] | Count | Share
Penalty = Literal["none", "l1", "l2", "elastic_net"]


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every algorithm's parameters. None leaves the framework's own default."""


class LinearRegression(Parameters, frozen=True, kw_only=True):
    """Least squares without a penalty."""

    fit_intercept: bool = True


class Ridge(Parameters, frozen=True, kw_only=True):
    """Least squares with an L2 penalty."""

    alpha: NonNegative = 1.0
    fit_intercept: bool = True


class Lasso(Parameters, frozen=True, kw_only=True):
    """Least squares with an L1 penalty."""

    alpha: Positive = 1.0
    fit_intercept: bool = True
    max_iter: Count = 10_000
    tol: Positive = 1e-4


class ElasticNet(Lasso, frozen=True, kw_only=True):
    """Least squares with both penalties; `l1_ratio` is the share of L1."""

    l1_ratio: Fraction = 0.5


class LogisticRegression(Parameters, frozen=True, kw_only=True):
    """Logistic regression; `C` is the inverse of the penalty's weight."""

    C: Positive = 1.0
    penalty: Penalty = "l2"
    l1_ratio: Fraction = 0.5
    class_weight: Weights | None = None
    fit_intercept: bool = True
    max_iter: Count = 1000
    tol: Positive = 1e-4


Schedule = Literal["constant", "inverse_scaling", "adaptive", "optimal"]
RegressionLoss = Literal[
    "squared_error",
    "mean_squared_error",
    "huber",
    "epsilon_insensitive",
    "squared_epsilon_insensitive",
]
ClassificationLoss = Literal[
    "log_loss", "cross_entropy", "hinge", "squared_hinge", "modified_huber", "perceptron"
]


class Sgd(Parameters, frozen=True, kw_only=True):
    """A linear model by gradient descent.

    `mode` is how many rows one update looks at: all (`batch`), `batch_size` (`minibatch`), or one
    (`stochastic`). `eta0` unset: 1/L, L being the curvature that such an update meets.
    `epsilon` is the width of the huber and epsilon-insensitive losses.
    """

    mode: Literal["batch", "minibatch", "stochastic"] = "stochastic"
    batch_size: Count | None = None
    penalty: Penalty = "l2"
    alpha: NonNegative = 1e-4
    l1_ratio: Fraction = 0.15
    epsilon: NonNegative = 0.1
    learning_rate: Schedule | None = None
    eta0: Positive | None = None
    power_t: float = 0.25
    epochs: Count = 1000
    tolerance: NonNegative = 1e-4
    patience: Count = 5


class SgdClassifier(Sgd, frozen=True, kw_only=True):
    """Gradient descent for classes, one against the rest."""

    loss: ClassificationLoss = "log_loss"


class SgdRegressor(Sgd, frozen=True, kw_only=True):
    """Gradient descent for a value."""

    loss: RegressionLoss = "squared_error"


class Tree(Parameters, frozen=True, kw_only=True):
    """What one tree may grow to."""

    max_depth: Count | None = None
    min_samples_split: Annotated[int, Meta(ge=2)] = 2
    min_samples_leaf: Count = 1
    max_leaf_nodes: Annotated[int, Meta(ge=2)] | None = None
    min_impurity_decrease: NonNegative = 0.0
    ccp_alpha: NonNegative = 0.0
    max_features: MaxFeatures | None = None


class TreeClassifier(Tree, frozen=True, kw_only=True):
    """A decision tree for classes."""

    criterion: Literal["gini", "entropy", "log_loss"] = "gini"
    class_weight: Weights | None = None


class TreeRegressor(Tree, frozen=True, kw_only=True):
    """A decision tree for a value."""

    criterion: Literal["squared_error", "absolute_error", "poisson"] = "squared_error"


class ForestClassifier(TreeClassifier, frozen=True, kw_only=True):
    """A random forest for classes."""

    n_estimators: Count = 100
    bootstrap: bool = True
    max_samples: Share | None = None
    max_features: MaxFeatures | None = "sqrt"


class ForestRegressor(TreeRegressor, frozen=True, kw_only=True):
    """A random forest for a value."""

    n_estimators: Count = 100
    bootstrap: bool = True
    max_samples: Share | None = None


class HistBoosting(Parameters, frozen=True, kw_only=True):
    """Boosted trees over binned features."""

    learning_rate: Positive = 0.1
    max_iter: Count = 100
    max_leaf_nodes: Annotated[int, Meta(ge=2)] | None = 31
    max_depth: Count | None = None
    min_samples_leaf: Count = 20
    l2_regularization: NonNegative = 0.0
    max_bins: Annotated[int, Meta(ge=2, le=255)] = 255
    early_stopping: bool = False


class HistBoostingClassifier(HistBoosting, frozen=True, kw_only=True):
    """Boosted trees for classes."""

    class_weight: Weights | None = None


class HistBoostingRegressor(HistBoosting, frozen=True, kw_only=True):
    """Boosted trees for a value."""

    loss: Literal["squared_error", "absolute_error", "poisson", "gamma"] = "squared_error"


class Svm(Parameters, frozen=True, kw_only=True):
    """A support vector machine."""

    C: Positive = 1.0
    kernel: Literal["linear", "rbf", "poly", "sigmoid"] = "rbf"
    degree: Count = 3
    gamma: Literal["scale", "auto"] | Positive = "scale"
    coef0: float = 0.0
    tol: Positive = 1e-3
    max_iter: int = -1


class SvmClassifier(Svm, frozen=True, kw_only=True):
    """A support vector machine for classes; `probability` calibrates it (Platt), five fits more."""

    probability: bool = False
    class_weight: Weights | None = None


class SvmRegressor(Svm, frozen=True, kw_only=True):
    """A support vector machine for a value."""

    epsilon: NonNegative = 0.1


class Knn(Parameters, frozen=True, kw_only=True):
    """The nearest neighbours vote, or are averaged."""

    n_neighbors: Count = 5
    weights: Literal["uniform", "distance"] = "uniform"
    algorithm: Literal["auto", "ball_tree", "kd_tree", "brute"] = "auto"
    metric: Literal["euclidean", "manhattan", "chebyshev", "minkowski"] = "minkowski"
    p: Positive = 2.0


class Mlp(Parameters, frozen=True, kw_only=True):
    """A multi-layer perceptron."""

    hidden_layer_sizes: tuple[Count, ...] = (100,)
    activation: Literal["identity", "logistic", "tanh", "relu"] = "relu"
    solver: Literal["adam", "sgd", "lbfgs"] = "adam"
    alpha: NonNegative = 1e-4
    batch_size: Count | None = None
    learning_rate: Literal["constant", "invscaling", "adaptive"] = "constant"
    learning_rate_init: Positive = 1e-3
    max_iter: Count = 500
    tol: Positive = 1e-4
    momentum: Fraction = 0.9
    early_stopping: bool = False


class Xgboost(Parameters, frozen=True, kw_only=True):
    """Boosted trees by XGBoost."""

    n_estimators: Count = 100
    learning_rate: Positive = 0.3
    max_depth: Annotated[int, Meta(ge=0)] = 6
    min_child_weight: NonNegative = 1.0
    gamma: NonNegative = 0.0
    subsample: Share = 1.0
    colsample_bytree: Share = 1.0
    reg_alpha: NonNegative = 0.0
    reg_lambda: NonNegative = 1.0
    max_leaves: Annotated[int, Meta(ge=0)] = 0
    max_bin: Annotated[int, Meta(ge=2)] = 256
    scale_pos_weight: Positive | None = None


class Lightgbm(Parameters, frozen=True, kw_only=True):
    """Boosted trees by LightGBM."""

    n_estimators: Count = 100
    learning_rate: Positive = 0.1
    num_leaves: Annotated[int, Meta(ge=2)] = 31
    max_depth: int = -1
    min_child_samples: Annotated[int, Meta(ge=0)] = 20
    subsample: Share = 1.0
    subsample_freq: Annotated[int, Meta(ge=0)] = 0
    colsample_bytree: Share = 1.0
    reg_alpha: NonNegative = 0.0
    reg_lambda: NonNegative = 0.0


class LightgbmClassifier(Lightgbm, frozen=True, kw_only=True):
    """Boosted trees by LightGBM, for classes."""

    class_weight: Weights | None = None


Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """One algorithm for one task: `estimator` is `module:class`, `fixed` its other arguments."""

    estimator: str
    parameters: type[Parameters]
    fixed: Mapping[str, object] = field(default_factory=dict)
    is_seeded: bool = True
    arguments: Callable[[Any], Arguments] = msgspec.structs.asdict

    def build(self, parameters: Parameters, seed: int) -> Any:
        """The estimator, not fitted; raises `MissingExtra`."""
        module, _, name = self.estimator.partition(":")
        package = module.partition(".")[0]
        require(package, package, "training")
        arguments = {**self.arguments(parameters), **self.fixed}
        if self.is_seeded:
            arguments["random_state"] = seed
        return getattr(import_module(module), name)(**arguments)


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A textbook name, its forms by task, and what it asks of the table.

    `scales`: features should be of one size. `takes_missing`: NaN is a value like any other.
    `wants_codes`: classes must be 0, 1, 2 …. `takes_frames`: columns of any name may be handed
    to it; the others get a bare matrix.
    """

    name: str
    forms: Mapping[Task, Form]
    scales: bool = False
    takes_missing: bool = False
    wants_codes: bool = False
    takes_frames: bool = True

    def form(self, task: Task) -> Form:
        """The form for a task; raises `Invalid` naming algorithms that have one."""
        if task in self.forms:
            return self.forms[task]
        others = [each.name for each in ALGORITHMS.values() if task in each.forms]
        raise Invalid(
            "wrong_task",
            f"'{self.name}' does {next(iter(self.forms))} only; for {task} use one of "
            + quoted(others, 20),
            field="algorithm.name",
        )


def _logistic(parameters: LogisticRegression) -> Arguments:
    arguments = msgspec.structs.asdict(parameters)
    penalty = arguments.pop("penalty")
    ratio = arguments.pop("l1_ratio")
    arguments["l1_ratio"] = {"l1": 1.0, "elastic_net": ratio}.get(penalty, 0.0)
    if penalty == "none":
        arguments["C"] = float("inf")
    # lbfgs is by far the quickest, and cannot do an L1 penalty.
    arguments["solver"] = "lbfgs" if arguments["l1_ratio"] == 0.0 else "saga"
    return arguments


def _svm(parameters: Svm) -> Arguments:
    # Calibration wraps the machine; that is done where it is fitted.
    arguments = msgspec.structs.asdict(parameters)
    arguments.pop("probability", None)
    return arguments


def _mlp(parameters: Mlp) -> Arguments:
    arguments = msgspec.structs.asdict(parameters)
    arguments["batch_size"] = parameters.batch_size or "auto"
    return arguments


def _sgd(_: Sgd) -> Arguments:
    # `descent` drives the estimator update by update and sets what it needs.
    return {}


def _both(
    classifier: tuple[str, type[Parameters]],
    regressor: tuple[str, type[Parameters]],
    **common: Any,
) -> dict[Task, Form]:
    return {
        "classification": Form(*classifier, **common),
        "regression": Form(*regressor, **common),
    }


_LINEAR = "sklearn.linear_model"
_XGBOOST = {"tree_method": "hist", "verbosity": 0}
_LIGHTGBM = {"deterministic": True, "force_row_wise": True, "verbosity": -1}

_ALL = (
    Algorithm(
        "linear_regression",
        {"regression": Form(f"{_LINEAR}:LinearRegression", LinearRegression, is_seeded=False)},
        scales=True,
    ),
    Algorithm("ridge", {"regression": Form(f"{_LINEAR}:Ridge", Ridge)}, scales=True),
    Algorithm("lasso", {"regression": Form(f"{_LINEAR}:Lasso", Lasso)}, scales=True),
    Algorithm(
        "elastic_net", {"regression": Form(f"{_LINEAR}:ElasticNet", ElasticNet)}, scales=True
    ),
    Algorithm(
        "logistic_regression",
        {
            "classification": Form(
                f"{_LINEAR}:LogisticRegression", LogisticRegression, arguments=_logistic
            )
        },
        scales=True,
    ),
    Algorithm(
        "sgd",
        _both(
            (f"{_LINEAR}:SGDClassifier", SgdClassifier),
            (f"{_LINEAR}:SGDRegressor", SgdRegressor),
            arguments=_sgd,
        ),
        scales=True,
        takes_frames=False,
    ),
    Algorithm(
        "decision_tree",
        _both(
            ("sklearn.tree:DecisionTreeClassifier", TreeClassifier),
            ("sklearn.tree:DecisionTreeRegressor", TreeRegressor),
        ),
    ),
    Algorithm(
        "random_forest",
        _both(
            ("sklearn.ensemble:RandomForestClassifier", ForestClassifier),
            ("sklearn.ensemble:RandomForestRegressor", ForestRegressor),
        ),
    ),
    Algorithm(
        "hist_gradient_boosting",
        _both(
            ("sklearn.ensemble:HistGradientBoostingClassifier", HistBoostingClassifier),
            ("sklearn.ensemble:HistGradientBoostingRegressor", HistBoostingRegressor),
        ),
        takes_missing=True,
    ),
    Algorithm(
        "svm",
        {
            "classification": Form("sklearn.svm:SVC", SvmClassifier, arguments=_svm),
            "regression": Form("sklearn.svm:SVR", SvmRegressor, arguments=_svm, is_seeded=False),
        },
        scales=True,
    ),
    Algorithm(
        "knn",
        _both(
            ("sklearn.neighbors:KNeighborsClassifier", Knn),
            ("sklearn.neighbors:KNeighborsRegressor", Knn),
            is_seeded=False,
        ),
        scales=True,
    ),
    Algorithm(
        "mlp",
        _both(
            ("sklearn.neural_network:MLPClassifier", Mlp),
            ("sklearn.neural_network:MLPRegressor", Mlp),
            arguments=_mlp,
        ),
        scales=True,
    ),
    Algorithm(
        "xgboost",
        _both(
            ("xgboost:XGBClassifier", Xgboost), ("xgboost:XGBRegressor", Xgboost), fixed=_XGBOOST
        ),
        takes_missing=True,
        wants_codes=True,
        takes_frames=False,
    ),
    Algorithm(
        "lightgbm",
        _both(
            ("lightgbm:LGBMClassifier", LightgbmClassifier),
            ("lightgbm:LGBMRegressor", Lightgbm),
            fixed=_LIGHTGBM,
        ),
        takes_missing=True,
        wants_codes=True,
        takes_frames=False,
    ),
)
ALGORITHMS: Mapping[str, Algorithm] = {each.name: each for each in _ALL}
"""Every algorithm by its textbook name."""


def algorithm(name: str) -> Algorithm:
    """The algorithm of that name; raises `Invalid` with the nearest name."""
    found = ALGORITHMS.get(name)
    if found is None:
        raise Invalid(
            "unknown_algorithm",
            f"'{name}' is no algorithm{did_you_mean(name, ALGORITHMS)}",
            field="algorithm.name",
        )
    return found


def parameters_of(name: str, task: Task, given: Mapping[str, object]) -> Parameters:
    """The parameters of an algorithm, checked and completed; raises `Invalid` naming the one."""
    wanted = algorithm(name).form(task).parameters
    known = wanted.__struct_fields__
    for key in given:
        if key not in known:
            raise Invalid(
                "unknown_parameter",
                f"'{key}' is no parameter of '{name}' for {task}{did_you_mean(key, known)}",
                field=f"algorithm.parameters.{key}",
            )
    try:
        parameters: Parameters = msgspec.convert(dict(given), wanted)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        key = path.rstrip("`")
        reason = reason[:1].lower() + reason[1:].replace("`", "'")
        if "enum value" in reason:
            given_word = reason.partition("'")[2].rstrip("'")
            reason += did_you_mean(given_word, choices(wanted, key))
        raise Invalid(
            "bad_parameter",
            f"parameter '{key}' of '{name}': {reason}",
            field=f"algorithm.parameters.{key}",
        ) from None
    if isinstance(parameters, Sgd):
        _check_sgd(parameters)
    return parameters


def _check_sgd(parameters: Sgd) -> None:
    if parameters.batch_size is not None and parameters.mode != "minibatch":
        raise Invalid(
            "bad_parameter",
            f"'batch_size' belongs to mode 'minibatch', not to '{parameters.mode}'",
            field="algorithm.parameters.batch_size",
        )
