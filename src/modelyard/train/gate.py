"""Holds scores against the recipe's thresholds."""

from collections.abc import Mapping, Sequence
from typing import Literal

from modelyard.bundle.manifest import Score, Threshold
from modelyard.core.errors import Invalid
from modelyard.train.recipe import Gate, Part

Verdict = Literal["passed", "failed", "ungated"]


def judge(
    gates: Sequence[Gate], scores: Sequence[Score], reasons: Mapping[tuple[Part, str], str]
) -> tuple[tuple[Threshold, ...], Verdict]:
    """Each condition with its value, and the verdict: passed when all are met.

    A condition on a metric that could not be measured raises `Invalid`: it is neither met nor
    failed, and must not be passed over.
    """
    by_part = {score.dataset: score.metrics for score in scores}
    thresholds = []
    for gate in gates:
        value = by_part[gate.dataset].get(gate.metric)
        if value is None:
            why = reasons.get((gate.dataset, gate.metric), "it is not among 'metrics'")
            raise Invalid(
                "gate_unmeasurable",
                f"the gate asks for {gate.metric} on {gate.dataset}, which cannot be measured: "
                f"{why}; gate on another metric",
                field="gate",
            )
        passed = (gate.minimum is None or value >= gate.minimum) and (
            gate.maximum is None or value <= gate.maximum
        )
        thresholds.append(
            Threshold(
                metric=gate.metric,
                dataset=gate.dataset,
                value=value,
                passed=passed,
                minimum=gate.minimum,
                maximum=gate.maximum,
            )
        )
    if not thresholds:
        return (), "ungated"
    passed_all = all(threshold.passed for threshold in thresholds)
    return tuple(thresholds), "passed" if passed_all else "failed"
