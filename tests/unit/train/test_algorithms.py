import numpy as np
import pytest

from modelyard.core.errors import Invalid
from modelyard.train.algorithms import ALGORITHMS, Task, algorithm, parameters_of

FORMS = [(each.name, task) for each in ALGORITHMS.values() for task in each.forms]


@pytest.mark.parametrize(("name", "task"), FORMS)
def test_defaults_build_an_estimator_that_knows_its_seed(name: str, task: Task) -> None:
    """Every algorithm can be named alone, and takes the seed where it takes one at all."""
    estimator = algorithm(name).form(task).build(parameters_of(name, task, {}), 5)
    assert estimator.get_params().get("random_state", 5) == 5


def test_the_promised_names_are_there() -> None:
    """The textbook names of the documentation."""
    assert set(ALGORITHMS) == {
        "linear_regression",
        "ridge",
        "lasso",
        "elastic_net",
        "logistic_regression",
        "sgd",
        "decision_tree",
        "random_forest",
        "hist_gradient_boosting",
        "svm",
        "knn",
        "mlp",
        "xgboost",
        "lightgbm",
    }


@pytest.mark.parametrize("penalty", ["none", "l1", "l2", "elastic_net"])
def test_logistic_penalties_become_scikit_learns_arguments(penalty: str) -> None:
    """`C` infinite is no penalty; the share of L1 is 0, 1 or what was asked for."""
    parameters = parameters_of(
        "logistic_regression", "classification", {"penalty": penalty, "l1_ratio": 0.3}
    )
    built = algorithm("logistic_regression").form("classification").build(parameters, 0)
    assert built.l1_ratio == {"l1": 1.0, "elastic_net": 0.3}.get(penalty, 0.0)
    assert np.isinf(built.C) == (penalty == "none")


def test_an_unknown_parameter_is_refused_with_the_near_name() -> None:
    """A misspelt parameter must not be silently a default."""
    with pytest.raises(Invalid, match="did you mean 'max_depth'") as caught:
        parameters_of("xgboost", "regression", {"maxdepth": 3})
    assert caught.value.code == "unknown_parameter"


def test_a_parameter_of_the_other_task_is_refused() -> None:
    """`epsilon` is the tube of a regression; classes have none."""
    assert parameters_of("svm", "regression", {"epsilon": 0.2})
    with pytest.raises(Invalid, match="no parameter of 'svm' for classification"):
        parameters_of("svm", "classification", {"epsilon": 0.2})


def test_a_batch_size_needs_the_mode_that_has_batches() -> None:
    """Otherwise it would be ignored without a word."""
    assert parameters_of("sgd", "regression", {"mode": "minibatch", "batch_size": 8})
    with pytest.raises(Invalid, match="minibatch"):
        parameters_of("sgd", "regression", {"batch_size": 8})
