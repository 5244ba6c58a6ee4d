"""The names of the metrics, and which way is better."""

from modelyard.train.algorithms import Task

CLASSIFICATION = ("accuracy", "precision", "recall", "f1", "roc_auc", "log_loss")
REGRESSION = ("mse", "rmse", "mae", "r2")
METRICS = (*CLASSIFICATION, *REGRESSION)


def metrics_of(task: Task) -> tuple[str, ...]:
    """The metrics that a task can be measured by."""
    return CLASSIFICATION if task == "classification" else REGRESSION
